"""The application: checks who asks, answers predictions itself, and sends everything else to the documented routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteError
from starlette.staticfiles import StaticFiles

import blemish
from blemish.service.bodies import GoneError, Receive, read_body
from blemish.service.document import with_predict
from blemish.service.log_routes import log_routes
from blemish.service.model_routes import model_routes
from blemish.service.predict import predict
from blemish.service.queries import Queries
from blemish.service.reference import STYLE, reference
from blemish.service.refused import Refused
from blemish.service.saying import say_traceback
from blemish.service.service import Service

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]

PAGE = Path(__file__).parent / "page"

MOST_JSON = 64 << 10
"""Bytes of a body that is not an image, at most."""

PAGE_POLICY = (
    b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'; "
    b"base-uri 'none'; form-action 'none'; object-src 'none'"
)
DOCS_POLICY = b"default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
OTHER_POLICY = b"default-src 'none'; frame-ancestors 'none'; sandbox"
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]
JSON_HEAD = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *SECURITY]


class Application:
    """The ASGI application of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes = routes(service)
        self._queries = Queries(self._routes.state.document)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *_security(scope["path"])]
            await send(message)

        try:
            await self._answer(scope, receive, send, sending)
        except Refused as refused:
            self._service.metrics.rejected(refused.reason)
            await _send_json(send, refused.status, refused.body, refused.headers)
        except GoneError:
            self._service.metrics.rejected("gone")
        except Exception:
            say_traceback()
            self._service.metrics.rejected("error")
            if not begun:
                await _send_json(send, 500, _fault().body)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, sending: Send) -> None:
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) != 1:
            raise Refused(400, "the request has no Host header, or several; send one", "host")
        self._service.access.check(method, path, headers)
        self._queries.check(method, path, scope["query_string"])
        name = _predicted(path)
        if name is None:
            length = headers.get(b"content-length")
            with self._service.budget.share() as take:
                body = await read_body(receive, length, MOST_JSON, take) if method != "GET" else b""
            await self._routes(scope, _once(body, receive), sending)
            return
        if method != "POST":
            raise Refused(405, f"{method} is not for this address; send an image by POST", "method", {"Allow": "POST"})
        answer = await predict(self._service, name, scope["query_string"], headers, receive)
        await _send_json(send, 200, answer)


def routes(service: Service) -> FastAPI:
    """Returns the documented routes, without those of FastAPI that load files from other hosts."""
    app = FastAPI(
        title="blemish",
        version=blemish_version(),
        description="Finds what does not belong in images.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirection would contain the host name that the client sent
    )
    app.include_router(model_routes(service))
    app.include_router(log_routes(service))

    @app.get("/healthz", response_class=PlainTextResponse, tags=["state"], summary="Whether the service runs")
    async def healthz() -> str:
        return "ok\n"

    @app.get(
        "/readyz",
        response_class=PlainTextResponse,
        tags=["state"],
        summary="Whether all models are loaded and the worker answers",
        responses={503: {"description": "Not yet, or not at the moment."}},
    )
    async def readyz() -> Response:
        is_ready = await service.scorer.ping()
        return PlainTextResponse("ready\n" if is_ready else "not ready\n", 200 if is_ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["state"], summary="For Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    document = with_predict(app.openapi(), has_token=service.settings.token is not None)
    app.state.document = document
    page = reference(document)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(document)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/docs/style.css", include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        file = PAGE / "index.html"
        if not file.is_file():
            return HTMLResponse(
                "<!doctype html><title>blemish</title><p>The service runs. See <a href=/docs>/docs</a>."
            )
        return HTMLResponse(file.read_bytes())

    if PAGE.is_dir():
        app.mount("/page", StaticFiles(directory=PAGE))

    async def failed(request: Request, error: Exception) -> Response:
        return Response(_fault().body, 500, media_type="application/json")  # the caller prints the traceback

    app.add_exception_handler(Exception, failed)

    async def refuse(request: Request, error: Exception) -> Response:
        refused = _refusal(request, error)
        service.metrics.rejected(refused.reason)
        return Response(refused.body, refused.status, refused.headers, "application/json")

    for kind in (StarletteError, RequestValidationError, Refused):
        app.add_exception_handler(kind, refuse)
    return app


def blemish_version() -> str:
    """Returns the installed version of blemish."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(blemish.__name__)
    except PackageNotFoundError:
        return "0"


def _fault() -> Refused:
    return Refused(500, "an error in blemish; the service's own output shows where", "error")


def _refusal(request: Request, error: Exception) -> Refused:
    """Returns the refusal that answers an error of the routes."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        found = error.errors()[0]
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if found["loc"][0] == "body" and kind != "application/json":
            return Refused(
                422, f"the content type {kind[:80]!r} is not JSON; send Content-Type: application/json", "request"
            )
        where = ".".join(str(step) for step in found["loc"] if step not in {"body", "query", "path"})
        return Refused(422, f"{where or 'the body'}: {found['msg']}; see /docs", "request")
    assert isinstance(error, StarletteError)  # noqa: S101  # no other kind is handled
    texts = {404: "nothing is at this address", 405: f"{request.method} is not for this address"}
    text = texts.get(error.status_code, str(error.detail))
    return Refused(error.status_code, f"{text}; see /docs", "address", dict(error.headers or {}))


def _predicted(path: str) -> str | None:
    """Returns the model's name if a path is that of predictions."""
    if not (path.startswith("/v1/models/") and path.endswith("/predict")):
        return None
    name = path[len("/v1/models/") : -len("/predict")]
    return None if "/" in name else name


def _once(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _security(path: str) -> list[tuple[bytes, bytes]]:
    policy, cache = OTHER_POLICY, b"no-store"
    if path == "/" or path.startswith("/page/"):
        policy, cache = PAGE_POLICY, b"no-cache"
    elif path.startswith("/docs"):
        policy = DOCS_POLICY
    return [*SECURITY, (b"content-security-policy", policy), (b"cache-control", cache)]


async def _send_json(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    head = [*JSON_HEAD, (b"content-length", str(len(body)).encode())]
    head += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
