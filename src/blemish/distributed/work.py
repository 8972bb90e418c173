"""What a worker does: learns a shard, extracts its features, or merges two summaries. Nothing here knows of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

from blemish.distributed.backbone import THREADS, PackedBackbone, unpack_backbone
from blemish.distributed.summary import Packed, Report, empty_detector, pack, unpack
from blemish.engines import Engine
from blemish.engines.features import check_finite
from blemish.engines.gather import gather
from blemish.engines.stream import Chunk, stream
from blemish.errors import ImageError
from blemish.images import Copies, Location, count_tiles, decode_ahead, read_image, waiting
from blemish.model import Recipe

T = TypeVar("T")

MOST_MADE = 4
"""Engines and scoring modules that a worker keeps, at most."""


@dataclass(frozen=True)
class Shard:
    """Some images of one pass.

    Attributes:
        number: of the shard in the pass.
        images: numbers of the images in the pass.
        paths: theirs.
        names: theirs, below the data set's folder.
    """

    number: int
    images: tuple[int, ...]
    paths: tuple[Location, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is the same for all shards of a pass.

    Attributes:
        key: of the recipe and the weights; a worker keeps the engine that it made under it.
        recipe: of the model.
        backbone: returns it; it is called once in every worker.
        learned: returns what the model that scores the images has learned; `None` if none scores them.
        scored_under: the key of that model.
    """

    key: str
    recipe: Recipe
    backbone: Callable[[], PackedBackbone]
    learned: Callable[[], Packed] | None = None
    scored_under: str = ""


def learn_shard(job: Job, shard: Shard, known: frozenset[str]) -> tuple[Report, Packed]:
    """Returns the report of a shard, and what a detector learned from it.

    Args:
        job: of the pass; if it names a model, the images are scored by it first.
        shard: of images.
        known: digests of images to be left out.

    Raises:
        DegenerateError: features or a score are not finite.
    """
    import torch

    recipe = job.recipe
    engine, detector = _engine(job), empty_detector(recipe)
    scoring = None
    if job.learned is not None:
        from blemish.detectors.scoring import Scoring

        learned = job.learned
        shape = recipe.geometry.shape
        scoring = _once(f"scoring {job.scored_under}", lambda: Scoring(unpack(recipe, learned()), shape))
    report = Report()

    def chunks() -> Iterator[Chunk]:
        for chunk in _stream(engine, job, shard, known):
            report.bad.update({shard.images[index]: error.reason for index, error in chunk.errors.items()})
            report.digests.update({shard.images[index]: digest for index, digest in chunk.digests.items()})
            if not chunk.indices:
                continue
            check_finite(chunk, shard.paths)
            for index in chunk.indices:
                report.rows[shard.images[index]] = report.rows.get(shard.images[index], 0) + 1
            real = chunk.real()
            report.variety.update(real.arrays)
            if scoring is not None:
                yield replace(
                    real, arrays=scoring.arrays_to_calibrate([torch.from_numpy(array) for array in real.arrays])
                )
            detector.update([torch.from_numpy(array) for array in chunk.arrays])

    gather(report.gathered, chunks(), recipe.geometry, shard.paths, shard.names.__getitem__, recipe.detector)
    return report, pack(detector)


def extract_shard(job: Job, shard: Shard) -> list[Chunk]:
    """Returns the features of a shard's images; in the chunks the images have their numbers in the pass."""
    found = []
    for chunk in _stream(_engine(job), job, shard):
        found.append(
            replace(
                chunk,
                indices=[shard.images[index] for index in chunk.indices],
                errors={shard.images[index]: error for index, error in chunk.errors.items()},
                digests={shard.images[index]: digest for index, digest in chunk.digests.items()},
                repeated={shard.images[index]: digest for index, digest in chunk.repeated.items()},
            )
        )
    return found


def find_bad(job: Job, shard: Shard) -> Report:
    """Returns a report of the images that cannot be read; the others are only decoded."""
    geometry = job.recipe.geometry
    read = count_tiles if geometry.tile else read_image
    decoded = decode_ahead(partial(read, geometry=geometry), shard.paths, ahead=waiting(geometry.bytes, 32))
    reasons = [image.reason if isinstance(image, ImageError) else None for image in decoded]
    told = zip(shard.images, reasons, strict=True)
    return Report(bad={number: reason for number, reason in told if reason is not None})


def merge_two(job: Job, one: Packed, other: Packed, threads: int = THREADS) -> Packed:
    """Returns what a detector learned from the images of both; it computes in so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return pack(unpack(job.recipe, one).merge(unpack(job.recipe, other)))
    finally:
        torch.set_num_threads(before)


def _stream(engine: Engine, job: Job, shard: Shard, known: frozenset[str] = frozenset()) -> Iterator[Chunk]:
    """Yields the features of a shard's images, without those that are known, or the same as one before."""
    copies = Copies(job.recipe.copies, job.recipe.seed)
    return stream(engine, shard.paths, job.recipe.geometry, copies, known)


def _engine(job: Job) -> Engine:
    def make() -> Engine:
        import torch

        torch.set_num_threads(THREADS)
        return unpack_backbone(job.backbone(), job.recipe)

    return _once(f"engine {job.key}", make)


_made: dict[str, object] = {}


def _once(key: str, make: Callable[[], T]) -> T:
    """Returns what was made under this key in this process, or makes it."""
    if key not in _made:
        if len(_made) >= MOST_MADE:
            _made.clear()  # of fits that are over
        _made[key] = make()
    return cast(T, _made[key])
