"""Reads the body of a request, with limits on its bytes, on the bytes of all requests together, and on its parts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from blemish.service.refused import Refused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MOST_PARTS = 64
"""Images in one request, at most."""

MOST_TOGETHER = 512 << 20
"""Bytes of all bodies in memory at one time; a larger body is read only when no other is in memory."""

LONGEST_HEAD = 8192
"""Bytes of the headers of one part, at most."""

LONGEST_NAME = 255
"""Characters of an image's name that are kept."""

BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class GoneError(Exception):
    """The client closed the connection before its request was complete."""


class Budget:
    """The bytes that all bodies may take together."""

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that reserves bytes or raises `Refused`; all are released at the end."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.taken > mine and self.taken + count > self.most:
                raise Refused(
                    503,
                    "too many bytes of images are being received; send it again later",
                    "busy",
                    {"Retry-After": "1"},
                )
            mine += count
            self.taken += count

        try:
            yield take
        finally:
            self.taken -= mine


async def read_body(receive: Receive, length: bytes | None, most: int, take: Callable[[int], None]) -> bytes:
    """Returns the body of a request.

    Args:
        receive: returns the next piece.
        length: value of the header `Content-Length`, if there is one.
        most: bytes, at most.
        take: reserves bytes of the budget.

    Raises:
        Refused: it has too many bytes, or all requests together have too many.
        GoneError: the client closed the connection.
    """
    if length is not None and length.isdigit() and (len(length) > 15 or int(length) > most):
        raise _too_long(most)
    pieces: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise GoneError
        piece = message.get("body", b"")
        total += len(piece)
        if total > most:
            raise _too_long(most)
        take(len(piece))
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_long(most: int) -> Refused:
    return Refused(413, f"the body has more than the limit of {most:,} bytes; send fewer or smaller images", "bytes")


def images_in(headers: Mapping[bytes, bytes], body: bytes) -> list[tuple[str | None, bytes]]:
    """Returns the images of a request, each with its name or `None`.

    Raises:
        Refused: another content type, no image, too many, or parts that do not fit together.
    """
    given = headers.get(b"content-type", b"application/octet-stream")
    kind = given.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return _parts(given, body)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        if not body:
            raise Refused(422, "the body is empty; send an image", "damaged")
        name = headers.get(b"x-name")
        return [(None if name is None else plain_name(unquote(name.decode("utf-8", "replace"))), body)]
    raise Refused(
        415,
        f"the content type {kind.decode('latin-1')[:80]!r} is not that of an image; send image/*, "
        "application/octet-stream or multipart/form-data",
        "content type",
    )


def _parts(kind: bytes, body: bytes) -> list[tuple[str | None, bytes]]:
    """Returns the files of a multipart body (RFC 7578)."""
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(kind)[1].get(b"boundary", b"")
    if not BOUNDARY.fullmatch(boundary):
        raise Refused(400, "the multipart body has no valid boundary; send it as RFC 7578 says", "parts")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MOST_PARTS + 2)[1:]
    if len(pieces) > MOST_PARTS + 1:
        raise Refused(413, f"the body has more than the limit of {MOST_PARTS} parts; send fewer at once", "parts")
    if not pieces or not pieces[-1].startswith(b"--"):
        raise Refused(400, "the multipart body has no last boundary, so it is incomplete; send it again", "parts")
    found: list[tuple[str | None, bytes]] = []
    for piece in pieces[:-1]:
        head, end, _ = piece[: LONGEST_HEAD + 4].partition(b"\r\n\r\n")
        if not end:
            raise Refused(400, "the headers of a part of the body have no end; send it as RFC 7578 says", "parts")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-disposition":
                options = parse_options_header(value.strip())[1]
                if b"filename" in options:
                    text = options[b"filename"].decode("utf-8", "replace")
                    found.append((plain_name(text), piece[len(head) + 4 :]))
                break
    if not found:
        raise Refused(422, "the body has no file; send one image or more, each as a file", "parts")
    return found


def plain_name(given: str) -> str | None:
    """Returns the last part of an image's name, without unprintable characters; `None` if nothing is left."""
    last = re.split(r"[/\\]", given)[-1]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()[:LONGEST_NAME]
    return None if plain in {"", ".", ".."} else plain
