"""Processes that help to train one module: the first gives each its share of every batch; they add up their gradients.

Lightning Fabric's launchers either run the whole command again in each process, or import the program that called, and
each process then needs all the data. Here a process gets the module and its shares through its standard input. So only
the first one reads, judges, logs and saves, and features in files without a name need not be shared. The other
processes end when their input ends, however the first one ends. Sums are sent by gloo, which listens on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import TrainingError
from blemish.interrupts import ignore
from blemish.storage import Scratch
from blemish.training.share import Joined, Share

LONGEST = timedelta(minutes=10)
"""How long a process waits for the others in one step."""

ENDING = 10.0
"""Seconds that a process may take to end after its connection broke."""

READY = b"ready\n"

START = "import sys; sys.path[:] = sys.argv[1:]; from blemish.training.loop import follow; follow()"


class Workers:
    """The other processes, as the first one sees them.

    Args:
        joined: this process's connection to them.
        running: the processes.
    """

    def __init__(self, joined: Joined, running: Sequence[subprocess.Popen[bytes]]) -> None:
        self.joined, self._running = joined, running

    def give(self, step: int, batch: Any) -> Any:
        """Sends each process its share of a batch, a tensor (B, ...) or several, and returns this one's."""
        whole = len(batch if isinstance(batch, Tensor) else batch[0])
        for rank, process in enumerate(self._running, 1):
            _send(process, (step, whole, _rows(batch, Share(rank, len(self._running) + 1, whole).rows)))
        return _rows(batch, self.joined.take(whole).rows)


@contextmanager
def started(processes: int, work: Any) -> Iterator[Workers]:
    """Yields processes that run `loop.follow`, and ends them at the end of the context.

    Args:
        processes: in all, this one included.
        work: what `called` gives to them.

    Raises:
        TrainingError: one of them ended, or could not be started.
    """
    threads = torch.get_num_threads()
    each = max(1, threads // processes)
    running: list[subprocess.Popen[bytes]] = []
    with Scratch(Path(tempfile.gettempdir())) as scratch:
        meeting = str(scratch.path / "meeting")
        try:
            for _ in range(processes - 1):
                running.append(
                    subprocess.Popen(  # noqa: S603 (this interpreter, and our own code)
                        [sys.executable, "-c", START, *sys.path],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        env={**os.environ, "OMP_NUM_THREADS": str(each)},
                    )
                )
            for rank, process in enumerate(running, 1):
                _send(process, (rank, processes, meeting, each, work))
            for process in running:
                if process.stdout is None or process.stdout.readline() != READY:
                    raise BrokenPipeError("a process did not start")
            torch.set_num_threads(each)
            yield Workers(_meet(meeting, 0, processes), running)
        except (OSError, RuntimeError) as error:
            raise _told(running) or error from None
        finally:
            torch.set_num_threads(threads)
            for process in running:
                process.kill()
            for process in running:
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    _close(pipe)


@dataclass(frozen=True)
class Call:
    """What a started process gets: its connection to the others, the work, and its shares of the batches."""

    joined: Joined
    work: Any

    def shares(self) -> Iterator[tuple[int, Any]]:
        """Yields the number of each step and the share of its batch, until the first process ends."""
        while True:
            try:
                step, whole, batch = pickle.load(sys.stdin.buffer)  # noqa: S301 (from the process that started this one)
            except EOFError:
                return
            self.joined.take(whole)
            yield step, batch


@contextmanager
def called() -> Iterator[Call]:
    """Yields what a started process gets; an error is sent to the first process as one line."""
    ignore()  # Ctrl-C, and what ends the whole group, is for the first process, which ends this one
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    try:
        rank, processes, meeting, threads, work = pickle.load(sys.stdin.buffer)  # noqa: S301 (likewise)
        torch.set_num_threads(threads)
        answers.write(READY)
        answers.flush()
        yield Call(_meet(meeting, rank, processes), work)
    except Exception as error:
        answers.write(" ".join(f"{type(error).__name__}: {error}".split())[:500].encode() + b"\n")
        answers.flush()
        os._exit(1)  # at once, so that the first process need not wait for it


def _meet(meeting: str, rank: int, processes: int) -> Joined:
    """Returns the connection to the other processes. They meet by a file, and listen on this machine only."""
    distributed: Any = torch.distributed  # torch gives no types for what follows
    gloo = distributed.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname="127.0.0.1")]
    options._timeout = LONGEST
    store = distributed.FileStore(meeting, processes)
    store.set_timeout(LONGEST)
    group = gloo(store, rank, processes, options)

    def add(tensor: Tensor) -> None:
        group.allreduce([tensor]).wait()

    return Joined(add, rank, processes)


def _send(process: subprocess.Popen[bytes], message: Any) -> None:
    if process.stdin is not None:
        pickle.dump(message, process.stdin, protocol=5)
        process.stdin.flush()


def _rows(batch: Any, rows: slice) -> Any:
    """Returns some rows of a tensor or of several; their memory is their own, so that no more is sent."""
    return batch[rows].clone() if isinstance(batch, Tensor) else [layer[rows].clone() for layer in batch]


def _told(running: Sequence[subprocess.Popen[bytes]]) -> TrainingError | None:
    """Returns the error of a process that ended, preferring one that was killed; `None` if all are running."""
    ended: list[tuple[int, int, subprocess.Popen[bytes]]] = []
    for rank, process in enumerate(running, 2):
        try:
            ended.append((process.wait(ENDING), rank, process))
        except subprocess.TimeoutExpired:
            continue
    if not ended:
        return None
    status, rank, process = min(ended, key=lambda found: found[:2])
    last = b"" if process.stdout is None else process.stdout.read(1000)
    why = f"signal {-status}" if status < 0 else last.decode(errors="replace").strip() or f"status {status}"
    return TrainingError(
        f"process {rank} of {len(running) + 1} of the training ended ({why}); is there enough memory? give fewer "
        "--processes, and continue with --resume if there are --checkpoints"
    )


def _close(pipe: Any) -> None:
    with suppress(OSError):  # what was not sent is not needed
        pipe.close()
