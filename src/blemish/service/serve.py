"""Runs a service until it is stopped; accepted requests are answered first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping

import uvicorn

from blemish.errors import SettingError
from blemish.service.app import Application
from blemish.service.protocol import protocol
from blemish.service.service import Service
from blemish.service.settings import Settings
from blemish.storage.cards import reason_of

OnStart = Callable[[Service, str], None]

BACKLOG = 2048
"""Connections that wait to be accepted, at most."""


class Server(uvicorn.Server):
    """A server that ends with status 0 after a signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)


def serve(
    settings: Settings,
    given: Mapping[str, str],
    shadows: Mapping[str, tuple[str, str]],
    on_start: OnStart | None = None,
) -> None:
    """Serves models until SIGTERM or Ctrl-C.

    Args:
        settings: of the service.
        given: sources of models by name.
        shadows: name and source of a shadow, for some of these names.
        on_start: called with the service and its address once it answers.

    Raises:
        BlemishError: it cannot start; the message says why.
    """
    os.environ["OTEL_SDK_DISABLED"] = "true"  # else variables of OpenTelemetry could make FastAPI report elsewhere
    with _listener(settings) as listener:
        service = Service(settings, given, shadows)
        config = _config(service, settings)

        async def run() -> None:
            await service.start()
            try:
                if on_start is not None:
                    on_start(service, _address(settings, listener))
                await Server(config).serve(sockets=[listener])
            finally:
                await service.stop()

        _run(run)


def _config(service: Service, settings: Settings) -> uvicorn.Config:
    """Returns the settings of uvicorn. Raises `SettingError` if the TLS files cannot be used."""
    config = uvicorn.Config(
        Application(service),
        http=protocol(settings.timeout),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.timeout) + 5,
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = _secured(settings)
    return config


def _listener(settings: Settings) -> socket.socket:
    """Returns the socket that the service listens on. Raises `SettingError` if the address cannot be used."""
    try:
        family, _, _, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only for TCP
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen(BACKLOG)  # a client that connects before the service has started waits
    except (OSError, UnicodeError) as error:
        raise SettingError(
            f"{settings.host}:{settings.port}: cannot listen there ({reason_of(error)}); give another --host or --port"
        ) from None
    return found


def _secured(settings: Settings) -> ssl.SSLContext | None:
    """Returns the TLS context, or `None` without TLS. Raises `SettingError` if the files cannot be used."""
    if settings.certificate is None or settings.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(
            f"{settings.certificate}: TLS cannot use it with {settings.key} ({reason_of(error)}); give a certificate "
            "and its key as PEM"
        ) from None
    return context


def _address(settings: Settings, listener: socket.socket) -> str:
    kind = "http" if settings.certificate is None else "https"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{kind}://{host}:{listener.getsockname()[1]}/"


def _run(work: Callable[[], object]) -> None:
    """Runs a coroutine on an event loop of its own."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        loop.close()
        asyncio.set_event_loop(None)
