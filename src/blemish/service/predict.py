"""`POST /v1/models/{name}/predict`, without FastAPI, because most requests come here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from blemish.calibration.conformal import check_rate
from blemish.errors import SettingError
from blemish.service.bodies import Receive, images_in, read_body
from blemish.service.refused import Refused
from blemish.service.service import Service, Unreadable

MAPS = ("none", "png", "overlay")
MOST_QUERY = 2048
"""Bytes of the query, at most."""


@dataclass(frozen=True)
class Options:
    """The options in a query.

    Attributes:
        map: `none`, `png` (the heat map alone) or `overlay` (over the image, with boxes).
        rate: a false-alarm rate other than the model's.
        wait: whether the answer waits for the shadow's verdict.
    """

    map: str = "none"
    rate: float | None = None
    wait: bool = False

    @classmethod
    def read(cls, query: bytes) -> Options:
        """Reads a query. Raises `Refused` for a value that is not allowed."""
        if len(query) > MOST_QUERY:
            raise Refused(422, f"the query has more than {MOST_QUERY} bytes; give map and false_alarm_rate", "query")
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        map, rate, shadow = given.get("map", "none"), given.get("false_alarm_rate"), given.get("shadow", "later")
        if map not in MAPS:
            raise Refused(422, f"map {map[:20]!r} is not known; give {', '.join(MAPS)}", "query")
        if shadow not in {"later", "wait"}:
            raise Refused(422, f"shadow {shadow[:20]!r} is not known; give later or wait", "query")
        return cls(map, None if rate is None else _rate(rate), shadow == "wait")


def _rate(text: str) -> float:
    try:
        rate = float(text) if len(text) < 40 and "_" not in text else 0.0
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise Refused(
            422, f"false_alarm_rate {text[:20]!r} is out of range; give one above 0 and below 1, such as 0.05", "query"
        )
    return rate


async def predict(service: Service, name: str, query: bytes, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """Returns the answer to a request as JSON.

    Raises:
        Refused: there is no answer; the text says why.
        GoneError: the client closed the connection.
    """
    served = service.models.get(name)
    options = Options.read(query)
    if options.rate is not None:
        try:
            check_rate("false_alarm_rate", options.rate, len(served.details["scores"]))
        except SettingError as error:
            raise Refused(422, str(error), "query") from None
    service.scorer.check_room(1)
    with service.budget.share() as take:
        body = await read_body(receive, headers.get(b"content-length"), service.settings.most_bytes, take)
        images = images_in(headers, body)
        version = served.version
        judge = partial(
            service.judge, served, version, map=options.map, rate=options.rate, wait_for_shadow=options.wait
        )
        if len(images) == 1:
            results = [await judge(*images[0])]
        else:
            del body
            service.scorer.check_room(len(images))
            told = await asyncio.gather(*(judge(*image) for image in images), return_exceptions=True)
            results = [_of_several(image[0], result) for image, result in zip(images, told, strict=True)]
    answer = {"model": served.name, "version": version, "results": results}
    return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()


def _of_several(name: str | None, told: dict[str, Any] | BaseException) -> dict[str, Any]:
    """Returns the answer for one image of several; if it cannot be read, the others still get their verdicts.

    Raises:
        Refused: there is no verdict for another reason, so the whole request must be sent again.
    """
    if isinstance(told, Unreadable):
        return {"id": told.id, "name": name, "error": str(told)}
    if isinstance(told, BaseException):
        raise told
    return told
