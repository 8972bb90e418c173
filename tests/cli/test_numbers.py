"""Numbers that no option can have: one sentence and status 2, for every numeric option of every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from blemish.cli.main import app
from blemish.errors import number_of
from command import inside

HUGE = "1" + "0" * 30
VALUES = {int: ("nan", "-1", "0", HUGE), float: ("nan", "-1", "0", "1e400")}

ARE_FINE = {
    ("fit --copies", "0"),
    ("fit --seed", "0"),
    ("fit --memory", "0"),  # all features go to disk
    ("compare --seed", "0"),
    ("sample --seed", "0"),
    ("review --train", "0"),
    ("review --seed", "0"),
    ("fit --overlap", "0"),
    ("prune --drop-border", "0"),
    ("serve --port", "0"),
    ("serve --keep-days", "0"),
    ("serve --keep-bytes", "0"),
    *(("predict --threshold", value) for value in ("-1", "0")),
}
"""What these options can have."""

SHARED = {"--false-alarm-rate", "--threshold", "--box-rate"}
"""Options that several commands read in the same way; `predict` is tried for all of them."""


def numeric_options() -> Iterator[tuple[str, str, type]]:
    """Yields the command, the option's name and its type."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for inner, own in (command.commands if hasattr(command, "commands") else {"": command}).items():
            for option in own.params:
                described = getattr(option, "type_descriptor", None)
                if described is not None and described.annotation in (int, float):
                    yield f"{name} {inner}".strip(), option.opts[0], described.annotation


def attacks() -> Iterator[tuple[str, str, str]]:
    for command, option, kind in numeric_options():
        if option in SHARED and command not in {"predict", "fit"}:
            continue
        for value in VALUES[kind]:
            if (f"{command} {option}", value) not in ARE_FINE:
                yield command, option, value


@pytest.mark.parametrize(("command", "option", "value"), list(attacks()))
def test_a_number_that_an_option_cannot_have_is_refused_in_one_sentence(
    command: str, option: str, value: str, small: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    picture = tmp_path / "picture.png"
    image = tree / "test" / "good" / "000.png"
    words = {
        "fit": (tree, "-o", out, "--size", 64, "--detector", "gaussian"),
        "predict": (small, image),
        "watch": (small, tree, "--out", out, "--once"),
        "explain": (small, image),
        "drift": (small, tree),
        "update": (small, tree, "-o", out),
        "compare": (tree, "--detector", "gaussian"),
        "prune": (small, "-o", out, tree),
        "review": (tmp_path / "review.json", "-o", out),
        "sample": (small, "-o", picture),
        "serve": (small, "--state", tmp_path / "state"),
        "bench run": ("mvg-table-1", "-o", out, "--data", tree),
    }[command]
    beside = ("--tile", 64) if option == "--overlap" else ()
    given = (option, value) if option == "-n" else (f"{option}={value}",)
    ended = inside(capsys, *command.split(), *words, *beside, *given)
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in ended.stderr
    assert "an error in blemish" not in last
    assert not out.exists()
    assert not picture.exists()


def test_every_command_with_a_numeric_option_is_tried() -> None:
    assert len(list(numeric_options())) > 40
    assert {command for command, _, _ in attacks()} > {"fit", "predict", "serve", "bench run"}


@pytest.mark.parametrize(
    ("option", "value"), [("--size", "9" * 5000), ("--size", HUGE), ("--layers", "9" * 5000), ("--layers", f"2-{HUGE}")]
)
def test_numbers_of_thousands_of_digits_are_refused_and_not_printed(
    option: str, value: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = inside(capsys, "fit", tree, "-o", tmp_path / "out", "--detector", "gaussian", option, value)
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2
    assert last.startswith("error: ")
    assert len(last) < 300
    assert "an error in blemish" not in last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((1, "image"), "1 image"),
        ((0, "image"), "0 images"),
        ((1_000, "image"), "1,000 images"),
        ((1, "image is", "images are"), "1 image is"),
        ((2, "box", "boxes"), "2 boxes"),
    ],
)
def test_a_count_and_its_noun_agree(words: tuple[int, str], said: str) -> None:
    assert number_of(*words) == said
