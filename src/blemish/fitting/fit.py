"""From good images to a model: plan, learn from most of them, calibrate on the others. This joins the rooms."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.calibration import DEFAULT_SHARE, Calibration
from blemish.datasets import Dataset, read_source
from blemish.engines import choose_engine
from blemish.fitting.calibrate import calibrate
from blemish.fitting.choices import Layers, choose
from blemish.fitting.learn import learn
from blemish.fitting.passes import Passes
from blemish.fitting.plan import Plan, plan_fit
from blemish.fitting.split import Division, divide, images_digest
from blemish.model import Fitted, Learned, Model, Provenance, Recipe
from blemish.model.provenance import versions
from blemish.progress import Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.engines.extractor import Extractor
    from blemish.fitting.trained.learn import Training


def fit(
    source: str | Path | Dataset,
    *,
    detector: str | Detector | None = None,
    settings: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    layers: Layers | None = None,
    size: int | str | None = None,
    crop: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    preset: str | None = None,
    false_alarm_rate: float | None = None,
    calibration_share: float = DEFAULT_SHARE,
    seed: int = 0,
    engine: str = "auto",
    weights: str | Path | None = None,
    download: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
    announce: Callable[[Plan], None] | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    memory: int | None = None,
) -> Model:
    """Returns a model of the good images in `source`. The backbone runs once for each of them.

    A share of the images is held out; the threshold, the p-values and the display scale come from these alone. A
    detector that learns in one pass then takes them in too. This makes the stated false-alarm rate a bound rather than
    a target, since a normal image lies closer to a model that has seen more. A trained detector (`hfr`, `vae`,
    `vae-grf`, `fre-ae`) never sees them.

    Args:
        source: a path, `layout:PATH`, or a data set that was read; its training part is used.
        detector: a name in `blemish.detectors.DETECTORS`, `fre` by default; or a new detector, such as `FRE(power=8)`.
        settings: of the named detector, by name; others keep their defaults.
        backbone: `efficientnet_lite0` (the default), or any network of timm's that gives feature maps.
        layers: levels, or names of modules; by default the detector's own choice.
        size: pixels, or `HxW`; by default 256, or with tiles their size.
        crop: side of a centre crop after resizing.
        tile: cut photographs into tiles of this many of their own pixels; each tile is a sample. Photographs are held
            out whole, and the rate is one of photographs: a photograph's score is the largest of its tiles' scores.
        overlap: pixels that neighbouring tiles share, at least; a quarter of the tile by default.
        preset: name of a paper's settings; other arguments have precedence.
        false_alarm_rate: the rate that the threshold promises; by default 1 %, or the lowest possible rate.
        calibration_share: the share held out, at least 20 images, at most half.
        seed: of the hold-out, of the data set's split, and of what a named detector draws.
        engine: `auto`, `openvino` or `torch`.
        weights: a file with the backbone's weights.
        download: allow timm to fetch them.
        skip_bad: leave out images that cannot be read, rather than stop; their count is kept in the model.
        progress: called with the stage, and how many images or steps of how many are done.
        announce: called with what the fit will need, before the pass over the images.
        checkpoints: a folder for the checkpoint and the log of a trained detector.
        resume: go on from the checkpoint there, if there is one.
        memory: bytes for the features that `hfr` or `fre-ae` is trained on, which are kept on disk if they take more;
            by default half of what is free.

    Raises:
        BlemishError: one of its kinds; the message says what was found, what was expected and what to do.
    """
    from blemish.engines.extractor import make_extractor

    chosen = choose(
        detector, settings, backbone, layers, size, crop, tile, overlap, preset, bool(weights or download), seed
    )
    learning, geometry = chosen.detector, chosen.geometry
    dataset = source if isinstance(source, Dataset) else read_source(source, seed)
    images = divide(dataset, seed, calibration_share, false_alarm_rate)
    running = choose_engine(engine, gradients=learning.needs_gradients)
    file = Path(weights) if weights is not None else None
    extractor = make_extractor(
        chosen.backbone, chosen.layers, learning.strides, geometry, running, file, download=download
    )
    settled = learning.settings()
    recipe = Recipe(learning.name, settled, chosen.backbone, extractor.asked, extractor.layers, geometry, seed)
    folder = Path(checkpoints) if checkpoints is not None else None
    options = Options(skip_bad, progress, announce, folder, resume, memory)
    work = prepare(learning, extractor, recipe, images, options)
    learn(learning, work.passes, images, work.training)
    return assemble(work, calibrate(learning, work.passes, images))


@dataclass(frozen=True)
class Options:
    """Arguments of `fit` by the same names that change how it runs; only `skip_bad` changes the result."""

    skip_bad: bool = False
    progress: Progress | None = None
    announce: Callable[[Plan], None] | None = None
    checkpoints: Path | None = None
    resume: bool = False
    memory: int | None = None


@dataclass(frozen=True)
class Work:
    """The parts of one fit.

    Attributes:
        detector: empty at first; it is fitted in place.
        extractor: the backbone ready to run.
        recipe: all that decides what is computed.
        images: those to learn from and those to calibrate on.
        digest: of the images' names and sizes before the fit.
        passes: through the extractor.
        training: of the detector; `None` if it learns in one pass.
    """

    detector: Detector
    extractor: Extractor
    recipe: Recipe
    images: Division
    digest: str
    passes: Passes
    training: Training | None


def prepare(detector: Detector, extractor: Extractor, recipe: Recipe, images: Division, options: Options) -> Work:
    """Plans a fit, announces the plan, and returns the parts of the fit.

    Raises:
        MemoryLimitError: there is not enough memory, or not enough disk.
        SettingError: something in the folder for checkpoints would be overwritten.
    """
    from blemish.fitting.trained.learn import make_training

    digest = images_digest([sample.path for sample in images.all])  # now, so that later changes to them are noticed
    plan = plan_fit(detector, extractor, recipe.geometry, images, options.memory)
    training = make_training(
        detector, recipe, extractor.origin, images, plan.cache, options.checkpoints, options.resume
    )
    plan.check()
    if options.announce:
        options.announce(plan)
    passes = Passes(extractor.engine, recipe.geometry, options.skip_bad, options.progress)
    return Work(detector, extractor, recipe, images, digest, passes, training)


def assemble(work: Work, calibration: Calibration) -> Model:
    """Returns the model of what was learned and calibrated."""
    from blemish.detectors.scoring import OUTPUTS, Scoring

    detector, extractor, images = work.detector, work.extractor, work.images
    skipped = len(work.passes.bad)
    shape = work.recipe.geometry.shape
    detector.compact()
    engine = extractor.engine.then(Scoring(detector, shape), OUTPUTS)
    provenance = Provenance(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        source=images.dataset.root,
        layout=images.dataset.layout,
        images=len(images.all) - skipped,
        images_digest=work.digest,
        held_out=len(calibration.scores),
        calibration_share=images.share,
        skipped=skipped,
        asked_false_alarm_rate=images.rate,
        weights=extractor.origin,
        learned=detector.summary(),
        engine=engine.name,
        versions=versions(),
    )
    store = Fitted(Learned(detector, extractor.weights), engine, shape)
    return Model(work.recipe, calibration, provenance, engine, extractor.engine, store)
