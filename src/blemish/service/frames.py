"""Messages between the service and its worker over pipes: frames of a JSON header and parts of raw bytes.

They exchange nothing else, so neither can make the other run code.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

_LENGTHS = struct.Struct(">II")

MOST_HEADER = 16 << 20
"""Bytes of a header, at most; that of a model holds all its scores."""


@dataclass(frozen=True)
class Frame:
    """A header of JSON values, and the bytes that belong to it."""

    header: dict[str, Any]
    parts: tuple[bytes, ...] = ()


def packed(header: Mapping[str, Any], parts: Sequence[bytes] = ()) -> list[bytes]:
    """Returns the pieces of a frame, to be written in this order."""
    head = json.dumps({**header, "parts": [len(part) for part in parts]}, separators=(",", ":")).encode()
    return [_LENGTHS.pack(len(head), sum(map(len, parts))) + head, *parts]


def read_frame(stream: BinaryIO) -> Frame | None:
    """Waits for the next frame and returns it; `None` when the other side has ended."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head, body = _LENGTHS.unpack(lengths)
    content = stream.read(head + body)
    return _unpacked(content, head) if len(content) == head + body else None


async def receive_frame(stream: asyncio.StreamReader) -> Frame | None:
    """Waits for the next frame and returns it; `None` when the other side has ended."""
    try:
        head, body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        if head > MOST_HEADER:
            return None
        return _unpacked(await stream.readexactly(head + body), head)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return None


def _unpacked(content: bytes, head: int) -> Frame:
    header = json.loads(content[:head])
    parts, start = [], head
    for length in header.pop("parts"):
        parts.append(content[start : start + length])
        start += length
    return Frame(header, tuple(parts))
