"""The OpenAPI document: FastAPI's own for its routes, and a part written by hand for predictions."""

from __future__ import annotations

from typing import Any

from blemish.service.bodies import MOST_PARTS
from blemish.service.schema import Answer, Error

WORDS = {
    400: "The request is not valid.",
    401: "The token is missing or wrong.",
    403: "Another host name or another site, or the request needs a token and the service has none.",
    404: "There is no such model or verdict.",
    408: "The request took too long to arrive.",
    409: "Nothing was changed; the text says why.",
    410: "The image is no longer kept.",
    413: "Too many bytes, pixels or images.",
    415: "Not an image of a known format, or another content type.",
    422: "A value that is not allowed, or an image that is damaged or empty.",
    429: "Too many images wait; try again later.",
    431: "The headers are too long.",
    503: "No answer now: the worker or the log's database does not answer, or too many requests arrive at once.",
}

FORMATS = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp")

EVERYWHERE = (400, 403, 408, 413, 431, 503)
"""Statuses that any request may get before its route is called."""

BINARY = {"schema": {"type": "string", "format": "binary"}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the error responses of a route, in FastAPI's form."""
    return {status: {"model": Error, "description": WORDS[status]} for status in statuses}


def with_predict(document: dict[str, Any], *, has_token: bool) -> dict[str, Any]:
    """Returns the document with the route of predictions, and with the token if the service has one."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in (Answer, Error):
        found = kind.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= found.pop("$defs", {})
        schemas[kind.__name__] = found
    document["paths"]["/v1/models/{name}/predict"] = {"post": _predict()}
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            if path.startswith("/v1") or path == "/metrics":
                for operation in methods.values():
                    operation["security"] = [{"token": []}]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path.startswith("/v1"):
                operation["responses"]["422"] = _error_response(422)
            for status in EVERYWHERE:
                operation["responses"].setdefault(str(status), _error_response(status))
    document["paths"] = dict(sorted(document["paths"].items()))
    return document


def _predict() -> dict[str, Any]:
    several = {"type": "array", "items": BINARY["schema"], "minItems": 1, "maxItems": MOST_PARTS}
    files = {"type": "object", "required": ["file"], "properties": {"file": several}}
    failures = {str(status): _error_response(status) for status in (401, 404, 415, 422, 429)}
    return {
        "tags": ["models"],
        "summary": "Judge one image, or several",
        "operationId": "predict",
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "the model's name",
            },
            _query_parameter(
                "map", {"enum": ["none", "png", "overlay"], "type": "string", "default": "none"}, "the heat map as PNG"
            ),
            _query_parameter(
                "false_alarm_rate",
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                "the share of good images that may raise an alarm, instead of the model's own",
            ),
            _query_parameter(
                "shadow",
                {"enum": ["later", "wait"], "type": "string", "default": "later"},
                "whether the answer waits for the shadow, the second model",
            ),
            {"name": "X-Name", "in": "header", "schema": {"type": "string"}, "description": "name of a single image"},
        ],
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys((*FORMATS, "application/octet-stream"), BINARY),
                "multipart/form-data": {"schema": files},
            },
        },
        "responses": {
            "200": {
                "description": "The verdicts.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
            },
            **failures,
        },
    }


def _query_parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _error_response(status: int) -> dict[str, Any]:
    return {
        "description": WORDS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
