"""Runs a protocol: each entry on each category with each seed, if its result is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.bench.measure import Bench
from blemish.bench.options import (
    Options,
    arguments_of,
    check_options,
    chosen_entries,
    chosen_sources,
    fitted_with,
)
from blemish.bench.protocol import Entry, Protocol
from blemish.bench.record import data_of, measured, plain
from blemish.bench.results import Result, append_result, check_writable, read_results
from blemish.datasets import Dataset, read_source
from blemish.errors import SourceError
from blemish.evaluation import PerImage, compared
from blemish.model.provenance import now
from blemish.progress import Progress


def run(
    protocol: Protocol,
    root: str,
    output: str | Path,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    announce: Callable[[Result | str], None] | None = None,
) -> list[Result]:
    """Measures what is not in the results yet, appends it, and returns all results of the protocol.

    If something cannot be measured, because weights or images are missing, its result has the reason in `absent`. The
    next run tries again.

    Args:
        protocol: to run.
        root: folder of the data.
        output: file of results; made if it is absent.
        options: what is changed.
        progress: called with the stage, and how many images of how many are done.
        announce: called with what is measured next, and with each new result.

    Raises:
        SourceError: there is no data set, or it has no such category.
        SettingError: no entry has that name, or a number is out of range.
        StorageError: the results cannot be written.
    """
    options = options or Options()
    told = announce or (lambda what: None)
    entries = chosen_entries(protocol, options)
    sources = chosen_sources(protocol, root, options.categories)
    check_options(entries, sources, options)
    check_writable(output)
    done = {result.key: result for result in read_results(output, protocol.name) if result.absent is None}
    entries.sort(key=lambda entry: entry.name != protocol.reference)  # first, since others are compared with it
    for category, source in sources.items():
        own = [entry.on(category) for entry in entries]
        before = _Before(protocol, category, options, done)
        for seed in range(max(_seeds(entry, options) for entry in entries)):
            try:
                bench = Bench(_read(source, seed, options), seed, progress, options.models)
            except SourceError as error:
                for entry in own:
                    result = Result(protocol.name, entry.name, category, seed, absent=str(error), time=now())
                    append_result(output, result)
                    told(result)
                break
            before.data[seed] = data_of(bench, options.images)
            for entry in own:
                if seed >= _seeds(entry, options) or before.has(entry, seed):
                    continue
                told(f"{entry.name}, {category}" + (f", seed {seed}" if entry.draws else ""))
                result, per_image = measured(
                    protocol,
                    entry,
                    category,
                    bench,
                    arguments_of(entry, options),
                    drawn=options.images,
                    models=options.models,
                )
                if entry.name == protocol.reference:
                    before.fresh = (seed, per_image, result.time)
                elif per_image is not None and (main := before.reference(seed)) is not None:
                    found = [{**one.as_dict(), "of": main[1]} for one in compared(per_image, main[0])]
                    result = replace(result, against=plain(found))
                append_result(output, result)
                told(result)
            bench.release()
    return read_results(output, protocol.name)


@dataclass
class _Before:
    """What earlier runs measured of a protocol on one category.

    Attributes:
        protocol, category, options: of this run.
        done: results of earlier runs.
        data: what results say of the images, by seed.
        fresh: the seed of the reference's last measurement in this run, the figures of its test images, and its time.
    """

    protocol: Protocol
    category: str
    options: Options
    done: Mapping[tuple[str, str, str, int], Result]
    data: dict[int, dict[str, Any]] = field(default_factory=dict)
    fresh: tuple[int, PerImage | None, str] | None = None

    def has(self, entry: Entry, seed: int) -> bool:
        """Returns whether an entry was measured, and its kept model and training log are still there if asked for."""
        former = self._former(entry, seed)
        if former is None or self.options.models is None or self.protocol.draw is None:
            return former is not None
        training = former.fit.get("training")
        there = training is None or Path(training).exists()
        pictured = entry.name in self.protocol.pictured
        return there and (not pictured or (former.model is not None and Path(former.model).exists()))

    def reference(self, seed: int) -> tuple[PerImage, str] | None:
        """Returns the reference's figures of the test images and the time of its result; `None` if not measured."""
        if self.protocol.reference is None:
            return None
        entry = self.protocol.entry(self.protocol.reference).on(self.category)
        own = seed if entry.draws else 0
        if self.fresh is not None and self.fresh[0] == own:
            return None if self.fresh[1] is None else (self.fresh[1], self.fresh[2])
        former = self._former(entry, own)
        return (PerImage.from_rows(former.images), former.time) if former is not None and former.images else None

    def _former(self, entry: Entry, seed: int) -> Result | None:
        """Returns the result of the same fit on the same images; `None` if a preset has other settings now."""
        former = self.done.get((self.protocol.name, entry.name, self.category, seed))
        arguments = arguments_of(entry, self.options)
        if former is None or former.fit.get("arguments") != plain({**arguments, **entry.view}):
            return None
        if any(former.data.get(name) != self.data[seed][name] for name in ("drawn", "digest")):
            return None
        today = fitted_with(entry, arguments, seed)
        return former if all(former.fit.get(name, value) == value for name, value in today.items()) else None


def _seeds(entry: Entry, options: Options) -> int:
    return (options.seeds or entry.seeds) if entry.draws else 1


def _read(source: str, seed: int, options: Options) -> Dataset:
    dataset = read_source(source, 0)  # one split for all seeds
    if options.images is None or options.images >= len(dataset.train):
        return dataset
    drawn = sorted(np.random.default_rng(seed).permutation(len(dataset.train))[: options.images].tolist())
    return replace(dataset, train=[dataset.train[index] for index in drawn])
