"""Many images decoded ahead, in threads and in order, within so many bytes.

Images differ in size by a factor of a thousand, so bytes are counted, not images: those that are being decoded at one
time, by all threads of the process together, and those that wait decoded until they are used.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from blemish.errors import ImageError

AT_ONCE = 512 << 20
"""Bytes that decoding takes at one time, by all threads together; an image that takes more is decoded alone."""

WAITING = 256 << 20
"""Bytes of what was decoded and waits."""

LARGE = 32 << 20
"""Bytes of a share from which on its memory is handed back to the system at once."""

THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")


class Room:
    """Bytes to be shared. Who asks for more than there are gets them alone, when nobody has any."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._turn = threading.Lock()  # one after the other, so that a large share is not passed over forever
        self._returned = threading.Condition()

    @contextmanager
    def share(self, size: int) -> Iterator[None]:
        """Waits until there are so many bytes, and has them within the context. Shares must not be nested."""
        with self._turn, self._returned:
            while self._taken and self._taken + size > self.size:
                self._returned.wait()
            self._taken += size
        try:
            yield
        finally:
            if size >= LARGE:
                _hand_back()
            with self._returned:
                self._taken -= size
                self._returned.notify()


def _hand_back() -> None:
    """What was freed, to the system: the C library of Linux would keep it, once for every thread that decodes."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return None
    return trim


DECODING = Room(AT_ONCE)
"""Bytes that are being decoded in this process, within `AT_ONCE`."""


def decoding_peak(shares: Sequence[int]) -> int:
    """Bytes that decoding takes at most, of images that take so many each."""
    largest = sorted(shares)[-THREADS:]
    return max(min(AT_ONCE, sum(largest)), largest[-1]) if largest else 0


def waiting(size: int, most: int) -> int:
    """How many results of so many bytes may wait: `most`, or as many as `WAITING` holds, but two at least."""
    return max(2, min(most, WAITING // size))


def decode_ahead(read: Callable[[T], R], items: Iterable[T], *, ahead: int = 32) -> Iterator[R | ImageError]:
    """`read` over `items` in threads, in order, never more than `ahead` results in memory.

    An `ImageError` is handed on in the place of its result; any other exception ends the iteration.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="decode") as pool:
        pending: deque[Future[R | ImageError]] = deque()
        try:
            for item in items:
                if len(pending) >= ahead:
                    yield pending.popleft().result()
                pending.append(pool.submit(_caught, read, item))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _caught(read: Callable[[T], R], item: T) -> R | ImageError:
    try:
        return read(item)
    except ImageError as error:
        return error
