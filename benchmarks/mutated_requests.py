"""Requests as somebody sends them who means harm, or whose program is broken: seeded, each as the bytes on the line."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from PIL import Image

KINDS = ("image", "size", "splice", "type", "multipart", "head", "name", "query", "address", "json")

# fmt: off
NUMBERS = ["nan", "-nan", "inf", "-inf", "1e999", "1e-999", "0", "-1", "1", "0.05", "٠.٥", "0x1p-3", "1_0",
    "9" * 400, "", "0.05;DROP TABLE", "None", "%00", "\0", "true", "{}", "0.0000000001", "0.99999999999999999"]
NAMES = ["../../etc/passwd", "..\\..\\x", "C:\\x", "/etc/shadow", "a\0b", "\r\nSet-Cookie: a=b",
    "\x1b[2J\x1b]0;x\a", "=1+1", "<script>alert(1)</script>", "\u202egnp.exe", "a" * 5000, "..", ".", "~root",
    "$(id)", "`id`", "%s%n", "{0}", "𝕏" * 99, "\ud800", "CON", "a/b/c.png", "|calc", "-rf", "name;=cmd", "\ufeff",
    "é.png", "' OR 1=1--"]
TYPES = ["", "image/png", "image/svg+xml", "text/html", "application/json", "multipart/form-data",
    "multipart/mixed; boundary=x", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a",
    "application/octet-stream; charset=utf-7", "image/*", "IMAGE/PNG;;;;", "application/x-www-form-urlencoded",
    "a" * 3000, "image/png, text/html", ";", "\xff"]
ADDRESSES = ["/v1/models/%s", "/v1/models/%s/predict", "/v1/models/%s/day?date=2026-01-01", "/v1/verdicts/%s/image",
    "/page/%s", "/v1/verdicts?model=%s", "/v1/verdicts?after=%s", "/v1/verdicts?since=%s", "/v1/verdicts?limit=%s",
    "/docs/%s", "/v1/models/parts/day?date=%s", "/v1/models/parts/day?date=2026-01-01&tz_offset=%s", "/%s",
    "/metrics?x=%s", "/v1/verdicts?role=%s&format=csv", "/v1/verdicts?format=%s"]
# fmt: on
WRITTEN: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
]
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "POST", "CONNECT", "PRI", "get", "M-SEARCH"]
LIMITS = [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 65_500, 12_000, 400]
VALUES = [
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "x",
    "good",
    "anomalous",
    "../x",
    "0" * 32,
    "f" * 32,
    [],
    {},
    [[]],
    "\0",
    "\ud800",
]


def originals() -> list[bytes]:
    """The same small picture in each format, and in some unusual ones."""
    rng = random.Random(0)  # noqa: S311  # not for secrets
    picture = Image.frombytes("RGB", (48, 40), rng.randbytes(48 * 40 * 3)).resize((96, 96))
    found = []
    for kind, options in WRITTEN:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found.append(buffer.getvalue())
    for mode in ("L", "RGBA", "P", "1", "I;16"):
        buffer = io.BytesIO()
        (Image.new(mode, (40, 30)) if mode == "I;16" else picture.convert(mode)).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def changed(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, zeroed, or replaced, in one place or several."""
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        if not content:
            return b"x"
        at = rng.randrange(len(content)) if rng.random() < 0.6 else rng.randrange(min(len(content), 64))
        length = min(len(content) - at, 1 << rng.randrange(10))
        way = rng.randrange(6)
        if way == 0:
            content = content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
        elif way == 1 and rng.random() < 0.3:
            content = content[:at]
        elif way == 2:
            content = content[:at] + rng.randbytes(length) + content[at + length :]
        elif way == 3:
            content = content[:at] + bytes(length) + content[at + length :]
        elif way == 4:
            content = content[: at + length] + content[at:]
        else:
            content = content[:at] + content[at + length :]
    return content


def resized(content: bytes, rng: random.Random) -> bytes:
    """An image that says it has another size."""
    width, height = rng.choice(LIMITS), rng.choice(LIMITS)
    if content.startswith(b"\x89PNG"):
        head = struct.pack(">II", width, height) + content[24:29]
        return content[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + content[33:]
    if content.startswith(b"BM"):
        return content[:18] + struct.pack("<II", width, height) + content[26:]
    if content.startswith(b"\xff\xd8"):
        at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        return content[: at + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + content[at + 9 :]
    if content.startswith(b"II"):
        (start,) = struct.unpack_from("<I", content, 4)
        at = start + 2 + 12 * rng.randrange(8)
        return content[: at + 8] + struct.pack("<I", width) + content[at + 12 :]
    at = rng.randrange(12, 30)
    return content[:at] + struct.pack("<I", width) + content[at + 4 :]


def spliced(images: Sequence[bytes], rng: random.Random) -> bytes:
    """The beginning of one file and the end of another, or a file that two programs read as two things."""
    one, other = rng.choice(images), rng.choice(images)
    way = rng.randrange(4)
    if way == 0:
        return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]
    if way == 1:
        return one + b"<html><script>alert(1)</script></html>" + other
    if way == 2:
        return rng.choice([b"PK\x03\x04", b"GIF89a", b"%PDF-1.7", b"#!/bin/sh\n", b"<svg>", b"\x7fELF", b"MZ"]) + one
    return one[:20] + rng.choice([b"#!/bin/sh\n", b"\0" * 4000, b"\xff" * 4000]) + one[20:]


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes; what is in `headers` may be anything."""
    given = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("utf-8", "surrogatepass") + body


def multipart(files: Sequence[tuple[str, bytes]]) -> bytes:
    """A body with files, divided by `edge`."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode(errors="replace")
        + image
        for name, image in files
    ]
    return b"\r\n".join([*parts, b"--edge--\r\n"])


def mutated(number: int, seed: int, images: Sequence[bytes], name: str = "parts") -> tuple[str, bytes]:
    """Returns the kind and the bytes of a request.

    Args:
        number: of the request; the same one is the same for a seed.
        seed: of all.
        images: whole ones, see `originals`.
        name: of a model that is served.
    """
    rng = random.Random(f"{seed}.{number}")  # noqa: S311  # not for secrets
    kind = KINDS[number % len(KINDS)]
    image, to = rng.choice(images), f"/v1/models/{name}/predict"
    if kind == "image":
        query = rng.choice(["", "", "?map=png", "?map=overlay"])
        return kind, request("POST", to + query, changed(image, rng), Content_Type="image/png")
    if kind == "size":
        return kind, request("POST", to, resized(image, rng), Content_Type="image/png")
    if kind == "splice":
        return kind, request("POST", to, spliced(images, rng), Content_Type="application/octet-stream")
    if kind == "type":
        return kind, request("POST", to, image, Content_Type=rng.choice(TYPES))
    if kind == "multipart":
        body = multipart([(rng.choice(NAMES), rng.choice(images)) for _ in range(rng.choice([1, 2, 3, 70]))])
        body = changed(body, rng) if rng.random() < 0.7 else body
        return kind, request(
            "POST", to, body, Content_Type=f"multipart/form-data; boundary={rng.choice(['edge', 'edg'])}"
        )
    if kind == "head":
        whole = request("POST", to, image, Content_Type="image/png")
        end = whole.index(b"\r\n\r\n")
        return kind, changed(whole[:end], rng) + whole[end:]
    if kind == "name":
        odd = rng.choice(NAMES)
        return kind, request("POST", to, image, X_Name=quote(odd, errors="replace") if rng.random() < 0.6 else odd)
    if kind == "query":
        rate = quote(rng.choice(NUMBERS)) * rng.choice([1, 1, 1, 900])
        extra = rng.choice(["", "&map=" + quote(rng.choice(NAMES)[:50], errors="replace"), "&a" * 900, "&shadow=wait"])
        return kind, request("POST", f"{to}?false_alarm_rate={rate}{extra}", image, Content_Type="image/png")
    if kind == "address":
        odd = quote(rng.choice([*NAMES, *NUMBERS]), safe=rng.choice(["", "/.\\"]), errors="replace")
        method = "GET" if rng.random() < 0.7 else rng.choice(METHODS)
        return kind, request(method, rng.choice(ADDRESSES).replace("%s", odd), X_Odd=rng.choice(NUMBERS))
    told = json.dumps({"id": rng.choice(VALUES), "is": rng.choice(VALUES)}).encode()
    body = rng.choice([told, changed(told, rng), b"[" * 60_000, b'{"id":' * 9000, b"9" * 60_000, b"\xff\xfe{}"])
    what = rng.choice(["feedback", "feedback", "feedback", "rollback", "update"])
    return kind, request("POST", f"/v1/models/{name}/{what}", body, Content_Type="application/json")
