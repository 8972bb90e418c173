"""The two passes of a fit that holds out images, done by a cluster; they take the place of `learn` and `hold_out`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blemish.calibration import Gathered
from blemish.datasets import Sample
from blemish.errors import ImageError
from blemish.fitting.passes import Passes
from blemish.fitting.split import Division

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.distributed.cluster import Cluster
    from blemish.distributed.fold import Fold
    from blemish.distributed.summary import Report
    from blemish.engines.extractor import Extractor
    from blemish.fitting.plan import Plan
    from blemish.fitting.work import Options
    from blemish.model import Recipe


def learn_and_hold_out(detector: Detector, passes: Passes, images: Division, fold: Fold) -> Gathered:
    """Returns the scores of the held-out images by a model of the others; afterwards the detector has learned from all.

    Args:
        detector: empty; it is fitted in place.
        passes: of this fit.
        images: to learn from, and to calibrate on.
        fold: over the cluster.

    Raises:
        BadImagesError: an image cannot be read, or too few are left.
        DegenerateError: features or a score are not finite, or all images are the same.
        StorageError: a summary cannot be kept, or one that was kept was altered.
    """
    import torch

    recipe = fold.job.recipe
    report, found = _over(fold, passes, images, "fit", images.to_fit, images.to_calibrate)
    passes.check_enough(len(report.digests))
    passes.variety.check(images.dataset.root)
    report, others = _over(fold, passes, images, "calibrate", images.to_calibrate, scored_by=found)
    passes.check_enough(len(report.gathered))
    passes.variety.check(images.dataset.root)
    learned = fold.merged(found, others)
    detector.restore(recipe.grids, {name: torch.from_numpy(array.copy()) for name, array in learned.items()})
    return report.gathered


def _over(
    fold: Fold,
    passes: Passes,
    images: Division,
    stage: str,
    samples: Sequence[Sample],
    later: Sequence[Sample] = (),
    scored_by: Any = None,
) -> tuple[Report, Any]:
    """Returns the report of one pass and a reference to what was learned in it; `passes` takes note of the images."""
    from blemish.distributed.fold import Images

    paths = [sample.path for sample in samples]
    done = 0

    def watch(count: int) -> None:
        nonlocal done
        done += count
        if passes.progress:
            passes.progress(stage, done, len(paths))

    names = [images.name_of(path) for path in paths]
    report, learned = fold.learn(Images(stage, paths, names, [sample.path for sample in later]), scored_by, watch)
    passes.bad += [ImageError(paths[number], reason) for number, reason in sorted(report.bad.items())]
    passes.arrivals.rows.update({digest: report.rows[number] for number, digest in report.digests.items()})
    repeated = len(paths) - len(report.bad) - len(report.digests)
    passes.repeated += repeated
    passes.variety = passes.variety.merge(report.variety)
    passes.variety.count += repeated  # for the error, if there is nothing else
    return report, learned


def make_fold(
    cluster: Cluster, extractor: Extractor, recipe: Recipe, images: Division, options: Options, plan: Plan, digest: str
) -> Fold:
    """Returns the fold of a fit over a cluster.

    Args:
        cluster: that this process is connected to.
        extractor: the backbone ready to run.
        recipe: all that decides what is computed.
        images: to learn from and to calibrate on.
        options: of the fit.
        plan: of the fit.
        digest: of the images' names and sizes.

    Raises:
        SettingError: the folder for checkpoints holds what would be overwritten.
        StorageError: it cannot be written, or it holds summaries of another fit.
    """
    from blemish.distributed.fold import Fold

    return Fold(
        cluster,
        recipe,
        extractor,
        skip_bad=options.skip_bad,
        tiles=plan.tiles / plan.images,
        folder=options.how.folder if options.how and not images.crosses else None,
        resume=bool(options.how and options.how.resume),
        decisive={"images": digest, "held out": len(images.to_calibrate)},
    )
