"""Frames of a camera, by a capture that is made up and by OpenCV's own on a film that it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import SettingError, SourceError
from blemish.watching import camera as module
from blemish.watching import frames, is_camera, watching_camera
from blemish.watching.camera import Camera, shown
from conftest import part

LONG = 30.0
"""Seconds that are waited for at most; a test that passes waits far less."""


class FakeCapture:
    """A connection that gives frames, whose blue is their number, for as long as it may, and ends."""

    def __init__(self, source: FakeCamera) -> None:
        self.source = source

    def isOpened(self) -> bool:  # noqa: N802
        return self.source.is_there

    def read(self) -> tuple[bool, Any]:
        if not self.source.is_there:
            return False, None
        self.source.wait()
        self.source.count += 1
        return True, np.full((48, 64, 3), (self.source.count % 256, 0, 200), np.uint8)  # blue, green, red

    def release(self) -> None:
        self.source.released += 1


class FakeCamera:
    def __init__(self) -> None:
        self.is_there = True
        self.count = self.opened = self.released = 0
        self.wait: Callable[[], object] = lambda: time.sleep(0.002)

    def open(self, source: str) -> FakeCapture:
        self.opened += 1
        return FakeCapture(self)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def fake() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def camera(fake: FakeCamera, said: list[str]) -> Iterator[Camera]:
    made = Camera("rtsp://me:secret@cam/1", said.append, fake.open, backoff=(0.01, 0.04))
    yield made
    made.close()


def test_the_newest_frame_is_given_once_in_red_green_blue(camera: Camera, fake: FakeCamera) -> None:
    first = camera.take(LONG)
    assert first is not None
    time.sleep(0.1)
    behind = fake.count
    second = camera.take(LONG)
    assert second is not None
    assert behind > 1
    assert (
        int(second.pixels[0, 0, 2]) - behind
    ) % 256 < 128  # those between are dropped; the number of 8 bits turns over
    assert second.pixels.shape == (48, 64, 3)
    assert second.pixels[0, 0].tolist()[:2] == [200, 0]
    assert second.time > first.time
    fake.wait = threading.Event().wait  # for ever
    camera.take(0.2)
    assert camera.take(0.05) is None
    fake.wait = lambda: None


def test_a_camera_that_is_lost_is_told_of_once_and_tried_until_it_is_back(
    camera: Camera, fake: FakeCamera, said: list[str]
) -> None:
    assert camera.take(LONG) is not None
    fake.is_there = False
    end = time.monotonic() + LONG
    while fake.opened < 5 and time.monotonic() < end:
        time.sleep(0.01)
    assert said == ["rtsp://cam/1: sends no picture; trying again"]
    camera.take(0.0)
    fake.is_there = True
    assert camera.take(LONG) is not None
    assert said[1:] == ["rtsp://cam/1: sends pictures again"]
    assert fake.released >= fake.opened - 1


def test_no_password_is_shown() -> None:
    for source, name in (
        ("camera:0", "camera:0"),
        ("rtsp://10.0.0.7:554/live/1", "rtsp://10.0.0.7:554/live/1"),
        ("rtsp://me:secret@cam.local/live?token=secret#secret", "rtsp://cam.local/live"),
        ("rtsp://me:sec@ret@cam/live", "rtsp://cam/live"),
        ("rtsp://cam/user=me_password=secret_channel=1", "rtsp://cam/…"),
        ("rtsp://cam/me:secret@x", "rtsp://cam/…"),
        ("rtsps://me:secret@[fe80::1]:322/a", "rtsps://[fe80::1]:322/a"),
        ("rtsp://cam:secret/a", "rtsp://…"),
    ):
        assert is_camera(source)
        assert shown(source) == name
        assert "secret" not in shown(source)
    assert not is_camera("line")


def test_frames_are_judged_and_kept_under_a_name_without_a_password(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeCamera
) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV; pip install 'blemish[camera]'")
    monkeypatch.setattr(module.Camera.__init__, "__defaults__", (fake.open, (0.01, 0.04)))
    out = tmp_path / "out"
    with watching_camera(
        str(saved), "rtsp://me:secret@cam/1", outs=[str(out)], keep="all", every=0.01, say=print
    ) as watch:
        results = watch.run()
        found = [next(results) for _ in range(3)]
        results.close()
        assert sum(watch.counts.values()) == 3
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [result.path for result in found]
    assert all(line["path"].startswith("rtsp://cam/1 20") and line["size"] is None for line in lines)
    pictures = list((out / "frames").rglob("*.png"))
    assert len(pictures) == 3
    with Image.open(pictures[0]) as picture:
        assert picture.getpixel((0, 0))[::2][0] == 200
    assert not any(b"secret" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_a_film_that_opencv_wrote_is_read_in_its_own_colours(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV; pip install 'blemish[camera]'")
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write films")
    picture = part(np.random.default_rng(0), 64)[:48]
    for _ in range(4):
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    said: list[str] = []
    camera = Camera(f"camera:{path}", said.append, backoff=(0.05, 0.05))
    frame = camera.take(LONG)
    assert frame is not None
    assert np.abs(frame.pixels.astype(int) - picture).mean() < 12
    end = time.monotonic() + LONG
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    assert said[0] == f"camera:{path}: sends no picture; trying again"  # it has come to its end
    camera.close()


def test_one_frame_is_not_waited_for_without_end(saved: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV; pip install 'blemish[camera]'")
    monkeypatch.setattr(frames, "FIRST", 0.05)
    monkeypatch.setattr(frames, "IDLE", 0.01)
    with (
        pytest.raises(SourceError, match=r"camera:nowhere: sent no picture within 0\.05 s; check that it is on"),
        watching_camera(str(saved), "camera:nowhere", say=said.append) as watch,
    ):
        list(watch.run(once=True))
    assert not watch.counts


def test_opencv_prints_nothing_of_a_camera_that_is_not_there(saved: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV; pip install 'blemish[camera]'")
    program = (
        f"from blemish.watching import watching_camera\nwith watching_camera({str(saved)!r}, 'camera:99') as watch:\n"
        "    while not watch.camera._is_lost:\n        watch.camera.take(0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == "camera:99: sends no picture; trying again\n"


def test_mistakes_are_told_in_one_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, options, told in (
        ("camera:", {}, "camera: names no camera; give camera:0"),
        ("camera:0", {"every": -1.0}, "every -1 is out of range"),
        ("camera:0", {"keep": "all"}, "--keep all needs a folder to write to; give --out DIR"),
    ):
        with pytest.raises(SettingError, match=told), watching_camera(str(saved), source, **options):  # type: ignore[arg-type]
            pass
