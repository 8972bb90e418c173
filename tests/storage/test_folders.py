"""What is written whole or not at all, and what `--force` may replace."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import StorageError
from blemish.maps import write_picture
from blemish.maps.pictures import PICTURES
from blemish.storage import check_free, check_free_file, new_file, new_folder, read_card, remove_folder, signed
from blemish.storage import folders as storage
from blemish.storage.cards import card_name
from blemish.storage.folders import MADE_BY


def write(path: Path, text: str = "x", kind: str = "predictions", *, force: bool = False) -> None:
    with new_folder(path, kind, force=force) as folder:
        (folder / "content").write_text(text)


def test_a_folder_holds_a_card_that_says_what_it_is_and_lists_its_files(tmp_path: Path) -> None:
    write(tmp_path / "results")
    card = json.loads((tmp_path / "results" / "blemish.json").read_text())
    assert card["kind"] == "predictions"
    assert list(card["files"]) == ["content"]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_force_replaces_a_folder_of_the_same_kind(tmp_path: Path) -> None:
    write(tmp_path / "m", "old")
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "m", "new")
    write(tmp_path / "m", "new", force=True)
    assert (tmp_path / "m" / "content").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def thesis_in_a_sub_folder(path: Path) -> None:
    (path / "src").mkdir()
    (path / "src" / "thesis.txt").write_text("years")


def another_file(path: Path) -> None:
    (path / "notes.txt").write_text("years")


def a_link_for_a_file(path: Path) -> None:
    (path.parent / "elsewhere").write_text("years")
    (path / "content").unlink()
    (path / "content").symlink_to(path.parent / "elsewhere")


def a_card_that_says_nothing(path: Path) -> None:
    (path / "blemish.json").write_text("{}")


def an_altered_card(path: Path) -> None:
    card = path / "blemish.json"
    card.write_text(card.read_text().replace('"content"', '"thesis.txt"'))
    (path / "content").rename(path / "thesis.txt")


def no_card(path: Path) -> None:
    (path / "blemish.json").unlink()


def another_kind(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    write(path, kind="gallery")


def a_changed_file(path: Path) -> None:
    (path / "content").write_text("x, and my remarks")


def a_link_to_the_folder(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (thesis_in_a_sub_folder, "holds src"),
        (another_file, "holds notes.txt"),
        (a_link_for_a_file, "is a link that leads out of the folder"),
        (a_card_that_says_nothing, "not known to be blemish's own"),
        (an_altered_card, "was altered"),
        (no_card, "holds no blemish.json"),
        (another_kind, "'gallery'"),
        (a_link_to_the_folder, "is a link"),
        (a_changed_file, "content was changed after blemish wrote it"),
    ],
)
def test_force_refuses_what_is_not_known_to_be_ours_and_names_it(tmp_path: Path, change: object, named: str) -> None:
    path = tmp_path / "m"
    write(path)
    change(path)  # type: ignore[operator]
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(StorageError) as caught:
        write(path, "new", force=True)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    if not path.is_symlink():
        with pytest.raises(StorageError):
            remove_folder(path, "predictions")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_what_is_put_into_the_old_folder_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m", "old")
    exchanged = storage._exchanged

    def late(one: Path, other: Path) -> bool:
        (other / "thesis.txt").write_text("years")
        return exchanged(one, other)

    monkeypatch.setattr(storage, "_exchanged", late)
    with pytest.raises(StorageError, match="kept"):
        write(tmp_path / "m", "new", force=True)
    assert (tmp_path / "m.kept" / "thesis.txt").read_text() == "years"
    assert (tmp_path / "m" / "content").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only some systems exchange folders")
def test_at_any_moment_the_old_or_the_new_folder_is_there(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, "0")
    absent, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (path / "content").exists():
                absent.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(30):
        write(path, str(number), force=True)
    done.set()
    watcher.join()
    assert not absent
    assert (path / "content").read_text() == "29"


def test_where_the_system_cannot_exchange_folders_they_are_replaced_in_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_exchanged", lambda one, other: False)
    write(tmp_path / "m", "old")
    write(tmp_path / "m", "new", force=True)
    assert (tmp_path / "m" / "content").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_nothing_is_written_into_a_model(tmp_path: Path) -> None:
    write(tmp_path / "m", kind="model")
    for place in (tmp_path / "m" / "results", tmp_path / "m" / "deep" / "er"):
        with pytest.raises(StorageError, match="lies in .*m, which is a saved model; give another path"):
            write(place)
        with pytest.raises(StorageError, match="which is a saved model"):
            check_free_file(place)
    write(tmp_path / "m", kind="model", force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text("[]")
    write(tmp_path / "other" / "results")


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "m", "old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "m", "predictions", force=True) as folder:
        (folder / "content").write_text(str(1 / 0))
    assert (tmp_path / "m" / "content").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("file/below", "is not a folder"), ("n" * 300, "name too long"), ("/proc/none/m", "may not be written to")],
)
def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "file").write_text("x")
    for check in (lambda path: check_free(path, "model"), check_free_file):
        with pytest.raises(StorageError) as caught:
            check(tmp_path / name)
        assert expected.lower() in str(caught.value).lower()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("ending", PICTURES)
def test_a_picture_of_ours_is_replaced_and_no_other(tmp_path: Path, ending: str) -> None:
    from PIL import Image

    pixels = np.zeros((40, 50, 3), np.uint8)
    path = tmp_path / f"why{ending}"
    write_picture(pixels, path)
    with pytest.raises(StorageError, match="exists already"):
        write_picture(pixels, path)
    write_picture(pixels + np.uint8(9), path, force=True)
    with Image.open(path) as image:
        assert image.size == (50, 40)
    Image.fromarray(pixels).save(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="was not made by blemish"):
        write_picture(pixels, path, force=True)
    assert path.read_bytes() == before


def test_only_a_regular_file_that_says_it_is_ours_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (tmp_path / "notes.png").write_text(f"my notes: these pictures were {MADE_BY} on Monday")
    page.write_text("my own page " + 5000 * "x" + MADE_BY + 5000 * "x")
    (tmp_path / "link.html").symlink_to(page)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "empty.html").touch()
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(StorageError, match="is a folder"), new_file(tmp_path / "folder.html", force=True):
        pass
    for name in ("page.html", "notes.png", "link.html", "empty.html", "pipe.html", "/dev/null"):
        with pytest.raises(StorageError, match="so it is not replaced"), new_file(tmp_path / name, force=True):
            pass
    page.write_text(signed("<html>old</html>"))
    with new_file(page, force=True) as file:
        file.write_text(signed("<html>new</html>"))
    assert page.read_text().startswith("<html>new</html>")
    page.write_text(page.read_text().replace("new", "my remarks"))
    with pytest.raises(StorageError, match="was changed since"), new_file(page, force=True):
        pass


@pytest.mark.parametrize(
    "name", ["../payload.sh", "/etc/x", "a/../../b", "a//b", "..", "", "a\\b", "C:x", "line\nbreak", "nul\0"]
)
def test_a_card_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    from blemish.storage.cards import digest_of

    write(tmp_path / "m")
    file = tmp_path / "m" / card_name("predictions")
    card = json.loads(file.read_text())
    card["files"] = {name: "0" * 64}
    del card["digest"]
    file.write_text(json.dumps({**card, "digest": digest_of(card)}))
    with pytest.raises(StorageError, match="not a plain name"):
        read_card(tmp_path / "m", "predictions")


def test_only_results_and_trees_have_folders_in_them(tmp_path: Path) -> None:
    for kind in ("predictions", "figures"):
        with new_folder(tmp_path / kind, kind) as folder:
            (folder / "a").mkdir()
            (folder / "a" / "b.txt").write_text("x")
    assert list(read_card(tmp_path / "predictions", "predictions")["files"]) == ["a/b.txt"]
    with pytest.raises(StorageError, match="lists the file 'a/b.txt', not a plain name"):
        read_card(tmp_path / "figures", "figures")
    (tmp_path / "predictions" / "a").rename(tmp_path / "elsewhere")
    (tmp_path / "predictions" / "a").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(StorageError, match="is a link that leads out of the folder"),
        new_folder(tmp_path / "predictions", "predictions", force=True),
    ):
        pass
    assert (tmp_path / "elsewhere" / "b.txt").read_text() == "x"
