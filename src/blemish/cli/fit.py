"""`blemish fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from blemish.cli.console import bars, described, err, print_json, print_model
from blemish.cli.needs import needs
from blemish.cli.options import EngineName, Force, Json, parse_layers, parse_settings
from blemish.cli.own import look_here
from blemish.errors import SettingError


def fit(
    source: Annotated[str, typer.Argument(help="Folder of good images, a tree, or layout:PATH.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the model goes, a new folder.")],
    detector: Annotated[
        str | None,
        typer.Option(
            help="fre (default), fre-ae, padim, gaussian, spade, hfr, vae, vae-grf; or your own, module:Class."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of the detector; may be repeated.")
    ] = None,
    map: Annotated[
        str | None, typer.Option("--map", help="For a VAE: mad, sm, mad-sm, l2, gradient, gradient-sm or projection.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="For FRE: pca (default), or trained: ae or tied.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="A network of timm's, such as resnet18.tv_in1k; by default that of --quality.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Levels, from 0, the finest, or names of modules; e.g. 2,3,4 or layer1 or 22-28 (their mean)."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="256: as many pixels as 256x256, in the images' shape. Or HEIGHTxWIDTH.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a centre crop after resizing to a square.")] = None,
    tile: Annotated[int | None, typer.Option(help="Cut photographs into tiles of so many pixels, such as 256.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that tiles share; a quarter of them by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="A paper's settings, e.g. padim-r18-rd100.")] = None,
    quality: Annotated[
        str | None, typer.Option(help="fast, balanced (default) or best: backbone, size and copies together.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="What the threshold promises; by default 0.01, or the lowest possible rate.")
    ] = None,
    box_rate: Annotated[
        float | None, typer.Option(help="Share of good images that may show a box; 0.1, or the lowest possible share.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="cross (default up to 2,000 images or tiles; not for a trained detector) or hold-out."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Of a cross-fit; 10 by default.")] = None,
    calibration_share: Annotated[
        float | None, typer.Option(help="Hold out this share of the images; a fifth by default.")
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(help="Shifted copies of each image to learn from; by default up to 4 for fre below 500 images."),
    ] = None,
    trim: Annotated[
        bool, typer.Option("--trim", help="Leave out images that look anomalous themselves; fit names them.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the hold-out, of splits and of the detector.", min=0)] = 0,
    engine: EngineName = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="A file with the backbone's weights; its SHA-256 is kept.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let timm fetch the weights.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option(help="A folder for checkpoints, of a trained detector or with --ray.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoints; a training also with more images.")
    ] = False,
    processes: Annotated[int, typer.Option(help="For a trained detector: processes that train it.")] = 1,
    memory: Annotated[
        float | None,
        typer.Option(help="GB for the features that hfr or fre-ae is trained on; more go to disk.", min=0, max=1e9),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Read and learn on a cluster: local, auto, HOST:PORT or ray://HOST:PORT.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit on good images, and calibrate.

    Example: [bold]blemish fit cells/good -o cells.blemish --false-alarm-rate 0.01[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.storage import check_free

    needs("fit", source, output, fit=True, ray=ray is not None)
    check_free(output, "model", force=force)
    if resume and checkpoints is None:
        raise SettingError("--resume needs the folder of the checkpoint; give --checkpoints DIR")
    if checkpoints is not None and Path(output).absolute() in {checkpoints.absolute(), *checkpoints.absolute().parents}:
        raise SettingError(f"{checkpoints}: lies where the model goes; give --checkpoints another folder")
    chosen = {**parse_settings(settings or []), **({"map": map} if map else {})}
    if method is not None:
        if detector not in {None, "fre", "fre-ae"}:
            raise SettingError(f"--method is a way to find FRE's subspace, not of {detector}; leave one of them out")
        detector = "fre" if method == "pca" else "fre-ae"
        chosen |= {} if method == "pca" else {"method": method}
    if detector is not None and ":" in detector:
        look_here()
    dataset = read_source(source, seed)
    err.print(escape(str(dataset)))
    with bars() as progress:
        model = blemish.fit(
            dataset,
            detector=detector,
            settings=chosen,
            backbone=backbone,
            layers=parse_layers(layers),
            size=size,
            crop=crop,
            tile=tile,
            overlap=overlap,
            preset=preset,
            quality=quality,
            false_alarm_rate=false_alarm_rate,
            box_rate=box_rate,
            calibration=calibration,
            folds=folds,
            calibration_share=calibration_share,
            copies=copies,
            trim=trim,
            seed=seed,
            engine=engine,
            weights=weights,
            download=download,
            skip_bad=skip_bad,
            progress=progress,
            announce=lambda plan: err.print(str(plan)),
            checkpoints=checkpoints,
            resume=resume,
            processes=processes,
            memory=None if memory is None else round(1e9 * memory),
            ray=ray,
        )
    model.save(output, force=force)
    if as_json:
        print_json({"model": str(output), **described(model)})
    else:
        print_model(model, output)
