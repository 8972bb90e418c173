"""What the command says where a subspace keeps less variance than was asked for."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

import blemish
from blemish.cli.console import described, print_model


def shown(model: blemish.Model, kept: float, capsys: pytest.CaptureFixture[str]) -> str:
    told = {"directions": [20, 20, 20], "variance_kept": [0.971, kept, 0.98], "variance_asked": 0.97}
    other = copy.copy(model)
    other.provenance = replace(model.provenance, learned=told)
    assert described(other)["learned"] == told
    print_model(other, "m.blemish")
    return capsys.readouterr().out


def test_the_layer_and_both_shares_are_told(model: blemish.Model, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(model, 0.74, capsys)
    assert "layer 3 keeps 0.740 of its variance, not the 0.97 asked for: memory was too small for more" in said
    assert said.count("of its variance") == 1
    assert "of its variance" not in shown(model, 0.97, capsys)


def test_a_fit_knows_what_it_keeps(model: blemish.Model) -> None:
    learned = model.provenance.learned
    assert min(learned["variance_kept"]) >= learned["variance_asked"] - 1e-3
