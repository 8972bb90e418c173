"""What every command has: help, `--quiet`, `--verbose`, `--debug`; the version, completion, and misspelt words."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from blemish.cli.console import Piped, escape
from blemish.cli.everywhere import LogPrinter
from blemish.cli.main import app
from command import ENVIRONMENT, inside

COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    logger = logging.getLogger("blemish")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, LogPrinter)]
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("words", [[name] for name in COMMANDS] + [["bench", "run"], []], ids=" ".join)
def test_every_command_has_short_help_that_names_what_all_have(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, *words, "-h")
    assert done.returncode == 0
    for option in ("--quiet", "--verbose", "--debug", "--help"):
        assert option in done.stdout
    assert "<bool>" not in done.stdout  # a flag takes no value


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "--version")
    assert (done.returncode, done.stdout) == (0, f"blemish {version('blemish')}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fitt"], "unknown option or command: 'fitt'. Did you mean 'fit'? See blemish --help"),
        (["fit", "x", "-o", "m", "--colour"], "unknown option or command: --colour"),
        (["--colour"], "unknown option or command: --colour"),
        (["predict", "a\x1b[31m", "--qu\nick"], r"unknown option or command: --qu"),
    ],
)
def test_a_misspelt_word_is_called_an_unknown_option_or_command(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_value_outside_the_choices_is_refused_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "predict", "model", "images", "--maps", "foo")
    assert done.returncode == 2
    assert "'--maps': 'foo' is not one of 'none', 'overlay'" in done.stderr


def test_quiet_prints_results_and_errors_only(
    saved: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    image = tree / "test" / "good" / "000.png"
    loud = inside(capsys, "predict", saved, image)
    quiet = inside(capsys, "predict", "-q", saved, image)
    before = inside(capsys, "-q", "predict", saved, image)
    assert "threshold" in loud.stderr
    assert loud.stdout == quiet.stdout == before.stdout
    assert quiet.stderr == before.stderr == ""
    assert "bad.png" in inside(capsys, "predict", "-q", saved, tmp_path / "bad.png").stderr
    assert inside(capsys, "predict", "-q", tmp_path / "none", image).stderr.startswith("error: ")
    both = inside(capsys, "predict", "-q", "-v", saved, image)
    assert "give one" in both.stderr


def test_verbose_tells_what_the_library_logs_and_no_more_afterwards(
    saved: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tree / "test" / "good" / "000.png"
    verbose = inside(capsys, "predict", "-v", saved, image)
    assert "engine openvino on CPU" in verbose.stderr
    assert "engine openvino" not in inside(capsys, "predict", saved, image).stderr


def test_a_traceback_is_shown_before_and_after_the_commands_name(capsys: pytest.CaptureFixture[str]) -> None:
    from blemish.cli import main
    from blemish.errors import BlemishError

    for words in (["--debug", "check", "/none"], ["check", "/none", "--debug"]):
        sys.argv, before = ["blemish", *words], sys.argv
        try:
            with pytest.raises(BlemishError):
                main()
        finally:
            sys.argv = before


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    command = tmp_path / "blemish"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m blemish "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(blemish --show-completion)"
        offer() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _blemish_completion blemish; echo "${COMPREPLY[@]}"; }
        offer blemish pred
        offer blemish fit --false
        offer blemish export --format o
    """
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["predict", "--false-alarm-rate", "openvino onnx"], done.stderr


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nerror: forged.png", r"a\nerror: forged.png"),
        ("\x1b[2K\x1b[1Agood.png", r"\x1b[2K\x1b[1Agood.png"),
        ("caf\udce9.png", r"caf\udce9.png"),
        ("c1\x9b31m", r"c1\x9b31m"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("[red]a:bug:[/red]", "[red]a:bug:[/red]"),
        ("größer 🔬.png", "größer 🔬.png"),
    ],
)
def test_a_name_cannot_pass_for_anything_else(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    Piped(highlight=False, soft_wrap=True, emoji=False).print(f"[green]good[/green] {escape(name)}")
    assert capsys.readouterr().out == f"good {shown}\n"
