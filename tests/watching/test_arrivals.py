"""Which files of a folder are given, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemish.errors import SourceError
from blemish.watching import arrivals as module
from blemish.watching.arrivals import Arrivals
from blemish.watching.events import is_on_network

# What watchdog warns of when it asks twice to be told of a folder; an error would end its thread.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

LONG = 30.0
"""Seconds that are waited for at most; a test that passes waits far less."""


class Line:
    """A folder that is watched, and what was said of it."""

    def __init__(self, root: Path, poll: float | None, excluded: tuple[Path, ...] = ()) -> None:
        self.root, self.said = root, list[str]()
        self.done: set[str] = set()
        root.mkdir(exist_ok=True)
        self.arrivals = Arrivals(root, excluded, poll, lambda path, size, modified: path in self.done, self.said.append)

    def put(self, name: str, content: bytes = b"x", age: float = 0.0) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    def take(self, count: int, most: int = 100) -> list[str]:
        """The next files, so many."""
        found: list[str] = []
        end = time.monotonic() + LONG
        while len(found) < count and time.monotonic() < end:
            found += [arrival.path for arrival in self.arrivals.take(most, 0.05)]
            self.done |= set(found)
        return found


@pytest.fixture(params=[None, 0.03], ids=["told", "polled"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "line", request.param, (tmp_path / "line" / "out",))
    yield made
    made.arrivals.close()


def test_files_that_are_there_come_first_the_oldest_first(line: Line) -> None:
    for age in (20, 40, 30):
        line.put(f"{age}.png", age=age)
    assert line.take(3, most=2) == ["40.png", "30.png", "20.png"]


def test_new_files_come_whether_they_are_written_moved_in_or_in_new_folders(line: Line, tmp_path: Path) -> None:
    assert line.arrivals.take(9, 0.0) == []
    line.put("a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    os.rename(tmp_path / "b.png", line.root / "b.png")
    (tmp_path / "lot").mkdir()
    (tmp_path / "lot" / "c.png").write_bytes(b"x")
    os.rename(tmp_path / "lot", line.root / "lot")
    line.put("other/deep/d.png")
    (line.root / "e.part").write_bytes(b"x")
    os.rename(line.root / "e.part", line.root / "e.png")
    assert sorted(line.take(5)) == ["a.png", "b.png", "e.png", "lot/c.png", "other/deep/d.png"]


def test_links_hidden_files_other_files_and_own_folders_are_left_out(line: Line, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"x")
    (line.root / "linked").symlink_to(tmp_path / "elsewhere")
    (line.root / "linked.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    os.mkfifo(line.root / "pipe.png")
    (line.root / "folder.png").mkdir()
    for name in (".hidden.png", ".hidden/a.png", "a.txt", "out/a.png", "out/day/b.png"):
        line.put(name)
    line.arrivals.take(9, 0.0)
    for name in (".hidden/b.png", "out/c.png", "out/day/d.png", ".e.png"):
        line.put(name)
    line.put("last.png")
    assert line.take(1) == ["last.png"]
    assert line.arrivals.take(9, 0.2) == []


def test_a_file_that_grows_waits_until_it_is_closed_or_no_longer_changes(line: Line) -> None:
    line.arrivals.take(9, 0.0)
    with (line.root / "a.png").open("wb") as file:
        for _ in range(8):
            file.write(b"x" * 1000)
            file.flush()
            assert line.arrivals.take(9, 0.02) == []
    (arrival,) = line.arrivals.take(9, LONG)
    assert arrival.size == 8000


def test_one_that_is_given_back_comes_again_and_one_that_has_gone_does_not(line: Line) -> None:
    line.put("a.png", age=9)
    line.put("b.png", age=8)
    first, second = line.arrivals.take(9, LONG)
    for arrival in (first, second):
        line.arrivals.again(arrival)
    assert not line.arrivals.is_empty
    (line.root / "a.png").unlink()
    (again,) = line.arrivals.take(9, LONG)
    assert (again.path, again.tries) == ("b.png", 1)
    assert line.arrivals.is_empty


def test_a_folder_that_goes_is_waited_for_and_told_of_once(line: Line, tmp_path: Path) -> None:
    line.put("a.png", age=9)
    assert line.take(1) == ["a.png"]
    line.root.rename(tmp_path / "away")
    end = time.monotonic() + LONG
    while not line.said and time.monotonic() < end:
        assert line.arrivals.take(9, 0.05) == []
    (tmp_path / "away" / "b.png").write_bytes(b"x")
    (tmp_path / "away").rename(line.root)
    assert line.take(1) == ["b.png"]
    line.put("c.png")
    assert line.take(1) == ["c.png"]
    assert [said.rpartition("line: ")[2].partition(" (")[0] for said in line.said] == ["is gone", "is back"]


def test_a_folder_that_was_removed_and_made_anew_is_followed(line: Line) -> None:
    line.arrivals.take(9, 0.0)
    line.root.rmdir()
    line.root.mkdir()
    time.sleep(0.1)
    line.put("a.png")
    assert line.take(1) == ["a.png"]
    line.put("b.png")
    assert line.take(1) == ["b.png"]


def test_a_file_that_the_system_did_not_tell_of_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESCAN", 0.1)
    monkeypatch.setattr(module.Events, "taken", lambda events: iter(()))
    line = Line(tmp_path / "line", None)
    line.arrivals.take(9, 0.0)
    line.put("a.png")
    assert line.take(1) == ["a.png"]
    line.arrivals.close()


def test_where_the_system_cannot_tell_the_folder_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(module, "Events", fail)
    line = Line(tmp_path / "line", None)
    line.put("a.png", age=9)
    assert line.take(1) == ["a.png"]
    assert line.said == [
        f"{line.root}: the system cannot report new files (no space left on the disk); looking every second"
    ]


def test_a_folder_that_is_none_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: cannot be watched \(No such file or directory\); give a folder"):
        Arrivals(tmp_path / "absent", (), None, lambda *file: False, print)


def test_network_drives_are_known_by_their_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /mnt/a\\040b nfs4 rw 0 0\n"
    mounts += "//h/s /mnt/a\\040b/in cifs rw 0 0\nt /mnt/c tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda *path, **options: mounts)
    assert is_on_network(Path("/mnt/a b/line"))
    assert is_on_network(Path("/mnt/a b/in"))
    assert not is_on_network(Path("/mnt/a b2"))
    assert not is_on_network(Path("/mnt/c/line"))
