"""The settings of a service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from blemish.errors import SettingError
from blemish.images.files import MAX_BYTES, MAX_PIXELS

Keep = Literal["none", "anomalous", "all"]

DEFAULT_BYTES = 64 << 20
DEFAULT_PIXELS = 64_000_000

SHORTEST_TOKEN = 16
"""Characters of a token, at least."""


@dataclass(frozen=True)
class Settings:
    """How a service listens, what it accepts, and what it keeps.

    Attributes:
        host, port: where it listens; port 0 takes any free one.
        names: other host names of the service, such as that of a proxy before it.
        token: that requests must send; `None` if they need none.
        certificate, key: files for TLS; `None` for plain HTTP.
        most_bytes: bytes of one request's body, at most.
        most_pixels: pixels of one image, at most.
        queue: images that may wait for their verdict.
        timeout: seconds for a request to arrive, and again for its verdict.
        state: the folder for everything that the service keeps.
        log: URL of the log's database; `None` for a file in `state`.
        keep: which images are kept on the disk.
        keep_days, keep_bytes: how long images are kept, and how many bytes of them.
        engine, device: as in `Model.load`.

    Raises:
        SettingError: a value is out of range, or other machines could send requests without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8420
    names: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    most_bytes: int = DEFAULT_BYTES
    most_pixels: int = DEFAULT_PIXELS
    queue: int = 256
    timeout: float = 30.0
    state: Path = Path("blemish-service")
    log: str | None = None
    keep: Keep = "none"
    keep_days: float = 30.0
    keep_bytes: int = 10 << 30
    engine: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.is_local and self.token is None:
            raise SettingError(
                f"--host {self.host} would answer other machines without a token; give --token-file too, or leave "
                "--host out"
            )
        if (self.certificate is None) != (self.key is None):
            raise SettingError("TLS needs both files; give --tls-cert and --tls-key")
        if self.keep not in get_args(Keep):
            raise SettingError(f"--keep {self.keep!r} is not known; give none, anomalous or all")
        for name, value, low, high in (
            ("--port", self.port, 0, 65535),
            ("--max-bytes", self.most_bytes, 1024, MAX_BYTES),
            ("--max-pixels", self.most_pixels, 1024, MAX_PIXELS),
            ("--queue", self.queue, 1, 100_000),
            ("--timeout", self.timeout, 0.1, 3600),
            ("--keep-days", self.keep_days, 0, 36_500),
            ("--keep-bytes", self.keep_bytes, 0, 1 << 60),
        ):
            if not low <= value <= high:
                raise SettingError(f"{name} {value:,} is out of range; give {low:,} to {high:,}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Returns whether a name or an address is this machine's own, which no other machine can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """Returns the token in a file, without the white space around it.

    Raises:
        SettingError: the file cannot be read, or holds no token of 16 printable characters or more.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain text"
        raise SettingError(f"{path}: the token cannot be read ({reason}); give a file with one line") from None
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise SettingError(
            f"{path}: is not a token of {SHORTEST_TOKEN} characters or more without spaces; "
            "make one with `openssl rand -hex 32`"
        )
    return token
