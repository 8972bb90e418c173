"""Reads the terms of the loss from a training's log, epoch by epoch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import SettingError
from blemish.training.log import LOG, read_lines

NO_TERMS = {"step", "epoch", "seconds"}
"""Columns of a log that are not terms of the loss."""


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 0, its steps in the log, and the mean of each term over them.

    A term that only some steps have, as `judged`, is the mean over these.
    """

    epoch: int
    steps: int
    terms: dict[str, float]


def read_epochs(folder: str | Path) -> list[Epoch]:
    """Returns the epochs in the log of a training, in order; the last one may not be complete.

    Args:
        folder: of checkpoints, in which a training writes its `log.jsonl`.

    Raises:
        SettingError: there is no log, or it was not written by a training.
    """
    path = Path(folder) / LOG
    if not path.is_file():
        raise SettingError(f"{path}: is not there; give the folder that was the --checkpoints of a training")
    found: dict[int, list[dict[str, float]]] = {}
    for _, line in read_lines(path):
        row = json.loads(line)
        found.setdefault(int(row["epoch"]), []).append({name: row[name] for name in row if name not in NO_TERMS})
    return [Epoch(epoch, len(rows), _means(rows)) for epoch, rows in sorted(found.items())]


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in columns.items()}
