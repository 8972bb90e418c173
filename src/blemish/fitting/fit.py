"""From good images to a model: plan, learn from most of them, calibrate on the others. This joins the rooms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.backbones import side_step
from blemish.calibration import Calibration, promised_rate
from blemish.calibration.cross_fit import LIMIT
from blemish.engines import choose_engine
from blemish.engines.devices import torch_device
from blemish.errors import SettingError, as_count, require
from blemish.fitting.calibrate import cross_fit, hold_out
from blemish.fitting.choices import Layers, choose
from blemish.fitting.enough import check_enough
from blemish.fitting.frames import Source, read_images, said_of
from blemish.fitting.kept import Kept
from blemish.fitting.learn import learn
from blemish.fitting.on_cluster import learn_and_hold_out, make_fold
from blemish.fitting.passes import Passes
from blemish.fitting.plan import Plan, free_memory, plan_fit
from blemish.fitting.split import Calibrating, Division, count_rows, divide, images_digest
from blemish.fitting.trim import trim as leave_out_suspicious
from blemish.fitting.virtual import copies_of_each
from blemish.images import Copies, in_proportion
from blemish.model import Fitted, Learned, Model, Provenance, Recipe
from blemish.model.inside import Inside
from blemish.model.provenance import CalibratedOn, Change, now, versions
from blemish.model.recipe import LARGEST_SEED
from blemish.progress import LOG, Progress, reported

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.distributed.cluster import Cluster
    from blemish.distributed.fold import Fold
    from blemish.engines.extractor import Extractor
    from blemish.fitting.trained.learn import Run, Training


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
    `LIMIT` images are cross-fitted: all are learned from, and each is scored by a model of those of other folds. Of
    more, a share is held out, and a detector that learns in one pass takes these in after they were scored. A trained
    detector (`hfr`, `vae`, `vae-grf`, `fre-ae`) holds out a share and never sees it, unless `folds` are asked for.

    Args:
        source: a path, `layout:PATH`, or a data set that was read; its training part is used. Or good images, as
            `Model.predict` takes them; those in memory are written to a temporary folder first.
        bgr: whether the channels of arrays and tensors are blue, green, red, as OpenCV has them.
        detector: a name in `blemish.detectors.DETECTORS`, `fre` by default; a new detector, such as `FRE(power=8)`; or
            a class of your own, `module:Class`, whose module is then imported.
        settings: of the named detector, by name; others keep their defaults.
        backbone: a network of timm's that gives feature maps, with the tag of its weights or without
            (`resnet18.tv_in1k`); by default that of the quality.
        layers: levels, means of levels (`22-28`), or names of modules; by default the detector's own choice.
        size: side of a square with as many pixels as the model's input, by default that of the quality. The input has
            the proportions of the median image, with sides that are multiples of 32, or of the side of a transformer's
            patches; it is a square if the images vary too much. `HxW` is the input's height and width whatever the
            images' are. With tiles the size is what each is resized to, by default their own; with a crop it is the
            square that is cropped.
        crop: side of a centre crop after resizing.
        tile: cut photographs into tiles of this many of their own pixels; each tile is a sample. Photographs are held
            out whole, and the rate is one of photographs: a photograph's score is the largest of its tiles' scores.
        overlap: pixels that neighbouring tiles share, at least; a quarter of the tile by default.
        trim: leave out images that look anomalous themselves, by the cross-fitted scores, and fit without them.
        preset: name of a paper's settings; other arguments have precedence. Another architecture needs `layers`.
        quality: `fast`, `balanced` (the default) or `best`: the backbone, the size and the copies, as far as other
            arguments do not give them. Not for a preset, nor for a detector that looks at the images themselves.
        false_alarm_rate: the rate that the threshold promises; by default 1 %, or the lowest possible rate.
        box_rate: the share of good images that may show a box; by default 10 %, or the lowest possible share.
        calibration: `cross` or `hold-out`; by default as above.
        folds: of the cross-fit; by default 10, or below 30 images as many as there are; for `padim` as many as there
            are, where it can leave each image out at once.
        calibration_share: hold out this share, at least 20 images, at most half; a fifth by default, and 200 images at
            most for a trained detector.
        copies: shifted copies of each image to learn from besides it; by default as many as fill up to about
            `virtual.ENOUGH` images, at most those of the quality, for a detector that gains by them.
        seed: of the hold-out, of the data set's split, and of what a named detector draws.
        engine: `auto`, `openvino` or `torch`.
        device: that it runs on, as `Model.load` takes it; a trained detector is trained there too, if torch has it.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them.
        skip_bad: leave out images that cannot be read, rather than stop; their count is kept in the model.
        progress: called with the stage, and how many images or steps of how many are done; `True` prints it.
        announce: called with what the fit will need, before the pass over the images.
        checkpoints: a folder for the checkpoint and the log of a trained detector; with `ray`, for summaries of what
            was learned so far, if a share is held out.
        resume: go on from the checkpoint there, if there is one. If only the images are others, its weights are what a
            new training starts from; images that they have learned from do not calibrate.
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
    seed = as_count("seed", seed)
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingError(f"seed {seed} is out of range; give 0 to {LARGEST_SEED}")
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
        raise SettingError(f"{learning.name} is not trained, so further processes have no share; leave --processes out")
    running = choose_engine(engine, device, gradients=learning.needs_gradients)
    dataset, _scratch = read_images(source, seed, bgr=bgr)  # the folder stays as long as its name
    calibrating = Calibrating(calibration, folds, calibration_share, false_alarm_rate, box_rate)
    if len(dataset.train) > 1:  # fewer are refused in words of their own
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
            "--trim needs a cross-fit of a detector that is not trained; give --calibration cross and such a detector, "
            "or leave --trim out"
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
            f"a cross-fit keeps the features of all images, and with --ray there may be {LIMIT:,} images or tiles, not "
            f"{rows:,}; give --calibration hold-out, or leave --ray out"
        )
    with connect(ray) as cluster:
        return run(prepare(learning, extractor, recipe, images, options, cluster))


@dataclass(frozen=True)
class Options:
    """Arguments of `fit` by the same names that change how it runs; `skip_bad` and `trim` change the result too.

    A training's folder, its start and its processes are in `how`. The fit `began` at this time of `time.perf_counter`.
    """

    skip_bad: bool = False
    trim: bool = False
    progress: Progress | None = None
    announce: Callable[[Plan], None] | None = None
    how: Run | None = None
    memory: int | None = None
    began: float | None = None


@dataclass(frozen=True)
class Work:
    """The parts of one fit.

    Attributes:
        detector: empty at first; it is fitted in place.
        extractor: the backbone ready to run.
        recipe: all that decides what is computed.
        images: those to learn from and those to calibrate on.
        options: of the fit.
        digest: of the images' names and sizes before the fit.
        passes: through the extractor.
        kept: the features, if all images are cross-fitted.
        training: of the detector; `None` if it learns in one pass.
        memory: bytes of features that may be kept in memory.
        fold: over the cluster; `None` if this process does all.
    """

    detector: Detector
    extractor: Extractor
    recipe: Recipe
    images: Division
    options: Options
    digest: str
    passes: Passes
    kept: Kept | None
    training: Training | None
    memory: int
    fold: Fold | None


def _check_cluster(ray: str, detector: Detector, device: str) -> None:
    from blemish.detectors import Trained, name_of
    from blemish.distributed.cluster import check_address

    check_address(ray)
    if device not in {"auto", "cpu"}:
        raise SettingError(f"--device {device} is for one machine, and --ray uses the cores of many; leave one out")
    if ":" in name_of(detector):
        raise SettingError(f"{detector.name} is a class of your own, which a cluster's workers lack; leave --ray out")
    if isinstance(detector, Trained):
        raise SettingError(
            f"{detector.name} is trained, which --ray does not do; give --processes, or a detector that learns in one "
            "pass"
        )


def prepare(
    detector: Detector,
    extractor: Extractor,
    recipe: Recipe,
    images: Division,
    options: Options,
    cluster: Cluster | None = None,
) -> Work:
    """Plans a fit, announces the plan, and returns the parts of the fit.

    Args:
        detector: empty.
        extractor: the backbone ready to run.
        recipe: all that decides what is computed.
        images: to learn from and to calibrate on.
        options: of the fit.
        cluster: whose workers go over the images; `None` if this process does.

    Raises:
        MemoryLimitError: there is not enough memory, or not enough disk.
        SettingError: something in the folder for checkpoints would be overwritten.
    """
    from blemish.fitting.trained.learn import Run, make_training

    how = options.how or Run()
    digest = images_digest([sample.path for sample in images.all])  # now, so that later changes to them are noticed
    plan = plan_fit(detector, extractor, recipe, images, options.memory, how.processes)
    plan = replace(plan, start=how.folder if how.start.warm else None)
    if options.began is not None:
        plan = plan.after(time.perf_counter() - options.began)
    training = make_training(detector, recipe, extractor.origin, images, plan.cache, how)
    plan.check()
    LOG.info("%s", plan)
    if options.announce:
        options.announce(plan)
    copies = Copies(recipe.copies, recipe.seed)
    passes = Passes(extractor.engine, recipe.geometry, options.skip_bad, options.progress, copies)
    kept = Kept(plan.cache) if images.crosses else None
    fold = None
    if cluster is not None:
        fold = make_fold(cluster, extractor, recipe, images, options, plan, digest)
        passes.elsewhere = fold.features
    return Work(detector, extractor, recipe, images, options, digest, passes, kept, training, plan.cache, fold)


def run(work: Work) -> Model:
    """Learns and calibrates; returns the model.

    Raises:
        BlemishError: as `learn`, `hold_out`, `cross_fit` and `trim` do.
    """
    from blemish.detectors import Trained
    from blemish.fitting.trained.cross_train import cross_train
    from blemish.fitting.trained.learn import Run

    detector, passes, images, kept, recipe = work.detector, work.passes, work.images, work.kept, work.recipe
    trimmed: tuple[str, ...] = ()
    if kept is None and work.fold is not None:
        gathered = learn_and_hold_out(detector, passes, images, work.fold)
    else:
        learn(detector, passes, images, work.training, kept)
        if kept is None:
            gathered = hold_out(detector, passes, images)
        elif isinstance(detector, Trained):
            how = work.options.how or Run()
            gathered = cross_train(recipe, work.extractor.origin, passes, images, kept, work.memory // 2, how)
        else:
            gathered = cross_fit(detector, passes, images, kept, recipe.seed)
            if work.options.trim:
                gathered, kept, trimmed = leave_out_suspicious(detector, passes, images, kept, recipe.seed, gathered)
    calibration = gathered.finish(promised_rate(len(gathered), images.rate), images.box_rate)
    rows = passes.arrivals.rows
    learned = rows if kept is None else {digest: rows[digest] for digest in kept.digests.values()}
    return assemble(work, calibration, trimmed, Inside.of(learned))


def assemble(work: Work, calibration: Calibration, trimmed: tuple[str, ...], inside: Inside) -> Model:
    """Returns the model of what was learned and calibrated.

    Args:
        work: done.
        calibration: of the model.
        trimmed: names of images that were left out.
        inside: the others.
    """
    from blemish.detectors.scoring import Scoring

    detector, extractor, images = work.detector, work.extractor, work.images
    skipped = len(work.passes.bad)
    shape = work.recipe.geometry.shape
    detector.compact()
    engine = Scoring(detector, shape).after(extractor.engine)
    created, source = now(), said_of(images.dataset)
    provenance = Provenance(
        created=created,
        source=source,
        layout=images.dataset.layout,
        images=len(inside),
        images_digest=work.digest,
        held_out=0 if images.crosses else len(calibration.scores),
        calibration_share=images.share,
        calibration_folds=images.folds,
        trimmed=trimmed,
        skipped=skipped,
        repeated=work.passes.repeated,
        asked_false_alarm_rate=images.rate,
        weights=extractor.origin,
        learned=detector.summary(),
        engine=engine.name,
        versions=versions(),
        calibrated_on=CalibratedOn(created, source, len(calibration.scores), seen=0),
        changes=(Change(created, "fit", source, len(inside), work.passes.repeated, skipped, engine=engine.name),),
    )
    store = Fitted(Learned(detector, extractor.weights, shape), engine)
    LOG.info(
        "learned from %d images, %d skipped, %d repeated, %d left out; threshold %.6g at a false-alarm rate of %.3g",
        *(len(inside), skipped, work.passes.repeated, len(trimmed), calibration.threshold, calibration.rate),
    )
    return Model(work.recipe, calibration, provenance, inside, engine, extractor.engine, store)
