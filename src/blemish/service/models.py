"""The models that are served: a new version is loaded beside the old one, then swapped, so that no request is lost.

Each model's folder is checked every second. Its new content is copied, loaded and warmed up while the old version
continues. If that fails, the old version stays, and the reason is printed.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError, ModelError, SettingError, StorageError
from blemish.service.refused import Refused
from blemish.service.saying import say
from blemish.service.scorer import Scorer
from blemish.service.versions import Active, Versions, version_of
from blemish.storage.remote import is_remote

LOOK = 1.0
"""Seconds between two checks of the models' folders."""

GRACE = 0.5
"""Seconds after a swap during which a request for the old version may still arrive."""

DRIFT_IMAGES = 2000
"""How many of the latest images of a version give the evidence of drift."""

Stamp = tuple[tuple[str, int, int, int], ...] | None


@dataclass(eq=False)
class Served:
    """One model that is served, or a shadow: a model that judges the same images but does not decide.

    Attributes:
        name: as in addresses.
        source: the folder that was given, or its address.
        version: the version that decides.
        previous: the version that decided before, for a rollback.
        seen: the version that the folder held at the last check.
        details: what is published about the version.
        loaded: time of loading, in seconds since 1970.
        problem: why a newer version is not served, or another problem; `None` if there is none.
        shadow: the model's shadow.
        p_values: of the latest new images.
        stamp: state of the folder's files at the last check.
        busy: held while the model is changed.
    """

    name: str
    source: str
    version: str = ""
    previous: str | None = None
    seen: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    loaded: float = 0.0
    problem: str | None = None
    shadow: Served | None = None
    p_values: deque[float] = field(default_factory=lambda: deque(maxlen=DRIFT_IMAGES))
    stamp: Stamp = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> str:
        """The worker's name for this version."""
        return f"{self.name}@{self.version}"


class Models:
    """All models, by name.

    Args:
        scorer: loads the models.
        versions: holds their copies.
        given: sources by name.
        shadows: name and source of a shadow, for some of these names.
    """

    def __init__(
        self, scorer: Scorer, versions: Versions, given: Mapping[str, str], shadows: Mapping[str, tuple[str, str]]
    ) -> None:
        self._scorer, self.versions = scorer, versions
        self._tasks: set[asyncio.Task[None]] = set()
        self.served = {name: Served(name, source) for name, source in given.items()}
        for name, (shadow, source) in shadows.items():
            if name not in self.served:
                raise SettingError(
                    f"--shadow {name}=…: no served model is called {name!r}; give one of {', '.join(given)}"
                )
            if shadow in self.served or any(shadow == other.name for other in self._shadows()):
                raise SettingError(
                    f"the shadow {shadow!r} has the name of another model; give --shadow {name}=NAME=PATH"
                )
            self.served[name].shadow = Served(shadow, source)

    def get(self, name: str) -> Served:
        """Returns a model that decides. Raises `Refused` if none has this name."""
        found = self.served.get(name)
        if found is None:
            raise Refused(404, f"no model is called {name[:64]!r}; GET /v1/models names them", "no model")
        return found

    async def start(self) -> None:
        """Loads all models. Raises `ModelError` if one cannot be loaded from its folder or from a copy."""
        for served in self.all():
            await self._first(served)

    async def reload(self, served: Served) -> None:
        """Serves what the model's folder holds now. Raises `Refused` if that fails; the old version then stays."""
        async with served.busy:
            try:
                await self._take_over(served)
            except Refused:
                raise
            except BlemishError as error:
                raise Refused(
                    409, f"{served.problem or error}; version {served.version} stays in use", "reload"
                ) from None

    async def rollback(self, served: Served) -> str:
        """Serves the previous version and returns the one that was served until now. Call it within `served.busy`.

        Raises:
            Refused: there is no previous version, or it cannot be served.
        """
        previous, former = served.previous, served.version
        if previous is None or not self.versions.holds(served.name, previous):
            raise Refused(409, f"no version of {served.name} was served before; nothing is rolled back", "rollback")
        try:
            await self._swap(served, previous, "rolled back")
        except Refused:
            raise
        except BlemishError as error:
            raise Refused(409, f"version {previous}: {self.public(served, error)}", "rollback") from None
        return former

    async def take(self, served: Served, version: str) -> None:
        """Serves a version that has learned and whose copy is there. Call it within `served.busy`."""
        await self._swap(served, version, "it has learned")

    async def watch(self) -> None:
        """Checks all folders repeatedly, without end, and serves new versions."""
        while True:
            await asyncio.sleep(LOOK)
            for served in self.all():
                if served.busy.locked():
                    continue
                if served.key in self._scorer.lost:
                    await self._load_again(served)
                if is_remote(served.source):
                    continue
                stamp = await asyncio.to_thread(stamp_of, served.source)
                if stamp == served.stamp:
                    continue
                async with served.busy:
                    try:
                        await self._take_over(served, only_new=True)
                    except Refused:  # the worker ended meanwhile; the next check tries again
                        continue
                    except BlemishError as error:
                        served.problem = self.public(served, error)
                    except Exception as error:  # the other folders must still be checked
                        say(f"{served.name}: {type(error).__name__}: {error}")
                        served.problem = "the content of the folder cannot be read; copy the model again"
                    served.stamp = stamp

    async def _load_again(self, served: Served) -> None:
        """Loads the served version again, after a new worker could not load it; its copy is renewed if possible."""
        async with served.busy:
            try:
                path = await asyncio.to_thread(self._whole_copy, served)
                served.details = await self._scorer.load(served.key, path)
                served.problem = None
            except Refused:
                return
            except BlemishError as error:
                served.problem = f"version {served.version} cannot be loaded again: {self.public(served, error)}"

    def _whole_copy(self, served: Served) -> str:
        """Returns a path from which the served version can be loaded."""
        if not is_remote(served.source):
            with suppress(BlemishError):
                if version_of(served.source) == served.version:
                    self.versions.adopt(served.name, served.source)
        holds = self.versions.holds(served.name, served.version)
        return str(self.versions.path(served.name, served.version)) if holds else served.source

    def all(self) -> Iterator[Served]:
        """Yields all models, including shadows."""
        yield from self.served.values()
        yield from self._shadows()

    def _shadows(self) -> Iterator[Served]:
        for served in self.served.values():
            if served.shadow is not None:
                yield served.shadow

    async def _first(self, served: Served) -> None:
        """Serves the version that was served last, unless the folder was replaced since."""
        noted = self.versions.active(served.name)
        served.stamp = await asyncio.to_thread(stamp_of, served.source)
        trouble: BlemishError
        try:
            served.seen = await asyncio.to_thread(self.versions.adopt, served.name, served.source)
        except StorageError as error:  # no room for a copy, so it is served from its own folder
            served.problem = f"no copy is kept, so there is no rollback: {self.public(served, error)}"
            served.seen = await asyncio.to_thread(version_of, served.source)
            await self._serve(served, served.seen, served.source)
            return
        except ModelError as error:
            if noted is None:
                raise
            served.problem = self.public(served, error)
            served.seen, trouble = noted.seen, error
        else:
            trouble = ModelError("")
        wanted = [served.seen] if served.problem is None else []
        if noted is not None and (noted.seen == served.seen or served.problem is not None):
            wanted.insert(0, noted.version)
            served.previous = noted.previous
        elif noted is not None and noted.version != served.seen:
            served.previous = noted.version
        for version in wanted:
            try:
                await self._serve(served, version, str(self.versions.path(served.name, version)))
            except ModelError as error:
                trouble = error
            else:
                self._note(served)
                return
        raise trouble

    async def _take_over(self, served: Served, *, only_new: bool = False) -> None:
        """Serves what the folder holds; with `only_new`, a version that was seen before is not served again."""
        try:
            version = await asyncio.to_thread(version_of, served.source) if not is_remote(served.source) else ""
            if version and version == (served.seen if only_new else served.version):
                served.seen, served.problem = version, None
                return
            version = await asyncio.to_thread(self.versions.adopt, served.name, served.source)
            if version != served.version:
                await self._swap(served, version, "its folder holds another model")
        except BlemishError as error:
            served.problem = self.public(served, error)
            raise
        served.seen = version
        self._note(served)

    async def _swap(self, served: Served, version: str, why: str) -> None:
        """Loads a version beside the served one, replaces that, and prints why."""
        old, former = served.key, served.version
        await self._serve(served, version, str(self.versions.path(served.name, version)))
        say(f"{served.name}: {why}; version {version} replaces {former}")
        served.previous, served.problem = former, None
        served.p_values.clear()
        self._note(served)
        if served.key != old:
            task = asyncio.create_task(self._drop(served, old))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drop(self, served: Served, key: str) -> None:
        """Lets the worker unload a version once nothing waits for it, unless it is served again by then."""
        await asyncio.sleep(GRACE)
        while self._scorer.waits_for(key):
            await asyncio.sleep(GRACE)
        async with served.busy:
            if served.key != key:
                self._scorer.unload(key)

    async def _serve(self, served: Served, version: str, path: str) -> None:
        details = await self._scorer.load(f"{served.name}@{version}", path)
        served.details, served.version, served.loaded = details, version, time.time()

    def _note(self, served: Served) -> None:
        """Writes to the disk which version is served, and removes older copies."""
        try:
            self.versions.remember(served.name, Active(served.version, served.previous, served.seen))
        except StorageError as error:
            served.problem = str(error)
            return
        self.versions.prune(served.name, {served.version, served.seen, served.previous or served.version})

    def public(self, served: Served, error: Exception) -> str:
        """Returns the reason of an error in one line, without paths of this machine."""
        text = " ".join(str(error).split())
        state = self.versions.folder.parent
        copy = self.versions.path(served.name, served.version)
        for path in (copy, self.versions.folder, served.source, state.absolute(), state):
            if str(path) != ".":
                text = text.replace(str(path), served.name)
        return re.sub(r"(?<![\w.])/[^\s:;,'\"()]*/", "", text)


def stamp_of(source: str) -> Stamp:
    """Returns names, sizes, times and inodes of the files in a folder; `None` if there is no folder."""
    found = []
    try:
        with os.scandir(Path(source)) as entries:
            for entry in entries:
                status = entry.stat()
                found.append((entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
    except OSError:
        return None
    return tuple(sorted(found))
