from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.calibration import Gathered
from blemish.distributed.kept import Kept
from blemish.distributed.summary import Report
from blemish.engines.features import Variety
from blemish.errors import SettingError, StorageError

IDENTITY = {"detector": "gaussian", "sides": (1, 2)}
REPORT = Report(
    {0: "a", 12: "b"}, {0: 1, 12: 1}, {3: "is no image"}, Gathered([1.5], [0.1], [2.0], ["x"], ["a"]), Variety(2, True)
)


LEARNED = {"sum": np.array([1.5, 2.5]), "count": np.array(3)}


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    Kept(tmp_path / "kept", IDENTITY, False).write("fit", 3, 5, REPORT, LEARNED)
    again = Kept(tmp_path / "kept", IDENTITY, True)
    [(level, place, report, learned)] = again.read("fit")
    assert (level, place, report) == (3, 5, REPORT)
    np.testing.assert_equal(learned, LEARNED)
    assert list(again.read("calibrate")) == []


def test_a_summary_replaces_those_that_it_covers_and_no_others(tmp_path: Path) -> None:
    kept = Kept(tmp_path, IDENTITY, False)
    for stage, level, place in [("fit", 0, 4), ("fit", 0, 5), ("fit", 0, 6), ("calibrate", 0, 4), ("fit", 1, 2)]:
        kept.write(stage, level, place, REPORT, LEARNED)
    assert [told[:2] for told in sorted(kept.read("fit"), key=lambda told: told[:2])] == [(0, 6), (1, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibrate-0-4", "fit-0-6", "fit-1-2"]


def test_summaries_are_not_gone_on_from_unasked(tmp_path: Path) -> None:
    Kept(tmp_path, IDENTITY, False).write("fit", 0, 0, REPORT, LEARNED)
    with pytest.raises(SettingError, match="continue it with --resume"):
        Kept(tmp_path, IDENTITY, False)


def test_those_of_another_fit_are_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    Kept(tmp_path, IDENTITY, False).write("fit", 0, 0, REPORT, LEARNED)
    with pytest.raises(StorageError, match="holds another fit \\(detector differs in fit-0-0\\)"):
        Kept(tmp_path, {**IDENTITY, "detector": "fre"}, True)


def test_an_altered_summary_is_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path, IDENTITY, False)
    kept.write("fit", 0, 0, REPORT, LEARNED)
    (tmp_path / "fit-0-0" / "learned.safetensors").write_bytes(b"y")
    with pytest.raises(StorageError, match="was altered.*; remove .*fit-0-0, and resume"):
        list(kept.read("fit"))


@pytest.mark.parametrize("name", ["calibrate-0-0", "fit-0-1", "fit-30-0"])
def test_a_summary_under_another_name_is_refused(tmp_path: Path, name: str) -> None:
    Kept(tmp_path, IDENTITY, False).write("fit", 0, 0, REPORT, LEARNED)
    (tmp_path / "fit-0-0").rename(tmp_path / name)
    with pytest.raises(StorageError, match=f"{name}: holds the summary 'fit-0-0'; remove it, and resume"):
        Kept(tmp_path, IDENTITY, True)


def test_what_is_no_summary_is_named_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "fit-0-0").mkdir()
    with pytest.raises(StorageError, match="is not a summary .*; remove .*fit-0-0, and resume"):
        Kept(tmp_path, IDENTITY, True)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(SettingError, match="is not a folder"):
        Kept(tmp_path / "kept", IDENTITY, True)
