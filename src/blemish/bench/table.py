"""A protocol's table: what was measured, with what was published beside, as Markdown, CSV or LaTeX.

A mean over categories is shown once all of them were measured. What was not measured is a dash, never a published
figure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from blemish.bench.protocol import Protocol, Shown
from blemish.bench.results import Result, select
from blemish.errors import SettingError
from blemish.evaluation.per_image import FIGURES
from blemish.log import guarded

FORMATS = ("markdown", "csv", "latex")
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
        notes = [f"% {note.translate(_LINES)}" for note in self.notes]
        return "\n".join(
            [
                *notes,
                r"\begin{table}",
                rf"\caption{{{_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def make_table(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns the table of a protocol's results."""
    places = _places(protocol, results)
    measured = {entry.name for entry in protocol.entries} | {result.entry for result in results}
    names = [entry.name for entry in protocol.entries]
    names += sorted(measured - set(names))  # presets in the place of entries
    names += [name for name in protocol.published if name not in measured]
    lines: list[tuple[str, list[str]]] = []
    for name in names:
        if name in measured:
            lines.append((name, [_ours(protocol, results, name, place) for place in places]))
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


def _ours(protocol: Protocol, results: Sequence[Result], entry: str, place: str) -> str:
    cells = [_cell(shown, over_seeds(protocol, results, entry, place, shown.key)) for shown in protocol.figures]
    return NONE if all(cell == NONE for cell in cells) else ", ".join(cells)


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
        text = _absent(result) if result.absent else _made(result)
        entries = told.setdefault(text, [])
        if result.entry not in entries:
            entries.append(result.entry)
    notes += [f"{', '.join(entries)}: {text}" for text, entries in told.items() if text]
    return notes


def make_differences(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns how entries differ from the protocol's reference on the same images, by intervals at 95 %."""
    rows = [
        [
            result.entry,
            result.category,
            str(result.seed),
            FIGURES.get(one["figure"], one["figure"]),
            f"{100 * one['difference']:+.2f}",
            NONE
            if one["interval"] is None
            else f"{100 * one['interval']['low']:+.2f} to {100 * one['interval']['high']:+.2f}",
            _verdict(one["interval"]),
        ]
        for result in results
        for one in result.against
    ]
    header = ["", "category", "seed", "figure", f"less {protocol.reference}, points", "95 % interval", ""]
    notes = ["Both see the same images. Of twenty comparisons of equals, one differs by chance."]
    return Table(f"{protocol.title}: differences from {protocol.reference}", header, rows, notes)


def _verdict(bounds: Mapping[str, float] | None) -> str:
    if bounds is None:
        return "cannot be told"
    return "does not differ" if bounds["low"] <= 0 <= bounds["high"] else "differs"


def _absent(result: Result) -> str:
    return f"absent: {result.absent}"


def _made(result: Result) -> str:
    """Returns what was measured, in words: network, size, weights, and images."""
    fit = result.fit
    if not fit.get("backbone"):
        return ""
    size = "×".join(map(str, fit.get("size", ())))
    weights = f" and {fit['weights']}" if fit.get("weights") else ""
    drawn = result.data.get("drawn")
    images = f", on {drawn} training images at most" if drawn else ""
    return f"measured with {fit['backbone']} at {size}{weights}{images}"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)
