from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import blemish
from blemish.engines import RunsOn
from blemish.engines import extractor as extraction
from blemish.engines.extractor import ENTRIES, Extractor, make_extractor
from blemish.images import Geometry

OPENVINO = RunsOn("openvino", "CPU")
NAME = "resnet18"
GEOMETRY = Geometry.parse(32)
IMAGES = [np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BLEMISH_CACHE", str(folder))
    return folder


def extract(extractor: Extractor) -> list[np.ndarray]:
    return [array for arrays in extractor.engine.run(IMAGES) for array in arrays]


def no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was made again")

    monkeypatch.setattr(extraction, "Backbone", refuse)


def test_a_backbone_is_converted_once_and_then_read(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_extractor(NAME, None, (8, 16), GEOMETRY, OPENVINO, weights)
    no_conversion(monkeypatch)
    second = make_extractor(NAME, None, (8, 16), GEOMETRY, OPENVINO, weights)
    assert (second.asked, second.layers, second.origin) == (first.asked, first.layers, first.origin)
    assert all(np.array_equal(a, b) for a, b in zip(extract(first), extract(second), strict=True))
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert second.asked == (2, 3), "levels of these strides"


def test_a_second_fit_gives_the_same_model(
    cache: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = blemish.fit(tree, size=64, engine="openvino")
    no_conversion(monkeypatch)
    second = blemish.fit(tree, size=64, engine="openvino")
    assert np.array_equal(first.calibration.scores, second.calibration.scores)
    second.save(tmp_path / "model")
    monkeypatch.undo()
    again = blemish.Model.load(tmp_path / "model", "torch")
    expected = [prediction.score for prediction in first.predict(tree)]
    assert [prediction.score for prediction in again.predict(tree)] == pytest.approx(expected, rel=1e-3)


def test_whatever_decides_the_features_has_an_entry_of_its_own(cache: Path, weights: Path, tmp_path: Path) -> None:
    def count(**changed: object) -> int:
        settings = {"layers": [1], "strides": (), "geometry": GEOMETRY, "weights": weights, **changed}
        make_extractor(NAME, running=OPENVINO, **settings)  # type: ignore[arg-type]
        return len(list(cache.iterdir()))

    assert count() == count() == 1
    assert count(layers=[2]) == 2
    assert count(geometry=Geometry.parse("32x64")) == 3
    other = tmp_path / "resnet18.safetensors"
    save_file(timm.create_model(NAME).state_dict(), other)
    assert count(weights=other) == 4, "the same name and other numbers"


@pytest.mark.parametrize("file", ["features.xml", "features.bin", "weights.safetensors", "blemish.json"])
@pytest.mark.parametrize("harm", ["altered", "cut short", "missing"])
def test_an_entry_that_is_not_what_was_written_is_made_again(
    cache: Path, weights: Path, file: str, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    (entry,) = cache.iterdir()
    content = (entry / file).read_bytes()
    if harm == "missing":
        (entry / file).unlink()
    else:
        (entry / file).write_bytes(content[:-9] + (b"" if harm == "cut short" else bytes(9)))
    found = extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    no_conversion(monkeypatch)
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)


def test_nothing_is_kept_where_the_user_wants_none_or_the_engine_is_torch(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_extractor(NAME, [1], (), GEOMETRY, RunsOn("torch", "cpu"), weights)
    monkeypatch.setenv("BLEMISH_CACHE", "")
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_does_no_harm_and_is_noted(
    cache: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    assert extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    (note,) = caplog.messages
    assert note.startswith(f"the converted backbone cannot be kept in {cache} (")
    assert cache.read_text() == "a file where the folder should be"


def test_a_user_without_a_home_has_no_cache(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BLEMISH_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/blemish"))
    monkeypatch.chdir(tmp_path)
    assert extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    assert not list(tmp_path.glob("~*")), "a folder of that very name"


def test_the_entry_not_used_for_longest_makes_room(cache: Path, weights: Path) -> None:
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)
    (first,) = cache.iterdir()
    for index in range(ENTRIES - 1):
        copy = cache / f"other-{index:020x}"
        shutil.copytree(first, copy)
        os.utime(copy, (1_000_000 + index, 1_000_000 + index))
    os.utime(first, (1_000, 1_000))
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)  # used, so it stays
    make_extractor(NAME, [2], (), GEOMETRY, OPENVINO, weights)
    left = {path.name for path in cache.iterdir()}
    assert len(left) == ENTRIES
    assert first.name in left
    assert f"other-{0:020x}" not in left


def test_nothing_is_deleted_from_the_cache_folder_but_what_was_written_there(
    cache: Path, weights: Path, saved: Path
) -> None:
    for index in range(ENTRIES + 3):
        shutil.copytree(saved, cache / f"model-{index}")
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)
    (entry,) = (path for path in cache.iterdir() if not path.name.startswith("model-"))
    for index in range(ENTRIES):
        own = Path(shutil.copytree(entry, cache / f"own-{index:020x}"))
        os.utime(own, (1_000 + index, 1_000 + index))
    (cache / f"own-{0:020x}" / "thesis.txt").write_text("years")
    make_extractor(NAME, [2], (), GEOMETRY, OPENVINO, weights)
    left = {path.name for path in cache.iterdir()}
    assert {f"model-{index}" for index in range(ENTRIES + 3)} <= left
    assert f"own-{0:020x}" in left, "it holds a file of the user's"
    assert f"own-{1:020x}" not in left


def test_an_entry_of_another_user_is_not_read(cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights)
    (entry,) = cache.iterdir()
    assert extraction._read(entry, "CPU") is not None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert extraction._read(entry, "CPU") is None


@pytest.mark.parametrize("fault", ["name too long", "no folder may be searched", "read-only"])
def test_a_cache_that_cannot_be_used_is_an_empty_cache(
    cache: Path, weights: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    if fault == "name too long":
        monkeypatch.setenv("BLEMISH_CACHE", str(cache / ("n" * 300)))
    elif fault == "read-only":
        monkeypatch.setattr(os, "utime", _refused)
        monkeypatch.setattr("os.mkdir", _refused_below(cache))
    else:
        monkeypatch.setattr(Path, "stat", _refused_in(cache, Path.stat))
    found = extract(make_extractor(NAME, [1], (), GEOMETRY, OPENVINO, weights))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_model_is_saved_though_the_cache_was_deleted_since_it_was_fitted(
    cache: Path, tree: Path, tmp_path: Path
) -> None:
    blemish.fit(tree, detector="gaussian", size=64, engine="openvino")
    fitted = blemish.fit(tree, detector="gaussian", size=64, engine="openvino")  # from the cache
    shutil.rmtree(cache)
    fitted.save(tmp_path / "model")
    assert blemish.load(str(tmp_path / "model")).threshold == fitted.threshold


def _refused(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def _refused_below(folder: Path) -> Callable[..., None]:
    known = os.mkdir

    def mkdir(path: Any, *words: Any, **named: Any) -> None:
        if Path(path).is_relative_to(folder):
            _refused()
        known(path, *words, **named)

    return mkdir


def _refused_in(folder: Path, known: Callable[..., Any]) -> Callable[..., Any]:
    def stat(path: Path, **named: Any) -> Any:
        if path != folder and path.is_relative_to(folder):
            _refused()
        return known(path, **named)

    return stat
