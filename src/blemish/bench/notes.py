"""The notes below a table: what its rows were measured with, what differs from the paper, and what is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blemish.bench.protocol import Protocol
from blemish.bench.results import Result


def notes_of(protocol: Protocol, results: Sequence[Result]) -> list[str]:
    """Returns the notes of a table, one line each."""
    notes = [protocol.differs] if protocol.differs else []
    notes += [f"{entry.name}: {entry.note}" for entry in protocol.entries if entry.note]
    told: dict[str, list[str]] = {}
    names = [entry.name for entry in protocol.entries]
    order = {name: number for number, name in enumerate(names)}
    for result in sorted(results, key=lambda result: order.get(result.entry, len(order))):
        text = f"absent: {result.absent}" if result.absent else made(protocol, result)
        entries = told.setdefault(text, [])
        if result.entry not in entries:
            entries.append(result.entry)
    rows = {result.entry for result in results}
    notes += [
        f"{'All rows' if len(rows) > 1 and set(entries) == rows else '; '.join(entries)}: {text}"
        for text, entries in told.items()
        if text
    ]
    if any(_is_partial(protocol, results, group) for group in protocol.groups):
        notes.append(f"A mean ({', '.join(protocol.groups)}) is shown once all of its categories were measured.")
    return notes


def _is_partial(protocol: Protocol, results: Sequence[Result], group: str) -> bool:
    measured = {result.category for result in results if not result.absent}
    return not set(protocol.groups[group]) <= measured


def made(protocol: Protocol, result: Result) -> str:
    """Returns what was measured, in words: network, layers, size, weights, and what else is not the paper's."""
    fit = result.fit
    if not fit.get("size"):
        return ""
    size, resized = ("×".join(map(str, fit.get(name, fit["size"]))) for name in ("size", "resized"))
    told = [f"{size} pixels" + (f", the centre of {resized}" if resized != size else "")]
    if fit.get("weights") not in {None, "none"}:
        layers = f"layer{'s' if len(fit['layers']) > 1 else ''} {', '.join(map(str, fit['layers']))}"
        told.insert(0, f"{fit['backbone']}, {layers}, {fit['weights']}")
    changed = _changed(protocol, result)
    told += [f"with {changed}"] if changed else []
    drawn = result.data.get("drawn")
    told += [f"{drawn} good images at most"] if drawn else []
    return "; ".join(told)


def _changed(protocol: Protocol, result: Result) -> str:
    """Returns the settings that were given instead of the row's own."""
    own: Mapping[str, Any] = {}
    for entry in protocol.entries:
        if entry.name == result.entry:
            own = entry.fit.get("settings", {})
    given = result.fit.get("arguments", {}).get("settings", {})
    return ", ".join(f"{name}={value}" for name, value in given.items() if own.get(name) != value)
