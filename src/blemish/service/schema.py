"""The bodies of requests and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Error(BaseModel):
    """Why a request is refused, in one line: what was found, what was expected, what to do."""

    error: str


class BoxOf(BaseModel):
    """Rows `top` to `bottom` and columns `left` to `right`, in the image's own pixels; the ends are not included."""

    top: int
    left: int
    bottom: int
    right: int
    area: int
    peak: float


class Second(BaseModel):
    """The shadow's verdict on an image."""

    model: str
    version: str
    score: float
    p_value: float
    is_anomaly: bool


class Result(BaseModel):
    """The verdict on one image; if there is none, only `id`, `name` and the reason in `error`."""

    id: str
    name: str | None
    height: int = 0
    width: int = 0
    score: float = 0
    p_value: float = 0
    is_anomaly: bool = False
    threshold: float = 0
    false_alarm_rate: float = 0
    boxes: list[BoxOf] = []
    is_known: bool = False
    map: str | None = None
    shadow: Second | None = None
    latency: float = 0
    error: str | None


class Answer(BaseModel):
    """The verdicts on the images of a request, in the same order."""

    model: str
    version: str
    results: list[Result]


class Waiting(BaseModel):
    """Good images that wait for the next update, and anomalous ones that are kept; no model learns from these."""

    good: int
    anomalous: int


class ShadowOf(BaseModel):
    """A shadow: a model that judges the same images but does not decide."""

    name: str
    version: str


class ModelOf(BaseModel):
    """A model that is served."""

    name: str
    version: str
    previous: str | None
    shadow: ShadowOf | None
    loaded: str
    problem: str | None
    detector: str
    backbone: str
    height: int
    width: int
    tile: int | None
    images: int
    threshold: float
    false_alarm_rate: float
    lowest_rate: float
    box_rate: float
    display: list[float]
    waiting: Waiting


class ModelWithScores(ModelOf):
    """A model with the scores of the images that calibrated it, in ascending order."""

    scores: list[float]


class AllModels(BaseModel):
    """All models that decide."""

    models: list[ModelOf]


class Judged(BaseModel):
    """A person's mark on an image."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern="^[0-9a-f]{32}$")
    said: Literal["good", "anomalous"] = Field(alias="is")


class WaitingNow(BaseModel):
    """How many good images wait, and how many anomalous ones are kept."""

    waiting: Waiting


class Row(BaseModel):
    """One row of the log."""

    id: str
    time: str
    model: str
    version: str
    role: str
    request: str
    name: str | None
    digest: str
    score: float | None
    p_value: float | None
    is_anomaly: bool | None
    threshold: float | None
    false_alarm_rate: float | None
    boxes: list[dict[str, Any]]
    latency: float | None
    error: str | None
    feedback: str | None


class Rows(BaseModel):
    """Verdicts, newest first, and where the next ones begin."""

    verdicts: list[Row]
    next: str | None


class BucketOf(BaseModel):
    """Ten minutes of a day."""

    start: str
    count: int
    anomalies: int
    lowest: float
    median: float
    highest: float


class DriftOf(BaseModel):
    """The evidence that the images of a day differ from those that calibrated the model."""

    martingale_log10: float | None
    alarm: bool
    images: int


class Day(BaseModel):
    """A day of a model."""

    buckets: list[BucketOf]
    unreadable: int = Field(description="images that got no verdict; they are not in the buckets")
    drift: DriftOf
