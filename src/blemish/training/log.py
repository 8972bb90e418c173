"""The log of a training: a line of JSON for each step, and TensorBoard's files where it is installed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import SettingError
from blemish.expected import Named, Number, Whole
from blemish.storage import Scratch
from blemish.storage.json_text import parse_json

LOG = "log.jsonl"
"""The name of the log in a training's folder."""

FIRST = '{"step": '
"""The beginning of each line of the log."""

LONGEST_LINE = 1 << 16
"""Bytes of a line of the log, at most."""


@dataclass(frozen=True)
class Step:
    """One step: its number from 0, its epoch, seconds from the start to its end, and the terms of its loss."""

    step: int
    epoch: int
    seconds: float
    terms: dict[str, float]


class Log:
    """Writes `log.jsonl` from a step on, and TensorBoard's files where it is installed."""

    def __init__(self, folder: Path | None, step: int) -> None:
        self.folder, self.step = folder, step

    def __enter__(self) -> Log:
        self._lines = self._board = None
        if self.folder is None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOG
        earlier = [line for step, line in read_lines(path) if step < self.step]
        with Scratch(self.folder) as scratch:
            (scratch.path / LOG).write_text("".join(earlier), encoding="utf-8")
            (scratch.path / LOG).replace(path)
        self._lines = path.open("a", encoding="utf-8", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return self
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step)
        return self

    def write(self, step: Step) -> None:
        if self._lines:
            line = {"step": step.step, "epoch": step.epoch, "seconds": round(step.seconds, 3), **step.terms}
            self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        if self._board:
            for name, value in step.terms.items():
                self._board.add_scalar(name, value, step.step)

    def __exit__(self, *_: object) -> None:
        for output in (self._lines, self._board):
            if output:
                output.close()


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the steps of an earlier log and their lines; a last line that a crash cut short is left out.

    Raises:
        SettingError: a line was not written by a training.
    """
    if not os.path.lexists(path):
        return
    if not stat.S_ISREG(path.lstat().st_mode):
        raise SettingError(f"{path}: is not a regular file, and would be overwritten; give another folder")
    try:
        with path.open("rb") as lines:
            while content := lines.readline(LONGEST_LINE):
                line = content.decode()
                if not line.endswith("\n") and line[: len(FIRST)] == FIRST[: len(line)]:
                    return
                found = Named(Number()).read("line", parse_json(line))
                step, _ = Whole().read("step", found["step"]), [found[name] for name in ("epoch", "seconds", "loss")]
                yield step, line
    except (SettingError, ValueError, KeyError, OSError) as error:
        raise SettingError(
            f"{path}: is not a training log ({type(error).__name__}), and would be overwritten; give another folder"
        ) from None
