"""Tables as Markdown, and where they are kept."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent


def data_folder() -> str:
    """$BLEMISH_DATA, or ../shared/data beside the checkout."""
    return os.environ.get("BLEMISH_DATA", str(HERE.parents[1] / "shared" / "data"))


class Table:
    """Rows that are printed as they come. The first `texts` columns are text, the others numbers."""

    def __init__(self, head: Sequence[str], texts: int) -> None:
        self.lines = ["| " + " | ".join(head) + " |", "|" + "---|" * texts + "--:|" * (len(head) - texts)]
        print("\n".join(self.lines), flush=True)

    def row(self, *cells: str) -> None:
        self.lines.append("| " + " | ".join(cells) + " |")
        print(self.lines[-1], flush=True)


def held_against(figures: Mapping[str, float | None], least: Mapping[str, float]) -> tuple[list[str], int]:
    """Cells in per cent, with the least that each should be where that is known; and how many are missed."""
    cells, missed = [], 0
    for name, figure in figures.items():
        text = "–" if figure is None else f"{100 * figure:.2f}"
        if name in least:
            reached = figure is not None and 100 * figure >= least[name]
            missed += not reached
            text += f" (≥ {least[name]:g}{'' if reached else ', missed'})"
        cells.append(text)
    return cells, missed


def append(title: str, command: str, lines: Sequence[str]) -> None:
    """A dated section at the end of RESULTS.md."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = f"\n## {title}, {now}\n\n`{command}` at {commit.stdout.strip()} on {machine}.\n\n" + "\n".join(lines) + "\n"
    with (HERE / "RESULTS.md").open("a", encoding="utf-8") as results:
        results.write(text)
