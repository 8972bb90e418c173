"""`blemish fit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.clock import since_start
from blemish.cli.config import OWN, config_settings, key_of, read_config, written
from blemish.cli.console import bars, described, err, escape, print_json, print_model
from blemish.cli.needs import needs
from blemish.cli.options import DeviceName, EngineName, Force, Json, parse_layers, parse_settings
from blemish.cli.own import look_here
from blemish.errors import SettingError

DECIDED = {
    "false-alarm-rate": "0.01, or the lowest rate that the images allow",
    "box-rate": "0.1, or the lowest share that the images allow",
    "calibration": "cross up to 2,000 images or tiles, else hold-out",
    "folds": "10, or one for each image below 30 images",
    "calibration-share": "a fifth, if images are held out",
    "copies": "those of the quality, for fre with fewer than 500 images",
    "weights": "those of the package",
    "memory": "half of what is free",
}
"""What decides the options that are not given, by their names."""


def fit(
    context: typer.Context,
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
        str | None, typer.Option(help="A network of timm, such as resnet18.tv_in1k; by default that of --quality.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Levels such as 2,3,4 (0 is the finest), module names such as layer1, or 22-28 (mean of blocks)."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="256: as many pixels as 256x256, in the images' proportions. Or HEIGHTxWIDTH.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a centre crop after resizing to a square.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Cut photographs into tiles of this many pixels, such as 256.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that neighbouring tiles share; a quarter of a tile by default.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A paper's settings, such as padim-r18-rd100; your own options override them.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="fast, balanced (default) or best: backbone, size and copies together.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images allowed to raise an alarm. Default 0.01, or the lowest your image count allows."
        ),
    ] = None,
    box_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good images allowed to show a box. Default 0.1, or the lowest your image count allows."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="cross (default up to 2,000 images or tiles; not for a trained detector) or hold-out."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Folds of --calibration cross; 10 by default.", max=10_000)] = None,
    calibration_share: Annotated[
        float | None, typer.Option(help="Hold out this share of the images; a fifth by default.")
    ] = None,
    copies: Annotated[
        int | None,
        typer.Option(help="Shifted copies of each image to learn from; by default up to 4 for fre below 500 images."),
    ] = None,
    trim: Annotated[
        bool, typer.Option("--trim", help="Leave out good images that look anomalous themselves; fit names them.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the hold-out, of splits and of the detector.", min=0)] = 0,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="A file with the backbone's weights; its SHA-256 is kept.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let timm fetch the weights.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option(help="A folder for checkpoints, of a trained detector or with --ray.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from --checkpoints; training may continue with more images.")
    ] = False,
    processes: Annotated[int, typer.Option(help="For a trained detector: processes that train it.")] = 1,
    memory: Annotated[
        float | None,
        typer.Option(help="GB for the features that hfr or fre-ae is trained on; more go to disk.", min=0, max=1e9),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Read and learn on a cluster: local, auto, HOST:PORT or ray://HOST:PORT.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with these options; options on the command line override it.",
            is_eager=True,
            callback=read_config,
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the options that would be used, as --config reads them, and exit."),
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit a model on good images and calibrate its threshold.

    Example: [bold]blemish fit cells/good -o cells.blemish --false-alarm-rate 0.01[/bold]
    """
    import blemish
    from blemish.datasets import read_source
    from blemish.fitting.split import Calibrating
    from blemish.model.recipe import check_seed
    from blemish.storage import check_free

    needs("fit", source, output, fit=True, ray=ray is not None)
    if not print_config:
        check_free(output, "model", force=force)
    if resume and checkpoints is None:
        raise SettingError("--resume needs the folder of the checkpoint; give --checkpoints DIR")
    if checkpoints is not None and Path(output).absolute() in {checkpoints.absolute(), *checkpoints.absolute().parents}:
        raise SettingError(f"{checkpoints}: is inside the model's folder; give --checkpoints another folder")
    chosen = {**parse_settings([*config_settings(context), *(settings or [])]), **({"map": map} if map else {})}
    if method is not None:
        if detector not in {None, "fre", "fre-ae"}:
            raise SettingError(f"--method is for fre and fre-ae, not for {detector}; leave one of them out")
        detector = "fre" if method == "pca" else "fre-ae"
        chosen |= {} if method == "pca" else {"method": method}
    if detector is not None and ":" in detector:
        look_here()
    if print_config:
        check_seed(seed)
        Calibrating(calibration, folds, calibration_share, false_alarm_rate, box_rate).check(sys.maxsize)
        print(written(_resolved(context, {**context.params, "detector": detector}, chosen), DECIDED))
        return
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
            device=device,
            weights=weights,
            download=download,
            skip_bad=skip_bad,
            progress=progress,
            announce=lambda plan: err.print(escape(str(plan.after(since_start() - plan.spent)))),
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


def _resolved(context: typer.Context, given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a fit by name: as given, or from the preset, the quality or the defaults.

    An option that depends on the images is `None`.
    """
    from blemish.backbones.levels import Levels
    from blemish.detectors import name_of
    from blemish.fitting.choices import choose
    from blemish.fitting.quality import BALANCED

    named = ("backbone", "size", "crop", "tile", "overlap", "preset", "quality")
    backbone, size, crop, tile, overlap, preset, quality = (given[name] for name in named)
    layers, has_weights = parse_layers(given["layers"]), bool(given["weights"] or given["download"])
    used = choose(
        given["detector"],
        settings,
        backbone,
        layers,
        size,
        crop,
        tile,
        overlap,
        preset,
        quality,
        has_weights,
        given["seed"],
    )
    learning, geometry, pixels = used.detector, used.geometry, used.detector.sees_pixels
    own = {name: value for name, value in learning.settings().items() if (name, value) != ("seed", given["seed"])}
    if not pixels:
        layers = list(used.layers or Levels.of(used.backbone).deepest(learning.strides))
    if given["copies"] is None and preset:
        given["copies"] = 0  # no paper makes copies
    found = {
        **{key_of(option): given[option.name] for option in context.command.params if option.name in given},
        "detector": name_of(learning),
        "set": own,
        "backbone": None if pixels else used.backbone,
        "layers": layers,
        "size": geometry.height if used.in_proportion else f"{geometry.height}x{geometry.width}",
        "crop": geometry.crop,
        "tile": geometry.tile,
        "overlap": None if geometry.tile is None else geometry.overlap,
        "quality": None if pixels or given["copies"] is not None else quality or BALANCED,
    }
    covered = {"map", "method", "preset"}  # the detector and its settings say the same
    return {name: value for name, value in found.items() if name not in OWN | covered}
