"""Summaries in a folder, so that a fit whose driver was stopped can continue from them.

Each is a folder with a card: the report of its images, and what decides the fit. A new summary replaces earlier ones of
the same images, which are then removed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.distributed.summary import Packed, Report
from blemish.errors import SettingError, StorageError
from blemish.storage import check_files, check_free, new_folder, read_card, remove_folder, write_card

KIND = "summary"
"""The kind on its card."""

FILE = "learned.safetensors"

LARGEST = 1 << 36
"""Bytes of one summary's file, at most."""

_NAME = re.compile(r"(?P<stage>fit|calibrate)-(?P<level>\d{1,2})-(?P<place>\d{1,12})")


@dataclass(frozen=True)
class Kept:
    """A folder of summaries of one fit.

    Attributes:
        folder: where they are.
        identity: all that decides the fit, as JSON holds it.
        resume: continue from those that are there.

    Raises:
        SettingError: the path is not a folder, or holds summaries and `resume` is false.
        StorageError: it cannot be written, or the summaries there are of another fit.
    """

    folder: Path
    identity: dict[str, Any]
    resume: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", json.loads(json.dumps(self.identity)))
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise SettingError(f"{self.folder}: is not a folder; give another one for checkpoints")
        held = self._names()
        if held and not self.resume:
            raise SettingError(
                f"{self.folder}: holds a fit already ({held[0]}); continue it with --resume, or give another folder"
            )
        for name in held:
            self._read_card(self.folder / name)
        check_free(self.folder / "fit-0-0", KIND, force=True)

    def write(self, stage: str, level: int, place: int, report: Report, learned: Packed) -> None:
        """Writes the summary of the shards from `place << level`, and removes those that it covers.

        Raises:
            StorageError: it cannot be written; the earlier ones are kept.
        """
        path = self.folder / f"{stage}-{level}-{place}"
        if path.exists():
            return
        from safetensors.numpy import save

        with new_folder(path, KIND) as draft:
            (draft / FILE).write_bytes(save(dict(learned)))
            write_card(draft, KIND, {"name": path.name, "identity": self.identity, "report": report.content()})
        for other, below, at in self._found(stage):
            if below < level and at >> (level - below) == place:
                remove_folder(other, KIND)

    def read(self, stage: str) -> Iterator[tuple[int, int, Report, Packed]]:
        """Yields level, place, report and what was learned of each summary of a pass that no other covers.

        Raises:
            StorageError: one of them was altered.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        found = self._found(stage)
        for path, level, place in found:
            if any(above > level and place >> (above - level) == at for _, above, at in found):
                continue
            card = self._read_card(path)
            if (path / FILE).stat().st_size > LARGEST:
                raise StorageError(f"{path / FILE}: has more than {LARGEST:,} bytes; remove {path}, and resume")
            with _advised(path):
                check_files(path, card)
            try:
                report = Report.from_content(card["report"])
                learned = load_file(path / FILE)
            except (KeyError, TypeError, ValueError, AttributeError, SafetensorError):
                raise StorageError(f"{path}: is not a summary of this fit; remove it, and resume") from None
            yield level, place, report, learned

    def _read_card(self, path: Path) -> dict[str, Any]:
        """Returns the card of a summary of this fit, which still has the name under which it was written."""
        with _advised(path):
            card = read_card(path, KIND)
        saved = card.get("identity")
        if saved != self.identity:
            there = saved if isinstance(saved, dict) else {}
            other = next((name for name, own in self.identity.items() if there.get(name) != own), "the fit")
            raise StorageError(
                f"{self.folder}: holds another fit ({other} differs in {path.name}); give the same images and "
                "settings, or another folder"
            )
        if card.get("name") != path.name or FILE not in card["files"]:
            raise StorageError(f"{path}: holds the summary {card.get('name')!r}; remove it, and resume")
        return card

    def _names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name))

    def _found(self, stage: str) -> list[tuple[Path, int, int]]:
        """Returns path, level and place of each summary of a pass."""
        matches = [match for match in map(_NAME.fullmatch, self._names()) if match and match["stage"] == stage]
        return [(self.folder / match[0], int(match["level"]), int(match["place"])) for match in matches]


@contextmanager
def _advised(path: Path) -> Iterator[None]:
    """Says in an error that the summary is to be removed, since there is no copy of it."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{str(error).partition(';')[0]}; remove {path}, and resume") from None
