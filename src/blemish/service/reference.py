"""The page `/docs`: the OpenAPI document as plain HTML without a script."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8888; padding: .5rem 0; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; }
h2 b { display: inline-block; min-width: 3.5rem; }
table { border-collapse: collapse; width: 100%; }
td { padding: .15rem .5rem .15rem 0; vertical-align: top; border-top: 1px solid #8883; }
td:first-child { white-space: nowrap; width: 12rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow: auto; padding: .5rem; background: #8882; }
"""


def reference(document: dict[str, Any]) -> str:
    """Returns the page of an OpenAPI document."""
    body = [f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"]
    body.append(
        '<p>The addresses of this service. For programs: <a href="/openapi.json">/openapi.json</a>. '
        'The page for the production line: <a href="/">/</a>.</p>'
    )
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body.append(_operation(document, path, method, operation))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>blemish: the API</title><link rel="stylesheet" href="/docs/style.css">{"".join(body)}</html>'
    )


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    rows = []
    for asked in operation.get("parameters", ()):
        allowed = asked["schema"].get("enum")
        text = asked.get("description", "") + (f": {', '.join(map(str, allowed))}" if allowed else "")
        rows.append((f"{asked['name']} ({asked['in']})", text))
    if "requestBody" in operation:
        rows.append(("body", ", ".join(operation["requestBody"]["content"])))
    rows += [(status, told["description"]) for status, told in operation["responses"].items()]
    table = "".join(f"<tr><td>{escape(name)}<td>{escape(text)}" for name, text in rows)
    token = "<p>Needs the token: <code>Authorization: Bearer TOKEN</code></p>" if operation.get("security") else ""
    form = _example(document, operation)
    return (
        f"<section><h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
        f"<p>{escape(operation.get('summary', ''))}</p>{token}<table>{table}</table>{form}</section>"
    )


def _example(document: dict[str, Any], operation: dict[str, Any]) -> str:
    """Returns the form of the answer."""
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json")
    if content is None or not content.get("schema"):
        return ""
    form = json.dumps(_form(document, content["schema"]), indent=1)
    return f"<details><summary>The answer</summary><pre>{escape(form)}</pre></details>"


def _form(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Returns the form of an answer, with types instead of values."""
    if "$ref" in schema:
        return _form(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        first, *rest = (_form(document, one) for one in schema["anyOf"])
        return f"{first} or {' or '.join(map(str, rest))}" if isinstance(first, str) else first
    if schema.get("type") == "object":
        return {name: _form(document, found) for name, found in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_form(document, schema["items"])]
    return schema.get("type", "any")
