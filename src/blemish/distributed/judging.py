"""A worker that predicts parts of the images with a model that it loads once, and writes their files."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blemish.distributed.cluster import load_ray
from blemish.distributed.parts import DRAWN, Counts, Part, parquet_of, read_counts, row_of
from blemish.errors import BlemishError, ModelError, SourceError
from blemish.images import Location, Remote
from blemish.images.array_files import file_of
from blemish.model import Model
from blemish.model.picture import MAPS, map_file
from blemish.model.saved import Saved
from blemish.storage import Scratch
from blemish.storage.cards import digest_of
from blemish.storage.place import Place
from blemish.storage.remote import is_remote


@dataclass(frozen=True)
class Rates:
    """Rates or a threshold that replace the model's own, as in `Model.at`."""

    false_alarm_rate: float | None = None
    threshold: float | None = None
    box_rate: float | None = None


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
    """Predicts parts, one after the other, with a model that it loads once.

    A `BlemishError` is returned as text, since Ray would wrap it in an error of its own.
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
        if card_of(model) != job.card:
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
            f"{part.images[0][0]}: its folder is not on this machine; give a folder that every machine of the cluster "
            "has at the same path, or an address such as s3://bucket/folder"
        )
    rows: list[dict[str, Any]] = []
    for prediction in model.judge(wanted):
        index = len(rows)
        row = row_of(prediction)
        if maps != "none" and prediction.map is not None and prediction.path is not None:
            name = f"{DRAWN}/{part.stem}/{index:05d}_{prediction.path.stem}{MAPS[maps]}"
            place.put(name, map_file(model, prediction.path, prediction.map, maps))
            row["map"] = name
        rows.append(row)
        del prediction  # maps of large photographs take much memory
    counts = Counts(
        len(rows), sum(row["is_anomaly"] is True for row in rows), sum(row["error"] is not None for row in rows)
    )
    place.write(part.name, parquet_of(rows, counts))
    return counts


def card_of(model: Model) -> str:
    """Returns the digest of a saved model's card."""
    if not isinstance(model.store, Saved):
        raise ModelError("a model that is not saved cannot be sent to other machines; save it first")
    return digest_of(model.store.card)
