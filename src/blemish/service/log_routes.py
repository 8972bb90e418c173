"""The routes of the log: verdicts, their images, and a day of a model."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse

from blemish.errors import SettingError
from blemish.log import Feedback, Filter, Role, Verdict
from blemish.log.exports import csv_lines, json_lines, write_parquet
from blemish.log.verdict import iso
from blemish.service.document import errors
from blemish.service.formats import SHOWN, format_of
from blemish.service.metrics import drift_of
from blemish.service.models import DRIFT_IMAGES, Served
from blemish.service.refused import Refused
from blemish.service.schema import Day, Rows
from blemish.service.service import Service

BUCKET = 600.0
"""Seconds of one part of a day."""

MOST_ROWS = 1000
"""Verdicts in one answer, at most."""

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the id of a verdict")]
Moment = Annotated[str | None, Query(max_length=40, description="ISO 8601, in UTC unless it says another zone")]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9.e+-]{1,40}_[0-9a-f]{32}$", description="`next` of the previous answer")
]
Date = Annotated[
    str, Query(max_length=40, description="the day, such as 2026-01-31", json_schema_extra={"format": "date"})
]
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
Name = Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9._-]+$", description="the name of a model")]


def log_routes(service: Service) -> APIRouter:
    """Returns the routes of the log."""
    router = APIRouter(prefix="/v1", tags=["log"])

    @router.get(
        "/verdicts",
        response_model=Rows,
        responses={
            200: {
                "description": "Verdicts, newest first.",
                "content": {"text/csv": {}, "application/vnd.apache.parquet": {}},
            },
            **errors(401, 403, 422, 503),
        },
        summary="Verdicts, newest first",
    )
    async def verdicts(
        model: Name = None,
        role: Role | None = None,
        since: Moment = None,
        until: Moment = None,
        is_anomaly: bool | None = None,
        feedback: Feedback | None = None,
        limit: Annotated[
            int | None,
            Query(
                ge=1, le=1_000_000_000, description="100 by default, 1000 at most; for CSV and Parquet all by default"
            ),
        ] = None,
        after: Cursor = None,
        format: Literal["json", "csv", "parquet"] = "json",
    ) -> Response:
        wanted = Filter(model, role, _seconds("since", since), _seconds("until", until), is_anomaly, feedback)
        if format != "json":
            return await _exported(service, wanted, limit, format)
        if limit is not None and limit > MOST_ROWS:
            text = f"limit {limit} is more than {MOST_ROWS:,}; use after to continue, or give format=csv for all"
            raise Refused(422, text, "query")
        try:
            found = await service.reading(_found, service, wanted, limit or 100, after)
        except SettingError as error:
            raise Refused(422, str(error), "query") from None
        return Response(found, media_type="application/json")

    @router.get(
        "/verdicts/{id}/{what}",
        response_class=Response,
        responses={
            200: {"description": "A PNG or a JPEG.", "content": {"image/png": {}, "image/jpeg": {}}},
            **errors(401, 403, 404, 410, 422, 429, 503),
        },
        summary="The image of a verdict, small, or with its heat map",
    )
    async def picture(id: Id, what: Literal["image", "overlay", "thumbnail"]) -> Response:
        content = await _picture(service, id, what)
        return Response(content, media_type=f"image/{format_of(content)}")

    @router.get(
        "/models/{name}/day",
        response_model=Day,
        responses=errors(401, 403, 404, 422, 503),
        summary="A day of a model in spans of ten minutes",
    )
    async def day(
        name: str,
        date: Date,
        tz_offset: Annotated[
            int, Query(ge=-1440, le=1440, description="minutes by which local time is ahead of UTC")
        ] = 0,
    ) -> dict[str, Any]:
        served = service.models.get(name)
        try:
            if not DATE.fullmatch(date):
                raise ValueError
            start = datetime.fromisoformat(f"{date}T00:00:00+00:00") - timedelta(minutes=tz_offset)
            since, until = start.timestamp(), (start + timedelta(days=1)).timestamp()
        except (ValueError, OverflowError):
            raise Refused(422, f"date {date!r} is not a date; give YYYY-MM-DD", "query") from None
        wanted = Filter(name, "decides", since, until)
        unreadable = await service.reading(service.log.unread, wanted)
        buckets, drift = await service.reading(_day, service, served, wanted)
        return {"buckets": buckets, "unreadable": unreadable, "drift": drift}

    return router


def _found(service: Service, wanted: Filter, limit: int, after: str | None) -> bytes:
    """Returns verdicts as JSON, made in a thread: a thousand with many boxes take a second."""
    found = service.log.find(wanted, limit=limit, after=after)
    rows = ",".join(json_lines(found.verdicts))
    return f'{{"verdicts":[{rows}],"next":{json.dumps(found.next)}}}'.encode()


def _day(service: Service, served: Served, wanted: Filter) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the buckets of a day, and the evidence of drift from the latest images of the served version."""
    buckets = [
        {
            "start": iso(bucket.start),
            "count": bucket.count,
            "anomalies": bucket.anomalies,
            "lowest": bucket.lowest,
            "median": bucket.median,
            "highest": bucket.highest,
        }
        for bucket in service.log.buckets(wanted, BUCKET)
    ]
    p_values: list[float] = []
    for verdict in islice(service.log.every(wanted), 2 * DRIFT_IMAGES):
        if verdict.version == served.version and verdict.error is None:
            p_values.append(verdict.p_value)
    try:
        drift = drift_of(p_values[:DRIFT_IMAGES][::-1], served)
    except SettingError:  # the p-values come from another calibration
        drift = drift_of([], served)
    return buckets, drift


async def _picture(service: Service, id: str, what: Literal["image", "overlay", "thumbnail"]) -> bytes:
    """Returns a picture of an image, from memory or from the disk. Raises `Refused` if it is no longer there."""
    if what == "overlay" and (kept := await service.kept(id, "overlay")) is not None:
        return kept
    found = service.recent.get(id)
    image = await service.kept(id, "image") if found is None else found.image
    if image is None:
        if await service.reading(service.log.get, id) is None:
            raise Refused(404, "there is no verdict with this id; take one from GET /v1/verdicts", "no picture")
        raise Refused(410, "the image is not kept, or no longer kept; start the service with --keep all", "no picture")
    if what == "image" and format_of(image) in SHOWN:
        return image
    keys = {served.key for served in service.models.served.values()}
    if what == "overlay":
        if found is None or found.key not in keys:
            raise Refused(410, "the version that judged this image is no longer served", "no picture")
        return await service.scorer.draw(image, found.key, what)
    return await service.scorer.draw(image, next(iter(keys)), what)


async def _exported(service: Service, wanted: Filter, limit: int | None, format: str) -> Response:
    """Returns all wanted verdicts as a file."""
    rows = service.log.every(wanted)
    head = {"Content-Disposition": f'attachment; filename="verdicts.{format}"'}
    if format == "csv":
        lines = csv_lines(islice(rows, limit))
        first = await service.reading(next, lines)
        second = await service.reading(next, lines, "")
        return StreamingResponse(_after([first, second], lines), media_type="text/csv; charset=utf-8", headers=head)
    file = await service.reading(_parquet, islice(rows, limit))
    return StreamingResponse(_pieces(file), media_type="application/vnd.apache.parquet", headers=head)


def _parquet(rows: Iterator[Verdict]) -> IO[bytes]:
    """Returns a file with the rows, which is removed when it is closed. Raises `OSError` if the disk is full."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed when all of it is sent
    try:
        write_parquet(rows, file)
    except BaseException:
        file.close()
        raise
    return file


def _after(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    """Yields lines; if reading fails, the answer stays incomplete, which the client notices."""
    yield from first
    yield from rest


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(1 << 20):
            yield piece


def _seconds(name: str, text: str | None) -> float | None:
    """Returns a time as seconds since 1970. Raises `Refused` if the text is not a time."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace(" ", "+"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise Refused(422, f"{name} {text!r} is not a time; give one such as 2026-01-31T12:00:00Z", "query") from None
