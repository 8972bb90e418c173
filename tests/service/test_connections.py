"""What comes on a connection may be anything; each request gets its own answer, and no connection stays for ever."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from blemish.service.protocol import MOST_CONNECTIONS, MOST_HEADERS
from serving import TOKEN, Running

HOST = "Host: 127.0.0.1\r\n"
GET = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode()
POST = f"POST /v1/models/parts/predict HTTP/1.1\r\n{HOST}Content-Type: image/png\r\n"


def connected(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def everything(line: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    found = b""
    with suppress(ConnectionError):
        while piece := line.recv(1 << 16):
            found += piece
    return found


def said(service: Running, content: bytes | str) -> bytes:
    """All answers to what is sent, after which nothing more is sent."""
    with connected(service) as line:
        line.sendall(content if isinstance(content, bytes) else content.encode())
        line.shutdown(socket.SHUT_WR)
        return everything(line)


def statuses(told: bytes) -> list[int]:
    return [int(part[:3]) for part in told.split(b"HTTP/1.1 ")[1:]]


def post(image: bytes, head: str = "") -> bytes:
    return f"{POST}{head}Content-Length: {len(image)}\r\n\r\n".encode() + image


@pytest.fixture(scope="module", autouse=True)
def lingering(service: Running) -> Iterator[dict[str, socket.socket]]:
    """Connections on which nothing more comes, or nothing is read, since the first test began."""
    with ExitStack() as stack:
        lines = {
            name: stack.enter_context(connected(service)) for name in ("silent", "blank", "head", "unread", "slow")
        }
        for line in (lines["blank"], lines["slow"]):
            line.sendall(GET)
            while not (told := line.recv(1 << 16)).endswith(b"ok\n"):
                assert told
        lines["blank"].sendall(b"\r\n")
        lines["head"].sendall(GET[:20])
        lines["unread"].sendall(f"GET /openapi.json HTTP/1.1\r\n{HOST}\r\n".encode() * 500)
        yield lines


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        f"Content-Length: {'9' * 30}\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "X: a\r\n b\r\n",
        "X: a\0b\r\n",
        "X y: a\r\n",
    ],
)
def test_a_length_that_two_programs_may_read_differently_is_refused(service: Running, head: str) -> None:
    told = said(service, f"{POST}{head}\r\n0\r\n\r\n".encode("latin-1") + GET)
    assert statuses(told) == [400]
    assert b"connection: close" in told


@pytest.mark.parametrize("body", ["zz\r\n", "-1\r\nabc\r\n0\r\n\r\n", f"{'f' * 20}\r\n", "5\r\nabc\r\n0\r\n\r\n"])
def test_chunks_that_are_none_are_refused(service: Running, body: str) -> None:
    told = said(service, f"{POST}Transfer-Encoding: chunked\r\n\r\n{body}")
    assert set(statuses(told)) <= {400}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://127.0.0.1/healthz HTTP/1.1", 200),
        ("GET http://evil.example/healthz HTTP/1.1", 403),
        ("GET http://127.0.0.1 HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", 400),
        ("TRACE /healthz HTTP/1.1", 405),
        ("BREW /healthz HTTP/1.1", 400),
        ("get /healthz HTTP/1.1", 400),
        ("GET /\xff HTTP/1.1", 400),
        ("GET healthz HTTP/1.1", 400),
        ("GET /healthz HTTP/9.9", 400),
        ("GET //evil.example/%2e%2e HTTP/1.1", 404),
        ("GET /v1/models/ HTTP/1.1", 404),
        ("GET /page HTTP/1.1", 404),
        ("\x16\x03\x01\x02\x00", 400),
    ],
)
def test_an_odd_request_line_has_a_plain_answer(service: Running, line: str, status: int) -> None:
    told = said(service, f"{line}\r\n{HOST}\r\n".encode("latin-1"))
    assert statuses(told) == [status]
    assert b"\r\nlocation:" not in told.lower()


def test_requests_in_a_row_are_answered_in_their_order_and_what_is_none_ends_them(
    service: Running, good_image: bytes
) -> None:
    told = said(service, GET + post(good_image) + GET + post(b"none") + b"\0none\r\n\r\n")
    assert statuses(told) == [200, 200, 200, 415]


def test_headers_behind_a_body_take_the_place_of_none(service: Running, good_image: bytes) -> None:
    head = f"{POST}Origin: http://evil.example\r\nTransfer-Encoding: chunked\r\n\r\n{len(good_image):x}\r\n"
    behind = f"\r\n0\r\nOrigin: http://127.0.0.1:{service.port}\r\nHost: localhost\r\n\r\n"
    assert statuses(said(service, head.encode() + good_image + behind.encode())) == [403]
    with connected(service) as line:
        line.sendall(f"{POST}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ".encode())
        taken = 0
        with suppress(OSError):
            for _ in range(1000):
                line.sendall(b"b" * MOST_HEADERS)
                taken += 1
        assert taken < 1000
        assert set(statuses(everything(line))) <= {431}


def test_a_request_for_another_protocol_is_answered_in_this_one(service: Running, good_image: bytes) -> None:
    head = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"  # as Java's client asks
    assert statuses(said(service, post(good_image, head) + GET)) == [200, 200]
    chunked = f"{POST}{head}Transfer-Encoding: chunked\r\n\r\n{len(good_image):x}\r\n".encode()
    assert statuses(said(service, chunked + good_image + b"\r\n0\r\n\r\n")) == [200]
    assert statuses(said(service, post(good_image, "Connection: Upgrade, close\r\nUpgrade: websocket\r\n"))) == [200]


def test_a_body_waits_for_permission_and_gets_it_unless_it_is_too_long(service: Running, good_image: bytes) -> None:
    assert statuses(said(service, post(good_image, "Expect: 100-continue\r\n"))) == [100, 200]
    told = said(service, f"{POST}Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert statuses(told) in ([413], [])  # it was cut before it was read


def test_a_body_in_small_pieces_is_judged(service: Running, good_image: bytes) -> None:
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in good_image)
    told = said(service, f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n")
    assert statuses(told) == [200]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused_and_head_has_no_body(service: Running, method: str) -> None:
    for path in ("/v1/models", "/v1/models/parts/predict", "/healthz"):
        answer = service.ask(method, path)
        assert (answer.status, bool(answer.headers["allow"])) == (405, True)
        assert (answer.body == b"") == (method == "HEAD")


@pytest.mark.parametrize(
    "asked", ["bytes=0-9", "bytes=-5", "bytes=999999999-", "bytes=9-1", "bytes=0-0,1-1" * 500, "x"]
)
def test_a_part_of_a_file_of_the_page_is_no_trouble(service: Running, asked: str) -> None:
    answer = service.get("/page/main.js", Range=asked)
    assert answer.status in {200, 206, 400, 416}
    assert len(answer.body) < 1 << 20


def test_a_packed_body_is_no_image(service: Running) -> None:
    assert service.judge(b"\x1f\x8b" + bytes(50), **{"Content-Encoding": "gzip"}).status == 415


def test_a_token_in_the_address_counts_nothing(guarded: tuple[Running, object]) -> None:
    service = guarded[0]
    for query in (f"?token={TOKEN}", f"?access_token={TOKEN}", f"?Authorization=Bearer%20{TOKEN}"):
        assert service.get(f"/v1/models{query}", Authorization="").status == 401
    assert TOKEN not in service.told.read_text()


def test_more_connections_than_may_be_open_are_told_so(service: Running) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(connected(service))
        last = stack.enter_context(connected(service))
        assert statuses(everything(last)) == [503]
    service.until(lambda: service.get("/healthz").status == 200)


def test_connections_end_on_which_nothing_comes_or_nothing_is_taken(
    service: Running, lingering: dict[str, socket.socket]
) -> None:
    for name in ("silent", "blank", "head"):
        with closing(lingering[name]) as line:
            assert statuses(everything(line)) == [408]
    assert everything(lingering["slow"]) == b""  # one that was asked and answered is closed without a word
    port = lingering["unread"].getsockname()[1]
    service.until(lambda: port not in {one.raddr.port for one in service.process.net_connections() if one.raddr})
    assert len(statuses(everything(lingering["unread"]))) < 500
    assert service.get("/healthz").status == 200
