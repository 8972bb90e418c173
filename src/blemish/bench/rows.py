"""A protocol's table: what was measured, beside what was published.

A mean over categories is shown once all of them were measured. A dash stands for what was not measured; a published
figure never takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.bench.notes import made, notes_of
from blemish.bench.protocol import Protocol, Shown
from blemish.bench.results import Result, select
from blemish.report.table import NONE, Table

INTERVALS = {
    "image.auroc": "interval.image_auroc",
    "pixel.auroc": "interval.pixel_auroc",
    "pixel.auroc_per_image": "interval.pixel_auroc_per_image",
    "pixel.aupro": "interval.aupro",
}
"""Figures that have intervals, and the names of these in a result."""


def make_table(protocol: Protocol, results: Sequence[Result], *, intervals: bool = False) -> Table:
    """Returns the table of a protocol's results.

    Args:
        protocol: of the results.
        results: measured and absent ones.
        intervals: show the 95 % intervals of figures that were measured with one seed.
    """
    places = _places(protocol, results)
    measured = {entry.name for entry in protocol.entries} | {result.entry for result in results}
    names = [entry.name for entry in protocol.entries]
    names += sorted(measured - set(names))  # presets that were fitted instead of entries
    names += [name for name in protocol.published if name not in measured]
    lines: list[tuple[str, list[str]]] = []
    for name in names:
        if name in measured:
            lines.append((name, [_ours(protocol, results, name, place, intervals) for place in places]))
        if name in protocol.published:
            figures = protocol.published[name]
            cells = [", ".join(figures.get(place, (NONE,))) for place in places]
            lines.append((f"{name}, published", cells))
    figures_told = ", ".join(
        shown.title + (" %" if shown.unit == "%" else f" ({shown.unit})") for shown in protocol.figures
    )
    title = f"{protocol.title}: {figures_told}"
    if protocol.by_category:
        header = ["", *(name for name, _ in lines)]
        rows = [[place, *(cells[number] for _, cells in lines)] for number, place in enumerate(places)]
    else:
        header = ["", *places]
        rows = [[name, *cells] for name, cells in lines]
    return Table(title, header, rows, notes_of(protocol, results))


def make_list(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns the same figures, one in each row, for programs that read CSV."""
    table = make_table(protocol, results)
    header = ["row", "category", "figure", "unit", "value", "standard error", "seeds", "published", "measured with"]
    rows = []
    for name in dict.fromkeys([*(entry.name for entry in protocol.entries), *(one.entry for one in results)]):
        for place in _places(protocol, results):
            printed = protocol.published.get(name, {}).get(place, ())
            told_of = [made(protocol, one) for one in results if one.entry == name and not one.absent]
            for number, shown in enumerate(protocol.figures):
                values = over_seeds(protocol, results, name, place, shown.key)
                scale = 100 if shown.unit == "%" else 1
                mean, error = mean_and_error([scale * value for value in values]) if values else (None, None)
                figures = ["" if figure is None else f"{figure:.6g}" for figure in (mean, error)]
                told = printed[number] if number < len(printed) else ""
                if values or told:
                    seeds = str(len(values)) if values else ""
                    rows.append(
                        [name, place, shown.title, shown.unit, *figures, seeds, told, told_of[0] if values else ""]
                    )
    return Table(table.title, header, rows)


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean over seeds and its standard error; `None` for the error of one value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def over_seeds(protocol: Protocol, results: Sequence[Result], entry: str, place: str, key: str) -> list[float]:
    """Returns an entry's figure for each seed, in a category or as a group's mean; nothing if a category has none."""
    members = protocol.groups.get(place, (place,))
    columns: list[dict[int, float]] = []
    for category in members:
        found = {one.seed: one.figures.get(key) for one in select(results, entry, category)}
        columns.append({seed: float(value) for seed, value in found.items() if isinstance(value, (int, float))})
    if not columns:
        return []
    seeds = sorted(set.intersection(*(set(column) for column in columns)))
    return [float(np.mean([column[seed] for column in columns])) for seed in seeds]


def _places(protocol: Protocol, results: Sequence[Result]) -> list[str]:
    """Returns groups and categories in the order of the table."""
    groups = list(protocol.groups)
    seen = [result.category for result in results if not result.absent]
    told = [place for figures in protocol.published.values() for place in figures]
    members = [category for group in protocol.groups.values() for category in group]
    order = list(dict.fromkeys([*(place for place in members if place in told or place in seen), *seen, *told]))
    categories = [place for place in order if place not in groups]
    return [*categories, *groups] if protocol.by_category else [*groups, *categories]


def _ours(protocol: Protocol, results: Sequence[Result], entry: str, place: str, intervals: bool) -> str:
    cells = [
        _cell(shown, over_seeds(protocol, results, entry, place, shown.key))
        + (_interval(shown, select(results, entry, place)) if intervals else "")
        for shown in protocol.figures
    ]
    return NONE if all(cell == NONE for cell in cells) else ", ".join(cells)


def _interval(shown: Shown, results: Sequence[Result]) -> str:
    """Returns the 95 % interval of a figure that was measured in one category with one seed; else an empty text."""
    bounds = results[0].figures.get(INTERVALS.get(shown.key, "")) if len(results) == 1 else None
    if not isinstance(bounds, list):
        return ""
    low, high = (f"{100 * bound:.{shown.digits}f}" for bound in bounds)
    return f" ({low} to {high})"


def _cell(shown: Shown, values: Sequence[float]) -> str:
    if not values:
        return NONE
    scale = 100 if shown.unit == "%" else 1
    mean, error = mean_and_error([scale * value for value in values])
    return f"{mean:.{shown.digits}f}" + ("" if error is None else f" ± {error:.2g}")
