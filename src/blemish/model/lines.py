"""Reads predictions back from the lines of JSON that `predict` wrote; every field that is used is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.calibration import Calibration
from blemish.errors import SourceError
from blemish.model.prediction import Prediction
from blemish.storage.cards import reason_of
from blemish.storage.json_text import parse_json

LONGEST_LINE = 1 << 20
"""Bytes of a line, at most."""

MOST_LINES = 1_000_000


def read_lines(path: Path, calibration: Calibration) -> Iterator[Prediction]:
    """Yields the predictions of a file of JSON lines, in their order, without maps and boxes; empty lines are skipped.

    Args:
        path: what `predict --json` printed, or `results.jsonl` of `predict --out`.
        calibration: of the model that predicted; each line's p-value must follow from its score.

    Raises:
        SourceError: the file cannot be read, is too long, or a line is not a prediction by such a model; the message
            has its number, from 1.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise SourceError(f"{path}: line {number} has over {LONGEST_LINE:,} bytes; give what predict wrote")
                if number > MOST_LINES:
                    raise SourceError(f"{path}: has over {MOST_LINES:,} lines; give the latest of them")
                if line.strip():
                    yield _prediction(line, f"{path}: line {number}", calibration)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({reason_of(error)}); check the path and its permissions") from None


def _prediction(line: bytes, where: str, calibration: Calibration) -> Prediction:
    try:
        given = parse_json(line)
        if not isinstance(given, dict):
            raise ValueError("is not an object")
        path = _field(given, "path", str, type(None))
        named = None if path is None else Path(path)
        if "error" in given:
            reason = _field(given, "error", str)
            return Prediction(named, math.nan, math.nan, None, calibration.threshold, calibration.rate, None, reason)
        score, p_value, threshold, rate = (
            _number(given, name) for name in ("score", "p_value", "threshold", "false_alarm_rate")
        )
        flags = [_field(given, name, bool) for name in ("is_anomaly", "is_known")]
    except ValueError as error:
        reason = str(error).split(":", maxsplit=1)[0] or type(error).__name__
        raise SourceError(f"{where} is not a prediction ({reason}); give what predict --json printed") from None
    (expected,) = calibration.p_values([score])
    if abs(p_value - expected) > 1e-9:
        raise SourceError(
            f"{where} has p-value {p_value:g} at score {score:g}, and this model gives {expected:g}; it is of another "
            "model or another calibration, so predict again with this one"
        )
    return Prediction(named, score, p_value, flags[0], threshold, rate, None, None, (), flags[1])


def _field(given: dict[str, Any], name: str, *types: type) -> Any:
    if name not in given:
        raise ValueError(f"it has no {name}")
    if type(given[name]) not in types:
        raise ValueError(f"its {name} is of another type")
    return given[name]


def _number(given: dict[str, Any], name: str) -> float:
    value = _field(given, name, float, int)
    try:
        if math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"its {name} is not finite")
