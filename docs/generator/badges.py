"""Draws the README's badges from what the project and its CI say: `python docs/generator/badges.py` writes them.

A badge of a service would be loaded from another host, and would show what that host says.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "pictures" / "badges.svg"
LETTER, MARGIN, GAP, HEIGHT = 6.3, 8, 8, 22


def facts() -> dict[str, str]:
    """Returns what the badges say: version, Python and licence of `pyproject.toml`, and the steps of `.ci/run`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    steps = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    about = project["project"]
    return {
        "version": about["version"],
        "Python": about["requires-python"].replace(">=", "≥ "),
        "licence": about["license"],
        "types": "strict" if project["tool"]["mypy"]["strict"] else "checked",
        "CI on Linux": ", ".join(steps),
    }


def drawn(badges: dict[str, str]) -> str:
    """Returns a row of badges as SVG."""
    parts, left = [], 0.0
    for name, value in badges.items():
        for text, colour in ((name, "#555"), (value, "#2a6f4e")):
            width = LETTER * len(text) + 2 * MARGIN
            parts += [
                f'<rect x="{left:g}" width="{width:g}" height="{HEIGHT}" fill="{colour}"/>',
                f'<text x="{left + MARGIN:g}" y="15" textLength="{width - 2 * MARGIN:g}">{escape(text)}</text>',
            ]
            left += width
        left += GAP
    told = escape("; ".join(f"{name} {value}" for name, value in badges.items()))
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left - GAP:g}" height="{HEIGHT}" role="img" '
        f'aria-label="{told}" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" fill="#fff">'
    )
    return "\n".join([start, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(drawn(facts()), encoding="utf-8")
