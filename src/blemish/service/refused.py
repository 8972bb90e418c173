"""The refusal of a request: its HTTP status and one line that says why."""

from __future__ import annotations

import json
from collections.abc import Mapping

from blemish.errors import BlemishError


class Refused(BlemishError):  # noqa: N818  # it names what happened to the request
    """A request that is refused: its HTTP status, a line that says why, and the reason that metrics count."""

    def __init__(self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The answer, as JSON."""
        return json.dumps({"error": " ".join(str(self).split())}).encode()


def status_of(reason: str) -> int:
    """Returns the HTTP status for an image that cannot be read, by the reason of its `ImageError`.

    It is 413 beyond a limit, 415 for a file that is not an image of a known format, and 422 otherwise.
    """
    if "more than the limit" in reason:
        return 413
    return 415 if "not an image of a known format" in reason else 422
