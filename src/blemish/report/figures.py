"""The figures of one or several evaluations as a table with one row for each model: CSV, LaTeX or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from blemish.errors import SettingError
from blemish.evaluation import Evaluation
from blemish.report.table import NONE, Table
from blemish.storage import check_free_file, new_file

ENDINGS = {".csv": "csv", ".tex": "latex", ".md": "markdown"}

COLUMNS: dict[str, Callable[[Evaluation], float | None]] = {
    "image AUROC": lambda found: found.image["auroc"],
    "image AUPR": lambda found: found.image["aupr"],
    "image F1": lambda found: found.image["f1_max"],
    "pixel AUROC": lambda found: found.pixel["auroc"],
    "pixel AUPR": lambda found: found.pixel["aupr"],
    "pixel F1": lambda found: found.pixel["f1_max"],
    "AUPRO": lambda found: found.pixel["aupro"],
    "AUPIMO": lambda found: found.pixel["aupimo"],
    "false alarms": lambda found: found.decisions["false_alarm_rate"],
    "detected": lambda found: found.decisions["detection_rate"],
}
"""Columns, and how to get their figures, between 0 and 1."""

Named = tuple[str, Evaluation]


def make_table(named: Sequence[Named], *, exact: bool = False) -> Table:
    """Returns the figures in per cent, one row for each model; a column without any figure is left out.

    Args:
        named: names of models and their evaluations.
        exact: give six significant digits instead of two after the point.
    """
    shown = {head: get for head, get in COLUMNS.items() if any(get(found) is not None for _, found in named)}
    rows = [[name, *(_cell(get(found), exact) for get in shown.values())] for name, found in named]
    dataset = named[0][1].dataset
    title = f"{dataset.root}, {len(named[0][1].results)} images; all figures in per cent"
    return Table(title, ["model", *shown], rows)


def write_table(named: Sequence[Named], path: Path, *, force: bool = False) -> None:
    """Writes that table in the format of the file's ending: `.csv`, `.tex` (with booktabs) or `.md`.

    Raises:
        SettingError: the ending is none of these.
        StorageError: the file exists and may not be replaced, or cannot be written.
    """
    form = check_table(path, force=force)
    with new_file(path, force=force, has_mark=False) as temporary:
        text = make_table(named, exact=form == "csv").written(form)
        temporary.write_text(text, encoding="utf-8", newline="\n")


def check_table(path: Path, *, force: bool = False) -> str:
    """Returns the format of a table by its path. Raises the errors of `write_table`, before any work."""
    form = ENDINGS.get(path.suffix.lower())
    if form is None:
        raise SettingError(f"{path}: tables end in {', '.join(ENDINGS)}; give one of these")
    check_free_file(path, force=force, has_mark=False)
    return form


def names_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """Returns a different name for each model: its file's without the ending, or its detector's if it has no file.

    If files have the same name, the names of their folders are added until all differ.
    """
    parts = [
        (found.origin.detector,) if found.origin.path is None else tuple(found.origin.path.rstrip("/").split("/"))
        for found in evaluations
    ]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-depth:]).removesuffix(".blemish") for own in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


def _cell(figure: float | None, exact: bool) -> str:
    if figure is None:
        return "" if exact else NONE
    return f"{100 * figure:.6g}" if exact else f"{100 * figure:.2f}"
