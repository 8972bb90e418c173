"""Follows a camera: its newest frame is judged at regular intervals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from blemish.engines.devices import RunsOn
from blemish.errors import SettingError, SourceError
from blemish.log import new_id
from blemish.storage import Scratch
from blemish.watching.camera import Camera, Frame, check_opencv, shown
from blemish.watching.live import LiveModel, Loaded
from blemish.watching.record import FRAMES, STATE, Places, Record, Which, keep_trying, wanted
from blemish.watching.result import Result

IDLE = 0.5
"""Seconds after which the model and the log are checked although no frame came."""

FIRST = 10.0
"""Seconds to wait for the one frame of `once`."""


class CameraWatch:
    """Judges the frames of a camera.

    Args:
        live: the model.
        camera: source of the frames.
        record: keeps the results.
        every: seconds between frames.
        keep: which frames are kept as PNG files.
        say: called with each line that a person should read.

    Attributes:
        counts: frames by verdict.
    """

    def __init__(
        self, live: LiveModel, camera: Camera, record: Record, every: float, keep: Which, say: Callable[[str], None]
    ) -> None:
        self.live, self.camera, self.record = live, camera, record
        self.every, self.keep, self.say = every, keep, say
        self.counts: Counter[str] = Counter()

    def run(self, *, once: bool = False) -> Iterator[Result]:
        """Yields the result of each frame once it is on the disk, without end, or with `once` that of one frame.

        Raises:
            ModelError: the model cannot be run.
            SourceError: with `once`, no frame came within `FIRST` seconds.
        """
        due = start = time.monotonic()
        while True:
            live = self.live.current
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, IDLE))
                continue
            frame = self.camera.take(IDLE)
            if frame is None:
                if once and time.monotonic() - start >= FIRST:
                    raise SourceError(f"{self.camera.name}: sent no picture within {FIRST:g} s; check that it is on")
                keep_trying(self.record.catch_up, self.say)
                continue
            due = max(due + self.every, time.monotonic())
            result = self._judged(live, frame)
            keep_trying(partial(self.record.keep, [result]), self.say)
            keep_trying(self.record.catch_up, self.say)
            self.counts[result.kind] += 1
            yield result
            if once:
                return

    def _judged(self, live: Loaded, frame: Frame) -> Result:
        (prediction,) = live.model.judge([frame.pixels])
        taken = datetime.fromtimestamp(frame.time, timezone.utc).isoformat(timespec="milliseconds")
        result = Result.of(
            prediction,
            id=new_id(),
            time=time.time(),
            path=f"{self.camera.name} {taken.replace('+00:00', 'Z')}",
            size=None,
            modified=None,
            file_digest="",
            model=live.name,
            version=live.version,
            latency=time.monotonic() - frame.since,
        )
        if wanted(self.keep, result):
            name = f"{taken[11:23].replace(':', '-')}_{result.digest[:12]}"
            keep_trying(partial(self.record.picture, FRAMES, name, frame.pixels), self.say)
        return self.record.drawn(live.model, result, frame.pixels, prediction.map)


@contextmanager
def watching_camera(
    model: str,
    source: str,
    *,
    outs: Sequence[str] = (),
    maps: Which = "anomalous",
    keep: Which = "none",
    every: float = 1.0,
    rates: Mapping[str, float | None] | None = None,
    engine: str = "auto",
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Iterator[CameraWatch]:
    """Yields the watch of a camera, and closes everything at the end.

    Args:
        model: the path of a saved model.
        source: the camera, see `is_camera`.
        outs: a folder for results, the address of a database, or both.
        maps: the frames whose heat maps are written, if there is a folder.
        keep: which frames are written, if there is a folder.
        every: seconds between frames.
        rates: as `Model.at` takes them.
        engine, device: as `Model.load` takes them.
        say: called with each line that a person should read.

    Raises:
        MissingExtraError: OpenCV is not installed.
        SettingError: an option is out of range, or the source names no camera.
        ModelError: the model cannot be loaded.
        StorageError: results cannot be written.
    """
    if not 0 <= every <= 86400:
        raise SettingError(f"every {every:g} is out of range; give seconds, from 0 to 86400")
    if source in ("camera:", "rtsp://", "rtsps://"):
        raise SettingError(f"{source} names no camera; give camera:0, camera:/dev/video0 or rtsp://HOST/PATH")
    check_opencv()
    places = Places.of(outs)
    if places.folder is None and keep != "none":
        raise SettingError(f"--keep {keep} needs a folder to write to; give --out DIR")
    with ExitStack() as stack:
        live = LiveModel(model, RunsOn(engine, device), rates or {}, say)
        folder = places.folder or (Path(STATE) if places.log else stack.enter_context(Scratch()).path)
        record = Record(folder, shown(source), places.log, maps if places.folder else "none", say)
        stack.callback(record.close)
        camera = Camera(source, say)
        stack.callback(camera.close)
        yield CameraWatch(live, camera, record, every, keep, say)
