"""The result of one image of a folder or a camera: a line of `results.jsonl`, and a row of a table."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any, Literal

from blemish.errors import StorageError
from blemish.log import Verdict, guarded
from blemish.maps import Box
from blemish.model import Prediction

Kind = Literal["good", "anomalous", "unreadable"]

COLUMNS = (
    "time", "path", "verdict", "score", "p_value", "threshold", "false_alarm_rate", "boxes", "model", "version",
    "latency", "digest", "map", "error", "id",
)  # fmt: skip
"""The columns of the table `results.csv`."""

GUARDED = ("path", "error", "model")
"""The columns with text from outside."""


@dataclass(frozen=True)
class Result:
    """The verdict on one image, or the reason why there is none.

    Attributes:
        id: 32 hexadecimal digits, the same in the log.
        time: of the verdict, seconds since 1970, UTC.
        path: of the image below the folder, with `/` between names; or the camera and a time.
        size: bytes of the file; `None` for a frame of a camera.
        modified: when the file was changed last, in nanoseconds since 1970; `None` for a frame.
        file_digest: SHA-256 of the file's bytes, in hexadecimal; empty for a frame, or a file that could not be read.
        model: its name.
        version: the first 12 hexadecimal digits of the digest of its card.
        score, p_value, is_anomaly, threshold, false_alarm_rate, boxes, is_known, digest, error: as in `Prediction`.
        latency: seconds from the image's arrival to its verdict.
        map: the file with the heat map, below the folder of results, or `None`.
    """

    id: str
    time: float
    path: str
    size: int | None
    modified: int | None
    file_digest: str
    model: str
    version: str
    score: float
    p_value: float
    is_anomaly: bool | None
    threshold: float
    false_alarm_rate: float
    boxes: tuple[Box, ...]
    is_known: bool
    digest: str
    latency: float
    map: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, prediction: Prediction, **others: Any) -> Result:
        """Returns the result of a prediction; `others` are the remaining attributes."""
        return cls(
            score=prediction.score,
            p_value=prediction.p_value,
            is_anomaly=prediction.is_anomaly,
            threshold=prediction.threshold,
            false_alarm_rate=prediction.false_alarm_rate,
            boxes=prediction.boxes,
            is_known=prediction.is_known,
            digest=prediction.digest,
            error=prediction.error,
            **others,
        )

    @property
    def kind(self) -> Kind:
        """The verdict: `good`, `anomalous` or `unreadable`."""
        if self.error is not None:
            return "unreadable"
        return "anomalous" if self.is_anomaly else "good"

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as JSON values; an image without a verdict has `error` instead of a score."""
        said: dict[str, Any] = {"path": self.path}
        if self.error is not None:
            said["error"] = self.error
        else:
            said |= {"score": self.score, "p_value": self.p_value, "is_anomaly": self.is_anomaly}
            said |= {"boxes": [asdict(box) for box in self.boxes], "is_known": self.is_known}
        said |= {"threshold": self.threshold, "false_alarm_rate": self.false_alarm_rate, "map": self.map}
        said |= {"model": self.model, "version": self.version, "latency": round(self.latency, 4)}
        said |= {"time": datetime.fromtimestamp(self.time, timezone.utc).isoformat(), "id": self.id}
        said |= {"digest": self.digest, "size": self.size, "modified_ns": self.modified}
        return said | {"file_digest": self.file_digest}

    def line(self) -> bytes:
        """Returns the result as a line of JSON, in ASCII."""
        return json.dumps(self.as_dict(), allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes, where: str) -> Result:
        """Returns the result of a line that `line` made.

        Raises:
            StorageError: the line is something else; the message begins with `where`.
        """
        try:
            said = json.loads(line)
            error = said.get("error")
            return cls(
                id=str(said["id"]),
                time=datetime.fromisoformat(said["time"]).timestamp(),
                path=str(said["path"]),
                size=None if said["size"] is None else int(said["size"]),
                modified=None if said["modified_ns"] is None else int(said["modified_ns"]),
                file_digest=str(said["file_digest"]),
                digest=str(said["digest"]),
                model=str(said["model"]),
                version=str(said["version"]),
                score=math.nan if error is not None else float(said["score"]),
                p_value=math.nan if error is not None else float(said["p_value"]),
                is_anomaly=None if error is not None else bool(said["is_anomaly"]),
                threshold=float(said["threshold"]),
                false_alarm_rate=float(said["false_alarm_rate"]),
                boxes=tuple(Box(**box) for box in said.get("boxes", ())),
                is_known=bool(said.get("is_known", False)),
                latency=float(said["latency"]),
                map=said["map"],
                error=error,
            )
        except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise StorageError(
                f"{where} is not what watch wrote ({type(fault).__name__}); give another folder with --out"
            ) from None

    def row(self) -> list[str]:
        """Returns the fields of `COLUMNS` as text; one that a spreadsheet would take for a formula begins with `'`."""
        fields = self.as_dict() | {"verdict": self.kind, "boxes": len(self.boxes)}
        texts = ["" if fields.get(name) is None else str(fields[name]) for name in COLUMNS]
        return [guarded(text) if name in GUARDED else text for name, text in zip(COLUMNS, texts, strict=True)]

    def verdict(self) -> Verdict:
        """Returns the result as a row of the log."""
        return Verdict(
            id=self.id,
            time=self.time,
            model=self.model,
            version=self.version,
            role="decides",
            request=self.id,
            name=self.path if self.size is None else PurePosixPath(self.path).name,
            digest=self.digest,
            score=self.score,
            p_value=self.p_value,
            is_anomaly=self.is_anomaly,
            threshold=self.threshold,
            false_alarm_rate=self.false_alarm_rate,
            boxes=self.boxes,
            latency=self.latency,
            error=self.error,
        )
