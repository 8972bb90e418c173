"""Checks who may ask: by the host name, by the page that a request comes from, and by the token if one is set."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from blemish.service.refused import Refused
from blemish.service.settings import Settings, is_loopback

FREE = ("/healthz", "/readyz", "/docs", "/openapi.json", "/page")
"""Paths that need no token, as `/` does."""

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Access:
    """Refuses requests that use another host name, come from another site's page, or lack the token."""

    def __init__(self, settings: Settings) -> None:
        self._others = {name.lower() for name in settings.names}
        self._names = {settings.host.lower(), *self._others}
        self._any_name = not settings.is_local
        self._token = None if settings.token is None else _digest(settings.token.encode())

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raises `Refused` if a request may not be answered.

        Args:
            method: of the request.
            path: of the request.
            headers: by name, in lower case.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        name = _name_of(host)
        if not (self._any_name or name in self._names or is_loopback(name)):
            raise Refused(
                403, "this is not a host name of the service; use its address, or start it with --name NAME", "host"
            )
        origin = headers.get(b"origin")
        if method in CHANGING and origin is not None and not self._is_own(origin.decode("latin-1"), host):
            raise Refused(403, "the request comes from another site's page; use the service's own page", "origin")
        if self._token is None or path == "/" or any(path == free or path.startswith(f"{free}/") for free in FREE):
            return
        self.check_token(headers)

    def check_token(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `Refused` unless the request has the token; every comparison takes the same time."""
        if self._token is None:
            raise Refused(403, "this needs a token, and the service has none; start it with --token-file FILE", "token")
        kind, _, shown = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(_digest(shown.strip()), self._token):
            raise Refused(
                401,
                "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                "token",
                {"WWW-Authenticate": "Bearer"},
            )

    def _is_own(self, origin: str, host: str) -> bool:
        """Returns whether a page is the service's own. Behind a proxy, the port may differ.

        Another port of this machine is another program's page.
        """
        try:
            found = urlsplit(origin)
        except ValueError:
            return False
        return bool(found.netloc) and (found.netloc.lower() == host.lower() or _name_of(found.netloc) in self._others)


def _name_of(host: str) -> str:
    """Returns the name in a `Host` header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
