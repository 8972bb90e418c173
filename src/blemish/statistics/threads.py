"""How many threads torch computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Makes torch compute in one thread within the context.

    Eigenvectors of a matrix of some hundred rows take about as long in one thread as in two. If other programs use the
    cores too, several threads, which wait for each other at every step, take ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
