from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.errors import BadImagesError, ImageError, MemoryLimitError
from blemish.fitting import Plan
from blemish.fitting import plan as planning
from blemish.fitting.plan import make_plan, memory_limits
from blemish.images import Geometry, read_image
from blemish.images import ahead as decoding


def test_a_fit_announces_its_images_time_and_memory_before_it_starts(tree: Path) -> None:
    told: list[object] = []
    blemish.fit(tree, size=64, announce=told.append, progress=lambda *step: told.append(step))
    plan = told[0]
    assert isinstance(plan, Plan)
    assert plan.images == 24
    assert plan.seconds > 0
    assert 10_000_000 < plan.memory < plan.available
    assert "memory for 24 images at 64x64" in str(plan)


def test_a_fit_that_would_not_have_the_memory_is_refused_before_it_starts(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "memory_limits", lambda: (800_000_000, 801_000_000))
    steps: list[object] = []
    with pytest.raises(MemoryLimitError, match=r"0\.8 GB of memory, and 0\.8 GB is available; give") as caught:
        blemish.fit(tree, size=64, progress=lambda *step: steps.append(step))
    assert "\n" not in str(caught.value)
    assert steps == []


def test_the_limit_on_addresses_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    used, available = memory_limits()
    assert 0 < used < available
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 40, 1 << 40))
    assert memory_limits()[1] <= available + (64 << 20), "a distant limit changes nothing"
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 20, 1 << 20))
    used, available = memory_limits()
    assert available < used, "with less than is mapped already, nothing more can be had"


def test_more_images_need_more_memory_only_up_to_the_room_of_a_subspace() -> None:
    from blemish.detectors import make_detector

    grids = [(512, 32, 32)]
    fre = make_detector("fre")
    few, many, most = (fre.memory(grids, images, 32) for images in (100, 5_000, 1_000_000))
    assert few < many == most < 4 << 30
    padim = make_detector("padim")
    assert padim.memory(grids, 10, 32) == padim.memory(grids, 1_000_000, 32)


class Clock:
    """A clock that only stands still, or is moved on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow:
    """An engine that takes a second an image, and half a minute more the first time."""

    name = "slow"

    def __init__(self, clock: Clock) -> None:
        self.clock, self.rows = clock, list[int]()

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
        for batch in batches:
            self.clock.now += len(batch) + (0 if self.rows else 30)
            self.rows.append(len(batch))
            yield (batch.astype(np.float32),)


def photographs(folder: Path, sizes: list[int]) -> list[Path]:
    paths = [folder / f"{number:03}.png" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("RGB", (size, size)).save(path)
    return paths


def planned(
    paths: list[Path], geometry: Geometry, monkeypatch: pytest.MonkeyPatch, unreadable: bool = False, each: int = 1
) -> tuple[Plan, list[Path]]:
    """The plan where a hundred pixels take a second to decode, and what was decoded for it."""
    clock, decoded = Clock(), list[Path]()

    def read(path: Path, geometry: Geometry) -> np.ndarray:
        if unreadable:
            raise ImageError(path, "is bad")
        with Image.open(path) as image:
            clock.now += image.width * image.height / 100
        decoded.append(path)
        return read_image(path, geometry)

    monkeypatch.setattr(planning, "time", clock)
    monkeypatch.setattr(planning, "read_image", read)
    monkeypatch.setattr(decoding, "THREADS", 1)
    return make_plan(Slow(clock), paths, geometry, 1, lambda count: 0, each), decoded  # type: ignore[arg-type]


def test_time_is_that_of_the_pixels_of_all_images_and_of_the_engine_once_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path, [100, 200] * 20)
    plan, decoded = planned(paths, Geometry(32, 32), monkeypatch)
    assert len(decoded) == 8
    assert plan.seconds == pytest.approx(20 * (100**2 + 200**2) / 100 + 40)


def test_of_huge_images_one_is_decoded_once_for_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "TIMED_PIXELS", 5_000)
    paths = photographs(tmp_path, [100] * 6)
    plan, decoded = planned(paths, Geometry(32, 32), monkeypatch)
    assert len(decoded) == 1
    assert plan.seconds == pytest.approx(6 * 100**2 / 100 + 6)


def test_one_huge_image_among_small_ones_is_in_the_memory_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "memory_limits", lambda: (0, 1 << 40))
    paths = photographs(tmp_path, [100] * 20)
    small, _ = planned(paths, Geometry(32, 32), monkeypatch)
    Image.new("RGB", (3000, 3000)).save(paths[13])
    large, decoded = planned(paths, Geometry(32, 32), monkeypatch)
    assert 0.95 * 4 * 3000**2 < large.memory - small.memory < 2 * 4 * 3000**2
    assert decoded


def test_images_that_wait_decoded_are_in_the_memory_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "memory_limits", lambda: (0, 1 << 40))
    few, _ = planned(photographs(tmp_path, [100] * 2), Geometry(512, 512), monkeypatch)
    many, _ = planned(photographs(tmp_path, [100] * 12), Geometry(512, 512), monkeypatch)
    assert many.memory - few.memory == 10 * 3 * 512**2


def test_tiles_are_counted_by_headers_and_some_of_them_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path, [64, 128, 128, 20])
    clock = Clock()
    engine = Slow(clock)
    monkeypatch.setattr(planning, "time", clock)
    plan = make_plan(engine, paths, Geometry(32, 32, tile=32), 1, lambda count: 0)  # type: ignore[arg-type]
    assert plan.tiles == 4 + 16 + 16, "one is smaller than a tile"
    assert engine.rows[0] <= planning.TIMED_TILES
    assert plan.seconds == pytest.approx(plan.tiles)


def test_images_that_cannot_be_read_do_not_break_the_plan_and_the_fit_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path, [100] * 4)
    plan, _ = planned(paths, Geometry(32, 32), monkeypatch, unreadable=True)
    assert plan.seconds == 0
    monkeypatch.undo()
    for path in paths:
        path.write_bytes(path.read_bytes()[:60])
    told: list[Plan] = []
    with pytest.raises(BadImagesError, match="4 images cannot be used"):
        blemish.fit(tmp_path, size=64, announce=told.append)
    assert told == [], "nothing is left to plan for"


def test_a_plan_says_what_is_still_to_come_and_counts_photographs_and_their_tiles() -> None:
    plan = Plan(40, 1000, (256, 256), 9.6, 1_500_000_000, 1 << 40, spent=3.2)
    assert str(plan) == (
        "about 10 s in all (6 s of them still to come) and 1.5 GB of memory for 40 photographs, 1,000 tiles in all, "
        "at 256x256"
    )
    one = Plan(1, 1, (64, 64), 2.0, 40_000_000, 1 << 40)
    assert str(one) == "about 2 s and 0.04 GB of memory for 1 image at 64x64"
    assert one.after(5.0).seconds == 7.0
    assert one.after(5.0).spent == 5.0


def test_copies_run_through_the_engine_and_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = photographs(tmp_path, [100] * 10)
    plan, _ = planned(paths, Geometry(32, 32), monkeypatch, each=3)
    assert plan.seconds == pytest.approx(10 * 100**2 / 100 + 3 * 10)


@pytest.mark.parametrize("name", ["gaussian", "padim", "fre", "spade"])
def test_the_work_of_a_detector_grows_with_its_images_and_their_features(name: str) -> None:
    from blemish.detectors import make_detector

    detector = make_detector(name)
    small, large = [(40, 16, 16), (112, 8, 8)], [(40, 32, 32), (112, 16, 16)]
    few = detector.operations(small, 150, 150, 11)
    assert 0 < few < detector.operations(small, 400, 400, 11)
    assert few < detector.operations(large, 150, 150, 11)
    assert 0 < detector.size(small, 100) <= detector.size(large, 100)


def test_the_size_told_is_about_that_of_the_saved_model(saved: Path, model: blemish.Model) -> None:
    backbone = sum(file.stat().st_size for file in saved.iterdir() if file.name.startswith("features"))
    told = model.learned.detector.size(model.recipe.grids, model.provenance.images * (1 + model.recipe.copies))
    found = sum(file.stat().st_size for file in saved.iterdir()) - 2 * backbone
    assert told / 3 < found < 3 * told
