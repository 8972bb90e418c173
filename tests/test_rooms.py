"""The rooms of the source: few ways between them, none back up, and faces that need no heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

SOURCE = ROOT / "src" / "blemish"

LIGHT = [
    "backbones",
    "calibration",
    "datasets",
    "engines",
    "evaluation",
    "explanation",
    "export",
    "fitting",
    "images",
    "maps",
    "metrics",
    "model",
    "report",
    "storage",
]


def room_of(file: Path) -> str:
    """The folder directly below the package, or the file where it stands in none."""
    return file.relative_to(SOURCE).parts[0]


def imported(file: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blemish":
            below = (node.module or "").split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
    return {name if (SOURCE / name).is_dir() else f"{name}.py" for name in found}


def ways() -> set[tuple[str, str]]:
    files = [file for file in SOURCE.rglob("*.py") if file.parent != SOURCE or file.name != "__init__.py"]
    return {(room_of(file), room) for file in files for room in imported(file) - {room_of(file)}}


def test_there_are_few_ways_between_rooms_and_none_leads_back() -> None:
    found = ways()
    assert len(found) <= 190
    left = {room for way in found for room in way}
    while left:
        ground = {room for room in left if not {to for start, to in found if start == room} & left}
        assert ground, f"a circle among {sorted(left)}"
        left -= ground


def test_the_faces_of_rooms_need_no_heavy_library() -> None:
    program = "import sys\n" + "".join(f"import blemish.{room}\n" for room in LIGHT)
    program += "assert not {'torch', 'timm', 'openvino', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_command_alone_needs_no_library_but_those_that_parse_and_print() -> None:
    program = (
        "import sys, blemish.cli\n"
        "assert not {'numpy', 'PIL', 'torch', 'openvino', 'scipy', 'fsspec', 'jinja2', 'watchdog'} & set(sys.modules)\n"
        "assert not {'blemish.fitting', 'blemish.evaluation', 'blemish.model', 'blemish.images'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
