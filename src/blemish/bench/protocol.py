"""A protocol: the rows of a paper's table, the figures in its cells, and the published figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.errors import SettingError

if TYPE_CHECKING:
    from blemish.bench.measure import Measure
    from blemish.bench.results import Result

Published = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Entry → category or group → figures as printed, in the protocol's order and units."""


@dataclass(frozen=True)
class Shown:
    """A figure in the cells of a table.

    Attributes:
        key: its name in a result, such as `pixel.auroc`.
        title: what the table calls it.
        unit: `%` for shares, which results hold as numbers between 0 and 1; else the unit, such as `s`.
        digits: after the point.
    """

    key: str
    title: str
    unit: str = "%"
    digits: int = 1


IMAGE_AUROC = Shown("image.auroc", "image AUROC")
PIXEL_AUROC = Shown("pixel.auroc", "pixel AUROC")
PIXEL_AUPR = Shown("pixel.aupr", "pixel AUPR")
AUPRO = Shown("pixel.aupro", "AUPRO")


@dataclass(frozen=True)
class Entry:
    """What is fitted and measured for each category: a row of a table, or a column.

    Attributes:
        name: as the paper calls it.
        fit: arguments of `fit`.
        view: settings of the detector that are changed after the fit, such as the map. Successive entries with the same
            `fit` share one fit.
        strides: of the layers; with another backbone, its deepest layer of each stride is used.
        draws: whether the seed changes what is learned, so that several seeds give a mean and a standard error.
        seeds: how many, if it draws.
        measure: fits and measures; by default `measure.fit_and_evaluate`.
        note: what differs from the paper.
    """

    name: str
    fit: Mapping[str, Any]
    view: Mapping[str, Any] = field(default_factory=dict)
    strides: tuple[int, ...] = ()
    draws: bool = False
    seeds: int = 1
    measure: Measure | None = None
    note: str = ""

    def on(self, category: str) -> Entry:
        """Returns the entry with the category's name in its preset, instead of `{category}`."""
        preset = self.fit.get("preset")
        if preset is None or "{category}" not in preset:
            return self
        return replace(self, fit={**self.fit, "preset": preset.replace("{category}", category)})


@dataclass(frozen=True)
class Drawing:
    """What a figure is drawn from, and where it is written.

    Attributes:
        results: of the protocol.
        folder: to write pictures to.
        pick: numbers of images, as the data set sorts them; by default evenly spaced ones.
        components: of each layer, for the figures of `mvg-figures`.
    """

    results: Sequence[Result]
    folder: Path
    pick: Sequence[int] = ()
    components: Sequence[int] = ()


@dataclass(frozen=True)
class Protocol:
    """A table or a figure of a paper.

    Attributes:
        name: by which it is run.
        title: the paper, and its table or figure.
        data: the data set of the paper.
        entries: what is fitted.
        figures: in each cell.
        sources: finds the categories below a root: name → source.
        groups: categories of each mean, by its name; a mean is shown once all of them were measured.
        published: figures of the paper, for our entries and for others.
        by_category: whether categories are the table's rows and entries its columns.
        reference: the entry that others are compared with, image by image.
        draw: draws the figure and returns the names of the pictures; `None` if there is no figure.
        pictured: entries whose models are needed for the figure.
        differs: what differs from the paper in every run.
    """

    name: str
    title: str
    data: str
    entries: tuple[Entry, ...]
    figures: tuple[Shown, ...]
    sources: Callable[[str], dict[str, str]]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    published: Published = field(default_factory=dict)
    by_category: bool = False
    reference: str | None = None
    draw: Callable[[Drawing], list[str]] | None = None
    pictured: tuple[str, ...] = ()
    differs: str = ""

    def entry(self, name: str) -> Entry:
        """Returns the entry of that name. Raises `SettingError` if there is none."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise SettingError(f"{self.name} has no entry {name!r}; give one of {known}")
