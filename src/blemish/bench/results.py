"""Results of protocols: one line of JSON each, appended as soon as it is measured, so that a run can continue later."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import SettingError, StorageError
from blemish.storage.cards import reason_of
from blemish.storage.scratch import held

LONGEST_LINE = 16 << 20
"""Bytes of a line, at most."""

IMAGE_FIGURES = ("score", "pixel_auroc", "aupimo")
"""Figures of each test image."""

BEGINNING = b'{"protocol": "'
"""What each line begins with."""


@dataclass(frozen=True)
class Result:
    """What was measured of one entry, on one category, with one seed.

    Attributes:
        protocol, entry, category, seed: what was measured.
        figures: by name, such as `pixel.auroc`; shares between 0 and 1, an undefined one is `None`.
        images: a row for each test image: its name, label and score, and the figures of its own pixels.
        against: differences from the protocol's reference on the same images, with 95 % intervals; `of` holds the time
            of the reference's result.
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
    """Returns the results in a file, or those of one protocol. If several have the same key, the last one counts.

    An absent result never replaces a measured one. A last line that is not whole is left out.

    Raises:
        StorageError: the file cannot be read, or a line is not a result.
    """
    found: dict[tuple[str, str, str, int], Result] = {}
    for result in _lines(Path(path)):
        if protocol is None or result.protocol == protocol:
            former = found.get(result.key)
            if former is None or former.absent is not None or result.absent is None:
                found.pop(result.key, None)
                found[result.key] = result
    return list(found.values())


def append_result(path: str | Path, result: Result) -> None:
    """Writes a line and flushes it to the disk; a last line that is not whole is cut off first.

    Several processes may write to one file.

    Raises:
        StorageError: the file cannot be written, or the line would be too long to be read.
    """
    line = json.dumps(asdict(result), allow_nan=False).encode() + b"\n"
    if len(line) > LONGEST_LINE:
        raise StorageError(
            f"{path}: a result with {len(result.images)} test images has over {LONGEST_LINE} bytes; measure on fewer"
        )
    try:
        with open(path, "ab+", buffering=0) as file, held(Path(path).absolute().parent):
            whole = _whole(file)
            file.truncate(whole)
            try:
                left = memoryview(line if whole == 0 or _ends(file, whole) else b"\n" + line)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(whole)
                raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({reason_of(error)}); give another file with --output") from None


def check_writable(path: str | Path) -> None:
    """Makes a file of results if it is absent. Raises `StorageError` if it cannot be written, or holds other things."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path}: is not a regular file; give another one with --output")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({reason_of(error)}); give another file with --output") from None
    for _ in _lines(path):
        pass


def select(results: Sequence[Result], entry: str, category: str) -> list[Result]:
    """Returns the measured results of an entry on a category, by seed; only those with the last one's arguments."""
    chosen = [found for found in results if (found.entry, found.category) == (entry, category) and not found.absent]
    alike = [found for found in chosen if _made(found) == _made(chosen[-1])]
    return sorted(alike, key=lambda result: result.seed)


def _made(result: Result) -> tuple[Any, ...]:
    return result.fit.get("arguments"), result.data.get("drawn"), result.data.get("test")


def _lines(path: Path) -> Iterable[Result]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                place = f"{path}: line {number}"
                if line.endswith(b"\n") or _is_whole(line):
                    yield _parsed(line, place)
                elif len(line) == LONGEST_LINE:
                    raise StorageError(f"{place} is longer than {LONGEST_LINE} bytes; is it a result?")
                elif not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
                    raise StorageError(f"{place} is not a result of `blemish bench run`; give a file that it wrote")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({reason_of(error)}); check the path") from None


def _parsed(line: bytes, place: str) -> Result:
    try:
        result = Result(**json.loads(line, parse_constant=_no_number))
    except (ValueError, TypeError, RecursionError):
        raise StorageError(f"{place} is not a result of `blemish bench run`; give a file that it wrote") from None
    kinds: dict[str, type | tuple[type, ...]] = {
        "protocol": str, "entry": str, "category": str, "seed": int, "figures": dict, "images": list, "against": list,
        "absent": (str, type(None)), "fit": dict, "data": dict, "seconds": dict, "peak_bytes": (int, type(None)),
        "model": (str, type(None)), "versions": dict, "time": str,
    }  # fmt: skip
    odd = [
        f"{name} is of the wrong type" for name, kind in kinds.items() if not isinstance(getattr(result, name), kind)
    ]
    wrong = next(iter(odd or _wrong(result)), None)
    if wrong is not None:
        raise StorageError(f"{place}: {wrong}; give a file that `blemish bench run` wrote")
    return result


def _wrong(result: Result) -> Iterator[str]:
    """Yields what differs from what `blemish bench run` writes."""
    for name, value in result.figures.items():
        if not (value is None or isinstance(value, list) or _is_number(value)):
            yield f"{name} is not a number"
    for name, seconds in result.seconds.items():
        if not _is_number(seconds):
            yield f"seconds of {name} are not a number"
    size, told = result.fit.get("size", []), {"source": result.data, "backbone": result.fit, "training": result.fit}
    if not (isinstance(size, list) and all(type(side) is int for side in size)):
        yield "size is not a height and a width"
    for name, place in told.items():
        if not isinstance(place.get(name), (str, type(None))):
            yield f"{name} is not text"
    for number, row in enumerate(result.images):
        if not _is_image(row):
            yield f"image {number} is not complete"
    if not all(map(_is_difference, result.against)):
        yield "a difference is not complete"


def _is_image(row: Any) -> bool:
    """Returns whether it is a row of `PerImage.rows`."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("is_anomalous"), bool)
        and all(name in row and (row[name] is None or _is_number(row[name])) for name in IMAGE_FIGURES)
    )


def _is_difference(row: Any) -> bool:
    """Returns whether it has what a table of differences shows."""
    if not (isinstance(row, dict) and isinstance(row.get("figure"), str) and _is_number(row.get("difference"))):
        return False
    bounds = row.get("interval")
    if bounds is None:
        return True
    return isinstance(bounds, dict) and _is_number(bounds.get("low")) and _is_number(bounds.get("high"))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1 << 53  # false for infinity and for NaN


def _no_number(text: str) -> float:
    raise ValueError(text)


def _is_whole(line: bytes) -> bool:
    """Returns whether a line without a line break is a whole result: an editor may have removed the break."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _whole(file: Any) -> int:
    """Returns where the last whole line ends, in a file that is open for reading."""
    end = place = file.seek(0, os.SEEK_END)
    while place:
        start = max(0, place - 65536)
        file.seek(start)
        at = file.read(place - start).rfind(b"\n")
        place = start + at + 1 if at >= 0 else start
        if at >= 0:
            break
    file.seek(place)
    return int(end) if end - place <= LONGEST_LINE and _is_whole(file.read(end - place)) else int(place)


def _ends(file: Any, end: int) -> bool:
    """Returns whether the last byte before a place ends a line."""
    file.seek(end - 1)
    return bool(file.read(1) == b"\n")


def check_complete(
    results: Sequence[Result],
    path: str | Path,
    protocol: str,
    categories: Sequence[str] = (),
    entries: Sequence[str] = (),
) -> None:
    """Raises `SettingError` if there is no result of a protocol, or of one of the categories or entries."""
    if not results:
        raise SettingError(f"{path}: has no results of {protocol}; run `blemish bench run {protocol} -o {path}`")
    for kind, wanted, there in (
        ("category", categories, {result.category for result in results}),
        ("entry", entries, {result.entry for result in results}),
    ):
        if missing := [name for name in wanted if name not in there]:
            known = ", ".join(sorted(there))
            raise SettingError(f"{path}: has no results of the {kind} {missing[0]!r}; it has those of {known}")
