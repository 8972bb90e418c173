"""The files that deploy: read as a linter would, since no container engine and no systemd run in these tests."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import slim
from blemish.cli import app
from conftest import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


def instructions() -> list[tuple[str, str]]:
    """Instruction and words of each line of the Dockerfile, those that go on joined, comments left out."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def words_of(instruction: str) -> list[str]:
    return [words for name, words in instructions() if name == instruction]


def test_the_image_has_two_stages_of_one_base_with_a_whole_version() -> None:
    bases = [words.split()[0] for words in words_of("FROM")]
    assert len(bases) == 2
    assert len({*bases}) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases[0])
    assert words_of("FROM")[0].endswith(" AS build")


def test_the_image_is_made_as_a_linter_of_dockerfiles_asks() -> None:
    found = instructions()
    names = [name for name, _ in found]
    assert {*names} <= {
        *(
            "FROM",
            "WORKDIR",
            "COPY",
            "RUN",
            "LABEL",
            "ENV",
            "USER",
            "VOLUME",
            "EXPOSE",
            "HEALTHCHECK",
            "ENTRYPOINT",
            "CMD",
        )
    }  # no ADD, no MAINTAINER, no SHELL, nothing misspelt
    for name in ("HEALTHCHECK", "ENTRYPOINT", "CMD", "USER"):
        assert names.count(name) == 1, name
    last_stage = names[len(names) - names[::-1].index("FROM") :]
    assert last_stage.index("USER") > max(index for index, name in enumerate(last_stage) if name == "RUN")
    for command in words_of("RUN"):
        assert "sudo" not in command
        assert not re.search(r"\bcd \b", command), "WORKDIR is for that"
        assert not re.search(r"\b(curl|wget)\b", command)
        if "apt-get install" in command:
            assert "--no-install-recommends" in command
            assert "rm -rf /var/lib/apt/lists/*" in command
        if "pip" in command and " install " in command:
            assert "--no-cache-dir" in command
            assert "--constraint" in command
    for words in words_of("COPY"):
        *sources, _ = [word for word in words.split() if not word.startswith("--")]
        for source in sources:
            assert "--from=build" in words or (ROOT / source).exists(), source
    for words in words_of("WORKDIR"):
        assert words.startswith("/")


def test_the_image_runs_as_a_user_without_rights_and_has_no_secret_in_it() -> None:
    (user,) = words_of("USER")
    assert int(user.partition(":")[0]) >= 10_000
    text = (DEPLOY / "Dockerfile").read_text()
    assert not re.search(r"(?i)(password|api_key|secret)\s*=", text)
    assert "torch" not in " ".join(words_of("RUN")).replace("pytorch", "")


def test_the_commands_of_image_and_units_have_options_that_the_command_knows() -> None:
    (entry,), (command,) = words_of("ENTRYPOINT"), words_of("CMD")
    assert json.loads(entry) == ["blemish"]
    started = [json.loads(command)]
    for unit in UNITS:
        program, *words = shlex.split(read(unit)["Service"]["ExecStart"].replace("\\\n", " "))
        assert program == "/opt/blemish/bin/blemish"
        started.append(words)
    for words in started:
        options = known_options(words[0])
        if not options:
            pytest.skip(f"this checkout has no blemish {words[0]}")
        assert {word for word in words if word.startswith("--")} <= options


def known_options(command: str) -> set[str]:
    """The options of one command; none if this checkout does not have it."""
    found = typer.main.get_command(app).commands.get(command)  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts} if found else set()


def test_the_health_check_is_a_program_that_fails_where_nobody_answers() -> None:
    (check,) = words_of("HEALTHCHECK")
    program = json.loads(check.partition("CMD ")[2])
    assert program[:2] == ["python", "-c"]
    with pytest.raises(OSError, match="refused"):
        exec(compile(program[2].replace(":8420", ":9"), "check", "exec"), {})


def test_every_package_of_the_image_has_one_version_which_this_project_takes() -> None:
    lines = [line for line in (DEPLOY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    assert {*map(slim.plain, pinned)} >= slim.needed("serve", "postgresql")
    assert not {"torch", "timm", "scipy"} & {*map(slim.plain, pinned)}
    for requirement in slim.requirements("serve", "postgresql"):
        found = next(text for name, text in pinned.items() if slim.plain(name) == slim.plain(requirement.name))
        assert requirement.specifier.contains(found), requirement


def read(unit: Path) -> configparser.ConfigParser:
    """A unit; of keys that may come several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(re.sub(r"\\\n\s*", "", unit.read_text()))
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])
def test_a_unit_gives_the_service_no_rights_that_it_does_not_need(unit: Path) -> None:
    service = read(unit)["Service"]
    assert service["DynamicUser"] == service["NoNewPrivileges"] == service["PrivateTmp"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["ProtectHome"] == "yes"
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["Restart"] == "on-failure"
    assert service["KillMode"] == "mixed"
    assert "MemoryDenyWriteExecute" not in service  # OpenVINO could not compile
    assert service["StateDirectory"] in service["ExecStart"].replace("%S/", "")
    assert read(unit)["Install"]["WantedBy"] == "multi-user.target"
