"""The papers' own figures, from the files in `printed`: a row for each category or group, a column for each entry."""

from __future__ import annotations

import csv
from importlib.resources import files

from blemish.bench.protocol import Published


def published(protocol: str) -> Published:
    """Returns the published figures of a protocol, as they were printed; an empty cell means that there is none."""
    text = files("blemish.bench").joinpath("printed", f"{protocol}.csv").read_text(encoding="utf-8")
    (_, *entries), *rows = csv.reader(text.splitlines())
    return {
        entry: {place: tuple(cells[number].split()) for place, *cells in rows if cells[number]}
        for number, entry in enumerate(entries)
    }
