from __future__ import annotations

from pathlib import Path

import pytest

from blemish.images import Remote
from blemish.results.names import LONGEST, Names, safe


def test_a_name_keeps_the_folders_below_the_source(tmp_path: Path) -> None:
    names = Names([tmp_path])
    assert names.below(tmp_path / "a" / "b" / "000.png") == "a/b/000.png"
    assert names.below(Path("/elsewhere/000.png")) == "000.png"


def test_two_sources_of_equal_names_do_not_meet(tmp_path: Path) -> None:
    first, second = tmp_path / "monday" / "new", tmp_path / "tuesday" / "new"
    for folder in (first, second):
        folder.mkdir(parents=True)
    names = Names([str(first), f"folder:{second}", str(first)])
    assert [names.below(folder / "0.png") for folder in (first, second)] == ["new/0.png", "new_2/0.png"]


def test_the_same_name_is_numbered_whatever_its_ending_and_its_capitals(tmp_path: Path) -> None:
    names = Names([tmp_path])
    given = ["a/0.png", "a/0.jpg", "A/0.PNG", "b/0.png"]
    assert [names.free(tmp_path / name) for name in given] == ["a/0.png", "a/0_2.jpg", "A/0_3.PNG", "b/0.png"]


def test_the_working_folder_and_addresses_are_sources_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Names(["."]).below(Path("a/0.png")) == "a/0.png"
    assert Names([".", "../other"]).below(Path("../0.png")) == "0.png"
    assert Names(["/"]).below(Path("a.png")) == "a.png"
    names = Names(["s3://bucket/line"])
    assert names.below(Remote("s3://bucket/line/day/0.png")) == "day/0.png"


@pytest.mark.parametrize(
    "name", ["..", "...", "a\nb.png", "caf\udce9.png", 'a"<b>:*?.png', "x" * 300 + ".png", "", "con\\c.png"]
)
def test_every_name_becomes_one_that_all_systems_take(name: str) -> None:
    found = safe(name)
    assert found.strip(".")
    assert len(found.encode()) <= LONGEST
    assert found.isprintable()
    assert not set(found) & set('\\:*?"<>|/')
