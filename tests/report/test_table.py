"""Names from outside in tables and in names of pictures: they are text there, whatever they hold."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from blemish.bench.kept import free
from blemish.bench.protocol import Drawing
from blemish.report.table import Table

NAMES = ["=1+1", "a|b", "\\input{x}", "[red]", "<b>", "li\ne", "50 % & #_$^~"]


@pytest.fixture
def table() -> Table:
    rows = [[name, "60.0, –", "+1.20"] for name in NAMES]
    return Table("Made up", ["", *NAMES[:2]], rows, ["first\nsecond", "\x1b[31mred"])


def test_names_of_categories_are_only_text_in_markdown(table: Table) -> None:
    *lines, note, last = table.written("markdown").splitlines()
    assert lines[2] == r"|  | =1+1 | a\|b |"
    assert [line.split(" | ")[0] for line in lines[4:-1]] == [
        "| =1+1", r"| a\|b", r"| \\input{x}", r"| \[red\]", r"| \<b>", "| li e", "| 50 % & #_$^~"
    ]  # fmt: skip
    assert (note, last) == ("- first second", "- [31mred".replace("[", " ["))


def test_no_name_of_a_category_is_a_formula_in_csv(table: Table) -> None:
    header, *rows = csv.reader(io.StringIO(table.written("csv")))
    assert header == ["", "'=1+1", "a|b"]
    assert rows[0] == ["'=1+1", "60.0, –", "+1.20"], "figures stay numbers"
    assert rows[2][0] == NAMES[2]


def test_no_name_of_a_category_is_a_command_in_latex(table: Table) -> None:
    lines = table.written("latex").splitlines()
    assert [line for line in lines if "footnotesize" in line] == [
        r"\par\footnotesize first second",
        r"\par\footnotesize  {[}31mred",
    ]
    body = lines[lines.index(r"\midrule") + 1 :]
    assert body[1].startswith(r"a\textbar{}b & ")
    assert body[2].startswith(r"\textbackslash{}input\{x\} & ")
    assert body[3].startswith("{[}red] & ")
    assert body[6].startswith(r"50 \% \& \#\_\$\textasciicircum{}\textasciitilde{} & ")


def test_pictures_have_names_of_their_own_inside_the_folder(tmp_path: Path) -> None:
    drawing = Drawing([], tmp_path)
    for words in (("a b", "x"), ("a-b", "x"), ("../..", "y"), ("ö" * 300, "z"), ("\udce9", "w")):
        place = free(drawing, *words)
        assert place.parent == tmp_path
        place.touch(exist_ok=False)
    assert {"a-b-x.png", "a-b-x-2.png", "-..-y.png", "--w.png"} <= {place.name for place in tmp_path.iterdir()}
