"""The work of one fit once all is chosen: plan, learn from most images, calibrate on the others, make the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blemish.calibration import Calibration, promised_rate
from blemish.fitting import own_graph
from blemish.fitting.calibrate import cross_fit, hold_out
from blemish.fitting.frames import source_of
from blemish.fitting.kept import Kept
from blemish.fitting.learn import learn
from blemish.fitting.on_cluster import learn_and_hold_out, make_fold
from blemish.fitting.passes import Passes
from blemish.fitting.plan import Plan, plan_fit
from blemish.fitting.split import Division, images_digest
from blemish.fitting.trim import trim as leave_out_suspicious
from blemish.images import Copies
from blemish.model import Fitted, Learned, Model, Provenance, Recipe
from blemish.model.inside import Inside
from blemish.model.provenance import CalibratedOn, Change, now, versions
from blemish.progress import LOG, Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.distributed.cluster import Cluster
    from blemish.distributed.fold import Fold
    from blemish.engines.extractor import Extractor
    from blemish.fitting.trained.learn import Run, Training


@dataclass(frozen=True)
class Options:
    """Arguments of `fit` that change how it runs, by the same names; `skip_bad` and `trim` change the result too.

    `how` holds a training's folder, its start and its processes. `began` is the time of `time.perf_counter` at which
    the fit began.
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
        cluster: whose workers read the images; `None` if this process does.

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
    if options.announce:
        options.announce(plan)
    else:
        LOG.info("%s", plan)
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

    Raises:
        SettingError: the graph of a user's own detector gives other results than its module.
    """
    from blemish.detectors import is_own
    from blemish.detectors.scoring import Scoring

    detector, extractor, images = work.detector, work.extractor, work.images
    skipped = len(work.passes.bad)
    shape = work.recipe.geometry.shape
    detector.compact()
    scoring = Scoring(detector, shape)
    if is_own(type(detector)):
        engine = own_graph.after(work.recipe.detector, scoring, extractor.engine, shape)
    else:
        engine = scoring.after(extractor.engine)
    created, source = now(), source_of(images.dataset)
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
