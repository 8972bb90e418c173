"""Decodes images ahead, in threads and in order, within a limit on bytes.

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
"""Bytes that all threads together may take to decode; an image that takes more is decoded alone."""

WAITING = 256 << 20
"""Bytes of decoded images that may wait to be used."""

LARGE = 32 << 20
"""The memory of shares of at least this many bytes is returned to the system as soon as it is free."""

THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")
R = TypeVar("R")


class Room:
    """An amount of bytes that threads share. A share larger than the amount is given when no other is taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._turn = threading.Lock()  # one at a time, so that a large share does not wait forever
        self._returned = threading.Condition()

    @contextmanager
    def share(self, size: int) -> Iterator[None]:
        """Waits until `size` bytes are free and holds them within the context. Shares must not be nested."""
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
    """Returns freed memory to the system; the C library of Linux would keep it for each thread that decodes."""
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
"""What all decoding in this process shares."""


def decoding_peak(shares: Sequence[int]) -> int:
    """Returns how many bytes decoding takes at most, given those of each image."""
    largest = sorted(shares)[-THREADS:]
    return max(min(AT_ONCE, sum(largest)), largest[-1]) if largest else 0


def waiting(size: int, most: int) -> int:
    """Returns how many results of `size` bytes may wait: as many as fit `WAITING`, at least two, at most `most`."""
    return max(2, min(most, WAITING // size))


def decode_ahead(read: Callable[[T], R], items: Iterable[T], *, ahead: int = 32) -> Iterator[R | ImageError]:
    """Yields the results of `read` on `items`, in order, from threads; at most `ahead` of them are in memory.

    An `ImageError` is yielded in the place of its result; any other exception ends the iteration.
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
