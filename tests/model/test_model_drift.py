"""What a model says of drift, and predictions that are read back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.errors import SettingError, SourceError, StorageError
from blemish.model import Drift, lines
from blemish.model.drift import find_drift
from blemish.model.lines import read_lines
from conftest import write_parts

NEW = np.random.default_rng(0).integers(1, 26, 200) / 25
"""P-values of good images by a model that 24 images calibrate."""


def drifted(**options: object) -> Drift:
    p_values = np.concatenate([NEW, [1 / 25] * 60])
    return find_drift(p_values, 24, two_sided=False, **options)  # type: ignore[arg-type]


def test_a_verdict_is_one_line_that_says_since_when_why_and_what_to_do() -> None:
    found = drifted(names=[f"{index}.png" for index in range(260)])
    assert found.is_drift
    assert found.alarm is not None
    text = str(found)
    assert "\n" not in text
    assert f"the evidence reached 100 at image {found.alarm + 1} ({found.alarm}.png)" in text
    assert "scores are higher than before" in text
    assert "look at these images" in text
    quiet = find_drift(NEW, 24, two_sided=True)
    assert not quiet.is_drift
    assert str(quiet).startswith("no drift seen in 200 images: evidence ")
    assert str(find_drift([0.2], 24, two_sided=True)).startswith("no drift seen in 1 image: ")


def test_very_large_evidence_is_told_and_drawn() -> None:
    p_values = np.concatenate([np.tile(NEW, 10), [1 / 25] * 3000])
    found = find_drift(p_values, 24, two_sided=True)
    assert found.most > 308, "too large for a float"
    assert f"e+{math.floor(found.most)} at most" in str(found)
    assert found.picture().shape[2] == 3


def test_a_level_is_reached_later_the_higher_it_is() -> None:
    alarms = [drifted(level=level).alarm for level in (10, 100, 1e6)]
    assert alarms == sorted(alarms)  # type: ignore[type-var]
    assert len(set(alarms)) == 3
    assert drifted(level=1e300).alarm is None


def test_the_numbers_are_json_with_one_value_an_image() -> None:
    found = drifted(window=50)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["images"] == 260
    assert (told["drift"], told["since"], told["alarm"]) == (True, found.since, found.alarm)
    assert {len(told[name]) for name in ("p_values", "running_mean", "log10_martingale")} == {260}
    assert (told["window"], told["running_mean"][-1]) == (50, pytest.approx(1 / 25))
    assert told["window_p_value"] < 1e-6


def test_the_picture_is_written_and_replaces_only_a_picture_by_blemish(tmp_path: Path) -> None:
    found = drifted()
    for _ in range(2):
        found.save(tmp_path / "drift.png")
    with Image.open(tmp_path / "drift.png") as picture:
        assert picture.size[0] > 700
    assert found._repr_png_().startswith(b"\x89PNG")
    (tmp_path / "other.png").write_bytes(b"mine")
    with pytest.raises(StorageError, match="other.png"):
        found.save(tmp_path / "other.png")
    with pytest.raises(SettingError, match="pictures end in"):
        found.save(tmp_path / "drift.txt")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"level": 1}, "level 1 is out of range"),
        ({"level": math.nan}, "level nan is out of range"),
        ({"level": math.inf}, "level inf is out of range"),
        ({"level": "high"}, "level 'high' is not a number"),
        ({"window": 0}, "window 0 is out of range"),
        ({"window": 2.5}, "window 2.5 is not a whole number"),
        ({"names": ["a.png"]}, "1 names do not fit 260 p-values"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        drifted(**options)


def test_what_numpy_and_paths_give_is_taken_and_written_as_json() -> None:
    names = np.array([f"{index}.png" for index in range(260)])
    found = drifted(names=names, window=np.int64(50), level=np.float32(100))
    assert json.loads(json.dumps(found.as_dict()))["names"] == names.tolist()
    assert drifted(names=[Path("a.png")] * 260).names[0] == "a.png"


def test_lower_scores_count_once_the_model_is_calibrated_on_new_images(model: blemish.Model, tmp_path: Path) -> None:
    lower = [1.0] * 40
    found = model.drift(lower)
    assert (found.two_sided, found.is_drift, found.calibrated_on) == (False, False, 24)
    again = blemish.calibrate(model, write_parts(tmp_path / "new", 24, seed=5))
    assert again.drift(lower).shift == "lower"
    known = blemish.calibrate(model, model.provenance.source)
    assert not known.drift(lower).two_sided, "it was fitted on these images"
    with pytest.raises(SettingError, match="p-value 0.3 of image 2 is not one of a model that 24 images calibrate"):
        model.drift([0.2, 0.3])


def line(model: blemish.Model, **changed: object) -> dict[str, object]:
    score = float(model.calibration.scores[3])
    (p_value,) = model.calibration.p_values([score])
    given = {"path": "a.png", "score": score, "p_value": float(p_value), "is_anomaly": False, "threshold": 1.0}
    return {**given, "false_alarm_rate": 0.1, "boxes": [], "is_known": False, **changed}


def test_predictions_are_read_back_as_they_were_printed(model: blemish.Model, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    made = list(model.predict([tree / "test", tmp_path / "bad.png"], errors="keep"))
    printed = "\n".join(json.dumps(prediction.as_dict()) for prediction in made)
    (tmp_path / "results.jsonl").write_text(f"\n{printed}\n\n")
    read = list(read_lines(tmp_path / "results.jsonl", model.calibration))
    for one, other in zip(made, read, strict=True):
        assert {**one.as_dict(), "boxes": []} == {**other.as_dict(), "boxes": []} or one.error == other.error
        assert one.path == other.path


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"score": "high"}, "its score is of another type"),
        ({"score": True}, "its score is of another type"),
        ({"score": math.nan}, "NaN is not a number"),
        ({"score": 10**400}, "its score is not finite"),
        ({"path": 3}, "its path is of another type"),
        ({"is_known": 1}, "its is_known is of another type"),
        ({"error": 3}, "its error is of another type"),
        ({"p_value": 0.5}, "this model gives .*; it is of another model or another calibration"),
    ],
)
def test_a_line_that_is_no_prediction_by_the_model_is_named_by_its_number(
    model: blemish.Model, tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(line(model)) + "\n\n" + json.dumps(line(model, **changed)) + "\n")
    with pytest.raises(SourceError, match=f"results.jsonl: line 3 .*{told}"):
        list(read_lines(file, model.calibration))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "line 1 is not a prediction"),
        (b"[]", "line 1 is not a prediction .is not an object"),
        (b"{}", "line 1 is not a prediction .it has no path"),
        (b"\xff\xfe", "line 1 is not a prediction"),
        (b"[" * 100_000, "line 1 is not a prediction"),
        (b'{"path": 1e999, "score": ' + b"9" * 5000 + b"}", "line 1 is not a prediction"),
        (b" " * ((1 << 20) + 1), "line 1 has over 1,048,576 bytes"),
    ],
)
def test_bytes_that_are_no_predictions_are_an_error_in_one_line(
    model: blemish.Model, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "results.jsonl").write_bytes(content)
    with pytest.raises(SourceError, match=told) as raised:
        list(read_lines(tmp_path / "results.jsonl", model.calibration))
    assert "\n" not in str(raised.value)


def test_a_file_of_too_many_lines_or_that_cannot_be_read_is_refused(
    model: blemish.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_LINES", 2)
    (tmp_path / "long.jsonl").write_text("\n\n\n")
    with pytest.raises(SourceError, match="has over 2 lines"):
        list(read_lines(tmp_path / "long.jsonl", model.calibration))
    for absent in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(SourceError, match="cannot be read"):
            list(read_lines(absent, model.calibration))
