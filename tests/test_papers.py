"""The pages on papers: what they name exists, and no equation is without a function and a test."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer

from blemish.bench.names import PROTOCOLS
from blemish.cli.main import app
from blemish.detectors import DETECTORS
from blemish.fitting.presets import PRESETS
from conftest import ROOT

FOLDER = ROOT / "docs" / "papers"
PAGES = sorted(FOLDER.glob("*.md"))
ROOMS = {path.name for path in (ROOT / "src" / "blemish").iterdir() if path.is_dir()}

NUMBERS = {
    "mvg.md": [str(number) for number in range(1, 8)],
    "padim.md": ["1", "2"],
    "hfr.md": [str(number) for number in range(1, 12)],
    "vae-grf.md": [str(number) for number in range(1, 21)],
    "fre.md": ["1", "2", "3"],
    "baselines.md": ["S1", "S2", "V1", "Z1", "D1", "D2", "A1"],
}
"""The equations that each paper numbers; those of the baselines are numbered by us."""

RESULTS = ["Proposition 1", "Proposition 2", "Proposition 3", "Corollary"]
"""What FRE states besides."""

ROW = re.compile(r"^\| (.+?) \| (.+?) \| `(.+?)` \| \[(.+?)\]\((.+?)\) \|$", re.MULTILINE)
Row = tuple[str, str, str, str, str]
"""Number, words, function, the test's sentence, and its file."""


@cache
def rows() -> dict[str, list[Row]]:
    """The rows of the table of equations, by the page that their section links to."""
    _, *sections = (FOLDER / "equations.md").read_text().split("\n## ")
    return {re.findall(r"\]\((.+?)\)", section)[0]: ROW.findall(section) for section in sections}


def test_every_equation_of_every_paper_is_in_the_table_and_on_its_page() -> None:
    assert list(rows()) == list(NUMBERS)
    for page, numbers in NUMBERS.items():
        listed = [number for number, *_ in rows()[page] if number != "–"]
        assert listed == numbers + (RESULTS if page == "fre.md" else []), page
        assert re.findall(r"\\tag\{(.+?)\}", (FOLDER / page).read_text()) == numbers, page


def test_every_row_of_the_table_says_what_the_equation_is_in_a_few_words() -> None:
    for _, words, *_ in (row for section in rows().values() for row in section):
        assert 1 <= len(words.split()) <= 5, words


@cache
def functions_of(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_function_and_every_test_in_the_table_exists() -> None:
    for _, _, function, sentence, file in (row for section in rows().values() for row in section):
        assert found(function), function
        assert "test_" + sentence.replace(" ", "_") in functions_of((FOLDER / file).resolve()), file


def found(name: str) -> bool:
    """Whether a dotted name, from the package on, is a module, or something in one."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(["blemish", *words[:end]]))
        except ModuleNotFoundError:
            continue
        for word in words[end:]:
            if not hasattr(thing, word):
                return False
            thing = getattr(thing, word)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_function_and_class_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`([a-z_]+(?:\.\w+)+)`", page.read_text())
    missing = [name for name in named if name.split(".")[0] in ROOMS and not found(name)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_preset_and_protocol_that_a_page_names_exists(page: Path) -> None:
    kinds = {name.split("-")[0] for name in PRESETS}
    named = re.findall(r"`([a-z]\w*(?:-\w+)+)`", page.read_text())
    assert {name for name in named if name.split("-")[0] in kinds} <= {*PRESETS, *DETECTORS, *PROTOCOLS}


@cache
def whole() -> click.Command:
    return typer.main.get_command(app)


def commands(page: Path) -> list[list[str]]:
    """The words of every command in the page's blocks, without the program's name."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    assert all(line.startswith("blemish ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


def values(words: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_on_a_page_has_arguments_options_and_settings_that_there_are(page: Path) -> None:
    for words in commands(page):
        command, parent, rest = whole(), None, list(words)
        while hasattr(command, "commands"):
            parent = command.make_context(rest[0], [], parent=parent, resilient_parsing=True)
            command = command.commands[rest.pop(0)]
        command.make_context(command.name, rest, parent=parent)  # raises for what the command does not know
        if words[0] == "bench":
            for entry in values(words, "--entry"):
                PROTOCOLS[words[2]].entry(entry)  # raises where the protocol has none of that name
            assert words[2] in PROTOCOLS, words
        presets = values(words, "--preset")
        assert set(presets) <= set(PRESETS), words
        detector = PRESETS[presets[0]].detector if presets else "".join(values(words, "--detector"))
        settings = [setting.split("=")[0] for setting in values(words, "--set")]
        assert set(settings) <= set(DETECTORS[detector].setting_names() if settings else ()), words


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_to_a_page_and_to_a_heading_on_it(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_protocol_is_on_a_papers_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in PROTOCOLS if not re.search(rf"[ `]{name}[ `\n]", text)]


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"\]\((\w[\w-]*\.md)\)", (FOLDER / "index.md").read_text())
    assert sorted(listed) == [page.name for page in PAGES if page.name != "index.md"]
