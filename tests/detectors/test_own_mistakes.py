"""Mistakes in a detector of one's own are told by its name, and are not taken for mistakes of blemish's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import blemish
from blemish.detectors import Features, Gaussian, Head, place_in_own
from blemish.detectors.scoring import Scoring
from blemish.errors import SettingError
from command import inside

MINE = f"{__name__}:"


@dataclass(kw_only=True)
class Changed(Gaussian):
    """A detector whose head changes its map."""

    change: ClassVar[Callable[[Tensor], Any]]

    def head(self) -> Head:
        head = super().head()
        whole, change = head.forward, type(self).change
        head.forward = lambda features: change(whole(features))  # type: ignore[method-assign]
        return head


@dataclass(kw_only=True)
class Headless(Gaussian):
    def head(self) -> Head:
        return None  # type: ignore[return-value]


@dataclass(kw_only=True)
class Misnamed(Gaussian):
    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        yield "other", features[0]


@dataclass(kw_only=True)
class Raising(Gaussian):
    def batches(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        raise IndexError("too far")


@dataclass(kw_only=True)
class Alone(Gaussian):
    def __post_init__(self) -> None:
        pass


def learned(detector: Gaussian) -> Gaussian:
    return detector.update([torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda whole: whole[:, None], r"forward of its head gives a tensor \(2, 1, 4, 4\) of float32 for 2 images"),
        (lambda whole: whole[:1], r"a tensor \(1, 4, 4\)"),
        (lambda whole: whole.sum(), r"a tensor \(\)"),
        (lambda whole: whole.double(), "of float64"),
        (lambda whole: (whole, whole), "a tuple of 2"),
        (lambda whole: None, "gives NoneType"),
    ],
)
def test_a_head_that_gives_no_map_is_refused(
    change: Callable[[Tensor], Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Changed, "change", change, raising=False)
    with pytest.raises(SettingError, match=f"^{MINE}Changed: .*{expected}"):
        Scoring(learned(Changed()), (32, 32))


def test_a_head_that_is_none_and_a_statistic_without_a_name_are_refused() -> None:
    with pytest.raises(SettingError, match=r"Headless: head\(\) gives NoneType"):
        Scoring(learned(Headless()), (32, 32))
    with pytest.raises(SettingError, match="batches gives 'other', and empty makes no such statistic"):
        learned(Misnamed())


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole * torch.rand_like(whole),
        lambda whole: torch.from_numpy(whole.numpy() * 2),
        lambda whole: whole if torch.equal(whole[0], whole[-1]) else whole * 2,
    ],
    ids=["drawn numbers", "numpy", "a branch"],
)
def test_a_head_whose_graph_scores_otherwise_than_its_module_is_refused(
    change: Callable[[Tensor], Any], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Changed, "change", change, raising=False)
    with pytest.raises(SettingError, match="graph.*; keep to torch's tensor operations"):
        blemish.fit(tree, detector=Changed(), size=64, layers=[1], false_alarm_rate=0.2, folds=2)


def test_what_is_no_detector_and_one_that_skips_its_base_are_refused_before_any_work(tree: Path) -> None:
    for given in (5, Gaussian):
        with pytest.raises(SettingError, match="is not one; give its name, module:Class for your own"):
            blemish.fit(tree, detector=given, size=64)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"Alone: its __post_init__ does not call super\(\).__post_init__\(\)"):
        blemish.fit(tree, detector=Alone(), size=64)


def test_an_error_in_ones_own_code_is_placed_there(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(IndexError) as raised:
        learned(Raising())
    assert (place_in_own(raised.value) or "").startswith(f"{__name__}, line ")
    assert place_in_own(ValueError("elsewhere")) is None
    done = inside(capsys, "fit", tree, "-o", tmp_path / "m", "--detector", f"{MINE}Raising", "--size", "64")
    assert done.returncode == 1
    assert f"IndexError: too far (an error in {__name__}, line " in done.stderr
