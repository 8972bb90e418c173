"""Changes a fitted model: it learns from more images, is merged with another model, or forgets images.

Exact statistics stay exact: the changed model equals one that was fitted on the images that it then holds. New images
are scored before anything is learned from them, so that their scores can calibrate the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import compress, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration, Gathered, default_box_rate, lowest_rate, promised_rate
from blemish.calibration.gathered import MOST as MOST_SCORES
from blemish.engines.stream import stream, tensors
from blemish.errors import BadImagesError, ImageError, SettingError, SourceError, as_count, number_of
from blemish.images import Copies
from blemish.model.inside import Inside
from blemish.model.intake import Images, Intake, NewImages, Where, good_by_chance, several
from blemish.model.model import Model
from blemish.model.provenance import MOST_CHANGES, NAMED, Change, now
from blemish.model.recipe import Learned
from blemish.model.saved import Fitted
from blemish.progress import Progress

if TYPE_CHECKING:
    from blemish.detectors import Detector

TOLERANCE = 1e-4
"""How far rounding may move scores when images are forgotten, as a share of them."""


def update(
    model: Model,
    images: Images,
    *,
    only_good: bool = False,
    newest: int | None = None,
    skip_bad: bool = False,
    bgr: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Returns the model after it learned from more good images; see `Model.update`."""
    detector = _closed_form(model, "updated")
    if newest is not None and (newest := as_count("newest", newest)) < 1:
        raise SettingError(f"newest {newest} is out of range; give how many of the newest scores calibrate, 1 or more")
    given = NewImages.of(images, model.recipe.seed, bgr=bgr)
    judged, intake, fresh = Intake(model, given, skip_bad), Intake(model, given, skip_bad), detector.emptied()
    if only_good:
        judged.run(None, {}, progress)
    intake.run(fresh, judged.anomalous, progress)
    by_chance = good_by_chance(model, judged)
    anomalous = judged.anomalous or intake.anomalous
    change = Change(
        now(),
        "update",
        given.root,
        images=len(intake.rows),
        repeated=intake.repeated,
        skipped=len(intake.bad),
        anomalous=len(anomalous),
        left_out=only_good,
        calibrating=len(by_chance),
        worst=tuple(sorted(anomalous.values(), key=lambda pair: pair[1])[:NAMED]),
        engine=model.engine.name,
    )
    changes = (*model.provenance.changes, change)
    inside = model.inside.merge(Inside.of(intake.rows, len(changes) - 1))
    gathered = _joined(_by_age(model), intake.gathered.merge(by_chance))
    if newest is not None:
        gathered = gathered.part(range(max(0, len(gathered) - newest), len(gathered)))
    return _changed(model, detector.merge(fresh), gathered, inside, changes)


def merge(model: Model, other: Model) -> Model:
    """Returns a model of the images of both; see `Model.merge`."""
    detector, others = _closed_form(model, "merged"), _closed_form(other, "merged")
    _check_alike(model, other)
    common = model.inside.places(other.inside.names()) >= 0
    if count := int(common.sum()):
        remedy = "forget them from one of the models" if others.forgets else "fit one of the models without them"
        twice = number_of(count, "image is in both models and would count", "images are in both models and would count")
        raise SettingError(f"{twice} twice{_named(other, common)}; {remedy}, then merge")
    former = model.provenance.changes
    joined = Change(now(), "merge", other.provenance.source, len(other.inside))
    return _changed(
        model,
        detector.merge(others),
        _joined(_by_age(model), _by_age(other)),
        model.inside.merge(other.inside, len(former)),
        (*former, *other.provenance.changes, joined),
        other.provenance.calibrated_on.seen,
    )


def forget(model: Model, images: Images, *, bgr: bool = False, progress: Progress | None = None) -> Model:
    """Returns the model as if it had never learned from these images; see `Model.forget`."""
    import torch

    rest = _closed_form(model, "changed")
    _check_forgets(model, rest)
    given = NewImages.of(images, model.recipe.seed, bgr=bgr)
    rows_of: dict[str, Iterator[int]] = {}  # the numbers of the rows of each image that are still to come
    is_left = np.ones(int(model.inside.rows.sum()), bool)
    ends = np.cumsum(model.inside.rows, dtype=np.int64)
    bad: list[ImageError] = []
    unknown: list[str] = []
    uneven = False
    recipe, done = model.recipe, 0
    copies = Copies(recipe.copies, recipe.seed)
    for chunk in stream(
        model.extractor, given.images, recipe.geometry, copies, Where(lambda digest: digest not in model.inside)
    ):
        bad += chunk.errors.values()
        unknown += [given.names[index] for index, digest in chunk.repeated.items() if digest not in model.inside]
        if chunk.indices and not (bad or unknown):
            members: list[int] = []
            for digest in chunk.owners:
                if digest not in rows_of:
                    (place,) = model.inside.places([digest]).tolist()
                    _check_engine(model, model.provenance.changes[model.inside.changes[place]])
                    rows_of[digest] = iter(range(int(ends[place] - model.inside.rows[place]), int(ends[place])))
                members += islice(rows_of[digest], 1)
            uneven = len(members) < len(chunk.owners)
            if uneven:
                break
            numbers = np.cumsum(is_left) - 1  # of the rows, without those that are taken out already
            rest = rest.without(torch.from_numpy(numbers[members]), tensors(chunk.arrays))
            is_left[members] = False
        if len(bad) > NAMED:
            break
        done += chunk.finished
        if progress:
            progress("forget", done, len(given.images))
    if bad:
        raise BadImagesError(bad, "nothing was forgotten; fix them, or leave them out")
    if unknown:
        raise SourceError(
            f"{given.root}: the model has not learned from {len(unknown)} of {number_of(len(given.images), 'image')} "
            f"({several(unknown)}), so nothing was forgotten; give images that it has learned from"
        )
    if uneven or any(True for rows in rows_of.values() for _ in rows):
        raise SettingError(
            "images have another number of feature rows than the model lists, so nothing was forgotten; fit it again"
        )
    places = np.sort(model.inside.places(rows_of))
    left = len(model.inside) - len(places)
    if left < 2:
        raise SettingError(f"a model needs 2 images, and {left} would be left; fit a new one on other images")
    if not rest.rounding() <= TOLERANCE:
        raise SettingError(
            f"with {left} of {len(model.inside)} images left, rounding could change scores by more than "
            f"{100 * TOLERANCE:g} %; fit a new model on the images that are left"
        )
    gathered, gone = _by_age(model), set(rows_of)
    gathered = gathered.part(item for item, digest in enumerate(gathered.digests) if digest not in gone)
    if not len(gathered):
        raise SettingError("no image would be left to calibrate on; calibrate the model on other good images first")
    change = Change(now(), "forget", given.root, len(places))
    changes = (*model.provenance.changes, change)
    return _changed(model, rest, gathered, model.inside.without(places), changes)


def _closed_form(model: Model, what: str) -> Detector:
    """Returns what the model learned. Raises `SettingError` if it was trained."""
    from blemish.detectors import Trained

    detector = model.learned.detector
    if isinstance(detector, Trained):
        raise SettingError(
            f"{detector.name} is trained in many steps, so it cannot be {what}; fit it again on all images; "
            "with --resume and its folder of --checkpoints, the new fit starts from these weights"
        )
    return detector


def _check_alike(model: Model, other: Model) -> None:
    """Raises `SettingError` if the models do not compute the same, by their recipes or the backbone's weights."""
    import torch

    names = ["detector", "backbone", "normalisation", "geometry", "layers", "shapes", "copies", "settings"]
    if model.recipe.copies:
        names.append("seed")  # of the copies
    for name in names:
        own, theirs = getattr(model.recipe, name), getattr(other.recipe, name)
        if own == theirs:
            continue
        if name == "settings":
            name = next(setting for setting in own if own[setting] != theirs.get(setting))
            own, theirs = model.recipe.settings[name], other.recipe.settings.get(name)
        elif name == "geometry":
            name = next(field.name for field in fields(own) if getattr(own, field.name) != getattr(theirs, field.name))
            own, theirs = getattr(model.recipe.geometry, name), getattr(other.recipe.geometry, name)
        raise SettingError(
            f"the models differ in {name} ({own} and {theirs}), so they cannot be merged; fit both with the same "
            "options"
        )
    weights, others = model.learned.weights, other.learned.weights
    if weights.keys() != others.keys() or not all(torch.equal(weights[name], others[name]) for name in weights):
        raise SettingError(
            f"the models have different weights of {model.recipe.backbone} ({model.provenance.weights}; "
            f"{other.provenance.weights}), so they cannot be merged; fit both with the same"
        )


def _check_forgets(model: Model, detector: Detector) -> None:
    """Raises `SettingError` if nothing can be taken out of what the model learned."""
    if not detector.forgets:
        raise SettingError(
            f"{detector.name} keeps only the leading directions of its images, so it cannot forget any; fit it again "
            "without them, or use gaussian, padim or spade, which can forget"
        )
    if int(model.inside.rows.sum()) != detector.count:
        raise SettingError(
            f"the model lists {int(model.inside.rows.sum())} rows of features and has learned {detector.count}, so "
            "it cannot forget any; fit it again"
        )


def _check_engine(model: Model, change: Change) -> None:
    """Raises `SettingError` if images that came by this change had their features from another engine."""
    if change.engine == model.engine.name:
        return
    if change.engine == "several":
        raise SettingError(
            "the images were learned long ago, on different engines, so they cannot be forgotten exactly; fit a new "
            "model without them"
        )
    raise SettingError(
        f"the images were learned on the {change.engine} engine and the model runs on {model.engine.name} now, which "
        f"rounds differently, so they cannot be forgotten exactly; load it with --engine {change.engine}"
    )


def _named(model: Model, places: NDArray[np.bool_]) -> str:
    """Returns the names of some of a model's images, those that its calibration knows."""
    digests = set(compress(model.inside.names(), places))
    known = zip(model.calibration.digests, model.calibration.names, strict=True)
    found = sorted(name for digest, name in known if digest in digests)[:3]
    return f" (such as {', '.join(found)})" if found else ""


def _by_age(model: Model) -> Gathered:
    """Returns what calibrates the model, oldest images first; those that the model has not learned come before all."""
    gathered = Gathered.of(model.calibration)
    places = model.inside.places(gathered.digests)
    return gathered.part(np.argsort(places, kind="stable").tolist())


def _joined(former: Gathered, new: Gathered) -> Gathered:
    """Returns all scores, each image's once: the former one."""
    known = set(former.digests)
    return former.merge(new.part(item for item, digest in enumerate(new.digests) if digest not in known))


def _changed(
    model: Model, detector: Detector, gathered: Gathered, inside: Inside, changes: tuple[Change, ...], seen: int = 0
) -> Model:
    """Returns the model with new contents; everything that follows from them is computed again.

    Args:
        model: before the change.
        detector: after the change.
        gathered: the scores that calibrate.
        inside: the images that the detector has learned from.
        changes: all changes, with the new one.
        seen: how many of the added images that calibrate were already learned by the model that scored them.
    """
    while len(changes) > MOST_CHANGES:
        first, second, *later = changes
        engines = sorted({first.engine, second.engine} - {""})
        came_by = "several" if len(engines) > 1 else "".join(engines)
        both = Change(second.created, "several", first.source, first.images + second.images, engine=came_by)
        changes = (both, *later)
        inside = replace(inside, changes=np.where(inside.changes > 0, inside.changes - 1, 0).astype(np.uint32))
    gathered.folds = 0
    detector.compact()
    calibration = _renewed(model, gathered)
    told, count = model.provenance.calibrated_on, len(calibration.scores)
    provenance = replace(
        model.provenance,
        learned=detector.summary(),
        asked_false_alarm_rate=asked_rate(model),
        changes=changes,
        calibrated_on=replace(told, created=now(), images=count, seen=min(told.seen + seen, count)),
    )
    learned = Learned(detector, model.learned.weights, model.recipe.geometry.shape)
    engine = learned.scoring.after(model.extractor)
    return Model(model.recipe, calibration, provenance, inside, engine, model.extractor, Fitted(learned, engine))


def _renewed(model: Model, gathered: Gathered) -> Calibration:
    """Returns the calibration at the rates that were asked for, or as near to them as so many images can promise."""
    count = min(len(gathered), MOST_SCORES)
    rate, box_rate = asked_rate(model), asked_box_rate(model)
    calibration = gathered.finish(
        promised_rate(count, None) if rate is None else max(rate, lowest_rate(count)),
        None if box_rate is None else max(box_rate, lowest_rate(count)),
    )
    given = model.calibration.given_threshold
    return calibration if given is None else calibration.at(threshold=given)


def asked_rate(model: Model) -> float | None:
    """Returns the rate that was asked for: at the fit, or in a later calibration; `None` if none was."""
    calibration, asked = model.calibration, model.provenance.asked_false_alarm_rate
    count = len(calibration.scores)
    followed = promised_rate(count, None) if asked is None else max(asked, lowest_rate(count))
    return asked if calibration.given_threshold is not None or calibration.rate == followed else calibration.rate


def asked_box_rate(model: Model) -> float | None:
    """Returns the box rate that was asked for, at the fit or later; `None` if it is the default."""
    calibration = model.calibration
    return None if calibration.box_rate == default_box_rate(len(calibration.scores)) else calibration.box_rate
