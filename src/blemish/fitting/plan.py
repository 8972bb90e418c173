"""Estimates what a fit will need before it starts: memory from the sizes of what is held, time from a few images.

Every image's header is read, since one large image alone can need most of the memory.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.calibration.cross_fit import FOLDS
from blemish.engines import BATCH, Engine
from blemish.errors import ImageError, MemoryLimitError, number_of
from blemish.fitting.effort import seconds_beside
from blemish.images import (
    Geometry,
    Header,
    Location,
    Pixels,
    decode_ahead,
    decoding_peak,
    read_header,
    read_image,
    read_tiles,
    waiting,
)
from blemish.images.photographs import IN_MEMORY

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.engines.extractor import Extractor
    from blemish.fitting.split import Division
    from blemish.model import Recipe

TIMED = 8
"""How many images are timed, at most, in decoding and extracting."""

TIMED_PIXELS = 50_000_000
"""Pixels of these images together, at most, unless a single image has more."""

TIMED_TILES = 32
"""Tiles of these images together, at most."""

BUFFERS = 4
"""Batches of features that exist at one time, copies included."""

MAPS = 6
"""Batches of maps of the input's size that exist while images are scored, enlarging and smoothing included."""


PROCESS = 600_000_000
"""Bytes that each further process of a training takes, besides its share of the batch."""


@dataclass(frozen=True)
class Plan:
    """What a fit will take.

    Attributes:
        images: how many will be read.
        tiles: how many tiles they have in all; as many as images if they are not cut.
        shape: height and width of the model's input.
        seconds: estimated, of the whole fit on this machine: those `spent`, decoding, the backbone, learning,
            calibrating, and saving; without the training, if it trains.
        spent: seconds that it has taken so far, to load libraries and the backbone.
        memory: bytes, estimated, of the whole process at its peak.
        available: bytes that the process may have in all, with what it has already.
        trains: whether training follows, whose time is not in `seconds`.
        cache: bytes of features that may be kept in memory for the training.
        disk: bytes, estimated, of features that are kept in the folder for temporary files instead.
        start: a checkpoint of other images, whose weights the training starts from.
    """

    images: int
    tiles: int
    shape: tuple[int, int]
    seconds: float
    memory: int
    available: int
    trains: bool = False
    cache: int = 0
    disk: int = 0
    start: Path | None = None
    spent: float = 0.0

    def after(self, seconds: float) -> Plan:
        """Returns the plan with this many seconds added, which had passed before it was made."""
        return replace(self, seconds=self.seconds + seconds, spent=self.spent + seconds)

    def check(self) -> None:
        """Raises `MemoryLimitError` if there is not enough memory."""
        if self.memory > self.available:
            raise MemoryLimitError(
                f"fitting needs about {_gigabytes(self.memory)} of memory, and {_gigabytes(self.available)} is "
                "available; "
                "give coarser or fewer layers (--layers), a smaller --size, or another detector"
            )

    def __str__(self) -> str:
        images = number_of(self.images, "image" if self.tiles == self.images else "photograph")
        tiles = "" if self.tiles == self.images else f", {number_of(self.tiles, 'tile')} in all,"
        seen = f"{images}{tiles} at {self.shape[0]}x{self.shape[1]}"
        disk = f", {_gigabytes(self.disk)} of disk in {tempfile.gettempdir()}" if self.disk else ""
        passed = (
            f" in all ({max(1, round(self.seconds - self.spent))} s of them still to come)" if self.spent >= 1 else ""
        )
        time_and_memory = f"about {max(1, round(self.seconds))} s{passed} and {_gigabytes(self.memory)} of memory{disk}"
        told = f"{time_and_memory} for {seen}"
        start = f" from the weights of {self.start}, with a schedule of its own," if self.start else ","
        return told + (f"; then training{start} whose progress bar shows the time" if self.trains else "")


def plan_fit(
    detector: Detector,
    extractor: Extractor,
    recipe: Recipe,
    images: Division,
    memory: int | None,
    processes: int = 1,
) -> Plan:
    """Returns what a fit will take; see `make_plan` and `with_cache`.

    Args:
        detector: empty.
        extractor: the backbone ready to run.
        recipe: of the model.
        images: to learn from and to calibrate on.
        memory: bytes for the features that are kept, to train on or to cross-fit; half of what is left by default.
        processes: that train.

    Raises:
        MemoryLimitError: the features fit neither the memory nor the disk.
    """
    from blemish.detectors import Trained

    grids = [layer.grid for layer in extractor.layers]
    features = sum(channels * height * width for channels, height, width in grids)
    paths = [sample.path for sample in images.all]
    each = 1 + recipe.copies

    def statistics(count: int) -> int:
        held = detector.memory(grids, count * each, BATCH) + (processes - 1) * PROCESS
        # Two models without a fold exist at one time; each may hold as much again, beside the fold's features.
        return 3 * held + 2 * 4 * features * count * each // FOLDS if images.crosses else held

    plan = make_plan(extractor.engine, paths, recipe.geometry, features, statistics, each)
    beside = seconds_beside(detector, grids, images, plan.tiles, each)
    plan = replace(plan, seconds=plan.seconds + beside, trains=isinstance(detector, Trained))
    if not images.crosses and (detector.sees_pixels or not plan.trains):
        return plan
    return with_cache(plan, round(4 * features * plan.tiles * each * len(images.to_fit) / len(paths)), memory)


def make_plan(
    engine: Engine,
    paths: Sequence[Location],
    geometry: Geometry,
    features: int,
    statistics: Callable[[int], int],
    each: int = 1,
) -> Plan:
    """Returns a plan: reads all headers, times a few images or their tiles, and adds up.

    Args:
        engine: extracts features.
        paths: of all images; those that cannot be read are ignored.
        geometry: of the images.
        features: how many numbers the features of one image or tile have.
        statistics: returns, for a count of images or tiles, the bytes that the detector holds at its peak.
        each: rows that run through the engine for each image: itself and its shifted copies.
    """
    headers = _headers(paths, geometry)
    tiles = (
        len(paths) if geometry.tile is None else max(1, sum(_tiles(header, geometry) for header in headers.values()))
    )
    seconds = _seconds(engine, headers, geometry, tiles, each)
    used, available = memory_limits()
    area = geometry.shape[0] * geometry.shape[1]
    batches = BATCH * (BUFFERS * 4 * features + 3 * 3 * area + MAPS * 4 * area)
    memory = used + statistics(tiles) + batches + _reading(list(headers.values()), geometry)
    return Plan(len(paths), tiles, geometry.shape, seconds, memory, available)


def with_cache(plan: Plan, size: int, budget: int | None) -> Plan:
    """Returns the plan of a fit that keeps this many bytes of features: in memory if they fit the budget, else on disk.

    Args:
        plan: without the features.
        size: of the features, in bytes.
        budget: bytes of memory for them; by default half of what is left.

    Raises:
        MemoryLimitError: the features do not fit the disk either.
    """
    room = max(0, plan.available - plan.memory) // 2 if budget is None else budget
    if size <= room:
        return replace(plan, memory=plan.memory + size, cache=room)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise MemoryLimitError(
            f"the features need {_gigabytes(size)}; they may use {_gigabytes(room)} of memory, and {folder} has "
            f"{_gigabytes(free)} free; allow more --memory, set TMPDIR to a larger folder, or give fewer --layers"
        )
    return replace(plan, disk=size)


def _headers(paths: Sequence[Location], geometry: Geometry) -> dict[Location, Header]:
    """Returns the headers of the images that can be opened."""

    def read(some: Sequence[Location]) -> dict[Location, Header]:
        found = {}
        for path in some:
            with suppress(ImageError):
                found[path] = read_header(path, geometry)
        return found

    headers: dict[Location, Header] = {}
    for found in decode_ahead(read, (paths[start : start + 64] for start in range(0, len(paths), 64))):
        headers |= found if isinstance(found, dict) else {}
    return headers


def _tiles(header: Header, geometry: Geometry) -> int:
    """Returns how many tiles a photograph has; none if it is smaller than one."""
    tiling = geometry.tiling
    return tiling.count(header.height, header.width) if min(header.height, header.width) >= tiling.side else 0


def _reading(headers: Sequence[Header], geometry: Geometry) -> int:
    """Returns the bytes, at their peak, of images that are being decoded and of those that wait for the engine."""
    if geometry.tile is None:
        ahead = min(len(headers), waiting(geometry.bytes, 2 * BATCH))
        return decoding_peak([header.decoding for header in headers]) + ahead * geometry.bytes
    peaks = [0]
    for header in headers:  # photographs are read one at a time
        pixels = header.height * header.width
        kept = min(IN_MEMORY, 3 * pixels)
        row_of_tiles = 3 * geometry.tiling.side * max(header.height, header.width)
        peaks.append(kept + max(header.decoding, row_of_tiles) + 4 * pixels)  # with the map of the previous one
    return max(peaks)


def _seconds(engine: Engine, headers: dict[Location, Header], geometry: Geometry, tiles: int, each: int) -> float:
    """Returns the seconds for all images, estimated from some of them; 0 if none of these can be read."""
    area = {path: header.height * header.width for path, header in headers.items()}
    some = _spread(list(headers), area)
    if geometry.tile is None:
        images, pixels, decoding, cutting = _timed_images(some, area, geometry)
    else:
        images, pixels, decoding, cutting = _timed_tiles(some, area, geometry)
    if not images:
        return 0.0
    rows = max(len(images), min(TIMED, tiles))  # a single image takes another time than one of many
    batch = np.stack([images[row % len(images)] for row in range(rows)])
    for _ in range(2):  # the first time compiles
        start = time.perf_counter()
        for _ in engine.run([batch]):
            pass
        running = time.perf_counter() - start
    return decoding * sum(area.values()) / pixels + (each * running / rows + cutting / len(images)) * tiles


def _spread(paths: Sequence[Location], area: Mapping[Location, int]) -> list[Location]:
    """Returns images spread over the list, within the limits on what is timed; at least one, if there is any."""
    if not paths:
        return []
    mean = sum(area.values()) / len(paths)
    count = max(1, min(TIMED, len(paths), int(TIMED_PIXELS / mean)))
    chosen: list[Location] = []
    for number in range(count):
        path = paths[(2 * number + 1) * len(paths) // (2 * count)]
        if not chosen or sum(area[other] for other in chosen) + area[path] <= TIMED_PIXELS:
            chosen.append(path)
    return chosen


def _timed_images(
    paths: Sequence[Location], area: Mapping[Location, int], geometry: Geometry
) -> tuple[list[Pixels], int, float, float]:
    """Returns images, the pixels of their files, the seconds of decoding them, and 0 seconds of cutting."""
    start = time.perf_counter()
    found = list(decode_ahead(partial(read_image, geometry=geometry), paths))
    seconds = time.perf_counter() - start
    pixels = sum(area[path] for path, image in zip(paths, found, strict=True) if not isinstance(image, ImageError))
    return [image for image in found if not isinstance(image, ImageError)], pixels, seconds, 0.0


def _timed_tiles(
    paths: Sequence[Location], area: Mapping[Location, int], geometry: Geometry
) -> tuple[list[Pixels], int, float, float]:
    """Returns some tiles, the pixels of their photographs, and the seconds until the first of each and of the rest."""
    tiles: list[Pixels] = []
    pixels, decoding, cutting = 0, 0.0, 0.0
    for path in paths:
        start = time.perf_counter()
        reading = read_tiles(path, geometry)
        try:
            tiles.append(next(reading)[1])
        except ImageError:
            continue
        first = time.perf_counter()
        tiles += [tile for _, tile in islice(reading, TIMED_TILES // len(paths) - 1)]
        pixels, decoding, cutting = pixels + area[path], decoding + first - start, cutting + time.perf_counter() - first
    return tiles, pixels, decoding, cutting


def memory_limits() -> tuple[int, int]:
    """Returns the bytes that this process has, and those that it may have in all.

    The latter is the least of what the machine has free, what a control group (container) allows, and the limit on
    address space (`ulimit -v`); for this limit, mapped memory counts as used, resident or not.
    """
    import psutil

    here = psutil.Process().memory_info()
    used = int(here.rss)
    available = used + int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, current = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            available = min(available, used + int(limit) - int(current))
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return used, available
    limit_of_addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_of_addresses != resource.RLIM_INFINITY:
        available = min(available, used + limit_of_addresses - int(here.vms))
    return used, available


def free_memory() -> int:
    """Returns the bytes that this process may still take; see `memory_limits`."""
    used, available = memory_limits()
    return max(0, available - used)


def _gigabytes(count: int) -> str:
    size = max(count, 0) / 1e9
    return f"{size:.{1 if size >= 0.1 else 2}f} GB"
