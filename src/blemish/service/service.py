"""A running service: its worker, its models, its log, and the way of one image through them."""

from __future__ import annotations

import asyncio
import math
import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from blemish.engines.devices import RunsOn
from blemish.errors import LogError, MissingExtraError, SettingError, StorageError
from blemish.log import Log, Verdict, new_id, open_log
from blemish.log.database import ForeignError
from blemish.log.images import Images, Kind
from blemish.maps import Box
from blemish.service.access import Access
from blemish.service.bodies import Budget
from blemish.service.feedback import Feedback
from blemish.service.keeping import Keeping
from blemish.service.metrics import Metrics
from blemish.service.models import Models, Served
from blemish.service.recent import Picture, Recent
from blemish.service.refused import Refused
from blemish.service.saying import say
from blemish.service.scorer import Scorer
from blemish.service.settings import Settings
from blemish.service.versions import Versions
from blemish.storage.cards import reason_of

READ_AT_ONCE, MOST_READERS = 4, 32
"""Requests that may read the log at one time, and requests that may wait for it."""

TELL = 1.0
"""Seconds between two checks for new problems."""

T = TypeVar("T")


class Service:
    """What all requests share.

    Args:
        settings: of the service.
        given: sources of models by name.
        shadows: name and source of a shadow, for some of these names.
    """

    def __init__(
        self, settings: Settings, given: Mapping[str, str], shadows: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        self.settings = settings
        self.scorer = Scorer(
            settings.most_pixels, RunsOn(settings.engine, settings.device), settings.queue, settings.timeout
        )
        self.models = Models(self.scorer, Versions(settings.state / "versions"), given, shadows or {})
        self.access = Access(settings)
        self.budget = Budget()
        self.metrics = Metrics()
        self.recent = Recent()
        self.log: Log
        self.keeping: Keeping
        self.feedback: Feedback
        self.images: Images | None = None
        self._lock: int | None = None
        self._reading, self._readers = asyncio.Semaphore(READ_AT_ONCE), 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the log, starts the worker and loads all models.

        Raises:
            BlemishError: the state folder cannot be made, a model cannot be loaded, or the log cannot be opened.
        """
        state = self.settings.state
        try:
            state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{state}: cannot be made ({reason_of(error)}); give another --state") from None
        self._lock = _held(state)
        url = self.settings.log or f"sqlite:///{(state / 'verdicts.sqlite').absolute()}"
        try:
            self.log = await asyncio.to_thread(open_log, url, state / "spool")
        except BaseException:
            self._let_go()
            raise
        self.keeping = Keeping()
        self.images = self._images(state / "images")
        self.feedback = Feedback(state, self.models)
        try:
            await self.scorer.start()
            await self.models.start()
        except BaseException:
            await self.stop()
            raise
        self.metrics.watch(self)
        self._tasks += [asyncio.create_task(self.models.watch()), asyncio.create_task(self._tell())]

    async def stop(self) -> None:
        """Ends the worker, writes the rows that wait for the log, and closes the log."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.feedback.stop()
        await self.scorer.stop()
        await asyncio.to_thread(self.keeping.close)
        await asyncio.to_thread(self.log.close)
        self._let_go()

    async def _tell(self) -> None:
        """Prints new problems of the models and the log, and when they are solved, without end."""
        said: dict[str, str | None] = {}
        while True:
            now = {served.name: served.problem for served in self.models.all()} | {"the log": self.log.counts.problem}
            for name, problem in now.items():
                if problem != said.get(name):
                    say(f"{name}: {problem or 'the problem is solved'}")
            said = now
            await asyncio.sleep(TELL)

    def _let_go(self) -> None:
        """Lets another service use the state folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def reading(self, work: Callable[..., T], *given: Any, **named: Any) -> T:
        """Returns the result of a function that reads the log, run in a thread; few run at one time.

        Raises:
            Refused: the log's database does not answer, too many wait, or a package is missing.
        """
        if self._reading.locked() and self._readers > MOST_READERS:
            raise Refused(503, "too many requests for the log; try again later", "busy", {"Retry-After": "1"})
        self._readers += 1
        try:
            async with self._reading:
                return await asyncio.to_thread(work, *given, **named)
        except MissingExtraError as error:
            raise Refused(503, str(error), "log") from None
        except OSError as error:
            raise Refused(503, f"the log cannot be exported ({reason_of(error)}); make space first", "disk") from None
        except (LogError, ForeignError):
            raise Refused(
                503, "the log's database does not answer; new verdicts are kept until it does", "log"
            ) from None
        finally:
            self._readers -= 1

    async def kept(self, id: str, kind: Kind) -> bytes | None:
        """Returns a picture that is kept on the disk, or `None`. Raises `Refused` if the disk cannot be read."""
        try:
            return None if self.images is None else await asyncio.to_thread(self.images.read, id, kind)
        except StorageError as error:
            raise Refused(503, f"{error}; try again later", "disk") from None

    async def judge(
        self,
        served: Served,
        version: str,
        name: str | None,
        image: bytes,
        *,
        map: str = "none",
        rate: float | None = None,
        wait_for_shadow: bool = False,
    ) -> dict[str, Any]:
        """Returns the model's verdict on an image as JSON values; logs it, counts it and keeps the image.

        Raises:
            Unreadable: there is no verdict because of the image itself.
            Refused: there is no verdict for another reason.
        """
        came, id, key, shadow = time.monotonic(), new_id(), f"{served.name}@{version}", served.shadow
        row = partial(_verdict, served.name, version, id, name)
        second = None if shadow is None else (shadow.name, shadow.version)
        frame = await self.scorer.judge(
            image,
            key,
            map=map,
            rate=rate,
            keep=self.settings.keep,
            shadow=None if shadow is None else shadow.key,
            wait=wait_for_shadow,
            on_shadow=None if second is None else partial(self._shadowed, second, served.name, id, name),
        )
        told, seconds = frame.header, time.monotonic() - came
        if told["status"] != 200:
            if told["status"] == 503:
                raise Refused(503, told["error"], "worker", {"Retry-After": "1"})
            self.metrics.failed(served.name)
            self.log.put(row({**UNREAD, "error": told["error"]}, seconds))
            raise Unreadable(id, told["status"], f"the image {told['error']}")
        self.log.put(row(told, seconds))
        self.metrics.judged(served.name, told, seconds)
        if served.version == version and not told["is_known"]:
            served.p_values.append(told["p_value"])
        self.recent.put(id, Picture(served.name, key, image))
        if told["kept"] and self.images is not None:
            self.keeping.put(partial(self.images.put, id, "image", image))
            self.keeping.put(partial(self.images.put, id, "overlay", frame.parts[1]))
        if second is not None and told.get("shadow") is not None:
            self._shadowed(second, served.name, id, name, told["shadow"])
        return _result(id, name, told, seconds, frame.parts[0] if map != "none" else None, second)

    def _shadowed(
        self, second: tuple[str, str], decides: str, id: str, name: str | None, said: dict[str, Any] | None
    ) -> None:
        """Logs a shadow's verdict on an image that another model decided."""
        if said is None:
            return
        self.log.put(_verdict(*second, id, name, said, said["latency"], shadow=True))
        self.metrics.shadowed(decides, said["agrees"])

    def _images(self, folder: Path) -> Images | None:
        """Returns the folder of kept images; `None` if no images are kept, or the folder cannot be used."""
        settings = self.settings
        if settings.keep == "none":
            return None
        try:
            return Images(folder, settings.keep_bytes, settings.keep_days)
        except OSError as error:
            say(f"images are not kept ({reason_of(error)})")
            return None


def _held(folder: Path) -> int | None:
    """Returns a descriptor that holds the lock of the state folder; `None` if the system has no locks.

    Raises:
        SettingError: another service holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingError(f"{folder}: another service uses this state; give each its own --state") from None
    except OSError:  # a network drive without locks
        pass
    return descriptor


class Unreadable(Refused):
    """An image that cannot be judged; its row in the log has the id."""

    def __init__(self, id: str, status: int, text: str) -> None:
        super().__init__(status, text, {413: "pixels", 415: "format"}.get(status, "damaged"))
        self.id = id


UNREAD = {
    "digest": "",
    "score": math.nan,
    "p_value": math.nan,
    "is_anomaly": None,
    "threshold": math.nan,
    "false_alarm_rate": math.nan,
    "boxes": [],
}
"""What is logged for an image that cannot be read."""


def _verdict(
    model: str,
    version: str,
    request: str,
    name: str | None,
    told: Mapping[str, Any],
    seconds: float,
    *,
    shadow: bool = False,
) -> Verdict:
    """Returns a row of the log."""
    return Verdict(
        id=new_id() if shadow else request,
        time=time.time(),
        model=model,
        version=version,
        role="shadow" if shadow else "decides",
        request=request,
        name=name,
        digest=told["digest"],
        score=told["score"],
        p_value=told["p_value"],
        is_anomaly=told["is_anomaly"],
        threshold=told["threshold"],
        false_alarm_rate=told["false_alarm_rate"],
        boxes=tuple(Box(**box) for box in told["boxes"]),
        latency=seconds,
        error=told.get("error"),
    )


def _result(
    id: str,
    name: str | None,
    told: Mapping[str, Any],
    seconds: float,
    picture: bytes | None,
    second: tuple[str, str] | None,
) -> dict[str, Any]:
    """Returns the answer for one image."""
    said = told.get("shadow")
    compared = None
    if second is not None and said is not None:
        compared = {"model": second[0], "version": second[1]}
        compared |= {key: said[key] for key in ("score", "p_value", "is_anomaly")}
    return {
        "id": id,
        "name": name,
        **{key: told[key] for key in FROM_WORKER},
        "map": None if picture is None else b64encode(picture).decode(),
        "shadow": compared,
        "latency": seconds,
        "error": None,
    }


FROM_WORKER = (
    "height",
    "width",
    "score",
    "p_value",
    "is_anomaly",
    "threshold",
    "false_alarm_rate",
    "boxes",
    "is_known",
)
"""What the answer takes from the worker's."""
