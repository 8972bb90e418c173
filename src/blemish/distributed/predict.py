"""Predicts many images on a Ray cluster, into Parquet files of a fixed plan.

The images are divided into parts of equal length, in their order. A part's file is named by its number and by a digest
of all that decides what is in it: the images' names and sizes, the model's card, the rates, and the kind of maps. So a
run that was ended goes on where it was, and a file of other images or of another model is noticed. A worker writes its
file whole or not at all, and returns counts alone, so that nothing gathers in the process that started it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.datasets import read_source
from blemish.distributed.cluster import connect, load_ray, workers
from blemish.errors import BlemishError, ClusterError, ModelError, SettingError, SourceError, StorageError, require
from blemish.images import Location, Remote
from blemish.images.array_files import file_of
from blemish.model import Model, Prediction
from blemish.model.saved import Saved
from blemish.progress import Progress
from blemish.storage import Scratch
from blemish.storage.cards import digest_of
from blemish.storage.place import UNFINISHED, Place
from blemish.storage.remote import check_writable, is_remote

if TYPE_CHECKING:
    import pyarrow

IMAGES = 256
"""Images in a part, by default: minutes of work at most, and a file that is not tiny."""

MAPS = ("none", "png", "npy")

SUMMARY = "_blemish.json"
"""What is written last; readers of Parquet leave out names that begin so."""

DRAWN = "_maps"
"""The folder of maps, which has one for each part."""

LARGEST_PART = 256 << 20
"""Bytes of a part's file, at most."""

TRIES = 4
"""How often a part is tried again whose worker was killed, as one image too many for the memory may do each time."""

SEEN_WITHIN = 10.0
"""Seconds within which a file that another machine wrote must be seen here."""

_PART = re.compile(r"part-\d{6}-[0-9a-f]{16}\.parquet")
_FOLDER_OF_MAPS = re.compile(r"\d{6}-[0-9a-f]{16}/")
_MAP = re.compile(r"\d{5,}_.*\.(png|npy)", re.DOTALL)


@dataclass(frozen=True)
class Rates:
    """What decides in place of the model's own rates, as in `Model.at`."""

    false_alarm_rate: float | None = None
    threshold: float | None = None
    box_rate: float | None = None


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


@dataclass(frozen=True)
class Predicted:
    """What a run came to.

    Attributes:
        folder: with the parts.
        parts: how many there are.
        computed: how many of these this run computed; the others were there.
        counts: of all parts.
    """

    folder: str
    parts: int
    computed: int
    counts: Counts

    def as_dict(self) -> dict[str, Any]:
        return {"folder": self.folder, "parts": self.parts, "computed": self.computed, **asdict(self.counts)}


def predict(
    model: str | Path,
    sources: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    address: str = "local",
    maps: str = "none",
    rates: Rates | None = None,
    engine: str = "auto",
    threads: int = 1,
    images: int = IMAGES,
    force: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Predicts all images of the sources on a cluster, into Parquet files in a folder; returns counts.

    Each row has `path`, `score`, `p_value`, `is_anomaly`, `boxes`, `is_known`, `error` and `map`, the name of the map's
    file in the folder. Parts that are there already are kept. Within a part, rows are in the order of the images.

    Args:
        model: a saved model, here or elsewhere.
        sources: as `Model.predict` takes them, but for arrays and bytes. What is not elsewhere must be at the same path
            on every machine of the cluster, and so must the folder.
        folder: for the parts, here or elsewhere. It is made if it is absent.
        address: of the cluster, as `connect` takes it.
        maps: `none`, `png` or `npy`, as in `blemish.report.write_results`.
        rates: in place of the model's own.
        engine: `auto`, `openvino` or `torch`; `auto` computes on the cores, also where there is a GPU.
        threads: cores of each worker; there are as many workers as the cluster has cores for.
        images: in a part.
        force: remove parts of other images or of another model, or that were made with other settings.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SourceError: a source is missing or empty, or a machine does not see its images.
        ModelError: the model cannot be loaded.
        StorageError: the folder holds something else, or cannot be written to.
        ClusterError: there is no cluster, or it broke off.
        SettingError: an option is out of range.
    """
    if maps not in MAPS:
        raise SettingError(f"maps {maps!r} is not known; give one of {', '.join(MAPS)}")
    if images < 1 or threads < 1:
        raise SettingError("a part has at least 1 image and a worker at least 1 thread; give more")
    require("pyarrow", of="predicting on a cluster", extra="ray")
    rates = rates or Rates()
    loaded = Model.load(model, engine).at(**asdict(rates))
    told = settings_of(loaded, maps, rates)
    wanted = list_images(sources, loaded.recipe.seed)
    parts = make_parts(wanted, images, told)
    place = Place(_absolute(folder))
    there = _check_folder(place, parts, force=force)
    missing = [part for part in parts if part.name not in there]
    counts = sum((read_counts(place, part.name) for part in parts if part.name in there), Counts())
    if progress:
        progress("predict", counts.images, len(wanted))
    if missing:
        job = Job(_absolute(model), None, told["model"], rates, engine, threads, maps, place)
        del loaded  # with its memory
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would print advice for programmers
        with connect(address):
            for found in _run(job, missing, is_local=address == "local"):
                counts += found
                if progress:
                    progress("predict", counts.images, len(wanted))
    for name in place.names():
        if name.endswith(UNFINISHED):
            place.remove(name)  # of a worker that was killed
    done = Predicted(str(folder), len(parts), len(missing), counts)
    summary = {**told, "images_in_a_part": images, "parts": [part.name for part in parts], **asdict(counts)}
    place.write(SUMMARY, json.dumps(summary, indent=1).encode())
    return done


def settings_of(model: Model, maps: str, rates: Rates) -> dict[str, Any]:
    """Returns all that decides what is in a part besides its images.

    Raises:
        ModelError: the model is not saved.
    """
    return {"model": _card_of(model), "maps": maps, **asdict(rates)}


def list_images(sources: str | Path | Sequence[str | Path], seed: int) -> list[tuple[str, int | None]]:
    """Returns all images of sources: whole paths or addresses, and bytes, as far as they are known.

    Raises:
        SourceError: a source is missing or empty.
    """
    found = []
    for source in [sources] if isinstance(sources, (str, Path)) else sources:
        dataset = read_source(source, seed)
        for sample in dataset.test or dataset.train:
            path = sample.path
            found.append((path.url, path.size) if isinstance(path, Remote) else (str(path.absolute()), _size(path)))
    return found


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
    except (pyarrow.ArrowException, OSError, TypeError, KeyError, ValueError):
        raise StorageError(f"{place.where}: {name} is damaged; remove it, and run the same command again") from None


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Attributes:
        model: its path or address.
        files: a reference to the model's files in the cluster, by name, if its path is of another machine.
        card: the digest of the model's card.
        rates: in place of its own.
        engine, threads, maps: as in `predict`.
        place: for the parts.
    """

    model: str
    files: Any
    card: str
    rates: Rates
    engine: str
    threads: int
    maps: str
    place: Place


class Worker:
    """Judges parts, one after the other, with a model that it loads once.

    An error of the user's is returned as a text, which Ray would wrap in its own.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.fault = job, ""
        try:
            self.model = self._loaded()
        except BlemishError as error:
            self.fault = f"{socket.gethostname()}: {error}"

    def _loaded(self) -> Model:
        job = self.job
        if job.engine != "torch":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # workers share the cores, and not a GPU
        place = job.model
        if job.files is not None:
            self._scratch = Scratch()
            for name, content in load_ray().get(job.files).items():
                content.tofile(self._scratch.path / name)
            place = str(self._scratch.path)
        model = Model.load(place, job.engine, job.threads).at(**asdict(job.rates))
        if _card_of(model) != job.card:
            raise ModelError(f"{job.model}: was replaced while it was used; run the same command again")
        return model

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Judges one part, whose number, digest, paths and sizes are the first row of each column."""
        images = tuple(
            (str(path), None if size < 0 else int(size))
            for path, size in zip(batch["paths"][0], batch["sizes"][0], strict=True)
        )
        part = Part(int(batch["number"][0]), images, str(batch["digest"][0]))
        counts, fault = Counts(), self.fault
        if not fault:
            try:
                counts = judge_part(self.model, part, self.job.maps, self.job.place)
            except BlemishError as error:
                fault = f"{socket.gethostname()}: {error}"
        return {"name": [part.name], "fault": [fault], **{key: [value] for key, value in asdict(counts).items()}}


def judge_part(model: Model, part: Part, maps: str, place: Place) -> Counts:
    """Judges the images of a part and writes its file, unless that is there; returns its counts.

    Raises:
        SourceError: this machine does not have the images' folders.
        StorageError: a file cannot be written.
    """
    if place.holds(part.name):  # of a worker that was killed right after
        return read_counts(place, part.name)
    wanted: list[Location] = [Remote(text, size) if is_remote(text) else Path(text) for text, size in part.images]
    if not any(isinstance(image, Remote) or os.path.isdir(os.path.dirname(str(file_of(image)))) for image in wanted):
        raise SourceError(
            f"{part.images[0][0]}: this machine does not have the folder of it; give one that every machine of the "
            "cluster has at the same path, or an address such as s3://bucket/folder"
        )
    rows: list[dict[str, Any]] = []
    for prediction in model.judge(wanted):
        index = len(rows)
        row = row_of(prediction)
        if maps != "none" and prediction.map is not None and prediction.path is not None:
            name = f"{DRAWN}/{part.stem}/{index:05d}_{prediction.path.stem}.{maps}"
            place.put(name, _drawn(model, prediction.path, prediction.map, maps))
            row["map"] = name
        rows.append(row)
        del prediction  # maps of large photographs take room
    counts = Counts(
        len(rows), sum(row["is_anomaly"] is True for row in rows), sum(row["error"] is not None for row in rows)
    )
    place.write(part.name, _parquet(rows, counts))
    return counts


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


def _parquet(rows: list[dict[str, Any]], counts: Counts) -> bytes:
    import pyarrow
    from pyarrow import parquet

    columns = schema().with_metadata({"blemish": json.dumps(asdict(counts))})
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, columns), content)
    return content.getvalue()


def _drawn(model: Model, path: Location, values: np.ndarray, kind: str) -> bytes:
    """Returns the content of a map's file."""
    content = io.BytesIO()
    if kind == "npy":
        np.save(content, values)
    else:
        from PIL import Image

        from blemish.model.picture import drawn

        Image.fromarray(drawn(model, path, values)).save(content, "PNG")
    return content.getvalue()


def _run(job: Job, parts: Sequence[Part], *, is_local: bool) -> Iterator[Counts]:
    """Yields the counts of each part as soon as it is written.

    Raises:
        BlemishError: a worker met an error of the user's, or its file is not seen here.
    """
    if not (is_local or is_remote(job.model)):
        job = replace(job, files=load_ray().put(_files_of(job.model)))
    with _quiet():
        judged = iter(_dataset(job, parts).iter_rows())
    while True:
        with _quiet():
            row = next(judged, None)
        if row is None:
            return
        if row["fault"]:
            raise ClusterError(row["fault"])
        _await(job.place, row["name"])
        yield Counts(row["images"], row["anomalies"], row["errors"])


def _dataset(job: Job, parts: Sequence[Part]) -> Any:
    """Returns Ray's data set of what workers return, a row for each part; nothing is computed yet."""
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")  # errors are raised, and told in one line
    data: Any = import_module("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    rows = [
        {
            "number": part.number,
            "digest": part.digest,
            "paths": [path for path, _ in part.images],
            "sizes": [-1 if size is None else size for _, size in part.images],
        }
        for part in parts
    ]
    return data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=(job,),
        batch_size=1,
        num_cpus=job.threads,
        compute=data.ActorPoolStrategy(
            size=max(1, min(len(parts), workers() // job.threads)), max_tasks_in_flight_per_actor=2
        ),
        max_task_retries=TRIES,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back Ray's warnings of its own changes to come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _await(place: Place, name: str) -> None:
    """Waits until a file that a worker wrote is seen from here.

    Raises:
        StorageError: it is not.
    """
    end = time.monotonic() + SEEN_WITHIN
    while not is_remote(place.where) and not place.holds(name):
        if time.monotonic() > end:
            raise StorageError(
                f"{place.where}: another machine wrote {name} into its own folder of this name; give a folder that all "
                "machines of the cluster share, or an address such as s3://bucket/folder"
            )
        time.sleep(0.1)


def _files_of(model: str) -> dict[str, np.ndarray]:
    return {file.name: np.fromfile(file, np.uint8) for file in sorted(Path(model).iterdir()) if file.is_file()}


def _card_of(model: Model) -> str:
    """Returns the digest of a saved model's card."""
    if not isinstance(model.store, Saved):
        raise ModelError("a model that is not saved cannot be sent to other machines; save it first")
    return digest_of(model.store.card)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # it will be a row with an error
        return None


def _absolute(place: str | Path) -> str:
    return str(place) if is_remote(place) else str(Path(place).absolute())


def _check_folder(place: Place, parts: Sequence[Part], *, force: bool) -> set[str]:
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
