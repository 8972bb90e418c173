"""The file of options for `fit`: what it may hold, what overrides it, and that what is printed gives the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from blemish.backbones import DEFAULT
from blemish.cli.config import NULL, tomllib, written
from blemish.detectors import DETECTORS
from blemish.errors import SettingError
from blemish.fitting.presets import PRESETS
from blemish.storage import read_card
from command import inside


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    done = inside(capsys, "fit", *words, "--print-config")
    assert done.returncode == 0, done.stderr
    return tomllib.loads(done.stdout)


def test_a_fit_from_what_was_printed_gives_the_same_model(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (tree, "-o", tmp_path / "given", "--size", 64, "--detector", "gaussian", "--layers", "2,3")
    words = (*words, "--false-alarm-rate", 0.1, "--set", "rtol=float64", "--seed", 3)
    file = tmp_path / "fit.toml"
    file.write_text(inside(capsys, "fit", *words, "--print-config").stdout)
    assert not (tmp_path / "given").exists()
    for given in (words, ("--config", file, "-o", tmp_path / "again")):
        done = inside(capsys, "fit", *given)
        assert done.returncode == 0, done.stderr
    cards = [read_card(tmp_path / name, "model") for name in ("given", "again")]
    for key in ("recipe", "calibration"):
        assert cards[0][key] == cards[1][key]
    for name in (
        "features.bin",
        "scoring.bin",
        "inside.safetensors",
    ):  # their text counts conversions
        assert cards[0]["files"][name] == cards[1]["files"][name]
    learned, again = (load_file(tmp_path / name / "learned.safetensors") for name in ("given", "again"))
    assert learned.keys() == again.keys()
    assert all(bool((learned[name] == again[name]).all()) for name in learned)
    assert printed(capsys, "--config", file) == tomllib.loads(file.read_text())


def test_the_command_line_overrides_the_file_one_setting_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fit.toml"
    file.write_text('source="parts"\noutput="m"\nsize=64\nlayers=[1,2]\ntrim=true\nset={power=3,variance=0.9}\n')
    told = printed(capsys, "--config", file, "--size", 96, "--set", "power=8", "--set", "weights=null")
    assert (told["size"], told["layers"], told["trim"], told["source"]) == (96, [1, 2], True, "parts")
    assert (told["set"]["power"], told["set"]["variance"], told["set"]["weights"]) == (8, 0.9, NULL)
    assert told["backbone"] == f"tf_{DEFAULT}"
    assert (told["quality"], told["engine"], told["seed"]) == ("balanced", "auto", 0)


def test_an_option_that_may_be_repeated_is_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fit.toml").write_text('source = "parts"\noutput = "m"\nimport = ["json", "colorsys"]\n')
    assert printed(capsys, "--config", tmp_path / "fit.toml")["import"] == ["json", "colorsys"]


@pytest.mark.parametrize("preset", ["fre-lite0-1l", "hfr-lite0", "vae-grf-wood", "padim-vae"])
def test_a_preset_is_written_out(preset: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = printed(capsys, "parts", "-o", "m", "--preset", preset)
    words = ("fit", "other", "-o", "m", "--preset", preset, "--print-config")
    (tmp_path / "fit.toml").write_text(inside(capsys, *words).stdout)
    again = printed(capsys, "--config", tmp_path / "fit.toml")
    assert {**again, "source": "parts"} == told
    assert "preset" not in told
    assert told["detector"] == PRESETS[preset].detector
    for name, value in PRESETS[preset].chosen().items():
        shown = told["set"][name]
        assert shown == (NULL if value is None else list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour=1", "fit has no option 'colour'; give "),
        ("skip_bed=true", "fit has no option 'skip_bed'; did you mean skip-bad?"),
        ("detektor='fre'", "fit has no option 'detektor'; did you mean detector?"),
        ("falsealarmrate=0.1", "did you mean false-alarm-rate?"),
        ("config='x'", "fit has no option 'config'"),
        ("size=true", "size is True; give text or a number"),
        ("size={a=1}", "size is {'a': 1}; give text or a number"),
        ("trim='yes'", "trim is 'yes'; give true or false"),
        ("tile='wide'", "'--tile'"),
        ("tile=1.5", "'--tile'"),
        ("seed=-1", "'--seed'"),
        ("set={power=2024-01-01}", "set.power is datetime.date(2024, 1, 1); give a number"),
        ("set={powr=2}", "fre has no setting 'powr'"),
        ('source="a\\u0000b"', "source holds a zero byte"),
        ("size", "is not TOML"),
        ("a=" + 5000 * "[", "is not TOML"),
        ("\ud800", "is not a text in UTF-8; save it as one"),
        ("box-rate=0.1\nbox_rate=0.2", "has box-rate twice; leave out one of them"),
        ("set='power=2'", "set is 'power=2'; give a table, [set]"),
        ("false-alarm-rate=inf", "rate inf is out of range"),
        ("box-rate=-1", "out of range"),
        (f"seed={9 * 10**30}", "seed 9"),
        (3 * (1 << 20) * "#", "has more than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fit.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    done = inside(capsys, "fit", "parts", "-o", tmp_path / "m", "--config", file, "--print-config")
    assert done.returncode in {1, 2}
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


def test_a_file_with_windows_mark_before_the_text_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fit.toml"
    file.write_text("size = 128\n", "utf-8-sig")
    done = inside(capsys, "fit", "parts", "-o", tmp_path / "m", "--config", file, "--print-config")
    assert done.returncode == 0, done.stderr
    assert "size = 128" in done.stdout


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / ("n" * 300)):
        done = inside(capsys, "fit", "--config", path)
        assert done.returncode == 2
        assert "check the path of --config" in done.stderr


def test_every_text_comes_back_from_toml_and_what_is_none_is_refused() -> None:
    for text in ('a"b\\c', "line\nbreak\x1b\x7f\x00", "größer 🔬", " "):
        assert tomllib.loads(written({"a b": 1, "source": text}, {}).partition("\n")[2]) == {"source": text}
    assert tomllib.loads(written({"x": [0.1, True, 1e300], "set": {"a.b": float("inf")}}, {})) == {
        "x": [0.1, True, 1e300],
        "set": {"a.b": float("inf")},
    }
    with pytest.raises(SettingError, match="source .* is no text that TOML can hold"):
        written({"source": "caf\udce9"}, {})


def test_detectors_and_presets_are_listed_for_people_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(inside(capsys, "detectors", "--json").stdout)["detectors"]
    assert [row["name"] for row in told] == list(DETECTORS)
    rows = {row["name"]: row for row in json.loads(inside(capsys, "presets", "--json").stdout)["presets"]}
    assert list(rows) == list(PRESETS)
    assert rows["fre-lite0-1l"]["weights"] is True
    assert rows["padim-r18-rd100"]["weights"] is False
    assert rows["vae-wood"]["weights"] is None
    for verb, names in (("detectors", DETECTORS), ("presets", PRESETS)):
        shown = inside(capsys, verb).stdout
        assert all(f"\n{name} " in shown for name in names)
        assert "…" not in shown  # nothing is cut, at 80 columns
