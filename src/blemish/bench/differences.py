"""How the rows of a table differ from its main row, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blemish.bench.notes import notes_of
from blemish.bench.protocol import Protocol
from blemish.bench.results import Result
from blemish.errors import SettingError
from blemish.evaluation.per_image import FIGURES
from blemish.report.table import NONE, Table


def make_differences(protocol: Protocol, results: Sequence[Result]) -> Table:
    """Returns how entries differ from the protocol's reference on the same images, with 95 % intervals.

    Raises:
        SettingError: the protocol has no reference, or nothing was compared with it.
    """
    if protocol.reference is None:
        raise SettingError(f"{protocol.name} has no main row to compare others with; give it without --differences")
    main = {(one.category, one.seed): one.time for one in results if one.entry == protocol.reference}
    rows, others = [], set()
    for result in results:
        for one in result.against:
            if one.get("of") not in {main.get((result.category, seed)) for seed in (result.seed, 0)}:
                others.add(result.entry)
                continue
            rows.append(
                [
                    result.entry,
                    result.category,
                    str(result.seed),
                    FIGURES.get(one["figure"], one["figure"]),
                    f"{100 * one['difference']:+.2f}",
                    _bounds(one["interval"]),
                    _verdict(one["interval"]),
                ]
            )
    if not rows:
        raise SettingError(
            f"{protocol.name}: no row was compared with the present {protocol.reference}; run both again, into a new "
            "file"
        )
    header = ["", "category", "seed", "figure", f"minus {protocol.reference}, points", "95 % interval", "verdict"]
    notes = [
        "Both rows were measured on the same images. Where an interval holds 0, it is not known which row is better.",
        "Each interval holds for one comparison: of twenty comparisons of equals, one differs by chance.",
        "Figures of all pixels together are compared if both rows were measured in one run.",
        *notes_of(protocol, results),
    ]
    if others:
        notes.append(f"{'; '.join(sorted(others))}: was compared with another measurement of {protocol.reference}")
    return Table(f"{protocol.title}: differences from {protocol.reference}", header, rows, notes)


def _bounds(interval: Mapping[str, float] | None) -> str:
    return NONE if interval is None else f"{100 * interval['low']:+.2f} to {100 * interval['high']:+.2f}"


def _verdict(bounds: Mapping[str, float] | None) -> str:
    if bounds is None:
        return "not known"
    return "may be chance" if bounds["low"] <= 0 <= bounds["high"] else "differs"
