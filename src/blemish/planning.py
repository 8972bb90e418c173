"""What a fit will need, told before it starts: memory from the sizes of what is held, time from a few images."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from blemish.engines import BATCH, Engine
from blemish.engines.stream import stream
from blemish.errors import MemoryLimitError
from blemish.images import Geometry, decode_ahead
from blemish.photographs import count_tiles

TIMED = 8
"""Images whose decoding and extracting are timed."""

COUNTED = 256
"""Photographs, about, whose tiles are counted."""

BUFFERS = 4
"""Batches of features that exist at one time, copies included."""


@dataclass(frozen=True)
class Plan:
    """What a fit will take.

    Attributes:
        images: how many will be read.
        tiles: how many these have in all; as many, where they are not cut.
        seconds: estimated, for decoding and extracting them all here; a few were timed.
        memory: bytes, estimated, of the whole process at its peak.
        available: bytes that the process may have in all, what it has already included.
        trains: a training follows, whose time is not in `seconds`.
        cache: bytes of features that may be kept in memory for it.
        disk: bytes, estimated, of features that are kept in the folder for temporary files instead.
    """

    images: int
    tiles: int
    seconds: float
    memory: int
    available: int
    trains: bool = False
    cache: int = 0
    disk: int = 0

    def check(self) -> None:
        """Raises `MemoryLimitError` if the memory will not do."""
        if self.memory > self.available:
            raise MemoryLimitError(
                f"fitting needs about {_gigabytes(self.memory)} of memory, {_gigabytes(self.available)} can be had; "
                "give coarser or fewer layers (--layers), a smaller --size, or another detector"
            )

    def __str__(self) -> str:
        images = f"{self.images} images" + (f" of {self.tiles} tiles" if self.tiles != self.images else "")
        disk = f", {_gigabytes(self.disk)} of disk in {tempfile.gettempdir()}" if self.disk else ""
        told = f"about {max(1, round(self.seconds))} s and {_gigabytes(self.memory)} of memory{disk} for {images}"
        return told + ("; then training, whose bar tells how long" if self.trains else "")


def make_plan(
    engine: Engine, paths: Sequence[Path], geometry: Geometry, features: int, statistics: Callable[[int], int]
) -> Plan:
    """Times a few images, or tiles of one, and adds up.

    Args:
        engine: extracts features.
        paths: of all images.
        geometry: of the images.
        features: numbers in the features of one image or tile.
        statistics: from how many of these there are to the bytes that the detector will hold at its peak.
    """
    tiles = len(paths) if geometry.tile is None else _tiles(paths, geometry)
    sample = paths[:TIMED]
    for _ in islice(stream(engine, sample, geometry), 1):
        pass  # compiles
    start = time.perf_counter()
    timed = sum(max(1, len(chunk.indices)) for chunk in islice(stream(engine, sample, geometry), 1))
    seconds = (time.perf_counter() - start) * tiles / timed
    used, available = memory_limits()
    batches = BATCH * (BUFFERS * 4 * features + 3 * 3 * geometry.shape[0] * geometry.shape[1])
    return Plan(len(paths), tiles, seconds, used + statistics(tiles) + batches, available)


def with_cache(plan: Plan, size: int, budget: int | None) -> Plan:
    """The plan of a fit that keeps so many bytes of features: in memory, if these fit the budget, else on disk.

    Args:
        plan: without them.
        size: of the features.
        budget: bytes of memory for them; half of what is left by default.

    Raises:
        MemoryLimitError: the disk has no room for them.
    """
    room = max(0, plan.available - plan.memory) // 2 if budget is None else budget
    if size <= room:
        return replace(plan, memory=plan.memory + size, cache=room)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free:
        raise MemoryLimitError(
            f"features take {_gigabytes(size)}, more than the {_gigabytes(room)} of memory for them, and {folder} has "
            f"{_gigabytes(free)} free; allow more --memory, set TMPDIR to a larger folder, or give fewer --layers"
        )
    return replace(plan, disk=size)


def _tiles(paths: Sequence[Path], geometry: Geometry) -> int:
    """Of all photographs, by the headers of some of them; those that cannot be read do not count."""
    some = paths[:: max(1, len(paths) // COUNTED)]
    found = [count for count in decode_ahead(partial(count_tiles, geometry=geometry), some) if isinstance(count, int)]
    return max(1, round(sum(found) * len(paths) / len(some)))


def memory_limits() -> tuple[int, int]:
    """Bytes that this process has, and that it may have in all.

    The least of what the machine has free, what a control group (container) allows, and the limit on address space
    (`ulimit -v`); under the last, what is mapped counts as used, resident or not.
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


def _gigabytes(count: int) -> str:
    return f"{max(count, 0) / 1e9:.1f} GB"
