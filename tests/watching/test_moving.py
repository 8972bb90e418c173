"""Moving files that were judged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from blemish.errors import SettingError
from blemish.watching.moving import Moves, parse_moves


@pytest.fixture
def moves(tmp_path: Path) -> Moves:
    (tmp_path / "line" / "lot").mkdir(parents=True)
    return Moves(tmp_path / "line", {"good": tmp_path / "good"})


def put(moves: Moves, path: str, content: str) -> None:
    (moves.root / path).write_text(content)


def found(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fails_with(number: int) -> object:
    def fail(*paths: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("fault", [None, errno.EXDEV, errno.EPERM], ids=["link", "another disk", "no links"])
def test_nothing_is_overwritten_and_a_taken_name_gets_a_number(
    moves: Moves, tmp_path: Path, fault: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is not None:
        monkeypatch.setattr(os, "link", fails_with(fault))
    for content in ("first", "second", "third"):
        put(moves, "lot/a.b.png", content)
        assert moves.move("lot/a.b.png", "good")
    assert found(tmp_path / "good") == {"lot/a.b.png": "first", "lot/a.b_2.png": "second", "lot/a.b_3.png": "third"}
    assert not found(moves.root)


def test_a_verdict_without_a_folder_and_a_file_that_has_gone_are_left(moves: Moves, tmp_path: Path) -> None:
    put(moves, "a.png", "odd")
    assert not moves.move("a.png", "anomalous")
    assert not moves.move("absent.png", "good")
    assert found(moves.root) == {"a.png": "odd"}


@pytest.mark.parametrize("fault", [None, errno.EXDEV], ids=["link", "another disk"])
def test_a_move_that_was_cut_short_is_finished_without_a_second_copy(
    moves: Moves, tmp_path: Path, fault: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(moves, "a.png", "first")
    if fault is not None:
        monkeypatch.setattr(os, "link", fails_with(fault))
    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", fails_with(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            moves.move("a.png", "good")
    assert found(moves.root) == {"a.png": "first"}
    assert moves.move("a.png", "good")
    assert found(tmp_path / "good") == {"a.png": "first"}
    assert not found(moves.root)


def test_a_full_disk_leaves_the_file_where_it_is(moves: Moves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(moves, "a.png", "first")
    monkeypatch.setattr(os, "link", fails_with(errno.EXDEV))
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fails_with(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            moves.move("a.png", "good")
    assert found(moves.root) == {"a.png": "first"}
    assert not found(tmp_path / "good")


def test_folders_are_read_from_text_and_mistakes_are_told_in_one_line() -> None:
    assert parse_moves("good=a, anomalous=b/c") == {"good": Path("a"), "anomalous": Path("b/c")}
    for text in ("good", "fine=a", "good=a,good=b", "good=", ""):
        with pytest.raises(SettingError, match="is not valid; give good=DIR,anomalous=DIR,unreadable=DIR"):
            parse_moves(text)
