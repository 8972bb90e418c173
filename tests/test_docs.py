"""Every example in the README and in docs/ runs, page by page, beside `cells`, a small tree of parts, and `fields`,
one of photographs.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from blemish.detectors import trained
from blemish.fitting.quality import QUALITIES, Quality
from blemish.training import Schedule
from command import inside
from conftest import ROOT, write_parts, write_tree

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"# (\w+\.py)\n")
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Short(Schedule):
    """A schedule whose epochs are short where they would draw images many times; the examples run as well."""

    def __post_init__(self) -> None:
        if self.drawn:
            object.__setattr__(self, "drawn", 32)
        super().__post_init__()


SMALL = {name: Quality(QUALITIES["fast"].backbone, 64, min(1, QUALITIES[name].copies)) for name in QUALITIES}
"""Rungs of small inputs, for examples that name no size."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree `cells`; each page has a copy."""
    folder = write_tree(tmp_path_factory.mktemp("documented") / "cells", 24, 3)
    write_parts(folder / "new", 3, seed=9)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_examples_of_a_page_run(
    page: Path,
    cells: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if page.name == "cluster.md":
        request.getfixturevalue("cluster")  # so that not every example starts one
    shutil.copytree(cells, tmp_path / "cells")
    shutil.copytree(photographs, tmp_path / "fields")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "Schedule", Short)
    for name, rung in SMALL.items():
        monkeypatch.setitem(QUALITIES, name, rung)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    names: dict[str, object] = {}
    for language, code in BLOCK.findall(page.read_text()):
        if file := FILE.match(code):  # a module, which later examples import
            Path(file[1]).write_text(code)
        elif language == "python":
            exec(compile(code, str(page), "exec"), names)
        else:
            for line in code.splitlines():
                if line.startswith("$ blemish "):
                    done = inside(capsys, *shlex.split(line, comments=True)[2:])
                    assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_every_page_is_in_the_readme_and_every_link_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_pages_call_images_good_or_anomalous_and_use_the_fields_own_words() -> None:
    others = re.compile(
        r"\bnormal (?:images?|ones?)\b|\bbad images?\b|\bmend(?:s|ed)?\b|\brungs?\b|\bgives? way\b|\bbe had\b"
    )
    for page in [*PAGES, *(ROOT / "docs").glob("*/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        words = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        assert not others.findall(words), page.name
