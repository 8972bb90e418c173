"""The latest images, in memory: for their thumbnails, and for a person's feedback."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

LATEST = 50
"""Images of each model, at most."""

MOST_BYTES = 128 << 20
"""Bytes of all of them, at most; the oldest are dropped, but the latest one always stays."""


@dataclass(frozen=True)
class Picture:
    """The bytes of an image, and which model and version judged it."""

    model: str
    key: str
    image: bytes


class Recent:
    """The latest images of all models, by the id of their verdict."""

    def __init__(self, latest: int = LATEST, most_bytes: int = MOST_BYTES) -> None:
        self._latest, self._most = latest, most_bytes
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._of_model: dict[str, OrderedDict[str, None]] = {}
        self._bytes = 0

    def put(self, id: str, picture: Picture) -> None:
        """Adds an image, and drops those that are too old."""
        mine = self._of_model.setdefault(picture.model, OrderedDict())
        mine[id] = None
        self._pictures[id] = picture
        self._bytes += len(picture.image)
        if len(mine) > self._latest:
            self._drop(next(iter(mine)))
        while self._bytes > self._most and len(self._pictures) > 1:
            self._drop(next(iter(self._pictures)))

    def get(self, id: str) -> Picture | None:
        """Returns an image; `None` if it is not among the latest."""
        return self._pictures.get(id)

    def _drop(self, id: str) -> None:
        picture = self._pictures.pop(id)
        del self._of_model[picture.model][id]
        self._bytes -= len(picture.image)
