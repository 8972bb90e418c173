"""Results of protocols: a line of JSON each, appended as soon as it is measured, so that a run can go on later."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import SettingError, StorageError
from blemish.storage.cards import reason_of

LONGEST_LINE = 16 << 20
"""Bytes of a line, at most."""


@dataclass(frozen=True)
class Result:
    """What was measured of one entry, on one category, with one seed.

    Attributes:
        protocol, entry, category, seed: what it is of.
        figures: by name, such as `pixel.auroc`; shares between 0 and 1, an undefined one is `None`.
        images: a row for each test image: its name, label and score, and the figures of its own pixels.
        against: differences from the protocol's reference on the same images, with their intervals at 95 %.
        absent: why nothing could be measured; `None` if it was.
        fit: settings, backbone, weights, size, images: what decides the figures.
        data: the source, the numbers of images, and a digest of their names and sizes.
        seconds: of the fit and of the evaluation.
        peak_bytes: of memory, of the process, while it was measured.
        model: the path of the model, if it was kept.
        versions: of packages, and the processor.
        time: when, ISO 8601, UTC.
    """

    protocol: str
    entry: str
    category: str
    seed: int
    figures: dict[str, Any] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    against: list[dict[str, Any]] = field(default_factory=list)
    absent: str | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    model: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    time: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Protocol, entry, category and seed."""
        return self.protocol, self.entry, self.category, self.seed


def read_results(path: str | Path, protocol: str | None = None) -> list[Result]:
    """Returns the results in a file, of one protocol if it is named; of several of the same key the last one.

    A last line that is not whole is left out.

    Raises:
        StorageError: the file cannot be read, or a line is no result.
    """
    found: dict[tuple[str, str, str, int], Result] = {}
    for result in _lines(Path(path)):
        if protocol is None or result.protocol == protocol:
            found.pop(result.key, None)
            found[result.key] = result
    return list(found.values())


def append_result(path: str | Path, result: Result) -> None:
    """Writes a line and flushes it to the disk; a last line that is not whole is cut off first.

    Raises:
        StorageError: the file cannot be written.
    """
    line = json.dumps(asdict(result), allow_nan=False).encode() + b"\n"
    try:
        with open(path, "ab+") as file:
            end = file.tell()
            whole = _whole(file, end)
            if whole < end:
                file.truncate(whole)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({reason_of(error)}); give another file with --output") from None


def check_writable(path: str | Path) -> None:
    """Raises `StorageError` if results cannot be appended to a file, or it holds something else; makes it if absent."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({reason_of(error)}); give another file with --output") from None
    for _ in _lines(Path(path)):
        pass


def select(results: Sequence[Result], entry: str, category: str) -> list[Result]:
    """Returns the measured results of an entry on a category, by seed."""
    chosen = [found for found in results if (found.entry, found.category) == (entry, category) and not found.absent]
    return sorted(chosen, key=lambda result: result.seed)


def _lines(path: Path) -> Iterable[Result]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    if len(line) == LONGEST_LINE:
                        raise StorageError(
                            f"{path}: line {number} is longer than {LONGEST_LINE} bytes; is it a result?"
                        )
                    return
                yield _parsed(line, f"{path}: line {number}")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({reason_of(error)}); check the path") from None


def _parsed(line: bytes, place: str) -> Result:
    try:
        content = json.loads(line)
        result = Result(**content)
    except (ValueError, TypeError, RecursionError):
        raise StorageError(f"{place} is not a result of `blemish bench run`; give a file that it wrote") from None
    kinds: dict[str, type | tuple[type, ...]] = {
        "protocol": str, "entry": str, "category": str, "seed": int, "figures": dict, "images": list, "against": list,
        "absent": (str, type(None)), "fit": dict, "data": dict, "seconds": dict, "peak_bytes": (int, type(None)),
        "model": (str, type(None)), "versions": dict, "time": str,
    }  # fmt: skip
    for name, kind in kinds.items():
        if not isinstance(getattr(result, name), kind):
            raise StorageError(f"{place}: {name} is of the wrong type; give a file that `blemish bench run` wrote")
    wrong = [name for name, value in result.figures.items() if not isinstance(value, (int, float, list, type(None)))]
    if wrong:
        raise StorageError(f"{place}: {wrong[0]} is no number; give a file that `blemish bench run` wrote")
    return result


def _whole(file: Any, end: int) -> int:
    """Returns where the last whole line ends."""
    place = end
    while place:
        start = max(0, place - 65536)
        file.seek(start)
        at = file.read(place - start).rfind(b"\n")
        if at >= 0:
            return int(start + at + 1)
        place = start
    return 0


def check_complete(results: Sequence[Result], path: str | Path, protocol: str) -> None:
    """Raises `SettingError` if there is no result of a protocol."""
    if not results:
        raise SettingError(f"{path}: has no results of {protocol}; `blemish bench run {protocol} -o {path}` measures")
