"""An environment in which only what some extras need can be imported, whatever else is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

from conftest import ROOT

HIDE = """
import sys

HIDDEN = frozenset({hidden!r})

class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def requirements(*extras: str) -> list[Requirement]:
    """What the project asks for on this Python, with some extras."""
    text = (ROOT / "pyproject.toml").read_text()
    lists = [re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL) for name in ("dependencies", *extras)]
    assert None not in lists
    lines = [line for found in lists if found for line in re.findall(r'"([^"\n]+)"(?:,|$)', found[1])]
    return [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]


def needed(*extras: str) -> set[str]:
    """Those, and what they need in turn, by the names that Python's metadata has for them."""
    found: set[str] = set()
    left = [(one.name, extra) for one in requirements(*extras) for extra in ("", *one.extras)]
    seen: set[tuple[str, str]] = set()
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(plain(name))
        try:
            further = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        asked = [one for one in further if one.marker is None or one.marker.evaluate({"extra": extra})]
        left += [(one.name, its) for one in asked for its in ("", *one.extras)]
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def packages_distributions() -> dict[str, set[str]]:
    """The packages that each module is of, by their files, which Python 3.10's own function does not look at."""
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        package, record = distribution.metadata["Name"], distribution.read_text("RECORD") or ""
        for file in {line.partition(",")[0].partition("/")[0] for line in record.splitlines()}:
            name = file.removesuffix(".py") if file.endswith(".py") else file.partition(".")[0]
            if name.isidentifier():
                found.setdefault(name, set()).add(package)
    return found


@cache
def hidden(*extras: str) -> list[str]:
    """The modules that are installed, and are of no package that is needed."""
    there = needed(*extras) | {"blemish"}
    return sorted(
        module for module, packages in packages_distributions().items() if not {*map(plain, packages)} & there
    )


def environment(folder: Path, *extras: str) -> dict[str, str]:
    """Variables for a process, and for those that it starts, in which all else cannot be imported."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=hidden(*extras)))
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1"}


def blemish(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """The command in such an environment."""
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
