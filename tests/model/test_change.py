"""A changed model equals one that was fitted on the images that it then holds."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm

import blemish
from blemish.calibration import Gathered
from blemish.datasets import Dataset, read_source
from blemish.detectors import Detector, make_detector
from blemish.detectors.scoring import Scoring
from blemish.errors import BadImagesError, BlemishError, ModelError, SettingError, SourceError, StorageError
from blemish.images import read_image
from blemish.model import Model, change
from blemish.model.inside import INSIDE, Inside
from blemish.model.intake import good_by_chance
from blemish.model.provenance import MOST_CHANGES, Change
from blemish.model.saved import Fitted
from conftest import part, scratched, write_parts, write_photographs

OPTIONS: dict[str, Any] = {"size": 64, "engine": "torch", "copies": 0}
EXACT = ["gaussian", "padim", "spade"]
FIRST, ALL = 40, 60


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_source(write_parts(tmp_path_factory.mktemp("grown") / "good", ALL))


def of(parts: Dataset, start: int, stop: int) -> Dataset:
    return replace(parts, train=parts.train[start:stop])


@pytest.fixture(scope="module")
def fitted(parts: Dataset) -> Callable[..., Model]:
    kept: dict[tuple[Any, ...], Model] = {}

    def fit(detector: str, start: int, stop: int) -> Model:
        asked = (detector, start, stop)
        if asked not in kept:
            kept[asked] = blemish.fit(of(parts, start, stop), detector=detector, **OPTIONS)
        return kept[asked]

    return fit


def test_scales_of_layers_follow_the_images_that_calibrate(parts: Dataset, fitted: Callable[..., Model]) -> None:
    first, second = fitted("padim", 0, FIRST), fitted("padim", FIRST, ALL)

    def kept(model: Model) -> dict[str, tuple[float, ...]]:
        told = model.calibration
        assert len(told.layer_displays) == 3
        return dict(zip(told.digests, map(tuple, np.hstack([told.typical, told.highest]).tolist()), strict=True))

    updated = first.update(of(parts, FIRST, ALL))
    assert kept(updated).items() >= kept(first).items()
    assert len(kept(updated)) == ALL
    assert kept(first.merge(second)) == kept(first) | kept(second)
    forgotten = updated.forget(of(parts, 0, 3))
    assert kept(forgotten) == {digest: own for digest, own in kept(updated).items() if digest in forgotten.inside}


def scores(model: Model) -> np.ndarray:
    rng = np.random.default_rng(5)
    images = [*(part(rng) for _ in range(4)), *(scratched(rng)[0] for _ in range(4))]
    return np.array([prediction.score for prediction in model.predict(images)])


@pytest.mark.parametrize("detector", [*EXACT, "fre"])
def test_an_updated_model_scores_as_one_of_all_images(
    parts: Dataset, fitted: Callable[..., Model], detector: str
) -> None:
    first, whole = fitted(detector, 0, FIRST), fitted(detector, 0, ALL)
    before = scores(first)
    updated = first.update(of(parts, FIRST, ALL))
    np.testing.assert_allclose(scores(updated), scores(whole), rtol=1e-5 if detector in EXACT else 0.02)
    np.testing.assert_array_equal(scores(first), before)  # it is not changed
    assert sorted(updated.inside.names()) == sorted(whole.inside.names())


@pytest.mark.parametrize("detector", [*EXACT, "fre"])
def test_a_merged_model_scores_as_one_of_all_images(fitted: Callable[..., Model], detector: str) -> None:
    merged = fitted(detector, 0, FIRST).merge(fitted(detector, FIRST, ALL))
    np.testing.assert_allclose(
        scores(merged), scores(fitted(detector, 0, ALL)), rtol=1e-5 if detector in EXACT else 0.02
    )
    assert len(merged.calibration.scores) == ALL
    assert [made.kind for made in merged.provenance.changes] == ["fit", "fit", "merge"]
    assert np.bincount(merged.inside.changes).tolist() == [FIRST, ALL - FIRST]


@pytest.mark.parametrize("detector", EXACT)
def test_a_model_that_forgot_scores_as_one_that_never_learned(
    parts: Dataset, fitted: Callable[..., Model], detector: str
) -> None:
    whole = fitted(detector, 0, ALL)
    rest = whole.forget(of(parts, FIRST, ALL))
    np.testing.assert_allclose(scores(rest), scores(fitted(detector, 0, FIRST)), rtol=1e-4)
    assert len(rest.inside) == len(rest.calibration.scores) == FIRST
    again = rest.update(of(parts, FIRST, ALL))
    np.testing.assert_allclose(scores(again), scores(whole), rtol=1e-4)


def test_copies_are_learned_and_forgotten_with_their_image(parts: Dataset) -> None:
    made = {**OPTIONS, "copies": 3}
    first = blemish.fit(of(parts, 0, 20), detector="padim", **made)
    updated = first.update(of(parts, 20, 33))
    whole = blemish.fit(of(parts, 0, 33), detector="padim", **made)
    np.testing.assert_allclose(scores(updated), scores(whole), rtol=1e-5)
    np.testing.assert_allclose(scores(updated.forget(of(parts, 20, 33))), scores(first), rtol=1e-4)
    assert updated.inside.rows.tolist() == [4] * 33


def test_photographs_in_tiles_are_learned_and_forgotten_whole(tmp_path: Path) -> None:
    dataset = read_source(write_photographs(tmp_path / "photographs"))
    half = len(dataset.train) // 2
    made = {"tile": 64, "size": 32, "engine": "torch", "detector": "spade", "calibration": "cross"}
    first = blemish.fit(replace(dataset, train=dataset.train[:half]), **made)
    updated = first.update(replace(dataset, train=dataset.train[half:]))
    whole = blemish.fit(dataset, **made)
    photographs = [sample.path for sample in dataset.test][:3]

    def seen(model: Model) -> list[float]:
        return [prediction.score for prediction in model.predict(photographs)]

    assert seen(updated) == pytest.approx(seen(whole), rel=1e-5)
    assert seen(updated.forget(replace(dataset, train=dataset.train[half:]))) == pytest.approx(seen(first), rel=1e-4)


def test_what_is_inside_is_not_counted_again(parts: Dataset, fitted: Callable[..., Model]) -> None:
    first = fitted("gaussian", 0, FIRST)
    updated = first.update([*(sample.path for sample in parts.train[FIRST - 5 : FIRST + 3]), parts.train[FIRST].path])
    made = updated.provenance.changes[-1]
    assert (made.images, made.repeated, len(updated.inside)) == (3, 6, FIRST + 3)
    same = first.update(of(parts, 0, FIRST))
    np.testing.assert_allclose(scores(same), scores(first), rtol=1e-9)
    assert (same.provenance.changes[-1].images, same.threshold) == (0, first.threshold)


def test_a_batch_may_hold_shifted_copies_alone(parts: Dataset) -> None:
    """An image and its four copies take five rows, so the last batch of 20 images has four copies and no image."""
    model = blemish.fit(of(parts, 0, 20), detector="fre", size=64, copies=4)
    updated = model.update(of(parts, FIRST, ALL))
    assert len(updated.calibration.scores) == 40


def test_new_scores_are_those_of_the_model_before(parts: Dataset, fitted: Callable[..., Model]) -> None:
    first = fitted("padim", 0, FIRST)
    updated = first.update(of(parts, FIRST, ALL))
    new = dict(zip(updated.calibration.names, updated.calibration.scores.tolist(), strict=True))
    for prediction in first.predict([sample.path for sample in parts.train[FIRST:]]):
        assert prediction.path is not None
        assert new[prediction.path.name] == pytest.approx(prediction.score, rel=1e-5)
    assert updated.calibration.rate == pytest.approx(1 / (ALL + 1))


def test_rates_and_a_threshold_of_ones_own_stay(parts: Dataset, fitted: Callable[..., Model]) -> None:
    first, more = fitted("gaussian", 0, FIRST), of(parts, FIRST, ALL)
    assert first.at(false_alarm_rate=0.2, box_rate=0.3).update(more).calibration.rate == 0.2
    assert first.at(false_alarm_rate=0.2, box_rate=0.3).update(more).calibration.box_rate == 0.3
    assert first.at(threshold=3.5).update(more).threshold == 3.5
    few = first.at(false_alarm_rate=0.03).forget(of(parts, 0, 30))
    assert few.calibration.rate == pytest.approx(1 / 11)  # the lowest of ten
    assert few.update(of(parts, 0, 30)).calibration.rate == 0.03


def test_anomalous_images_are_named_or_left_out(parts: Dataset, fitted: Callable[..., Model]) -> None:
    first = fitted("padim", 0, FIRST)
    bad = [scratched(np.random.default_rng(seed))[0] for seed in (1, 2)]
    new = [*bad, *(sample.path for sample in parts.train[FIRST:])]
    warned = first.update(new)
    told = warned.provenance.changes[-1]
    assert {"image 1", "image 2"} <= {name for name, _ in told.worst}
    assert told.worst[0][1] == pytest.approx(1 / (FIRST + 1))
    left = first.update(new, only_good=True)
    made = left.provenance.changes[-1]
    assert made.anomalous == told.anomalous
    assert made.left_out
    assert made.images == len(new) - made.anomalous
    assert sum(left.calibration.scores > first.threshold) == made.calibrating == 1  # of 22 images at a rate of 2.4 %


def test_leaving_out_what_looks_anomalous_does_not_lower_the_threshold() -> None:
    """Twenty updates by good images alone, at 5 %; without the lowest of those left out it would become 12 %."""
    rng, realised = np.random.default_rng(0), []
    for _ in range(40):
        calibration = Gathered()
        for score in rng.normal(10, 1, 500):
            calibration.update(float(score), np.zeros((1, 1), np.float32), "", f"{rng.integers(1 << 62):016x}")
        changes: tuple[Change, ...] = ()
        for _ in range(20):
            made = calibration.finish(0.05)
            model = SimpleNamespace(calibration=made, provenance=SimpleNamespace(changes=changes))
            judged = SimpleNamespace(gathered=Gathered(), anomalous={})
            for score in rng.normal(10, 1, 100):
                digest = f"{rng.integers(1 << 62):016x}"
                judged.gathered.update(float(score), np.zeros((1, 1), np.float32), "", digest)
                if score > made.threshold:
                    judged.anomalous[digest] = ("", 0.0)
            by_chance = good_by_chance(model, judged)  # type: ignore[arg-type]
            left = [item for item in range(100) if judged.gathered.digests[item] not in judged.anomalous]
            calibration = calibration.merge(judged.gathered.part(left)).merge(by_chance)
            told = Change(
                "", "update", "", len(left), anomalous=100 - len(left), left_out=True, calibrating=len(by_chance)
            )
            changes = (*changes, told)
        realised.append(norm.sf(calibration.finish(0.05).threshold, 10, 1))
    assert 0.045 < float(np.mean(realised)) < 0.06


def test_only_the_newest_scores_calibrate_where_that_is_asked(parts: Dataset, fitted: Callable[..., Model]) -> None:
    updated = fitted("gaussian", 0, FIRST).update(of(parts, FIRST, ALL), newest=25)
    assert set(updated.calibration.digests) == set(updated.inside.names()[-25:])


def test_of_too_many_scores_a_sample_stays_that_no_order_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.calibration import gathered

    monkeypatch.setattr(gathered, "MOST", 30)
    rng = np.random.default_rng(0)
    digests = [f"{number:016x}" for number in rng.integers(0, 1 << 63, 100)]
    values = rng.lognormal(size=100).tolist()

    def of_order(order: list[int]) -> Gathered:
        found = Gathered()
        for item in order:
            found.update(values[item], np.zeros((2, 2), np.float32), str(item), digests[item])
        return found

    one, other = of_order(list(range(100))), of_order(rng.permutation(100).tolist())
    assert one.finish(0.1).names == other.finish(0.1).names
    assert len(one.finish(0.1).scores) == 30


def test_a_changed_model_is_saved_and_loaded_whole(
    parts: Dataset, fitted: Callable[..., Model], tmp_path: Path
) -> None:
    updated = fitted("padim", 0, FIRST).update(of(parts, FIRST, ALL))
    updated.save(tmp_path / "m")
    loaded = blemish.load(tmp_path / "m", engine="torch")
    np.testing.assert_array_equal(scores(loaded), scores(updated))
    assert loaded.provenance == updated.provenance
    assert loaded.inside.names() == updated.inside.names()
    np.testing.assert_allclose(
        scores(loaded.forget(of(parts, FIRST, ALL))), scores(fitted("padim", 0, FIRST)), rtol=1e-4
    )
    assert [found.is_known for found in loaded.predict([parts.train[0].path, part(np.random.default_rng(99))])] == [
        True,
        False,
    ]


def test_a_million_images_take_at_most_40_megabytes(tmp_path: Path) -> None:
    count = 1_000_000
    digests = np.random.default_rng(0).choice(1 << 62, count, replace=False).astype(np.uint64)
    inside = Inside(digests, np.ones(count, np.uint32), np.zeros(count, np.uint32))
    inside.write(tmp_path)
    assert (tmp_path / INSIDE).stat().st_size < 40e6
    read = Inside.read(tmp_path)
    assert read.places([f"{digests[7]:016x}", "0" * 16]).tolist() == [7, -1]


def test_the_oldest_changes_are_joined(
    parts: Dataset, fitted: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "MOST_CHANGES", 3)
    model = fitted("gaussian", 0, FIRST)
    for start in range(FIRST, FIRST + 8, 2):
        model = model.update(of(parts, start, start + 2))
    assert [made.kind for made in model.provenance.changes] == ["several", "update", "update"]
    assert np.bincount(model.inside.changes).tolist() == [FIRST + 4, 2, 2]


REFUSED: list[tuple[str, Callable[[Model, Dataset], object], str]] = [
    ("fre", lambda model, parts: model.forget(of(parts, 0, 3)), "keeps only the leading directions"),
    ("gaussian", lambda model, parts: model.forget(of(parts, FIRST, ALL)), "has not learned from 20 of 20 images"),
    (
        "gaussian",
        lambda model, parts: model.forget(of(parts, 0, FIRST - 1)),
        "a model needs 2 images, and 1 would be left",
    ),
    ("gaussian", lambda model, parts: model.update("no/such/folder"), "no such"),
    ("gaussian", lambda model, parts: model.update([]), "no image was given"),
    ("gaussian", lambda model, parts: model.update(of(parts, 0, 0)), "has no good image"),
    ("gaussian", lambda model, parts: model.update(of(parts, 0, 1), newest=0), "newest 0 is out of range"),
    ("gaussian", lambda model, parts: model.merge(model), "40 images are in both models"),
    ("gaussian", lambda model, parts: model.update([b"no image"]), "nothing was learned"),
    ("gaussian", lambda model, parts: model.forget([b"no image"]), "nothing was forgotten"),
]


@pytest.mark.parametrize(("detector", "act", "told"), REFUSED)
def test_what_cannot_be_done_is_refused_in_a_line(
    parts: Dataset,
    fitted: Callable[..., Model],
    detector: str,
    act: Callable[[Model, Dataset], object],
    told: str,
) -> None:
    with pytest.raises(BlemishError, match=told) as caught:
        act(fitted(detector, 0, FIRST), parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"detector": "gaussian"}, r"differ in detector \(padim and gaussian\)"),
        ({"size": 96}, r"differ in height \(64 and 96\)"),
        ({"layers": [1, 2]}, "differ in layers"),
        ({"settings": {"seed": 1}}, r"differ in seed \(0 and 1\)"),
        ({"settings": {"epsilon": 0.1}}, "differ in epsilon"),
        ({"backbone": "efficientnet_lite1"}, "differ in backbone"),
        ({"crop": 48}, "differ in crop"),
        ({"copies": 1}, "differ in copies"),
    ],
)
def test_models_of_other_recipes_are_not_merged(
    parts: Dataset, fitted: Callable[..., Model], other: dict[str, Any], told: str
) -> None:
    made = blemish.fit(of(parts, FIRST, ALL), **{"detector": "padim", **OPTIONS, **other})
    with pytest.raises(SettingError, match=told):
        fitted("padim", 0, FIRST).merge(made)


def test_other_copies_are_named_rather_than_the_variance_that_follows_from_them(
    parts: Dataset, fitted: Callable[..., Model]
) -> None:
    one = fitted("fre", 0, FIRST)
    two = blemish.fit(of(parts, FIRST, ALL), **{"detector": "fre", **OPTIONS, "copies": 1})
    assert one.recipe.settings["variance"] != two.recipe.settings["variance"]
    with pytest.raises(SettingError, match=r"differ in copies \(0 and 1\)"):
        one.merge(two)


def test_models_of_other_weights_are_not_merged(fitted: Callable[..., Model]) -> None:
    one, two = fitted("gaussian", 0, FIRST), fitted("gaussian", FIRST, ALL)
    learned = two.learned
    weights = dict(learned.weights)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name] = weights[name] + 1
    store = Fitted(replace(learned, weights=weights), two.engine)
    changed = Model(two.recipe, two.calibration, two.provenance, two.inside, two.engine, two.extractor, store)
    with pytest.raises(SettingError, match="have different weights of"):
        one.merge(changed)


def test_a_trained_detector_says_what_to_do_instead(parts: Dataset) -> None:
    model = blemish.fit(parts, detector="hfr", settings={"epochs": 1, "patience": None}, **OPTIONS)
    for act in (model.update, model.forget):
        with pytest.raises(SettingError, match="with --resume and its folder of --checkpoints"):
            act(parts)
    with pytest.raises(SettingError, match="cannot be merged"):
        model.merge(model)


def test_images_are_forgotten_only_on_the_engine_that_they_were_learned_on(
    parts: Dataset, fitted: Callable[..., Model], tmp_path: Path
) -> None:
    fitted("gaussian", 0, FIRST).save(tmp_path / "m")
    loaded = blemish.load(tmp_path / "m", engine="openvino")
    with pytest.raises(SettingError, match="were learned on the torch engine and the model runs on openvino now"):
        loaded.forget(of(parts, 0, 3))
    updated = loaded.update(of(parts, FIRST, ALL))
    assert len(updated.forget(of(parts, FIRST, ALL)).inside) == FIRST
    updated.save(tmp_path / "updated")
    again = blemish.load(tmp_path / "updated", engine="torch")
    assert len(again.forget(of(parts, 0, 3)).inside) == ALL - 3
    with pytest.raises(SettingError, match="were learned on the openvino engine and the model runs on torch now"):
        again.forget(of(parts, FIRST, ALL))


def test_images_of_changes_that_were_joined_are_forgotten_if_all_came_by_the_same_engine(
    parts: Dataset, fitted: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "MOST_CHANGES", 2)
    first = fitted("gaussian", 0, FIRST)
    model = first.forget(of(parts, 0, 2)).update(of(parts, FIRST, ALL))
    assert [made.kind for made in model.provenance.changes] == ["several", "update"]
    assert len(model.forget(of(parts, 2, 4)).inside) == ALL - 4
    joined, last = model.provenance.changes
    other = copy.copy(model)
    other.provenance = replace(model.provenance, changes=(replace(joined, engine="openvino"), last))
    mixed = other.update(of(parts, 0, 2))
    with pytest.raises(SettingError, match="on different engines"):
        mixed.forget(of(parts, 2, 4))


def test_a_model_that_learned_from_very_many_sources_is_loaded_again(
    parts: Dataset, fitted: Callable[..., Model], tmp_path: Path
) -> None:
    folder = tmp_path / ("d" * 200)
    folder.mkdir()
    for index in range(400):
        shutil.copy(parts.train[FIRST + index % 2].path, folder / f"{index}.png")
    model = fitted("gaussian", 0, FIRST).update(sorted(folder.iterdir()))
    assert model.provenance.changes[-1].source.endswith(" and 390 more")
    model.save(tmp_path / "m")
    assert blemish.load(tmp_path / "m").provenance == model.provenance


def test_nothing_is_forgotten_by_a_list_of_images_that_does_not_fit_what_was_learned(
    parts: Dataset, fitted: Callable[..., Model]
) -> None:
    model = copy.copy(fitted("gaussian", 0, FIRST))
    rows = model.inside.rows.copy()
    rows[:2] = [2, 0]
    model.inside = replace(model.inside, rows=rows)
    with pytest.raises(SettingError, match="another number of feature rows than the model lists"):
        model.forget(of(parts, 0, FIRST - 2))


def test_a_single_image_is_named_by_its_file(parts: Dataset, fitted: Callable[..., Model]) -> None:
    path = parts.train[FIRST].path
    first = fitted("gaussian", 0, FIRST)
    assert path.name in first.update(path).calibration.names
    with pytest.raises(SourceError, match=rf"1 of 1 image \({path.name}\)"):
        first.forget(path)


def test_of_images_that_calibrate_no_more_are_told_as_seen_than_there_are(
    parts: Dataset, fitted: Callable[..., Model]
) -> None:
    model = blemish.calibrate(fitted("gaussian", 0, FIRST), of(parts, 0, FIRST))
    assert model.forget(of(parts, 0, 30)).provenance.calibrated_on.seen == FIRST - 30
    merged = fitted("gaussian", FIRST, ALL).merge(model)
    assert (merged.provenance.calibrated_on.images, merged.provenance.calibrated_on.seen) == (ALL, FIRST)


def test_of_two_that_replace_the_same_model_at_once_one_is_refused(
    parts: Dataset, fitted: Callable[..., Model], tmp_path: Path
) -> None:
    saved = tmp_path / "m"
    fitted("gaussian", 0, FIRST).save(saved)
    loaded = blemish.load(saved, engine="torch")
    changed = [loaded.update(parts.train[FIRST + index].path) for index in range(2)]
    done: list[str] = []
    ready = threading.Barrier(2)

    def write(model: Model) -> None:
        ready.wait()
        try:
            model.save(saved, force=True, replaces=loaded)
            done.append("saved")
        except StorageError as error:
            done.append(str(error))

    threads = [threading.Thread(target=write, args=(model,)) for model in changed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saying, refused = sorted(done, key="saved".__ne__)
    assert saying == "saved"
    assert "another program has changed it meanwhile" in refused
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_unreadable_images_stop_an_update_or_are_counted(
    parts: Dataset, fitted: Callable[..., Model], tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    shutil.copy(parts.train[FIRST].path, folder / "b.png")
    first = fitted("gaussian", 0, FIRST)
    with pytest.raises(BadImagesError, match=r"a\.png is not an image.*--skip-bad"):
        first.update(folder)
    made = first.update(folder, skip_bad=True).provenance.changes[-1]
    assert (made.images, made.skipped) == (1, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tensors",
        {"digests": np.zeros(2, np.uint64), "rows": np.ones(2, np.uint32), "changes": np.zeros(2, np.uint32)},
        {"digests": np.zeros(2, np.uint32), "rows": np.ones(2, np.uint32), "changes": np.zeros(2, np.uint32)},
        {"digests": np.arange(2, dtype=np.uint64), "rows": np.ones(3, np.uint32), "changes": np.zeros(2, np.uint32)},
        {"digests": np.arange(2, dtype=np.uint64), "rows": np.ones(2, np.uint32)},
    ],
)
def test_a_damaged_list_of_images_is_refused(tmp_path: Path, content: bytes | dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    if isinstance(content, bytes):
        (tmp_path / INSIDE).write_bytes(content)
    else:
        save_file(content, tmp_path / INSIDE)
    with pytest.raises(ModelError, match="copy the whole folder again|fit the model again"):
        Inside.read(tmp_path)


GRIDS = [(3, 4, 4), (4, 2, 2)]
SETTINGS: dict[str, dict[str, Any]] = {
    "fre": {"shared": True},
    "gaussian": {},
    "padim": {"dims": 5},
    "spade": {"neighbours": 3},
}


def drawn(seed: int, count: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *grid, generator=generator) * 3 + 5 for grid in GRIDS]


def learned(detector: str, seeds: list[int]) -> Detector:
    made = make_detector(detector, SETTINGS[detector])
    made.start(GRIDS)
    for seed in seeds:
        made.update(drawn(seed))
    return made


@settings(max_examples=60, deadline=None)
@given(data=st.data(), detector=st.sampled_from(sorted(SETTINGS)))
def test_any_sequence_of_updates_merges_and_forgetting_equals_one_fit(data: st.DataObject, detector: str) -> None:
    held = list(range(6))
    made, coming = learned(detector, held), 6
    for act in data.draw(st.lists(st.sampled_from(["update", "merge", "forget"]), min_size=1, max_size=8)):
        new = list(range(coming, coming + data.draw(st.integers(1, 3))))
        coming += len(new)
        if act == "forget":
            gone = data.draw(st.lists(st.sampled_from(held), unique=True, max_size=len(held) - 4))
            if not gone:
                continue
            features = [torch.cat(layers) for layers in zip(*(drawn(seed) for seed in gone), strict=True)]
            made = made.without(torch.tensor([held.index(seed) for seed in gone]), features)
            held = [seed for seed in held if seed not in gone]
            assert made.rounding() < 1e-4
            continue
        if act == "merge":
            made = made.merge(learned(detector, new))
        else:
            for seed in new:
                made.update(drawn(seed))
        held += new
    expected, found = (Scoring(one, (8, 8)).arrays(drawn(10_000, 3))[0] for one in (learned(detector, held), made))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_lost_its_digits_is_told() -> None:
    """A large part that is taken out leaves its rounding behind."""
    for detector in ("gaussian", "padim"):
        made = learned(detector, list(range(8)))
        huge = [1e7 * layer for layer in drawn(99, 3)]
        made.update(huge)
        assert made.without(torch.tensor([8, 9, 10]), huge).rounding() > 1e-4


def test_images_are_read_as_the_recipe_says(parts: Dataset, fitted: Callable[..., Model]) -> None:
    """An image that is given as an array or as bytes is the same as its file."""
    first, path = fitted("gaussian", 0, FIRST), parts.train[FIRST].path
    one, two = first.update([path.read_bytes()]), first.update(np.asarray(Image.open(path)))
    assert one.inside.names() == two.inside.names() == first.update(path).inside.names()
    assert read_image(path, first.recipe.geometry).shape[:2] == first.recipe.geometry.shape
    assert Change is type(one.provenance.changes[-1])
    assert MOST_CHANGES >= 1000
    with pytest.raises(SourceError):
        first.update(path / "nothing")
