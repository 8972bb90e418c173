"""Whatever is given as a setting, as an option or in `model.json`: a sentence for the user, never a fault of ours.

`BLEMISH_EXAMPLES=5000` tries so many, drawn anew; by default the same few are tried each time.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import blemish
from blemish.cli.main import app, main
from blemish.cli.options import parse_settings
from blemish.detectors import DETECTORS, Trained, make_detector
from blemish.errors import BlemishError, SettingError
from blemish.model.card import read_content
from blemish.storage.cards import digest_of, read_card
from command import FAULTS

EXAMPLES = os.environ.get("BLEMISH_EXAMPLES")


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lets the module run in a folder of its own: some options are taken for folders to write to."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    yield
    os.chdir(before)


GRIDS = [(4, 4, 4), (6, 2, 2)]

numbers = st.one_of(
    st.integers(-3, 20),
    st.integers(),
    st.floats(),
    st.sampled_from([10**30, -(10**30), 1e308, 1e-320, 2.0, 1.5, 2**31, 2**32, 2**63, 2**64, 1 << 40]),
)
texts = st.one_of(st.text(max_size=12), st.sampled_from(["", "\0", "\udcff", "é", "../x", "/dev/zero", "9" * 5000]))
plain = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def fuzzed(few: int) -> Any:
    return settings(
        max_examples=int(EXAMPLES or few),
        derandomize=EXAMPLES is None,
        deadline=None,
        database=None,
        phases=set(Phase) if EXAMPLES else {Phase.explicit, Phase.generate},  # to shrink a find takes minutes
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def sentences() -> Iterator[None]:
    """What is within it is done, or refused in a sentence of one line."""
    try:
        yield
    except BlemishError as error:
        if "\n" in str(error):
            raise AssertionError(str(error)) from error


def likely(name: str, setting: str) -> st.SearchStrategy[Any]:
    """Any value, and often one that the setting might have."""
    default = getattr(DETECTORS[name](), setting)
    near = {bool: st.booleans(), int: st.integers(0, 300), float: st.floats(0, 2)}.get(type(default), values)
    words = str(DETECTORS[name].kinds()[setting]).replace(",", " ").split()
    return st.one_of(values, near, st.sampled_from(words), st.lists(st.floats(0, 3), min_size=2, max_size=2))


@st.composite
def chosen(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(list(DETECTORS)))
    some = draw(st.lists(st.sampled_from(DETECTORS[name].setting_names()), min_size=1, max_size=3, unique=True))
    return name, {setting: draw(likely(name, setting)) for setting in some}


@fuzzed(200)
@given(chosen())
def test_any_setting_makes_a_detector_that_learns_and_scores_or_is_refused(given: tuple[str, dict[str, Any]]) -> None:
    name, found = given
    with sentences():
        detector = make_detector(name, found)
        json.dumps(detector.settings(), allow_nan=False)
        if detector.sees_pixels:
            detector.start([(3, 32, 32)])
            return
        detector.memory(GRIDS, 6, 2)
        if isinstance(detector, Trained):
            detector.start(GRIDS)
            return
        generator = torch.Generator().manual_seed(0)
        features = [torch.randn(6, *grid, generator=generator) for grid in GRIDS]
        coarse = detector.update(features).head()(tuple(features))
        assert bool(coarse.isfinite().all()), "not a finite map"


@fuzzed(200)
@given(st.one_of(st.text(max_size=30), st.builds("{}={}".format, st.sampled_from(["dims", "epsilon"]), texts),
                 st.builds(lambda value: f"dims={json.dumps(value)}", values)))  # fmt: skip
def test_any_text_behind_set_is_read_or_refused(text: str) -> None:
    with sentences():
        make_detector("padim", parse_settings([text]))


def places(card: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the way to each field of a card, and to the first items of its lists."""
    items = card.items() if isinstance(card, dict) else enumerate(card[:2]) if isinstance(card, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.fixture(scope="module")
def folder(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(small, tmp_path_factory.mktemp("fuzzed") / "m"))


def changed(card: Any, way: tuple[Any, ...], kind: str, name: str, value: Any) -> None:
    """Changes one field of a card: to a value, or to none, or puts one more beside it."""
    for key in way[:-1]:
        card = card[key]
    if kind == "gone":
        del card[way[-1]]
    elif kind == "more" and isinstance(card, dict):
        card[name] = value
    else:
        card[way[-1]] = value


change = st.tuples(st.integers(0, 10_000), st.sampled_from(["value", "value", "gone", "more"]), texts, values)


@fuzzed(100)
@given(changes=st.lists(change, min_size=1, max_size=2))
def test_any_change_of_a_card_that_is_signed_again_loads_and_scores_or_is_refused(
    folder: Path, small: Path, good_image: bytes, changes: list[tuple[int, str, str, Any]]
) -> None:
    card = json.loads((small / "model.json").read_text())
    del card["digest"]
    for place, *change in changes:
        ways = list(places(card))
        changed(card, ways[place % len(ways)], *change)
    (folder / "model.json").write_text(json.dumps({**card, "digest": digest_of(card)}))
    with sentences():
        read_content(folder, read_card(folder, "model"))
        (prediction,) = blemish.load(str(folder), "openvino").predict([good_image])
        json.dumps(prediction.as_dict(), allow_nan=False)


ELSEWHERE = {
    "debug",
    "output",
    "out",
    "report",
    "checkpoints",
    "ray",
    "weights",
    "download",
    "engine",
    "config",
    "device",
}
"""Options that write a file, reach another machine, or show tracebacks."""

likely_values = st.sampled_from(["64", "0.1", "true", "png", "cross", "padim", "1,2", "64x96", "fast"])

given_values = st.one_of(numbers.map(repr), texts, likely_values)


def flags(command: str) -> dict[str, bool]:
    """Returns the other options of a command, and whether each takes a value."""
    listed = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    named = [own for own in listed if own.opts[-1].startswith("--") and own.name not in ELSEWHERE]
    return {own.opts[-1]: not own.is_flag for own in named}


@pytest.fixture(scope="module")
def words(small: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each command needs besides its options."""
    image, out = str(tree / "test" / "scratch" / "000.png"), tmp_path_factory.mktemp("out")
    return {
        "fit": ["fit", str(tree), "-o", str(out / "fitted")],
        "predict": ["predict", str(small), image],
        "explain": ["explain", str(small), image, "--out", str(out / "explained"), "--force"],
    }


@fuzzed(25)
@given(data=st.data())
def test_any_option_is_taken_or_refused(words: dict[str, list[str]], data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(list(words)))
    known = flags(command)
    asked = list(words[command])
    for flag in data.draw(st.lists(st.sampled_from(list(known)), min_size=1, max_size=3)):
        asked += [flag, data.draw(given_values)] if known[flag] else [flag]
    said = io.StringIO()
    with (
        patch("sys.argv", ["blemish", *asked]),
        patch("blemish.engines.extractor.make_extractor", side_effect=SettingError("far enough")),
        redirect_stdout(io.StringIO()),
        redirect_stderr(said),
        pytest.raises(SystemExit) as left,
    ):
        main()
    assert left.value.code in {0, 1, 2, 3, None}
    assert not [words for words in FAULTS if words in said.getvalue()], asked
