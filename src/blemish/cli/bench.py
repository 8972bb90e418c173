"""`blemish bench`: runs the papers' protocols and prints the published figures beside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from blemish.cli.console import bars, err, print_json, print_one_class
from blemish.cli.options import EngineName, Json, parse_layers, parse_settings


def one_class(
    dataset: Annotated[str, typer.Option(help="mnist, fashion-mnist or cifar10.")],
    path: Annotated[Path | None, typer.Option(help="The files; by default looked for in the current folder.")] = None,
    detector: Annotated[
        str, typer.Option(help="hfr (default), fre, fre-ae, padim, gaussian, spade, vae or vae-grf.")
    ] = "hfr",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of the detector; may be repeated.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="efficientnet_lite0 (default), or a network of timm's.")] = None,
    layers: Annotated[str | None, typer.Option(help="Levels or names of modules, e.g. 2,3,4.")] = None,
    size: Annotated[str, typer.Option(help="Pixels to which images are enlarged.")] = "96",
    images: Annotated[
        int | None, typer.Option(help="Training images of a class, at most; 2000 by default.", min=2)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw of images and of the fits.", min=0)] = 0,
    engine: EngineName = "auto",
    weights: Annotated[Path | None, typer.Option(help="A file with the backbone's weights.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Let timm fetch the weights.")] = False,
    as_json: Json = False,
) -> None:
    """Take each class in turn as normal; print an AUROC for each, their mean, and the published ones.

    Example: [bold]blemish bench one-class --dataset mnist --path mnist.npz[/bold]
    """
    from blemish.evaluation.protocols.one_class import IMAGES, PUBLISHED, find_files
    from blemish.evaluation.protocols.one_class import one_class as run

    images = IMAGES if images is None else images
    files = find_files(dataset, path)
    err.print(escape(f"{files}: {dataset}, up to {images} training images a class, enlarged to {size} pixels"))
    results = []
    with bars() as progress:
        for result in run(
            files,
            images=images,
            seed=seed,
            progress=progress,
            detector=detector,
            settings=parse_settings(settings or []),
            backbone=backbone,
            layers=parse_layers(layers),
            size=size,
            engine=engine,
            weights=weights,
            download=download,
        ):
            results.append(result)
            if as_json:
                print_json(asdict(result))
    mean = sum(result.auroc for result in results) / len(results)
    if as_json:
        print_json({"mean_auroc": mean, "published": PUBLISHED[dataset]})
    else:
        print_one_class(results, mean, PUBLISHED[dataset])
