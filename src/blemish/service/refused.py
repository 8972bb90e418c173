"""Why a request gets no answer, as its status and one line."""

from __future__ import annotations

import json
from collections.abc import Mapping

from blemish.errors import BlemishError


class Refused(BlemishError):  # noqa: N818  # it is what happened to the request
    """A request that is not answered: its HTTP status, a line that says why, and what metrics count it as."""

    def __init__(self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The answer that says so, as JSON."""
        return json.dumps({"error": " ".join(str(self).split())}).encode()


def status_of(reason: str) -> int:
    """Returns the status for an image that cannot be read, by the reason that `ImageError` gives.

    It is 413 for one beyond a limit, 415 for what is no image of a known format, and 422 for any other.
    """
    if "more than the limit" in reason:
        return 413
    return 415 if "not an image of a known format" in reason else 422
