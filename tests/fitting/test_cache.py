from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import MemoryLimitError, StorageError
from blemish.fitting import Plan
from blemish.fitting.cache import FeatureCache
from blemish.fitting.plan import with_cache
from blemish.fitting.trained.kept_features import KeptFeatures

RNG = np.random.default_rng(0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4000), st.randoms())
def test_rows_come_back_as_they_went_whatever_the_budget(sizes: list[int], budget: int, random: object) -> None:
    cache = FeatureCache(budget)
    whole: list[list[np.ndarray]] = [[], []]
    for size in sizes:
        arrays = [RNG.normal(size=(size, *shape)).astype(np.float32) for shape in ((3, 4, 5), (2, 2, 2))]
        cache.append(arrays)
        for layer, array in zip(whole, arrays, strict=True):
            layer.append(array)
        indices = RNG.integers(0, len(cache), 7).tolist()
        for found, layer in zip(cache.rows(indices), whole, strict=True):
            assert np.array_equal(found, np.concatenate(layer)[indices])
    assert len(cache) == sum(sizes)
    assert cache.in_memory is (4 * (60 + 8) * sum(sizes) <= budget)


def test_what_is_kept_is_not_what_the_engine_writes_next() -> None:
    array = np.ones((2, 1, 1, 1), np.float32)
    cache = FeatureCache(1 << 20).append([array])
    array[:] = 7
    assert cache.rows([0])[0].item() == 1


@pytest.mark.skipif(os.name == "nt", reason="open files keep their names there")
def test_nothing_is_left_on_disk_even_by_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import numpy as np, os\n"
        "from blemish.fitting.cache import FeatureCache\n"
        "cache = FeatureCache(0).append([np.zeros((4, 100, 100), np.float32)])\n"
        "assert not cache.in_memory\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("blemish.fitting.cache.tempfile.TemporaryFile", full)
    with pytest.raises(StorageError, match=r"cannot be kept there \(No space left on device\); make room"):
        FeatureCache(0).append([np.zeros((4, 10), np.float32)])


def test_the_plan_says_what_goes_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(10, 10, (256, 256), 1.0, 2_000_000_000, 6_000_000_000, trains=True)
    assert with_cache(plan, 1_000_000_000, None).memory == 3_000_000_000
    assert with_cache(plan, 1_000_000_000, None).disk == 0
    spilled = with_cache(plan, 1_000_000_000, 500_000_000)
    assert (spilled.memory, spilled.disk, spilled.cache) == (plan.memory, 1_000_000_000, 0)
    assert f"2.0 GB of memory, 1.0 GB of disk in {tempfile.gettempdir()} for 10 images" in str(spilled)
    with pytest.raises(MemoryLimitError, match=r"the features need 1000000\.0 GB; they may use 2\.0 GB of memory"):
        with_cache(plan, 10**15, None)


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_batches_are_those_asked_for_though_read_ahead(budget: int) -> None:
    rows = np.arange(40 * 6, dtype=np.float32).reshape(40, 2, 3, 1)
    source = KeptFeatures(FeatureCache(budget).append([rows, 2 * rows]), 0, judged=False)
    assert len(source) == 40
    orders = [[3, 1, 4], [1], [39, 0]]
    every = np.concatenate([batch[0].numpy() for batch in source.batches([[number] for number in range(40)])])
    for order, (one, other) in zip(orders, source.batches(orders), strict=True):
        assert np.array_equal(one.numpy(), every[order])
        assert np.array_equal(other.numpy(), 2 * every[order])
    assert sorted(every[:, 0, 0, 0].tolist()) == rows[:, 0, 0, 0].tolist(), "each image once"
    assert list(source.batches([])) == []


def test_a_tenth_is_held_back_where_training_is_judged() -> None:
    rows = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    source = KeptFeatures(FeatureCache(1 << 30).append([rows]), 0)
    assert len(source) == 36
    seen = {float(batch[0]) for batch in source.batches([[number] for number in range(36)])}
    assert len(seen) == 36


def test_an_error_of_reading_ends_the_training_that_waits_for_it() -> None:
    source = KeptFeatures(FeatureCache(1 << 30).append([np.zeros((4, 1, 1, 1), np.float32)]), 0, judged=False)
    with pytest.raises(IndexError):
        list(source.batches([[0], [7]]))
