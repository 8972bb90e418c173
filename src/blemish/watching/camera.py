"""Frames of a camera, read with OpenCV: always the newest one, and a new connection after one was lost."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from blemish.errors import require
from blemish.images import Pixels
from blemish.images.files import MAX_PIXELS

BACKOFF = (1.0, 30.0)
"""Seconds before a lost camera is tried again: at first, and at most."""

CONNECTING = 10_000
"""Milliseconds to wait for a connection, or for a frame."""


class Capture(Protocol):
    """The methods of OpenCV's `VideoCapture` that are used."""

    def isOpened(self) -> bool: ...  # noqa: N802  # OpenCV's names
    def read(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class Frame:
    """A picture uint8 RGB (H, W, 3), with its time in seconds since 1970 and by `time.monotonic`."""

    pixels: Pixels
    time: float
    since: float


def is_camera(source: str) -> bool:
    """Returns whether a source is a camera: `camera:0`, `camera:/dev/video0`, `rtsp://…` or `rtsps://…`."""
    return source.startswith(("camera:", "rtsp://", "rtsps://"))


def shown(source: str) -> str:
    """Returns how a camera is named in messages and results: without a user, a password, or a query.

    Some cameras take the password in the path; a path that holds `=` or `@` is left out too.
    """
    if source.startswith("camera:"):
        return source
    try:
        parts = urlsplit(source)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{source.partition(':')[0]}://…"
    host = f"[{host}]" if ":" in host else host
    path = "/…" if re.search(r"[=@&;]|%40|%3d|pass", parts.path, re.IGNORECASE) else parts.path
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + path


def check_opencv() -> None:
    """Checks that OpenCV is installed, and keeps it from printing.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    # OpenCV reads these when it is imported; it and FFmpeg would print addresses with passwords.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    require("cv2", of="a camera", extra="camera")


def open_capture(source: str) -> Capture:
    """Returns OpenCV's capture of a camera, which may not be open.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    check_opencv()
    import cv2

    if not source.startswith("camera:"):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, CONNECTING, cv2.CAP_PROP_READ_TIMEOUT_MSEC, CONNECTING]
        opened: Capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        return opened
    name = source.removeprefix("camera:")
    found: Capture = cv2.VideoCapture(int(name)) if name.isdecimal() else cv2.VideoCapture(name)
    return found


class Camera:
    """Reads a camera in a thread, so that `take` never returns an old frame.

    Args:
        source: the camera.
        say: called with a line when the camera is lost, and when it is back.
        open_capture: returns a capture of the source.
        backoff: seconds before it is tried again, at first and at most.
    """

    def __init__(
        self,
        source: str,
        say: Callable[[str], None],
        open_capture: Callable[[str], Capture] = open_capture,
        backoff: tuple[float, float] = BACKOFF,
    ) -> None:
        self.name = shown(source)
        self._source, self._say, self._open, self._backoff = source, say, open_capture, backoff
        self._newest: tuple[NDArray[Any], float, float] | None = None
        self._is_lost = False
        self._came = threading.Condition()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> Frame | None:
        """Returns the newest frame, each only once; waits for one until the timeout."""
        with self._came:
            if self._newest is None:
                self._came.wait(timeout)
            newest, self._newest = self._newest, None
        return None if newest is None else Frame(_rgb(newest[0]), *newest[1:])

    def close(self) -> None:
        """Ends the thread."""
        self._ends.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        pause = self._backoff[0]
        while True:
            if self._read():
                pause = self._backoff[0]
            if self._ends.is_set():
                return
            if not self._is_lost:
                self._say(f"{self.name}: sends no picture; trying again")
            self._is_lost = True
            self._ends.wait(pause)
            pause = min(2 * pause, self._backoff[1])

    def _read(self) -> bool:
        """Reads frames until there are no more. Returns whether there were any."""
        capture = self._open(self._source)
        has_any = False
        try:
            while not self._ends.is_set() and capture.isOpened():
                is_read, frame = capture.read()
                if not is_read or not _is_picture(frame):
                    break
                if self._is_lost:
                    self._say(f"{self.name}: sends pictures again")
                self._is_lost, has_any = False, True
                with self._came:
                    self._newest = (frame, time.time(), time.monotonic())
                    self._came.notify()
        finally:
            capture.release()
        return has_any


def _is_picture(frame: Any) -> bool:
    """Returns whether OpenCV returned a picture of 8 bits, grey or in colour, that is not too large."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or not 0 < frame.size <= 3 * MAX_PIXELS:
        return False
    return frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (1, 3))


def _rgb(frame: NDArray[Any]) -> Pixels:
    """Returns OpenCV's BGR or grey frame as uint8 RGB (H, W, 3)."""
    colours = frame[..., None] if frame.ndim == 2 else frame
    return np.ascontiguousarray(np.broadcast_to(colours[..., ::-1], (*colours.shape[:2], 3)))
