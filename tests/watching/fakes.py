"""A model that needs no engine, for files whose bytes say what it says of them, and a watch with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blemish.model import Prediction
from blemish.watching.arrivals import Arrivals
from blemish.watching.live import Loaded
from blemish.watching.moving import Moves
from blemish.watching.record import Record
from blemish.watching.watch import Watch, _is_done


class FakeModel:
    """Bytes that begin with `good` are good, with `odd` anomalous, and all others unreadable."""

    def judge(self, images: Sequence[Any]) -> Iterator[Prediction]:
        for image in images:
            content = image if isinstance(image, bytes) else b""
            if content.startswith((b"good", b"odd")):
                is_odd = content.startswith(b"odd")
                yield Prediction(None, 2.0 if is_odd else 0.5, 0.1 if is_odd else 0.5, is_odd, 1.0, 0.1, None)
            else:
                yield Prediction(None, math.nan, math.nan, None, 1.0, 0.1, None, "is truncated")


class FakeLive:
    current = Loaded(FakeModel(), "fake", "0" * 12)  # type: ignore[arg-type]


def fake_watch(
    root: Path,
    out: Path,
    *,
    log: str | None = None,
    move: dict[Any, Path] | None = None,
    poll: float | None = None,
    patience: float = 0.2,
    say: Callable[[str], None] = lambda line: None,
) -> Watch:
    """A watch of a folder by the fake model."""
    moves = Moves(root, move or {})
    record = Record(out, str(root), log, "none", say)
    arrivals = Arrivals(root, {out, *moves.folders.values()}, poll, partial(_is_done, record.journal, moves), say)
    return Watch(FakeLive(), arrivals, record, moves, say, patience)  # type: ignore[arg-type]


def close(watch: Watch) -> None:
    watch.arrivals.close()
    watch.record.close()
