"""Makes a model from good images: all arguments become choices, and `work` then learns and calibrates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.backbones import side_step
from blemish.calibration.cross_fit import LIMIT
from blemish.engines import choose_engine
from blemish.engines.devices import torch_device
from blemish.errors import SettingError, as_count, require
from blemish.fitting.choices import Layers, choose
from blemish.fitting.enough import check_enough
from blemish.fitting.frames import Source, read_images
from blemish.fitting.plan import Plan, free_memory
from blemish.fitting.split import Calibrating, count_rows, divide
from blemish.fitting.virtual import copies_of_each
from blemish.fitting.work import Options, prepare, run
from blemish.images import in_proportion
from blemish.model import Model, Recipe
from blemish.model.recipe import check_seed
from blemish.progress import LOG, Progress, reported

if TYPE_CHECKING:
    from blemish.detectors import Detector


def fit(
    source: Source,
    *,
    bgr: bool = False,
    detector: str | Detector | None = None,
    settings: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    layers: Layers | None = None,
    size: int | str | None = None,
    crop: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    preset: str | None = None,
    quality: str | None = None,
    false_alarm_rate: float | None = None,
    box_rate: float | None = None,
    calibration: str | None = None,
    folds: int | None = None,
    calibration_share: float | None = None,
    copies: int | None = None,
    trim: bool = False,
    seed: int = 0,
    engine: str = "auto",
    device: str = "auto",
    weights: str | Path | None = None,
    download: bool = False,
    skip_bad: bool = False,
    progress: Progress | bool | None = None,
    announce: Callable[[Plan], None] | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    processes: int = 1,
    memory: int | None = None,
    ray: str | None = None,
) -> Model:
    """Returns a model of the good images in `source`. The backbone runs once for each of them.

    The threshold, the p-values and the display scale come from scores of images by models that did not see them. Up to
    `LIMIT` images are cross-fitted: the model learns from all of them, and each is scored by a model of the other
    folds. If there are more, a share is held out; a detector that learns in one pass also learns from this share after
    it was scored. A trained detector (`hfr`, `vae`, `vae-grf`, `fre-ae`) holds out a share and never learns from it,
    unless `folds` are asked for.

    Args:
        source: a path, `layout:PATH`, or a data set that was read; its training part is used. Or good images, as
            `Model.predict` takes them; those in memory are written to a temporary folder first.
        bgr: whether the channels of arrays and tensors are blue, green, red, as OpenCV has them.
        detector: a name in `blemish.detectors.DETECTORS`, `fre` by default; a new detector, such as `FRE(power=8)`; or
            a class of your own, `module:Class`, whose module is then imported.
        settings: of the named detector, by name; all others keep their defaults.
        backbone: a timm network that gives feature maps, with the tag of its weights or without (`resnet18.tv_in1k`);
            by default that of the quality.
        layers: levels, means of levels (`22-28`), or names of modules; by default the detector's own choice.
        size: side of a square with as many pixels as the model's input, by default that of the quality. The input has
            the proportions of the median image, with sides that are multiples of 32, or of the side of a transformer's
            patches; it is a square if the images' proportions vary too much. `HxW` sets the input's height and width.
            With tiles, each tile is resized to the size, by default its own; with a crop, the size is that of the
            square that is cropped.
        crop: side of a centre crop after resizing.
        tile: cut photographs into tiles of this many of their own pixels; each tile is a sample. Photographs are held
            out whole, and the rate is one of photographs: a photograph's score is the largest of its tiles' scores.
        overlap: pixels that neighbouring tiles share, at least; a quarter of the tile by default.
        trim: leave out images that look anomalous themselves, by the cross-fitted scores, and fit without them.
        preset: name of a paper's settings; other arguments have precedence. Another architecture needs `layers`.
        quality: `fast`, `balanced` (the default) or `best`: the backbone, the size and the copies, unless other
            arguments give them. Not for a preset, nor for a detector that takes the images themselves.
        false_alarm_rate: the rate that the threshold promises; by default 1 %, or the lowest possible rate.
        box_rate: the share of good images that may show a box; by default 10 %, or the lowest possible share.
        calibration: `cross` or `hold-out`; by default as above.
        folds: number of folds of the cross-fit; by default 10, or one for each image if there are fewer than 30; for
            `padim` one for each image, where it can leave out each of them at once.
        calibration_share: the share to hold out, at least 20 images, at most half; a fifth by default, but at most 200
            images for a trained detector.
        copies: number of shifted copies of each image, from which the detector learns too; by default as many as make
            about `virtual.ENOUGH` images and copies, at most those of the quality, for a detector that gains from them.
        seed: of the hold-out, of the data set's split, and of what a named detector draws.
        engine: `auto`, `openvino` or `torch`.
        device: where it runs, as in `Model.load`; a trained detector is trained there too, if torch has it.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them.
        skip_bad: leave out images that cannot be read, rather than stop; their count is kept in the model.
        progress: called with the stage, and how many images or steps of how many are done; `True` prints it.
        announce: called with what the fit will need, before the pass over the images.
        checkpoints: a folder for the checkpoint and the log of a trained detector; with `ray`, for summaries of what
            was learned so far, if a share is held out.
        resume: continue from the checkpoint there, if there is one. If only the images are different, a new training
            starts from its weights; images that these weights learned from do not calibrate.
        processes: that train a trained detector, each with its share of every batch. The result is that of one process,
            up to rounding.
        memory: bytes for the features that `hfr` or `fre-ae` is trained on, which are kept on disk if they take more;
            by default half of what is free.
        ray: the address of a cluster whose workers read, extract and learn: `local` (this machine's cores, for this fit
            alone), `auto`, `HOST:PORT` or `ray://HOST:PORT`. Not for a trained detector.

    Raises:
        BlemishError: one of its kinds; the message says what was found, what was expected and what to do.
    """
    require("torch", "timm", of="fit", extra="fit")
    from blemish.detectors import Trained, name_of
    from blemish.engines.extractor import make_extractor
    from blemish.fitting.trained.learn import Run
    from blemish.fitting.trained.start import find_start
    from blemish.training.loop import check_processes

    began = time.perf_counter()
    seed = check_seed(seed)
    chosen = choose(
        detector,
        settings,
        backbone,
        layers,
        size,
        crop,
        tile,
        overlap,
        preset,
        quality,
        bool(weights or download),
        seed,
    )
    learning, geometry = chosen.detector, chosen.geometry
    if ray is not None:
        _check_cluster(ray, learning, device)
    processes = as_count("processes", processes)
    if isinstance(learning, Trained):
        check_processes(processes, learning.batch)
    elif processes != 1:
        raise SettingError(f"{learning.name} learns in one pass, which uses one process; leave out --processes")
    elif ray is None and (checkpoints is not None or resume):
        raise SettingError(
            f"{learning.name} learns in one pass without checkpoints; leave out --checkpoints and --resume"
        )
    running = choose_engine(engine, device, gradients=learning.needs_gradients)
    dataset, _scratch = read_images(source, seed, bgr=bgr)  # the folder stays as long as its name
    calibrating = Calibrating(calibration, folds, calibration_share, false_alarm_rate, box_rate)
    if len(dataset.train) > 1:  # fewer have an error of their own
        calibrating.check(len(dataset.train))  # before the backbone is made
    if chosen.in_proportion:
        step = side_step(chosen.backbone)
        geometry = in_proportion(geometry, [sample.path for sample in dataset.train], step)
    if ray is None:  # on a cluster, its workers read the images
        check_enough(dataset, geometry, learning.name, learning.fewest)
    file = Path(weights) if weights is not None else None
    extractor = make_extractor(
        chosen.backbone, chosen.layers, learning.strides, geometry, running, file, download=download
    )
    rows = count_rows(dataset, geometry)
    drawn = copies_of_each(copies, chosen.copies, learning, rows)
    learning.expect(drawn, free_memory())
    if dataset is not source:  # or the caller read it, and may have said so
        LOG.info("%s", dataset)
    layers_told = ", ".join(map(str, extractor.asked))
    LOG.info("%s on %s, layers %s, engine %s", learning.name, chosen.backbone, layers_told, running.engine)
    LOG.info("weights: %s", extractor.origin)
    settled = learning.settings()
    recipe = Recipe(
        name_of(learning),
        settled,
        chosen.backbone,
        extractor.normalisation,
        extractor.asked,
        extractor.layers,
        geometry,
        drawn,
        seed,
    )
    crosses = calibrating.crosses(learning, recipe.grids, rows * (1 + drawn))
    if trim and (isinstance(learning, Trained) or not crosses):
        raise SettingError(
            "--trim needs a cross-fit and a detector that learns in one pass; give --calibration cross and such a "
            "detector, or leave out --trim"
        )
    folder = Path(checkpoints) if checkpoints is not None else None
    trained, paths = isinstance(learning, Trained), [sample.path for sample in dataset.train]
    start = find_start(folder if trained else None, resume, paths, crosses=crosses)
    learned_from = start.learned_from(paths, geometry)
    images = divide(dataset, seed, calibrating, crosses=crosses, trained=trained, learned_from=learned_from)
    how = Run(folder, resume, start, processes, torch_device(device))
    options = Options(skip_bad, trim, reported(progress), announce, how, memory, began)
    if ray is None:
        return run(prepare(learning, extractor, recipe, images, options))
    from blemish.distributed.cluster import connect

    if crosses and rows > LIMIT:
        raise SettingError(
            f"a cross-fit with --ray takes at most {LIMIT:,} images or tiles, since it keeps all their features, and "
            f"there are {rows:,}; give --calibration hold-out, or leave out --ray"
        )
    with connect(ray) as cluster:
        return run(prepare(learning, extractor, recipe, images, options, cluster))


def _check_cluster(ray: str, detector: Detector, device: str) -> None:
    from blemish.detectors import Trained, name_of
    from blemish.distributed.cluster import check_address

    check_address(ray)
    if device not in {"auto", "cpu"}:
        raise SettingError(
            f"--device {device} names a device of one machine, and --ray uses many machines; leave out one"
        )
    if ":" in name_of(detector):
        raise SettingError(f"{detector.name} is your own class, which a cluster's workers do not have; leave out --ray")
    if isinstance(detector, Trained):
        raise SettingError(
            f"--ray cannot train {detector.name}; give --processes, or a detector that learns in one pass"
        )
