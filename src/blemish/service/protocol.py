"""HTTP on one connection, with limits that uvicorn lacks: on time, on headers, and on the number of connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADERS = 32 << 10
"""Bytes of a request's first line and headers, at most."""

MOST_CONNECTIONS = 512

LINGER = 0.3
"""Seconds for which a connection without a request stays open at the end, for one that is on its way."""


class Protocol(HttpToolsProtocol):
    """A connection.

    A request must be whole within a time from its first byte, or from when the connection was made. At the end, a
    request that is on its way is still answered.
    """

    timeout = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._late: asyncio.TimerHandle | None = None
        self._head = 0
        self._is_head, self._is_new = True, False
        self._ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, "too many connections are open; close some, or try again later")
        else:
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._is_new = False
        super().data_received(data)
        if self._is_head and not self._is_new:
            self._count(len(data))

    def on_message_begin(self) -> None:
        self._head, self._is_head, self._is_new = 0, True, True
        self._start_clock()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_head = False
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._head, self._is_head, self._is_new = 0, True, True
        if self.cycle is not None:
            super().on_message_complete()

    def shutdown(self) -> None:
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "the request is not valid HTTP; send it as HTTP/1.1")

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MOST_HEADERS:
            self._refuse(431, f"the headers have more than the limit of {MOST_HEADERS:,} bytes; send fewer")

    def _start_clock(self) -> None:
        self._stop_clock()
        self._late = self.loop.call_later(self.timeout, self._too_late)

    def _stop_clock(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._refuse(408, f"the request was not whole within {self.timeout:g} s; send it faster")

    def _refuse(self, status: int, text: str) -> None:
        """Answers, unless an answer has begun, and closes the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": text}).encode()
            head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()


REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def protocol(timeout: float) -> type[Protocol]:
    """Returns the kind of connections whose requests must be whole within so many seconds."""
    return type("Protocol", (Protocol,), {"timeout": timeout})
