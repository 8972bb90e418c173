from __future__ import annotations

from blemish.storage.tensors import below, under


def test_names_below_a_part_are_those_that_were_put_under_it() -> None:
    parts = {"one": {"mean": 1, "rows.0": 2}, "one.more": {"mean": 3}, "oneself": {"mean": 4}}
    joined: dict[str, int] = {}
    for name, tensors in parts.items():
        joined |= under(name, tensors)
    assert below(joined, "oneself") == parts["oneself"]
    assert below(joined, "one.more") == parts["one.more"]
    assert below(joined, "one") == {**parts["one"], "more.mean": 3}, "what is called one.more is below one too"
    assert below(joined, "none") == {}
