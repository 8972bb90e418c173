"""The routes of the models and their versions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timezone
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from blemish.errors import LogError
from blemish.service.document import errors
from blemish.service.models import Served
from blemish.service.refused import Refused
from blemish.service.schema import AllModels, Judged, ModelOf, ModelWithScores, WaitingNow
from blemish.service.service import Service

T = TypeVar("T")


def model_routes(service: Service) -> APIRouter:
    """Returns the routes of models."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", response_model=AllModels, responses=errors(401, 403), summary="All models")
    async def models() -> dict[str, Any]:
        return {"models": [described(service, served) for served in service.models.served.values()]}

    @router.get(
        "/{name}", response_model=ModelWithScores, responses=errors(401, 403, 404), summary="One model, with its scores"
    )
    async def model(name: str) -> dict[str, Any]:
        served = service.models.get(name)
        return {**described(service, served), "scores": served.details["scores"]}

    @router.post(
        "/{name}/reload",
        response_model=ModelOf,
        responses=errors(401, 403, 404, 409, 503),
        summary="Serve what the model's folder holds now",
    )
    async def reload(name: str) -> dict[str, Any]:
        served = service.models.get(name)
        await _whole(service.models.reload(served))
        return described(service, served)

    @router.post(
        "/{name}/rollback",
        response_model=ModelOf,
        responses=errors(401, 403, 404, 409, 503),
        summary="Serve the previous version",
    )
    async def rollback(name: str) -> dict[str, Any]:
        served = service.models.get(name)
        await _whole(service.feedback.rollback(served))
        return described(service, served)

    @router.post(
        "/{name}/update",
        response_model=ModelOf,
        responses=errors(401, 403, 404, 409, 503),
        summary="Learn from the images that were marked good; needs a token",
    )
    async def update(name: str, request: Request) -> dict[str, Any]:
        service.access.check_token(dict(request.scope["headers"]))
        served = service.models.get(name)
        await _whole(service.feedback.update(served))
        return described(service, served)

    @router.post(
        "/{name}/feedback",
        response_model=WaitingNow,
        responses=errors(400, 401, 403, 404, 409, 410, 413, 422, 503),
        summary="Say that an image is good, or anomalous",
    )
    async def feedback(name: str, judged: Judged) -> dict[str, Any]:
        served = service.models.get(name)
        image = await _image(service, served, judged.id)
        await asyncio.to_thread(service.feedback.put, name, judged.id, judged.said, image)
        service.log.feedback(judged.id, judged.said)
        return {"waiting": service.feedback.waiting(name)}

    return router


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a change, which is completed even if the client closes the connection."""
    return await asyncio.shield(asyncio.ensure_future(work))


async def _image(service: Service, served: Served, id: str) -> bytes:
    """Returns the bytes of an image that a model judged. Raises `Refused` if it is no longer there, or never was."""
    picture = service.recent.get(id)
    if picture is not None and picture.model == served.name:
        return picture.image
    gone = Refused(404, f"{served.name} has judged no image with this id; take an id from its answers", "gone")
    try:
        verdict = await service.reading(service.log.get, id)
    except (LogError, Refused):
        raise gone from None
    if verdict is None or verdict.model != served.name or verdict.role != "decides":
        raise gone
    image = await service.kept(id, "image")
    if image is None:
        raise Refused(410, "the image is no longer kept; start the service with --keep all to keep them longer", "gone")
    return image


def described(service: Service, served: Served) -> dict[str, Any]:
    """Returns a model as JSON values, without its scores."""
    shadow = served.shadow
    loaded = datetime.fromtimestamp(served.loaded, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    problem = served.problem
    if problem is None and shadow is not None and shadow.problem is not None:
        problem = f"shadow: {shadow.problem}"
    return {
        "name": served.name,
        "version": served.version,
        "previous": served.previous if service.models.versions.holds(served.name, served.previous) else None,
        "shadow": None if shadow is None else {"name": shadow.name, "version": shadow.version},
        "loaded": loaded,
        "problem": problem,
        **{key: value for key, value in served.details.items() if key not in {"scores", "two_sided"}},
        "waiting": service.feedback.waiting(served.name),
    }
