"""The service's side of the worker: starts it, sends it images within limits, and starts another if it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from blemish.engines.devices import RunsOn
from blemish.errors import ModelError, number_of
from blemish.service.frames import Frame, packed, receive_frame
from blemish.service.refused import Refused
from blemish.service.saying import say
from blemish.storage.cards import reason_of

SENT = 64
"""Images that the worker has at one time, at most; the others wait here, so they are not lost if it ends."""

SENT_BYTES = 128 << 20
"""Bytes of these images, at most; a larger image is sent when the worker has no other."""

LOADING = 300.0
"""Seconds that loading a model may take, at most."""

PAUSES = (0.0, 0.2, 1.0, 2.0, 5.0)
"""Seconds before the worker is started again, by how many times in a row it ended without an answer."""

ALLOCATION = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
"""Settings of glibc's memory for the worker: freed memory goes back to the system, and threads keep little of it."""

ENDED = "the worker ended before it answered, and another one is starting; send it again"

OnShadow = Callable[[dict[str, Any] | None], None]
"""Called with the shadow's verdict, or with `None` if it was dropped or failed."""


@dataclass(eq=False)
class Job:
    """A request to the worker, and the future that waits for its answer."""

    seq: int
    key: str
    pieces: list[bytes]
    size: int
    answer: asyncio.Future[Frame]
    timer: asyncio.TimerHandle | None = None
    is_waiting: bool = False


class Scorer:
    """The worker, as the service sees it.

    Args:
        most_pixels: of an image, at most.
        runs_on: the engine and the device, as in `Model.load`.
        queue: images that may wait.
        timeout: seconds that one may wait for its verdict.

    Attributes:
        restarts: how often the worker was started again.
        is_ready: whether the worker runs and has loaded all models that can be loaded.
        lost: keys of models that were loaded before, but that a new worker cannot load.
        dropped_shadows: images whose shadow did not judge them.
        process: the worker's process; `None` while there is none.
    """

    def __init__(self, most_pixels: int, runs_on: RunsOn, queue: int, timeout: float) -> None:
        self._words = [sys.executable, "-m", "blemish.service.worker", str(most_pixels), *runs_on]
        self._queue, self._timeout = queue, timeout
        self._waiting: deque[Job] = deque()
        self._sent: dict[int, Job] = {}
        self._asked: dict[int, Job] = {}
        self._shadows: dict[int, OnShadow] = {}
        self._loaded: dict[str, str] = {}
        self.lost: set[str] = set()
        self._bytes = self._numbers = self._fruitless = 0
        self._heard = 0.0
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = self.dropped_shadows = 0
        self.is_ready = False

    @property
    def waiting(self) -> int:
        """How many images wait here."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many images the worker has."""
        return len(self._sent)

    async def start(self) -> None:
        """Starts the worker."""
        await self._spawn()
        self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """Ends the worker; requests that still wait are refused."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        process = self.process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 2)
            except asyncio.TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._refuse_all("the service is stopping; send it again after a restart")

    async def load(self, key: str, path: str) -> dict[str, Any]:
        """Lets the worker load a model beside the others and warm it up. Returns its details.

        Raises:
            ModelError: it cannot be loaded; the message may contain a path.
            Refused: there is no worker.
        """
        frame = await self._ask({"do": "load", "key": key, "path": path}, LOADING)
        if (error := frame.header.get("error")) is not None:
            raise ModelError(error)
        self._loaded[key] = path
        self.lost.discard(key)
        details: dict[str, Any] = frame.header["details"]
        return details

    def waits_for(self, key: str) -> bool:
        """Returns whether an image waits here for a model."""
        return any(job.key == key for job in self._waiting)

    def unload(self, key: str) -> None:
        """Lets the worker unload a model; images that it already has for this model are still judged."""
        self.lost.discard(key)
        if self._loaded.pop(key, None) is not None:
            self._write(packed({"do": "unload", "key": key}))

    async def judge(
        self,
        image: bytes,
        key: str,
        *,
        map: str = "none",
        rate: float | None = None,
        keep: str = "none",
        shadow: str | None = None,
        wait: bool = False,
        on_shadow: OnShadow | None = None,
    ) -> Frame:
        """Returns the model's verdict on an image; `status` is 200, or that of the error if there is none.

        Args:
            image: bytes of a file.
            key: of the model.
            map: the picture in the frame's first part: `none`, `png` or `overlay`.
            rate: a false-alarm rate other than the model's.
            keep: the verdicts for which the frame's second part is an overlay: `none`, `anomalous` or `all`.
            shadow: key of a second model.
            wait: whether to wait for the shadow's verdict, which is then in the answer.
            on_shadow: called later with the shadow's verdict, if `wait` is false.

        Raises:
            Refused: too many images wait, it took too long, or the worker ended.
        """
        header = {"do": "judge", "key": key, "map": map, "rate": rate, "keep": keep, "shadow": shadow, "wait": wait}
        return await self._put(header, image, None if wait else on_shadow)

    async def draw(self, image: bytes, key: str, what: str) -> bytes:
        """Returns a picture of an image: `thumbnail`, `image` or `overlay`.

        Raises:
            Refused: as `judge`, or the image cannot be drawn.
        """
        frame = await self._put({"do": "draw", "key": key, "what": what}, image, None)
        if frame.header["status"] != 200:
            raise Refused(404, f"there is no picture: {frame.header['error']}", "no picture")
        return frame.parts[0]

    async def ping(self, timeout: float = 1.0) -> bool:
        """Returns whether the worker answers and has all models."""
        if not self.is_ready or self.lost:
            return False
        try:
            await self._ask({"do": "ping"}, timeout)
        except Refused:
            return False
        return True

    def check_room(self, count: int) -> None:
        """Raises `Refused` if there is no room for so many more images."""
        if self._closing:
            raise Refused(503, "the service is stopping; send it again after a restart", "closing")
        if len(self._waiting) + len(self._sent) + count > self._queue:
            raise Refused(
                429,
                f"{number_of(len(self._waiting) + len(self._sent), 'image waits', 'images wait')} for a verdict, and "
                f"there is no room for {count} more, since at most {self._queue} may wait; send it again later, or "
                "fewer at once",
                "queue full",
                {"Retry-After": "1"},
            )

    async def _put(self, header: dict[str, Any], image: bytes, on_shadow: OnShadow | None) -> Frame:
        self.check_room(1)
        job = self._job(header, [image], self._timeout, "no verdict within {:g} s; send it again, or fewer at once")
        if on_shadow is not None and header["shadow"] is not None:
            self._shadows[job.seq] = on_shadow
        job.is_waiting = True
        self._waiting.append(job)
        self._pump()
        try:
            return await job.answer
        finally:
            self._forget(job)

    async def _ask(self, header: dict[str, Any], timeout: float) -> Frame:
        """Asks the worker at once, without waiting behind images."""
        if self.process is None:
            raise Refused(503, "the worker is starting; try again later", "worker")
        job = self._job(header, [], timeout, "the worker did not answer within {:g} s")
        self._asked[job.seq] = job
        self._write(job.pieces)
        try:
            return await job.answer
        finally:
            self._forget(job)

    def _job(self, header: dict[str, Any], images: Sequence[bytes], timeout: float, late: str) -> Job:
        loop = asyncio.get_running_loop()
        self._numbers += 1
        pieces = packed({**header, "seq": self._numbers}, images)
        job = Job(self._numbers, header.get("key", ""), pieces, sum(map(len, images)), loop.create_future())
        job.timer = loop.call_later(timeout, _fail, job, late.format(timeout), "too late")
        return job

    def _forget(self, job: Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        self._asked.pop(job.seq, None)
        if job.is_waiting:  # no longer needed; an image that the worker has counts until it is answered
            self._waiting.remove(job)
            self._shadows.pop(job.seq, None)

    def _pump(self) -> None:
        """Sends waiting images, as long as the worker may have more."""
        while self.is_ready and self._waiting and len(self._sent) < SENT:
            job = self._waiting[0]
            if self._sent and self._bytes + job.size > SENT_BYTES:
                return
            self._waiting.popleft()
            job.is_waiting = False
            if job.answer.done():
                continue
            if not self._sent:
                self._heard = asyncio.get_running_loop().time()
            self._sent[job.seq] = job
            self._bytes += job.size
            self._write(job.pieces)
            job.pieces = []

    def _write(self, pieces: list[bytes]) -> None:
        process = self.process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.writelines(pieces)

    async def _spawn(self) -> None:
        environment = {**ALLOCATION, **os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait sleep
        self.process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 20,
            start_new_session=True,  # Ctrl-C in a terminal must reach only the service, which lets the worker finish
        )
        self._tasks.append(asyncio.create_task(self._listen(self.process)))
        loaded = dict(self._loaded)
        self._heard = asyncio.get_running_loop().time()
        if not loaded:
            self.is_ready = True
            return
        self._tasks.append(asyncio.create_task(self._reload(self.process, loaded)))

    async def _reload(self, process: asyncio.subprocess.Process, loaded: Mapping[str, str]) -> None:
        """Lets a new worker load the models that the former one had."""
        for key, path in loaded.items():
            try:
                await self.load(key, path)
            except (ModelError, Refused) as error:
                if self.process is not process:
                    return
                say(f"{key}: {error}")
                self.lost.add(key)
        if self.process is process:
            self.is_ready = True
            self._pump()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        output = cast(asyncio.StreamReader, process.stdout)  # it is a pipe
        try:
            while (frame := await receive_frame(output)) is not None:
                self._heard = asyncio.get_running_loop().time()
                self._hear(frame)
        finally:
            if not self._closing:
                await self._restart(process)

    def _hear(self, frame: Frame) -> None:
        seq = frame.header["seq"]
        if "shadow" in frame.header and "status" not in frame.header:
            said = frame.header["shadow"]
            self.dropped_shadows += said is None
            if (on_shadow := self._shadows.pop(seq, None)) is not None:
                on_shadow(said)
            return
        job = self._sent.pop(seq, None)
        if job is not None:
            self._bytes -= job.size
            self._fruitless = 0
            if frame.header.get("status") != 200 or "shadow" in frame.header:
                self._shadows.pop(seq, None)
        else:
            job = self._asked.pop(seq, None)
        if job is not None and not job.answer.done():
            job.answer.set_result(frame)
        self._pump()

    async def _restart(self, process: asyncio.subprocess.Process) -> None:
        """Refuses the requests that the worker had, and starts another one."""
        self.is_ready, self.process = False, None
        with suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        say(f"the worker ended with status {status}; another one is starting")
        for jobs in (self._sent, self._asked):
            for job in jobs.values():
                _fail(job, ENDED, "worker")
            jobs.clear()
        self.dropped_shadows += len(self._shadows)
        self._shadows.clear()
        self._bytes = 0
        self.restarts += 1
        self._tasks = [task for task in self._tasks if not task.done()]
        self.lost.clear()
        while not self._closing:
            await asyncio.sleep(PAUSES[min(self._fruitless, len(PAUSES) - 1)])
            self._fruitless += 1
            try:
                await self._spawn()
                return
            except OSError as error:  # no memory for a process, or too many files are open
                say(f"the worker cannot be started ({reason_of(error)}); trying again")

    async def _watch(self) -> None:
        """Ends a worker that has images but sends nothing for twice the time that one image may take."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._timeout / 2))
            if self._sent and self.process is not None and loop.time() - self._heard > 2 * self._timeout:
                say("the worker does not answer and is ended")
                with suppress(ProcessLookupError):
                    self.process.kill()

    def _refuse_all(self, text: str) -> None:
        for job in [*self._waiting, *self._sent.values(), *self._asked.values()]:
            job.is_waiting = False
            _fail(job, text, "closing")
        self._waiting.clear()
        self._sent.clear()


def _fail(job: Job, text: str, reason: str) -> None:
    if not job.answer.done():
        job.answer.set_exception(Refused(503, text, reason, {"Retry-After": "1"}))
