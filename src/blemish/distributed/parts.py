"""The parts of a prediction on a cluster: what is in each, and its Parquet file, which is named by its content."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from blemish.errors import StorageError
from blemish.model import Prediction
from blemish.storage.place import UNFINISHED, Place
from blemish.storage.remote import check_writable, is_remote

if TYPE_CHECKING:
    import pyarrow

SUMMARY = "_blemish.json"
"""What is written last; readers of Parquet leave out names that begin so."""

DRAWN = "_maps"
"""The folder of maps, which has one for each part."""

LARGEST_PART = 256 << 20
"""Bytes of a part's file, at most."""

_PART = re.compile(r"part-\d{6}-[0-9a-f]{16}\.parquet")
_FOLDER_OF_MAPS = re.compile(r"\d{6}-[0-9a-f]{16}/")
_MAP = re.compile(r"\d{5,}_.*\.(jpg|png|npy)", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """Some of the images.

    Attributes:
        number: of the part, from 0.
        images: their paths or addresses, and their sizes in bytes, if they are known.
        digest: of all that decides what is in the part.
    """

    number: int
    images: tuple[tuple[str, int | None], ...]
    digest: str

    @property
    def stem(self) -> str:
        return f"{self.number:06d}-{self.digest[:16]}"

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"part-{self.stem}.parquet"


@dataclass(frozen=True)
class Counts:
    """How many images were judged, how many are anomalous, and how many could not be read."""

    images: int = 0
    anomalies: int = 0
    errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.images + other.images, self.anomalies + other.anomalies, self.errors + other.errors)


def make_parts(images: Sequence[tuple[str, int | None]], count: int, settings: Mapping[str, Any]) -> list[Part]:
    """Returns parts of `count` images, the last one of fewer.

    Args:
        images: their paths or addresses, and their sizes.
        count: of images in a part.
        settings: what else decides what is in a part.
    """
    told = json.dumps(settings, sort_keys=True)
    parts = []
    for number, start in enumerate(range(0, len(images), count)):
        some = tuple(images[start : start + count])
        digest = hashlib.sha256(json.dumps([told, some]).encode()).hexdigest()
        parts.append(Part(number, some, digest))
    return parts


def read_counts(place: Place, name: str) -> Counts:
    """Returns the counts of a part, which are in its file.

    Raises:
        StorageError: it is not a file that a worker wrote.
    """
    import pyarrow
    from pyarrow import parquet

    content = place.read(name, LARGEST_PART)
    try:
        found = json.loads(parquet.read_schema(io.BytesIO(content)).metadata[b"blemish"])
        return Counts(*(int(found[key]) for key in ("images", "anomalies", "errors")))
    except (pyarrow.ArrowException, OSError, TypeError, KeyError, ValueError, RecursionError):
        raise StorageError(f"{place.where}: {name} is damaged; remove it, and run the same command again") from None


def row_of(prediction: Prediction) -> dict[str, Any]:
    """Returns the row of a prediction; where there is an error, score, p-value and verdict are missing."""
    told = prediction.as_dict()
    scored = {key: told.get(key) for key in ("path", "score", "p_value", "is_anomaly", "boxes", "is_known", "error")}
    return {**scored, "map": None}


def schema() -> pyarrow.Schema:
    """Returns the columns of a part."""
    import pyarrow

    sides = [(side, pyarrow.int32()) for side in ("top", "left", "bottom", "right")]
    box = pyarrow.struct([*sides, ("area", pyarrow.int64()), ("peak", pyarrow.float64())])
    return pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("score", pyarrow.float64()),
            ("p_value", pyarrow.float64()),
            ("is_anomaly", pyarrow.bool_()),
            ("boxes", pyarrow.list_(box)),
            ("is_known", pyarrow.bool_()),
            ("error", pyarrow.string()),
            ("map", pyarrow.string()),
        ]
    )


def parquet_of(rows: list[dict[str, Any]], counts: Counts) -> bytes:
    """Returns the content of a part's file."""
    import pyarrow
    from pyarrow import parquet

    columns = schema().with_metadata({"blemish": json.dumps(asdict(counts))})
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, columns), content)
    return content.getvalue()


def check_folder(place: Place, parts: Sequence[Part], *, force: bool) -> set[str]:
    """Returns the names of the parts that are there already; with `force`, other ones are removed.

    Raises:
        StorageError: the folder holds parts of something else, or files that no worker wrote; or nothing can be written
            there.
    """
    if is_remote(place.where):
        check_writable(place.where)
    planned, there, others = {part.name for part in parts}, set(), []
    for name in place.names():
        if name in planned:
            there.add(name)
        elif _PART.fullmatch(name):
            others.append(name)
        elif name not in {SUMMARY, f"{DRAWN}/"} and not name.endswith(UNFINISHED):
            raise StorageError(
                f"{place.where}: holds {name}, which blemish did not write there; give a new folder, or one with parts"
            )
    if others and not force:
        raise StorageError(
            f"{place.where}: holds {others[0]}, of other images, another model or other settings; give another folder, "
            "or remove such parts with --force"
        )
    for name in others:
        place.remove(name)
    if force:
        _remove_maps(place, {f"{part.stem}/" for part in parts})
    return there


def _remove_maps(place: Place, kept: AbstractSet[str]) -> None:
    """Removes the maps of parts that are not among those kept."""
    for folder in place.names(DRAWN):
        if folder not in kept and _FOLDER_OF_MAPS.fullmatch(folder):
            for name in place.names(f"{DRAWN}/{folder}"):
                if _MAP.fullmatch(name):
                    place.remove(f"{DRAWN}/{folder}{name}")
            place.remove_empty(f"{DRAWN}/{folder}")
