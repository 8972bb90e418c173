"""The pass over many images as tasks of Ray: each shard of images is learned, and their summaries merged in a tree.

Nothing here schedules. Tasks are submitted, at most `AHEAD` for each worker at a time, and waited for; Ray runs a task
again if its worker dies. The tree follows the shards' numbers, so the result depends neither on which worker was
quicker nor on how many workers there are. What shards learned stays with the workers; the driver has references to it.
The last merge of a pass gets all cores of a machine, since nothing else is left to do.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.distributed.backbone import pack_backbone, weights_digest
from blemish.distributed.cluster import Cluster, cores, load_ray, workers
from blemish.distributed.kept import Kept
from blemish.distributed.summary import Packed, Report
from blemish.distributed.tree import Tree
from blemish.distributed.work import Job, Shard, extract_shard, find_bad, learn_shard, merge_two
from blemish.engines.stream import Chunk
from blemish.errors import FIX, NAMED, BadImagesError, ImageError
from blemish.images import Location
from blemish.model import Recipe

if TYPE_CHECKING:
    from blemish.engines.extractor import Extractor

SHARD, LARGEST, SHARES = 64, 1024, 8
"""Images, or tiles, of a shard: a multiple of 64, so that batches are the same as on one machine. Large shards need
less merging, and small ones keep all workers busy to the end; a pass has about 8 shards, unless it has few images or
very many."""

AHEAD = 2
"""Tasks that are submitted for each worker, so that none waits for the driver."""

RETRIES = 20
"""How many times a task is run again if its worker dies."""

KEPT_LEVEL = 2
"""Summaries of 2 to this power shards and more are kept in the user's folder, and the last one."""

COUNTED = 5.0
"""Seconds after which the workers are counted again, since a cluster may grow."""

Watch = Callable[[int], None]
"""Called with how many more images are done."""


@dataclass(frozen=True)
class Images:
    """The images of one pass.

    Attributes:
        stage: `fit` or `calibrate`.
        paths: theirs.
        names: theirs, below the data set's folder.
        later: images of later passes, which are only decoded if a bad one ends this one.
    """

    stage: str
    paths: Sequence[Location]
    names: Sequence[str]
    later: Sequence[Location] = ()


class Fold:
    """Passes over images by the workers of a cluster.

    Args:
        cluster: that this process is connected to.
        recipe: of the model.
        extractor: the backbone ready to run; it is put into the cluster once.
        skip_bad: leave out images that cannot be read, rather than stop.
        shard: images of a shard; by default `images_of_a_shard`.
        tiles: of an image, on average.
        folder: for summaries; none are kept without one.
        resume: go on from the summaries there.
        decisive: what else decides the fit, apart from the recipe and the weights, as JSON can hold it.

    Raises:
        SettingError: the folder holds what would be overwritten.
        StorageError: it cannot be written, or it holds summaries of another fit.
    """

    def __init__(
        self,
        cluster: Cluster,
        recipe: Recipe,
        extractor: Extractor,
        *,
        skip_bad: bool = False,
        shard: int | None = None,
        tiles: float = 1.0,
        folder: Path | None = None,
        resume: bool = False,
        decisive: dict[str, Any] | None = None,
    ) -> None:
        self.ray, self.cluster = load_ray(), cluster
        self.skip_bad, self.shard, self.tiles = skip_bad, shard, tiles
        identity = {**asdict(recipe), "weights": weights_digest(extractor), "engine": extractor.engine.name}
        identity |= {"blemish": version("blemish"), "images of a shard": shard, **(decisive or {})}
        self.kept = Kept(folder, identity, resume) if folder is not None else None
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        backbone = self.ray.put(pack_backbone(extractor, recipe))
        self.job = Job(key, recipe, partial(self.ray.get, backbone))
        self.seen: set[str] = set()

    def features(self, paths: Sequence[Location]) -> Iterator[Chunk]:
        """Yields the features of the images as `stream` does, in order; an image that came before is left out."""
        todo = iter(self.shards(paths))
        running: deque[Any] = deque()
        task = self.task(extract_shard)
        first: dict[str, int] = {}
        try:
            while True:
                while len(running) < AHEAD * workers() and (shard := next(todo, None)) is not None:
                    running.append(task(self.job, shard))
                if not running:
                    return
                for chunk in self.cluster.get(running.popleft()):
                    named = {index: ImageError(paths[index], error.reason) for index, error in chunk.errors.items()}
                    yield replace(_first_ones(chunk, first), errors=named)
        finally:
            self.cancel(running)

    def learn(self, images: Images, scored_by: Any = None, watch: Watch | None = None) -> tuple[Report, Any]:
        """Returns the report of all images, and a reference to what a detector learned from them, for `merged`.

        An image that is the same as an earlier one, in this pass or one before, is left out: its shard is learned again
        without it. Which image counts as the first depends on the images' order alone, since a shard is taken in only
        after all shards before it.

        Args:
            images: of this pass.
            scored_by: a reference to what a model has learned, which scores each image before it is learned from.
            watch: called as images are done.

        Raises:
            BadImagesError: an image cannot be read, and bad ones may not be left out.
            DegenerateError: features or a score are not finite.
            StorageError: a summary cannot be kept, or one that was kept was altered.
        """
        job = self.job
        if scored_by is not None:
            job = replace(job, learned=partial(self.ray.get, scored_by), scored_under=secrets.token_hex(8))
        return _Pass(self, job, images, watch or (lambda count: None)).run()

    def merged(self, one: Any, other: Any) -> Packed:
        """Returns what a detector learned from the images of both, by the references that `learn` gave."""
        threads = cores()
        packed: Packed = self.cluster.get(self.task(merge_two, cores=threads)(self.job, one, other, threads))
        return packed

    def shards(self, paths: Sequence[Location], names: Sequence[str] = (), first: int = 0) -> list[Shard]:
        """Returns the images in shards; they are numbered from `first`."""
        found, size = [], self.shard or images_of_a_shard(len(paths), self.tiles)
        for number, start in enumerate(range(0, len(paths), size)):
            chosen = tuple(from_anywhere(path) for path in paths[start : start + size])
            numbers = tuple(range(first + start, first + start + len(chosen)))
            found.append(Shard(number, numbers, chosen, tuple(names[start : start + size])))
        return found

    def task(self, function: Callable[..., Any], results: int = 1, cores: int = 1) -> Callable[..., Any]:
        """Returns a function that submits this one as a task, to be run again if its worker dies."""
        remote = self.ray.remote(function).options(num_cpus=cores, max_retries=RETRIES, num_returns=results).remote

        def submit(*arguments: Any) -> Any:
            self.cluster.check()
            return remote(*arguments)

        return submit

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Cancels tasks that have not been run."""
        for task in () if self.cluster.is_gone else tasks:
            with suppress(Exception):  # the cluster may be gone
                self.ray.cancel(task)


def images_of_a_shard(images: int, tiles: float = 1.0) -> int:
    """Returns how many images a shard of a pass over `images` has, if each has `tiles` tiles on average."""
    rows = SHARD * max(1, min(math.ceil(images * tiles / (SHARES * SHARD)), LARGEST // SHARD))
    return max(1, int(rows / tiles))


def from_anywhere(path: Location) -> Location:
    """Returns the path in the form that is valid on any machine."""
    return path.absolute() if isinstance(path, Path) else path


def _first_ones(chunk: Chunk, first: dict[str, int]) -> Chunk:
    """Returns the chunk without images that came before; `first` has the number of the first image of each digest."""
    rows = [
        row
        for row, (index, owner) in enumerate(zip(chunk.indices, chunk.owners, strict=True))
        if first.setdefault(owner, index) == index
    ]
    return replace(
        chunk,
        indices=[chunk.indices[row] for row in rows],
        places=[chunk.places[row] for row in rows] if chunk.places else [],
        arrays=tuple(array[rows] for array in chunk.arrays),  # copies, since Ray's own may not be written to
        virtual=[chunk.virtual[row] for row in rows],
        owners=[chunk.owners[row] for row in rows],
        digests={index: digest for index, digest in chunk.digests.items() if first[digest] == index},
        repeated=chunk.repeated | {index: digest for index, digest in chunk.digests.items() if first[digest] != index},
    )


class _Pass:
    """One pass of a fold: what is to be done, what is running, and the tree of what is done."""

    def __init__(self, fold: Fold, job: Job, images: Images, watch: Watch) -> None:
        self.fold, self.job, self.images, self.watch = fold, job, images, watch
        self.ray = fold.ray
        shards = fold.shards(images.paths, images.names)
        self.tree: Tree[tuple[Report, Any]] = Tree(len(shards))
        self.todo = deque(shards)
        self.running: dict[Any, Callable[[Any], None]] = {}  # what to do with the result of each task
        self.order = deque(shard.number for shard in shards)  # of those that are not known yet
        self.early: dict[int, tuple[Shard, Report, Any]] = {}  # learned, but not all before them are known
        self.bad: dict[int, str] = {}
        self.learning, self.merging, self.finding = fold.task(learn_shard, 2), fold.task(merge_two), fold.task(find_bad)

    def run(self) -> tuple[Report, Any]:
        try:
            if self.fold.kept:
                self._resume(self.fold.kept)
            room, counted = 0, float("-inf")
            while self.todo or self.running:
                if time.monotonic() > counted + COUNTED:
                    room, counted = AHEAD * workers(), time.monotonic()
                while self.todo and len(self.running) < room and len(self.early) < room:
                    self._submit(self.todo.popleft())
                for task in self.fold.cluster.finished(list(self.running)):
                    self.running.pop(task)(task)
        finally:
            self.fold.cancel(self.running)
        if self.bad:
            paths = [*self.images.paths, *self.images.later]
            errors = [ImageError(paths[number], reason) for number, reason in sorted(self.bad.items())]
            raise BadImagesError(errors, FIX)
        assert self.tree.root is not None  # noqa: S101  # every leaf was added
        return self.tree.root

    def _resume(self, kept: Kept) -> None:
        done: set[int] = set()
        for level, place, report, learned in kept.read(self.images.stage):
            done.update(self.tree.below(level, place))
            self.fold.seen.update(report.digests.values())
            self._add(level, place, report, self.ray.put(learned))
        for shard in self.todo:
            if shard.number in done:
                self.watch(len(shard.images))
        self.todo = deque(shard for shard in self.todo if shard.number not in done)
        self.order = deque(shard.number for shard in self.todo)

    def _submit(self, shard: Shard, known: frozenset[str] = frozenset()) -> None:
        """Submits a shard: to be learned, the second time without some images; or to be decoded, if some are bad."""
        if self.bad:
            self.running[self.finding(self.job, shard)] = self._found_bad
            return
        report, learned = self.learning(self.job, shard, known)
        self.running[report] = partial(self._take_in if known else self._learned, shard, learned)

    def _learned(self, shard: Shard, learned: Any, task: Any) -> None:
        report: Report = self.fold.cluster.get(task)
        if report.bad and not self.fold.skip_bad:
            self._found_bad(task)
        if self.bad:
            self.early.clear()  # nothing more is learned
            return
        self.early[shard.number] = (shard, report, (learned, task))
        while self.order and self.order[0] in self.early:
            shard, report, (learned, task) = self.early.pop(self.order.popleft())
            if again := self._repeated(report):
                self._submit(shard, again)
            else:
                self._take_in(shard, learned, task)

    def _take_in(self, shard: Shard, learned: Any, task: Any) -> None:
        self.watch(len(shard.images))
        self._add(0, shard.number, self.fold.cluster.get(task), learned)

    def _repeated(self, report: Report) -> frozenset[str]:
        """Returns the digests that were there before, and takes note of the others."""
        digests = frozenset(report.digests.values())
        found = digests & self.fold.seen
        self.fold.seen |= digests
        return found

    def _found_bad(self, task: Any) -> None:
        if not self.bad:  # from now on shards are only decoded
            self.todo += self.fold.shards(self.images.later, first=len(self.images.paths))
        self.bad |= self.fold.cluster.get(task).bad
        if len(self.bad) > NAMED:
            self.todo.clear()

    def _add(self, level: int, place: int, report: Report, learned: Any) -> None:
        """Adds a summary to the tree, keeps it if it is to be kept, and merges it with its neighbour."""
        if self.bad:
            return
        pair = self.tree.add(level, place, (report, learned))
        is_root = self.tree.root is not None
        if self.fold.kept and report.variety.found and (is_root or level >= KEPT_LEVEL):
            at = (self.tree.top, 0) if is_root else (level, place)
            self.fold.kept.write(self.images.stage, *at, report, self.fold.cluster.get(learned))
        if pair is not None:
            (one, left), (other, right) = pair.left, pair.right
            if pair.level == self.tree.top:
                threads = cores()
                task = self.fold.task(merge_two, cores=threads)(self.job, left, right, threads)
            else:
                task = self.merging(self.job, left, right)
            self.running[task] = partial(self._merged, pair.level, pair.place, one.merge(other))

    def _merged(self, level: int, place: int, report: Report, task: Any) -> None:
        self._add(level, place, report, task)
