"""Kept images: within bytes and days, the oldest removed first, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import SettingError, StorageError
from blemish.log import Images, images, new_id

NOW = 1_800_000_000


def id_at(days: float, number: int = 0) -> str:
    """An id of so many days before now."""
    return f"{int(1000 * (NOW - 86_400 * days)):012x}{number:020x}"


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.time, "time", lambda: NOW)


def test_an_image_comes_back_and_another_takes_its_place(tmp_path: Path) -> None:
    kept = Images(tmp_path / "images", 1_000, 30)
    one = id_at(0)
    kept.put(one, "image", b"first")
    kept.put(one, "image", b"second one")
    kept.put(one, "thumbnail", b"small")
    assert kept.read(one, "image") == b"second one"
    assert kept.read(one, "thumbnail") == b"small"
    assert kept.read(one, "overlay") is None
    assert kept.read(new_id(), "image") is None
    assert kept.size == 15
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [f"{one}.image", f"{one}.thumbnail"]


def test_an_image_has_the_suffix_of_its_content(tmp_path: Path) -> None:
    kept = Images(tmp_path, 100, 30)
    one, png, jpeg = id_at(0), b"\x89PNG\r\n\x1a\n and more", b"\xff\xd8\xff and more"
    kept.put(one, "image", jpeg)
    kept.put(one, "overlay", png)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{one}.image.jpg", f"{one}.overlay.png"]
    kept.put(one, "image", png)  # in the place of the first, whose name was another
    again = Images(tmp_path, 100, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{one}.image.png", f"{one}.overlay.png"]
    assert again.size == kept.size == 2 * len(png)
    assert again.read(one, "image") == png
    again.put(id_at(-1), "image", b"x" * 90)
    assert kept.read(one, "image") is None


def test_the_oldest_go_when_bytes_run_out_in_whatever_order_they_came(tmp_path: Path) -> None:
    kept = Images(tmp_path, 100, 30)
    for days in (3, 1, 2):
        kept.put(id_at(days), "image", b"x" * 30)
    kept.put(id_at(0), "image", b"x" * 40)
    assert [days for days in range(4) if kept.read(id_at(days), "image")] == [0, 1, 2]
    assert kept.size == 100
    kept.put(id_at(2), "image", b"x" * 90)  # in the place of the oldest, which is not removed for itself
    assert [days for days in range(4) if kept.read(id_at(days), "image")] == [2]
    with pytest.raises(StorageError, match="an image of 101 bytes is more than may be kept"):
        kept.put(id_at(0), "image", b"x" * 101)
    assert kept.size == sum(path.stat().st_size for path in tmp_path.iterdir()) == 90


def test_what_is_too_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Images(tmp_path, 1_000, 2)
    for days in (0, 1.6, 1.9):
        kept.put(id_at(days), "image", b"x")
    monkeypatch.setattr(images.time, "time", lambda: NOW + 43_200)
    kept.tidy()
    assert [path.name for path in tmp_path.iterdir()] == [f"{id_at(0)}.image"]
    kept.put(id_at(3), "image", b"late")  # of a clock that was set back: kept until the next one comes
    assert kept.read(id_at(3), "image") == b"late"
    kept.put(id_at(0, 1), "image", b"x")
    assert kept.read(id_at(3), "image") is None


def test_the_next_process_knows_what_is_kept_and_removes_what_was_left_unfinished(tmp_path: Path) -> None:
    kept = Images(tmp_path, 100, 30)
    for days in (3, 2, 1):
        kept.put(id_at(days), "overlay", b"x" * 30)
    (tmp_path / f".{id_at(0)}.image.01234567.unfinished").write_bytes(b"x" * 500)
    (tmp_path / "mine.txt").write_bytes(b"y" * 500)
    (tmp_path / f"{id_at(9)}.image").symlink_to(tmp_path / "mine.txt")
    again = Images(tmp_path, 100, 30)
    assert again.size == 90
    again.put(id_at(0), "image", b"x" * 30)
    assert again.read(id_at(3), "overlay") is None
    assert sorted(path.name for path in tmp_path.iterdir() if not path.is_symlink()) == sorted(
        ["mine.txt", f"{id_at(0)}.image", f"{id_at(1)}.overlay", f"{id_at(2)}.overlay"]
    )


def test_only_ids_are_names(tmp_path: Path) -> None:
    kept = Images(tmp_path / "images", 100, 30)
    (tmp_path / "secret").write_text("secret")
    for id, kind in (("../secret", "image"), (id_at(0), "../../secret"), ("", "image"), (id_at(0).upper(), "image")):
        with pytest.raises(SettingError, match="no image has the name"):
            kept.read(id, kind)  # type: ignore[arg-type]
        with pytest.raises(SettingError, match="no image has the name"):
            kept.put(id, kind, b"x")  # type: ignore[arg-type]
    assert not (tmp_path / "images").exists()


def test_settings_that_keep_nothing_are_refused(tmp_path: Path) -> None:
    for most, days in ((0, 30), (100, 0), (100, float("nan"))):
        with pytest.raises(SettingError, match="keep no image"):
            Images(tmp_path, most, days)


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Images(tmp_path, 100, 30)
    kept.put(id_at(1), "image", b"x")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("blemish.storage.place.os.fsync", full)
    with pytest.raises(StorageError, match="no space left on the disk"):
        kept.put(id_at(0), "image", b"x" * 50)
    assert kept.size == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{id_at(1)}.image"]
