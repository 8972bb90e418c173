"""What a run takes from the results of earlier ones, and what it measures again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.bench.measure import Bench, Measured
from blemish.bench.options import Options
from blemish.bench.protocol import PIXEL_AUROC, Drawing, Entry, Protocol
from blemish.bench.results import Result, append_result, read_results, select
from blemish.bench.run import run
from blemish.bench.sources import categories
from blemish.bench.vae_grf import draw_training
from blemish.errors import SettingError, WeightsError
from blemish.evaluation import PerImage
from blemish.fitting.presets import PRESETS
from conftest import write_tree


class Scored:
    """Scores forty images without a model, and counts how often; the reference does it better."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.fault: BaseException | None = None

    def __call__(self, bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
        if self.fault is not None:
            raise self.fault
        self.asked.append((arguments["preset"], bench.seed))
        anomalous = np.arange(40) >= 20
        shift = 3.0 if arguments["preset"] == "padim-r18" else 0.0
        scores = anomalous * shift + np.random.default_rng(bench.seed).normal(size=40)
        images = PerImage(tuple(map(str, range(40))), anomalous, scores, np.full(40, np.nan), np.full(40, np.nan))
        return Measured({"pixel.auroc": 0.5 + bench.seed / 10}, images)


@pytest.fixture
def measure() -> Scored:
    return Scored()


@pytest.fixture
def protocol(measure: Scored) -> Protocol:
    entries = (
        Entry("Drawn", {"preset": "padim-r18-rd100"}, draws=True, seeds=2, measure=measure),
        Entry("Fixed", {"preset": "padim-r18"}, measure=measure),
    )
    return Protocol("made-up", "Made up", "plates", entries, (PIXEL_AUROC,), categories, reference="Fixed")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "trees" / "one", 4, 1)


def test_other_images_under_the_same_names_are_measured_again(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    run(protocol, str(tree.parent), path)
    tree.parent.rename(tmp_path / "moved")
    run(protocol, str(tmp_path / "moved"), path)
    assert len(measure.asked) == 3, "moving them changes nothing"
    (tmp_path / "moved" / "one" / "train" / "good" / "000.png").unlink()
    run(protocol, str(tmp_path / "moved"), path)
    assert len(measure.asked) == 6


def test_a_preset_that_has_changed_since_is_measured_again(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.jsonl"
    (result,) = run(protocol, str(tree), path, Options(entries=["Fixed"]))
    fit = {**result.fit, "detector": "padim", "backbone": "resnet18.tv_in1k", "size": [224, 224]}
    append_result(path, replace(result, fit=fit))
    run(protocol, str(tree), path, Options(entries=["Fixed"]))
    assert len(measure.asked) == 1
    monkeypatch.setitem(PRESETS, "padim-r18", replace(PRESETS["padim-r18"], crop=None))
    run(protocol, str(tree), path, Options(entries=["Fixed"]))
    assert len(measure.asked) == 2, "it is no longer cropped"


def test_what_a_figure_is_drawn_from_is_made_again_if_it_is_gone(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path
) -> None:
    path, options = tmp_path / "r.jsonl", Options(entries=["Fixed"], models=tmp_path / "kept")
    drawn = replace(protocol, draw=lambda drawing: [], pictured=("Fixed",))
    (result,) = run(drawn, str(tree), path, options)
    (tmp_path / "model").mkdir()
    append_result(path, replace(result, model=str(tmp_path / "model")))
    run(drawn, str(tree), path, options)
    assert len(measure.asked) == 1
    (tmp_path / "model").rmdir()
    run(drawn, str(tree), path, replace(options, models=None))
    assert len(measure.asked) == 1, "nobody asked for models"
    run(drawn, str(tree), path, options)
    assert len(measure.asked) == 2
    gone = {**result.fit, "training": str(tmp_path / "gone")}
    append_result(path, replace(result, model=str(tmp_path), fit=gone))
    run(drawn, str(tree), path, options)
    assert len(measure.asked) == 3, "the log of the training is gone"
    with pytest.raises(SettingError, match="the log of this training is no longer there"):
        draw_training(Drawing([replace(result, fit=gone)], tmp_path))


def test_an_entry_that_is_named_twice_is_measured_once(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path
) -> None:
    run(protocol, str(tree), tmp_path / "r.jsonl", Options(entries=["Fixed", "Fixed"], categories=["one", "one"]))
    assert len(measure.asked) == 1


def test_what_is_absent_hides_no_measurement(protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    (before,) = run(protocol, str(tree), path, Options(entries=["Fixed"]))
    measure.fault = WeightsError("no weights here")
    (after,) = run(protocol, str(tree), path, Options(entries=["Fixed"], size=96))
    assert after == before
    assert path.read_text().count("no weights here") == 1


def test_entries_run_later_are_compared_with_the_reference_of_their_seed(
    protocol: Protocol, tree: Path, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    run(protocol, str(tree), path, Options(entries=["Fixed"]))
    results = run(protocol, str(tree), path, Options(entries=["Drawn"]))
    assert [len(result.against) for result in results] == [0, 1, 1]
    other = run(protocol, str(tree), tmp_path / "o.jsonl", Options(entries=["Drawn"], size=96))
    assert not any(result.against for result in other), "nothing else was measured at that size"


def test_a_mean_over_seeds_is_of_those_that_were_measured_alike() -> None:
    def result(seed: int, size: int) -> Result:
        return Result("made-up", "Drawn", "one", seed, {"pixel.auroc": 0.5}, fit={"arguments": {"size": size}})

    results = [result(1, 64), result(2, 64), result(0, 96)]
    assert select(results, "Drawn", "one") == [results[-1]]
    assert len(select(results[:2], "Drawn", "one")) == 2


def test_categories_without_test_images_or_that_cannot_be_read_are_absent(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path
) -> None:
    bare = write_tree(tree.parent / "two", 4, 1)
    for file in sorted(bare.glob("test/*/*")):
        file.unlink()
    results = run(protocol, str(tree.parent), tmp_path / "r.jsonl", Options(seeds=1))
    told = {result.category: result.absent for result in results}
    assert told["one"] is None
    assert "no labelled images to measure on" in (told["two"] or "")
    assert len(measure.asked) == 2, "nothing is fitted that cannot be measured"


def test_an_interrupt_leaves_what_was_measured_before(
    protocol: Protocol, measure: Scored, tree: Path, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(protocol, str(tree), path, announce=lambda what: _break_after(what, measure))
    assert [result.entry for result in read_results(path)] == ["Fixed"]
    measure.fault = None
    assert len(run(protocol, str(tree), path)) == 3
    assert len(measure.asked) == 3


def _break_after(what: Result | str, measure: Scored) -> None:
    if isinstance(what, Result):
        measure.fault = KeyboardInterrupt()


WRITER = """
import sys
from blemish.bench.results import Result, append_result
print("ready", flush=True)
sys.stdin.readline()
for seed in range(20):
    append_result(sys.argv[1], Result("made-up", sys.argv[2], "x" * 100000, seed))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of folders")
def test_two_runs_can_write_to_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.communicate("\n")
        assert [writer.returncode for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            if writer.poll() is None:
                os.kill(writer.pid, signal.SIGKILL)
    assert len(read_results(path)) == 40
