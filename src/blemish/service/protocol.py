"""HTTP on one connection, with limits that uvicorn lacks: on time, headers, and the number of connections."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEADERS = 32 << 10
"""Bytes of a request's first line and headers, at most; the same limit holds for chunk headers in its body."""

MOST_CONNECTIONS = 512

LINGER = 0.3
"""Seconds for which an idle connection stays open at the end, since a request may be arriving."""


class Protocol(HttpToolsProtocol):
    """A connection.

    A request must be complete within `timeout` seconds of its first byte, or of the start of the connection. The client
    must take the answer within the same time. An idle connection ends after this time. When the service ends, a request
    that is arriving is still answered.
    """

    timeout = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._late: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._head = 0
        self._is_head, self._is_new = True, False
        self._ending = self._is_over = False
        self._upgrade = b""
        self._unanswered: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, "too many connections are open; close some, or try again later")
        else:
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._taken()
        self._give_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._is_over:
            return
        if self._late is None and self._is_idle():
            self._start_clock()  # also for bytes that do not begin a request
        self._is_new = False
        self._unset_keepalive_if_required()
        self._feed(data)
        if not self._is_new:
            self._count(len(data))

    def on_message_begin(self) -> None:
        self._head, self._is_head, self._is_new = 0, True, True
        self._start_clock()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_head:  # headers behind a body could replace headers that were checked
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        if self.parser.should_upgrade():
            self._upgrade = self._without_upgrade()
            return
        self._upgrade = b""
        if not self.url.startswith((b"/", b"*")):  # a whole address, whose host counts (RFC 9112, 3.2.2)
            host = self.url.partition(b"://")[2].partition(b"/")[0]
            self.headers[:] = [*((name, value) for name, value in self.headers if name != b"host"), (b"host", host)]
        super().on_headers_complete()
        self._is_head = False
        self._unanswered.append(self.cycle)
        if self._ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._head, self._is_new = 0, True
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_new = True
        if self._upgrade:
            return
        self._stop_clock()
        self._head, self._is_head = 0, True
        if self.cycle is not None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()
        if self.transport.is_closing():
            self._must_be_taken()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._must_be_taken()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self._taken()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._must_be_taken()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn keeps none open
        """Returns whether an answer must still be sent to a client that sends nothing more."""
        if self._is_idle() or not self._is_head or self.scheme == "https":  # TLS cannot be half closed
            return False
        self._is_over, self.cycle.keep_alive = True, False
        return True

    def shutdown(self) -> None:
        self._ending = True
        if self._is_idle():
            self.loop.call_later(LINGER, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        """Returns whether every request that came was answered."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _feed(self, data: bytes) -> None:
        """Parses data; a request to change the protocol is parsed again without it (RFC 9110, 7.8)."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as after:
            if not self.transport.is_closing():
                self.parser = httptools.HttpRequestParser(self)
                self._feed(self._upgrade + data[after.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "the request is not valid HTTP; send it as HTTP/1.1")

    def _without_upgrade(self) -> bytes:
        """Returns the head of the request that is being parsed, without the request to change the protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "this is not a proxy; send the request without CONNECT")
            return b""
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection" and b"close" in value.lower():
                lines.append(b"connection: close")
            elif name not in {b"connection", b"upgrade"}:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"\r\n"])

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
        self._refuse(408, f"the request was not complete within {self.timeout:g} s; send it faster")

    def _must_be_taken(self) -> None:
        """Ends the connection after `timeout` seconds, if the client has not taken the answer by then."""
        if self._untaken is None:
            self._untaken = self.loop.call_later(self.timeout, self._abort)

    def _abort(self) -> None:
        self._give_up()
        self.transport.abort()

    def _give_up(self) -> None:
        """Stops writing answers to all open requests; uvicorn does so only for the last one."""
        for cycle in self._unanswered:
            cycle.disconnected = True

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _refuse(self, status: int, text: str) -> None:
        """Answers the request that is being read, unless it was answered already, and closes the connection."""
        if self.transport.is_closing() or self._is_over:
            return
        if self._is_head and not self._is_idle():  # the request before is answered first
            self._is_over, self.cycle.keep_alive = True, False
            self._stop_clock()
            return
        if self._is_head or not (self.cycle.response_started or self.pipeline):
            body = json.dumps({"error": text}).encode()
            head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{HEAD}content-length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()
        self._must_be_taken()


HEAD = (
    "content-type: application/json\r\ncache-control: no-store\r\n"
    "x-content-type-options: nosniff\r\nconnection: close\r\n"
)

REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def protocol(timeout: float) -> type[Protocol]:
    """Returns the class of connections whose requests must be complete within so many seconds."""
    return type("Protocol", (Protocol,), {"timeout": timeout})
