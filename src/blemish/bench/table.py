"""A protocol's table: what was measured, with what was published beside, as Markdown, CSV or LaTeX.

A mean over categories is shown once all of them were measured. What was not measured is a dash, never a published
figure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blemish.bench.protocol import Protocol, Shown
from blemish.bench.results import Result, select
from blemish.errors import SettingError
from blemish.evaluation.per_image import FIGURES
from blemish.log import guarded

FORMATS = ("markdown", "csv", "latex")
INTERVALS = {
    "image.auroc": "interval.image_auroc",
    "pixel.auroc": "interval.pixel_auroc",
    "pixel.auroc_per_image": "interval.pixel_auroc_per_image",
    "pixel.aupro": "interval.aupro",
}
"""Figures that have intervals, and the names of these in a result."""

NONE = "–"

_COMMANDS = ("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar")
_LINES = {ord(letter): " " for letter in "\n\r\v\f\x1b\x85\u2028\u2029"}
"""What ends a line, or writes to a terminal."""

_MARKDOWN = {**_LINES, **{ord(letter): f"\\{letter}" for letter in "\\`*[]<|"}}
_LATEX = {
    **_LINES,
    **{ord(letter): f"\\{letter}" for letter in "&%_#${}"},
    **{ord(letter): rf"\{name}{{}}" for letter, name in zip("\\~^<>|", _COMMANDS, strict=True)},
    ord("["): "{[}",  # at the start of a row it would be an argument of the one before
    ord("–"): "--",
    ord("±"): r"$\pm$",
    ord("×"): r"$\times$",
    ord("·"): r"$\cdot$",
}
"""What stands in a cell for a letter that means something else there."""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        title: what it shows.
        header: of the columns.
        rows: as long as the header.
        notes: what differs from the paper, and what is absent.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def written(self, form: str) -> str:
        """Returns the table as `markdown`, `csv` or `latex`. Raises `SettingError` if the form is none of these."""
        if form not in FORMATS:
            raise SettingError(f"format {form!r} is not known; give one of {', '.join(FORMATS)}")
        return {"markdown": self._markdown, "csv": self._csv, "latex": self._latex}[form]()

    def _markdown(self) -> str:
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        header, *rows = ([cell.translate(_MARKDOWN) for cell in line] for line in (self.header, *self.rows))
        body = ["| " + " | ".join(line) + " |" for line in (header, rule, *rows)]
        notes = [f"- {note.translate(_LINES)}" for note in self.notes]
        return "\n".join([f"**{self.title}**", "", *body, "", *notes]).rstrip() + "\n"

    def _csv(self) -> str:
        text = io.StringIO()
        rows = [[*map(guarded, line[:2]), *line[2:]] for line in self.rows]  # the rest are figures
        csv.writer(text, lineterminator="\n").writerows([list(map(guarded, self.header)), *rows])
        return text.getvalue()

    def _latex(self) -> str:
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (self.header, *self.rows)]
        notes = [rf"\par\footnotesize {_escaped(note)}" for note in self.notes]
        return "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                r"\begin{table}",
                rf"\caption{{{_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
                "",
            ]
        )


def make_table(protocol: Protocol, results: Sequence[Result], *, intervals: bool = False) -> Table:
    """Returns the table of a protocol's results.

    Args:
        protocol: of the results.
        results: measured and absent ones.
        intervals: show those at 95 % of figures that were measured with one seed.
    """
    places = _places(protocol, results)
    measured = {entry.name for entry in protocol.entries} | {result.entry for result in results}
    names = [entry.name for entry in protocol.entries]
    names += sorted(measured - set(names))  # presets in the place of entries
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
    return Table(title, header, rows, _notes(protocol, results))


def make_list(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns the same figures, one in a row: for programs that read CSV."""
    table = make_table(protocol, results)
    header = ["row", "category", "figure", "unit", "value", "standard error", "seeds", "published", "measured with"]
    rows = []
    for name in dict.fromkeys([*(entry.name for entry in protocol.entries), *(one.entry for one in results)]):
        for place in _places(protocol, results):
            printed = protocol.published.get(name, {}).get(place, ())
            made = [_made(protocol, one) for one in results if one.entry == name and not one.absent]
            for number, shown in enumerate(protocol.figures):
                values = over_seeds(protocol, results, name, place, shown.key)
                scale = 100 if shown.unit == "%" else 1
                mean, error = mean_and_error([scale * value for value in values]) if values else (None, None)
                figures = ["" if figure is None else f"{figure:.6g}" for figure in (mean, error)]
                told = printed[number] if number < len(printed) else ""
                if values or told:
                    seeds = str(len(values)) if values else ""
                    rows.append(
                        [name, place, shown.title, shown.unit, *figures, seeds, told, made[0] if values else ""]
                    )
    return Table(table.title, header, rows)


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean over seeds and its standard error, which one value does not have."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def over_seeds(protocol: Protocol, results: Sequence[Result], entry: str, place: str, key: str) -> list[float]:
    """Returns the figure of an entry for each seed, in a category or as the mean of a group; none if one is missing."""
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
    """Returns the interval at 95 % of a figure in one category with one seed; nothing if it has none."""
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


def _notes(protocol: Protocol, results: Sequence[Result]) -> list[str]:
    notes = [protocol.differs] if protocol.differs else []
    notes += [f"{entry.name}: {entry.note}" for entry in protocol.entries if entry.note]
    told: dict[str, list[str]] = {}
    names = [entry.name for entry in protocol.entries]
    order = {name: number for number, name in enumerate(names)}
    for result in sorted(results, key=lambda result: order.get(result.entry, len(order))):
        text = f"absent: {result.absent}" if result.absent else _made(protocol, result)
        entries = told.setdefault(text, [])
        if result.entry not in entries:
            entries.append(result.entry)
    rows = {result.entry for result in results}
    notes += [
        f"{'All rows' if len(rows) > 1 and set(entries) == rows else '; '.join(entries)}: {text}"
        for text, entries in told.items()
        if text
    ]
    if any(_is_partial(protocol, results, group) for group in protocol.groups):
        notes.append(f"A mean ({', '.join(protocol.groups)}) is shown once all of its categories were measured.")
    return notes


def _is_partial(protocol: Protocol, results: Sequence[Result], group: str) -> bool:
    measured = {result.category for result in results if not result.absent}
    return not set(protocol.groups[group]) <= measured


def _made(protocol: Protocol, result: Result) -> str:
    """Returns what was measured, in words: network, layers, size, weights, and what else is not the paper's."""
    fit = result.fit
    if not fit.get("size"):
        return ""
    size, resized = ("×".join(map(str, fit.get(name, fit["size"]))) for name in ("size", "resized"))
    told = [f"{size} pixels" + (f", the centre of {resized}" if resized != size else "")]
    if fit.get("weights") not in {None, "none"}:
        layers = f"layer{'s' if len(fit['layers']) > 1 else ''} {', '.join(map(str, fit['layers']))}"
        told.insert(0, f"{fit['backbone']}, {layers}, {fit['weights']}")
    changed = _changed(protocol, result)
    told += [f"with {changed}"] if changed else []
    drawn = result.data.get("drawn")
    told += [f"{drawn} normal images at most"] if drawn else []
    return "; ".join(told)


def _changed(protocol: Protocol, result: Result) -> str:
    """Returns the settings that were given in the place of the row's own."""
    own: Mapping[str, Any] = {}
    for entry in protocol.entries:
        if entry.name == result.entry:
            own = entry.fit.get("settings", {})
    given = result.fit.get("arguments", {}).get("settings", {})
    return ", ".join(f"{name}={value}" for name, value in given.items() if own.get(name) != value)


def make_differences(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns how entries differ from the protocol's reference on the same images, by intervals at 95 %.

    Raises:
        SettingError: the protocol has no reference, or nothing was compared with it.
    """
    if protocol.reference is None:
        raise SettingError(f"{protocol.name} has no main row to compare others with; give it without --differences")
    main = {(one.category, one.seed): one.time for one in results if one.entry == protocol.reference}
    rows, others = [], set()
    for result in results:
        for one in result.against:
            if one.get("of") not in {main.get((result.category, seed)) for seed in (result.seed, 0)}:
                others.add(result.entry)
                continue
            rows.append(
                [
                    result.entry,
                    result.category,
                    str(result.seed),
                    FIGURES.get(one["figure"], one["figure"]),
                    f"{100 * one['difference']:+.2f}",
                    _bounds(one["interval"]),
                    _verdict(one["interval"]),
                ]
            )
    if not rows:
        raise SettingError(
            f"{protocol.name}: no row was compared with {protocol.reference} as it is; run both again, into a new file"
        )
    header = ["", "category", "seed", "figure", f"minus {protocol.reference}, points", "95 % interval", "verdict"]
    notes = [
        "Both rows were measured on the same images. Where an interval holds 0, they cannot tell which is better.",
        "Each interval is at 95 % by itself: of twenty comparisons of equals, one differs by chance.",
        "Figures of all pixels together are compared where both rows were measured in one run.",
        *_notes(protocol, results),
    ]
    if others:
        notes.append(f"{'; '.join(sorted(others))}: was compared with another measurement of {protocol.reference}")
    return Table(f"{protocol.title}: differences from {protocol.reference}", header, rows, notes)


def _bounds(interval: Mapping[str, float] | None) -> str:
    return NONE if interval is None else f"{100 * interval['low']:+.2f} to {100 * interval['high']:+.2f}"


def _verdict(bounds: Mapping[str, float] | None) -> str:
    if bounds is None:
        return "cannot be told"
    return "does not differ" if bounds["low"] <= 0 <= bounds["high"] else "differs"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)
