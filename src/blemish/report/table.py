"""A table of text, as Markdown, CSV or LaTeX; text in its cells is escaped."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

from blemish.errors import SettingError
from blemish.log import guarded

FORMATS = ("markdown", "csv", "latex")

NONE = "–"
"""Text of a cell that was not measured."""

_COMMANDS = ("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar")
_LINES = {ord(letter): " " for letter in "\n\r\v\f\x1b\x85\u2028\u2029"}
"""Characters that end a line or control a terminal, and what replaces them."""

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
"""Characters that are commands in LaTeX, and what replaces them."""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        title: above the table.
        header: names of the columns.
        rows: each as long as the header.
        notes: lines below the table.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def written(self, form: str) -> str:
        """Returns the table as `markdown`, `csv` or `latex`. Raises `SettingError` if the form is none of these."""
        if form not in FORMATS:
            raise SettingError(f"format {form!r} is not known; give one of {', '.join(FORMATS)}")
        return printable({"markdown": self._markdown, "csv": self._csv, "latex": self._latex}[form]())

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


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def printable(text: str) -> str:
    r"""Returns the text, with characters that UTF-8 cannot hold, from names of files, written as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
