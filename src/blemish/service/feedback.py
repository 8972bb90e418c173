"""What people say about images: good ones wait until the model learns from them; anomalous ones are collected.

A model learns in a process of its own, which needs torch. The service itself needs no torch and continues meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from blemish.errors import BlemishError, StorageError, install
from blemish.log import Feedback as Said
from blemish.service.formats import format_of
from blemish.service.models import Models, Served
from blemish.service.refused import Refused
from blemish.storage import Scratch, read_card
from blemish.storage.cards import reason_of
from blemish.storage.place import Place

KINDS: tuple[Said, ...] = ("good", "anomalous")

MOST_WAITING = 10_000
"""Images that wait for one model, at most."""

LEARNING = 3600.0
"""Seconds that learning may take."""


class Feedback:
    """The images that wait, in `waiting/NAME/good` and `waiting/NAME/anomalous` of the state folder.

    Args:
        state: the service's folder.
        models: the models that learn.
    """

    def __init__(self, state: Path, models: Models) -> None:
        self._state, self._models = state, models
        self._counts: dict[str, dict[str, int]] = {}
        self._writing = Lock()
        self._learning: set[asyncio.subprocess.Process] = set()

    def waiting(self, name: str) -> dict[str, int]:
        """Returns how many images wait for a model, by their mark."""
        if name not in self._counts:
            self._counts[name] = {kind: len(self._names(name, kind)) for kind in KINDS}
        return dict(self._counts[name])

    def put(self, name: str, id: str, said: Said, image: bytes) -> None:
        """Keeps an image that a person marked; a later mark replaces an earlier one.

        Raises:
            Refused: too many wait, or the disk is full.
        """
        if self.waiting(name)[said] >= MOST_WAITING:
            raise Refused(
                409, f"{MOST_WAITING:,} images marked {said} wait already; update the model first", "feedback"
            )
        try:
            file = f"{id}.{format_of(image)}"
            with self._writing:  # two marks at the same time must not remove each other's image
                self._place(name, said).write(file, image)
                other = KINDS[said == "good"]
                with suppress(FileNotFoundError):
                    (self._folder(name, other) / file).unlink()
        except (StorageError, OSError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else "it cannot be written to the disk"
            raise Refused(503, f"the image cannot be kept ({reason}); make space, then send it again", "disk") from None
        finally:
            self._counts.pop(name, None)

    async def update(self, served: Served) -> None:
        """Lets a model learn from the good images that wait, and serves the result as a new version.

        Raises:
            Refused: no image waits, the model is learning already, torch is not installed, or it cannot learn.
        """
        if find_spec("torch") is None:
            raise Refused(409, f"learning needs torch, which is not installed here; {install('fit')}", "update")
        if served.busy.locked():
            raise Refused(409, f"{served.name} is being changed already; try again when that is done", "update")
        async with served.busy:
            if not self.waiting(served.name)["good"]:
                raise Refused(409, "no image is marked good; mark some first", "update")
            try:
                with Scratch(self._state) as scratch:
                    images = scratch.path / "good"
                    names = await asyncio.to_thread(self._taken, served.name, images)
                    learned = scratch.path / "learned"
                    await self._learn(served, images, learned)
                    if not _new_in(learned):
                        await asyncio.to_thread(self._done, served.name, served.version, names)
                        text = f"{served.name} has learned these good images already; mark others first"
                        raise Refused(409, text, "update")
                    version = await asyncio.to_thread(self._models.versions.adopt, served.name, str(learned))
                await self._models.take(served, version)
            except OSError as error:
                raise Refused(503, f"nothing was learned ({reason_of(error)}); make space first", "disk") from None
            except BlemishError as error:
                if isinstance(error, Refused):
                    raise
                raise Refused(409, f"nothing was learned: {self._models.public(served, error)}", "update") from None
            await asyncio.to_thread(self._done, served.name, version, names)

    def stop(self) -> None:
        """Ends the processes that learn; their images continue to wait."""
        for process in self._learning:
            with suppress(ProcessLookupError):
                process.kill()

    async def rollback(self, served: Served) -> None:
        """Serves the version before. Images that it has not learned wait again; those that it has learned do not.

        Raises:
            Refused: there is no version before, or it cannot be served.
        """
        async with served.busy:
            former = await self._models.rollback(served)
            await asyncio.to_thread(self._exchange, served.name, former, served.version)

    def _exchange(self, name: str, former: str, version: str) -> None:
        """Puts back the images that only the former version has learned, and removes those that this version has.

        The folder `learned` keeps both, so that the exchange can be reversed.
        """
        good, anomalous, learned = self._folder(name, "good"), self._folder(name, "anomalous"), self._learned(name)
        with self._writing:
            with suppress(OSError):
                for file in (learned / former).iterdir():
                    if not (anomalous / file.name).exists() and not (good / file.name).exists():
                        good.mkdir(parents=True, exist_ok=True)
                        _link(file, good / file.name)
            with suppress(OSError):
                for file in (learned / version).iterdir():
                    (good / file.name).unlink(missing_ok=True)
        self._counts.pop(name, None)

    async def _learn(self, served: Served, images: Path, goal: Path) -> None:
        """Runs `blemish update` on the images. Raises `Refused` with the reason if it fails."""
        words = ["update", str(self._models.versions.path(served.name, served.version)), str(images)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "blemish", *words, "-o", str(goal), "--skip-bad", "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "NO_COLOR": "1", "COLUMNS": "1000"},
            start_new_session=True,
        )
        self._learning.add(process)
        try:
            _, told = await asyncio.wait_for(process.communicate(), LEARNING)
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        finally:
            self._learning.discard(process)
        if not (goal / "model.json").is_file():
            lines = told.decode("utf-8", "replace").strip().splitlines()
            text = lines[-1].removeprefix("error: ") if lines else "it ended without a reason"
            text = text.replace(str(images), "the images that wait")
            raise Refused(409, f"nothing was learned: {self._models.public(served, StorageError(text))}", "update")

    def _taken(self, name: str, images: Path) -> list[str]:
        """Links or copies the waiting images to a folder and returns their names; later marks are not affected."""
        images.mkdir()
        names = self._names(name, "good")
        for file in names:
            source = self._folder(name, "good") / file
            _link(source, images / file)
        return names

    def _done(self, name: str, version: str, names: list[str]) -> None:
        """Moves learned images to `learned`, until another version learns; a rollback lets them wait again."""
        aside = self._learned(name)
        with suppress(OSError):
            for other in aside.iterdir() if aside.is_dir() else ():
                if other.name != version:
                    shutil.rmtree(other, ignore_errors=True)
            (aside / version).mkdir(parents=True, exist_ok=True)
            for file in names:
                with suppress(FileNotFoundError):
                    (self._folder(name, "good") / file).replace(aside / version / file)
        self._counts.pop(name, None)

    def _learned(self, name: str) -> Path:
        return self._state / "waiting" / name / "learned"

    def _folder(self, name: str, kind: Said) -> Path:
        return self._state / "waiting" / name / kind

    def _names(self, name: str, kind: Said) -> list[str]:
        try:
            return [file for file in self._place(name, kind).names() if not file.startswith(".")]
        except StorageError:  # the disk cannot be read, so no image can be learned
            return []

    def _place(self, name: str, kind: Said) -> Place:
        return Place(str(self._folder(name, kind)))


def _new_in(learned: Path) -> bool:
    """Returns whether a model's last change brought images that it had not learned before."""
    return bool(read_card(learned, "model")["provenance"]["changes"][-1]["images"])


def _link(source: Path, target: Path) -> None:
    """Makes a hard link to a file, or a copy if the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
