"""Predicts many images on a Ray cluster, into Parquet files of a fixed plan.

The images are divided into parts of equal length, in their order. A part's file is named by its number and by a digest
of all that decides what is in it: the images' names and sizes, the model's card, the rates, and the kind of maps. So a
run that was ended goes on where it was, and a file of other images or of another model is noticed. A worker writes its
file whole or not at all, and returns counts alone, so that nothing gathers in the process that started it.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from blemish.datasets import read_source
from blemish.distributed.cluster import connect, load_ray, workers
from blemish.distributed.judging import Job, Rates, Worker, card_of
from blemish.distributed.parts import SUMMARY, Counts, Part, check_folder, make_parts, read_counts
from blemish.errors import ClusterError, SettingError, StorageError, require
from blemish.images import Remote
from blemish.model import Model
from blemish.model.picture import MAPS
from blemish.progress import Progress
from blemish.storage.place import UNFINISHED, Place
from blemish.storage.remote import is_remote

IMAGES = 256
"""Images in a part, by default: minutes of work at most, and a file that is not tiny."""

TRIES = 4
"""How many times a part is tried again if its worker was killed; an image too large for the memory kills each one."""

SEEN_WITHIN = 10.0
"""Seconds within which a file that another machine wrote must be seen here."""


@dataclass(frozen=True)
class Predicted:
    """The result of a run.

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
        maps: `none`, `overlay`, `heat` or `npy`, as in `blemish.results.write_results`.
        rates: in place of the model's own.
        engine: `auto`, `openvino` or `torch`; `auto` computes on the cores, also where there is a GPU.
        threads: cores of each worker; there are as many workers as the cluster has cores for.
        images: in a part.
        force: remove parts of other images or of another model, or that were made with other settings.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SourceError: a source is missing or empty, or its images are not on a machine of the cluster.
        ModelError: the model cannot be loaded.
        StorageError: the folder holds something else, or cannot be written to.
        ClusterError: there is no cluster, or it broke off.
        SettingError: an option is out of range.
    """
    if maps not in {"none", *MAPS}:
        raise SettingError(f"maps {maps!r} is not known; give one of none, {', '.join(MAPS)}")
    if images < 1 or threads < 1:
        raise SettingError("a part has at least 1 image and a worker at least 1 thread; give more")
    require("pyarrow", of="predicting on a cluster", extra="ray")
    rates = rates or Rates()
    loaded = Model.load(model, engine).at(**asdict(rates))
    told = settings_of(loaded, maps, rates)
    wanted = list_images(sources, loaded.recipe.seed)
    parts = make_parts(wanted, images, told)
    place = Place(_absolute(folder))
    there = check_folder(place, parts, force=force)
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
    return {"model": card_of(model), "maps": maps, **asdict(rates)}


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
    """Hides Ray's warnings of future changes to Ray."""
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


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # it will be a row with an error
        return None


def _absolute(place: str | Path) -> str:
    return str(place) if is_remote(place) else str(Path(place).absolute())
