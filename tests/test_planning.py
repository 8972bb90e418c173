from __future__ import annotations

import resource
from pathlib import Path

import pytest

import blemish
from blemish import planning
from blemish.errors import MemoryLimitError
from blemish.planning import Plan, memory_limits


def test_a_fit_announces_its_images_time_and_memory_before_it_starts(tree: Path) -> None:
    told: list[object] = []
    blemish.fit(tree, size=64, announce=told.append, progress=lambda *step: told.append(step))
    plan = told[0]
    assert isinstance(plan, Plan)
    assert plan.images == 24
    assert plan.seconds > 0
    assert 10_000_000 < plan.memory < plan.available
    assert "memory for 24 images" in str(plan)


def test_a_fit_that_would_not_have_the_memory_is_refused_before_it_starts(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "memory_limits", lambda: (800_000_000, 801_000_000))
    steps: list[object] = []
    with pytest.raises(MemoryLimitError, match=r"needs about 0\.8 GB of memory, 0\.8 GB can be had; give") as caught:
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
