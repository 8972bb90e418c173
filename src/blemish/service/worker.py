"""The process that holds the models and judges images: `python -m blemish.service.worker`.

It reads frames from its input and writes frames to its output; what other libraries print goes to the error stream. It
ends when its input ends, so it never outlives the service.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from PIL import Image

from blemish.engines.devices import RunsOn
from blemish.errors import BlemishError, ImageError, ModelError, SettingError, is_out_of_memory
from blemish.images import Geometry, Pixels, read_image
from blemish.images.reading import whole_image
from blemish.maps import heat_map, view
from blemish.model import Model, Prediction
from blemish.model.picture import LONGEST, drawn
from blemish.service.details import details_of
from blemish.service.frames import packed, read_frame
from blemish.service.refused import status_of
from blemish.service.saying import say
from blemish.service.sizes import check_size
from blemish.service.versions import version_of
from blemish.service.waiting import Job, Waiting

THREADS = 2
"""Threads that judge: one decodes the next images while the other computes."""

THUMBNAIL = 160
"""Pixels of a thumbnail's longer side, at most."""


class Worker:
    """Loads models and judges images, as the frames ask.

    Args:
        output: where answers are written.
        most_pixels: of an image, at most.
        runs_on: the engine and the device, as in `Model.load`.
    """

    def __init__(self, output: BinaryIO, most_pixels: int, runs_on: RunsOn) -> None:
        self._output, self._writing = output, threading.Lock()
        self._most_pixels, self._runs_on = most_pixels, runs_on
        self._models: dict[str, Model] = {}
        self._waiting = Waiting()

    def run(self, stream: BinaryIO) -> None:
        """Handles frames until there are no more."""
        for _ in range(THREADS):
            threading.Thread(target=self._work, daemon=True).start()
        while (frame := read_frame(stream)) is not None:
            asked = frame.header
            match asked["do"]:
                case "load":
                    threading.Thread(target=self._load, args=(asked,), daemon=True).start()
                case "unload":
                    self._models.pop(asked["key"], None)
                case "ping":
                    self._send({"seq": asked["seq"]})
                case _:
                    self._take(asked, frame.parts[0])

    def _take(self, asked: dict[str, Any], image: bytes) -> None:
        model = self._models.get(asked["key"])
        if model is None:
            self._send({"seq": asked["seq"], "status": 503, "error": "the model is not loaded; try again later"})
            return
        self._waiting.put(Job(asked, image, model, self._models.get(asked.get("shadow") or "")))

    def _load(self, asked: Mapping[str, Any]) -> None:
        """Loads a model and lets it judge a blank image, so that its graphs are compiled before the first real one."""
        try:
            model = Model.load(asked["path"], self._runs_on.engine, device=self._runs_on.device)
            if version_of(asked["path"]) != asked["key"].rpartition("@")[2]:
                raise ModelError(f"{asked['path']}: now holds another version")
            _warm(model)
        except Exception as error:
            self._send({"seq": asked["seq"], "error": _reason(error)})
            return
        self._models[asked["key"]] = model
        self._send({"seq": asked["seq"], "details": details_of(model)})

    def _work(self) -> None:
        """Does jobs without end."""
        while True:
            with self._waiting.take() as (what, jobs):
                try:
                    self._do(what, jobs)
                except Exception as error:  # the thread must not end
                    for job in jobs:
                        self._fail(job, error)

    def _do(self, what: str, jobs: Sequence[Job]) -> None:
        if what == "judge":
            self._judge(jobs)
        elif what == "draw":
            self._draw(jobs[0])
        else:
            self._shadow(jobs)

    def _judge(self, jobs: Sequence[Job]) -> None:
        ready: list[Job] = []
        for job in jobs:
            try:
                job.size = check_size(job.image, self._most_pixels)
            except Exception as error:
                self._fail(job, error)
            else:
                ready.append(job)
        done = 0
        try:
            for prediction in ready[0].model.judge([job.image for job in ready]) if ready else ():
                self._answer(ready[done], prediction)
                done += 1
                del prediction  # maps of large photographs take much memory
        except Exception as error:
            rest = ready[done:]
            if len(rest) == 1:
                self._fail(rest[0], error)
            else:
                for job in rest:  # one of them is the cause; the others get their verdicts
                    self._judge([job])

    def _answer(self, job: Job, prediction: Prediction) -> None:
        asked = job.asked
        if prediction.error is not None or prediction.map is None:
            self._fail(job, ImageError("<bytes>", str(prediction.error)))
            return
        calibration = job.model.calibration.at(rate=asked["rate"])
        job.is_anomaly = prediction.score > calibration.threshold
        told = {
            "seq": asked["seq"],
            "status": 200,
            "height": job.size[0],
            "width": job.size[1],
            "score": prediction.score,
            "p_value": prediction.p_value,
            "is_anomaly": job.is_anomaly,
            "threshold": calibration.threshold,
            "false_alarm_rate": calibration.rate,
            "boxes": [asdict(box) for box in prediction.boxes],
            "is_known": prediction.is_known,
            "digest": prediction.digest,
        }
        kept = asked["keep"] == "all" or (asked["keep"] == "anomalous" and job.is_anomaly)
        over = _png(drawn(job.model, job.image, prediction.map)) if kept or asked["map"] == "overlay" else b""
        picture = over if asked["map"] == "overlay" else b""
        if asked["map"] == "png":
            _, shown = view(job.image, prediction.map, job.model.recipe.geometry, LONGEST)
            picture = _png(heat_map(shown, job.model.calibration.display))
        told["kept"] = kept
        if asked["wait"] and job.second is not None:
            (told["shadow"],) = self._second([job])
        self._send(told, [picture, over if kept else b""])
        if job.second is not None and not asked["wait"] and not self._waiting.put_shadow(job):
            self._send({"seq": asked["seq"], "shadow": None})

    def _shadow(self, jobs: Sequence[Job]) -> None:
        for job, said in zip(jobs, self._second(jobs), strict=True):
            self._send({"seq": job.asked["seq"], "shadow": said})

    def _second(self, jobs: Sequence[Job]) -> list[dict[str, Any] | None]:
        """Returns the shadow's verdicts on images; `None` where it fails, which does not affect the model's verdict."""
        started, found = time.perf_counter(), list[dict[str, Any] | None]()
        try:
            judged = () if jobs[0].second is None else jobs[0].second.judge([job.image for job in jobs])
            for job, prediction in zip(jobs, judged, strict=True):
                found.append(_compared(prediction, job, started))
        except Exception as error:
            say(f"shadow: {_reason(error)}")
        return [*found, *[None] * (len(jobs) - len(found))]

    def _draw(self, job: Job) -> None:
        """Sends a picture of an image: a thumbnail, the whole image, or the image with its heat map."""
        try:
            check_size(job.image, self._most_pixels)
            what = job.asked["what"]
            if what == "overlay":
                (prediction,) = job.model.judge([job.image])
                if prediction.error is not None or prediction.map is None:
                    raise ImageError("<bytes>", str(prediction.error))
                picture = _png(drawn(job.model, job.image, prediction.map))
            else:
                picture = _thumbnail(job.image) if what == "thumbnail" else _whole(job.image)
        except Exception as error:
            self._fail(job, error)
            return
        self._send({"seq": job.asked["seq"], "status": 200}, [picture])

    def _fail(self, job: Job, error: Exception) -> None:
        status = 422
        if isinstance(error, ImageError):
            status = status_of(error.reason)
        elif isinstance(error, BlemishError) or is_out_of_memory(error):
            status = 422 if isinstance(error, SettingError) else 503
        else:
            say(f"{type(error).__name__}: {error}")
        self._send({"seq": job.asked["seq"], "status": status, "error": _reason(error), "size": list(job.size)})

    def _send(self, header: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
        pieces = packed(header, parts)
        with self._writing:
            try:
                self._output.write(b"".join(pieces))
                self._output.flush()
            except OSError:
                os._exit(0)  # the service has ended


def _compared(prediction: Prediction, job: Job, started: float) -> dict[str, Any] | None:
    """Returns a shadow's verdict on an image; `None` if it cannot read the image."""
    if prediction.error is not None:
        return None
    return {
        "score": prediction.score,
        "p_value": prediction.p_value,
        "is_anomaly": prediction.is_anomaly,
        "threshold": prediction.threshold,
        "false_alarm_rate": prediction.false_alarm_rate,
        "boxes": [asdict(box) for box in prediction.boxes],
        "digest": prediction.digest,
        "latency": time.perf_counter() - started,
        "agrees": prediction.is_anomaly == job.is_anomaly,
    }


def _warm(model: Model) -> None:
    """Lets a model judge one image and then two, which compiles its graphs for both cases."""
    height, width = model.recipe.geometry.shape
    side = model.recipe.geometry.tile
    blank = _png(_grey(side or height, side or width))
    list(model.judge([blank]))
    list(model.judge([blank, blank]))


def _grey(height: int, width: int) -> Pixels:
    import numpy as np

    return np.full((height, width, 3), 127, np.uint8)


def _reason(error: Exception) -> str:
    """Returns one line for the client, without paths of this machine."""
    if isinstance(error, ImageError):
        return error.reason
    if is_out_of_memory(error):
        return "there is not enough memory for this image now; send it again later, or a smaller one"
    if isinstance(error, BlemishError):
        return str(error)
    return "cannot be judged; save it again from its source"


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _thumbnail(image: bytes) -> bytes:
    """Returns the image as a JPEG of `THUMBNAIL` pixels on its longer side."""
    height, width = check_size(image, sys.maxsize)
    scale = THUMBNAIL / max(height, width)
    sides = [max(32, min(THUMBNAIL, round(side * scale))) for side in (height, width)]
    buffer = io.BytesIO()
    Image.fromarray(read_image(image, Geometry(*sides))).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _whole(image: bytes) -> bytes:
    """Returns the image upright, as a PNG."""
    with whole_image(image) as found:
        buffer = io.BytesIO()
        found.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def main() -> None:
    """Runs a worker on the standard streams. Its arguments: pixels of an image at most, the engine, and the device."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service ends the worker once everything is answered
    warnings.simplefilter("ignore")  # Pillow warns about damaged files
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Worker(output, int(sys.argv[1]), RunsOn(*sys.argv[2:4])).run(os.fdopen(os.dup(0), "rb", buffering=1 << 20))
    os._exit(0)  # at once, without waiting for threads


if __name__ == "__main__":
    main()
