from __future__ import annotations

import statistics

import pytest

from blemish.bench.mvtec import ALL
from blemish.bench.names import PROTOCOLS
from blemish.bench.protocol import Protocol

BY_PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@BY_PROTOCOL
def test_every_published_figure_is_a_number_of_a_known_place(protocol: Protocol) -> None:
    known = {*ALL, *protocol.groups, "mtd", "livestock", "semmacape"}
    for entry, places in protocol.published.items():
        assert set(places) <= known, entry
        for figures in places.values():
            assert 1 <= len(figures) <= len(protocol.figures), (entry, figures)
            assert all(0 <= float(figure) <= 20000 for figure in figures)


@BY_PROTOCOL
def test_published_means_are_those_of_the_published_categories(protocol: Protocol) -> None:
    misprinted = {("fre-table-1", "PaDiM")}  # 95.0 by its categories; the paper has 97.9
    for entry, places in protocol.published.items():
        if set(ALL) <= set(places) and (protocol.name, entry) not in misprinted:
            for number, mean in enumerate(places["mean"]):
                own = statistics.mean(float(places[category][number]) for category in ALL)
                assert float(mean) == pytest.approx(own, abs=0.6), (entry, own)


@BY_PROTOCOL
def test_every_protocol_has_a_row_that_the_paper_has_too_and_presets_that_exist(protocol: Protocol) -> None:
    from blemish.fitting.presets import find_preset

    names = [entry.name for entry in protocol.entries]
    assert not protocol.published or any(told.startswith(name) for told in protocol.published for name in names)
    for entry in (entry.on("hazelnut") for entry in protocol.entries):
        if "preset" in entry.fit:
            find_preset(entry.fit["preset"])
    assert protocol.reference is None or protocol.entry(protocol.reference)
