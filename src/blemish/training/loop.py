"""The gradient loop: deterministic by seed, saved every few minutes, and resumed as if it had not been interrupted.

A step depends on the seed and its number alone, never on the state of a random generator. So a training that was killed
and resumed ends with the same weights as an uninterrupted one, on one device.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import SettingError, TrainingError
from blemish.storage import check_free
from blemish.training import checkpoint
from blemish.training.checkpoint import Best, Reached
from blemish.training.log import LOG, Log, Step, read_lines
from blemish.training.schedule import LENGTHS, Schedule
from blemish.training.share import Joined
from blemish.training.workers import Workers, called, started

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint"
"""The name of the checkpoint in a training's folder."""

EVERY = 180.0
"""Seconds between checkpoints."""

JUDGED = 32
"""Steps between judgements."""


Batches = Callable[[Iterable[list[int]]], Iterable[Any]]
"""From lists of indices, which are not held all at once, to what the module takes, in order: a tensor or several."""


def train(
    module: nn.Module,
    batches: Batches,
    count: int,
    schedule: Schedule,
    *,
    identity: dict[str, Any] | None = None,
    folder: Path | None = None,
    resume: bool = False,
    warm: bool = False,
    note: Mapping[str, Any] | None = None,
    processes: int = 1,
    device: str = "auto",
    judge: Callable[[], float] | None = None,
    enough: float | None = None,
    watch: Callable[[Step, int], None] | None = None,
) -> list[Step]:
    """Trains a module in place, and returns the steps that were done.

    Args:
        module: takes a batch and returns the terms of its loss, by name; `loss` is minimised. If the module has a
            method `optimizers(learning_rate)`, they train it; else Adam trains the parameters that need a gradient. For
            several processes each term is a mean over samples, and what noise there is comes from `share.Noise`.
        batches: the images.
        count: how many images there are.
        schedule: how long and how fast.
        identity: what else decides the result; a checkpoint with another identity is refused.
        folder: for the checkpoint, `log.jsonl` with a line for each step and, where TensorBoard is installed, its
            files; nothing is kept without a folder.
        resume: continue from the folder's checkpoint, if there is one.
        warm: with `resume`, start from the best weights of that checkpoint, with new optimisers and from step 0; its
            images may have been others.
        note: kept in each checkpoint for the caller; see `checkpoint.read_note`.
        processes: how many processes train; each takes a share of every batch. The losses are those of one process, up
            to rounding, and a checkpoint can be continued by any number of processes.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` is the best one, of which each process takes the next.
        judge: returns how good the module is now, higher where better; called if the schedule has a `patience`. The
            result is among the terms of the step just done, as `judged`.
        enough: training ends when it is judged as good as this, or better.
        watch: called after every step with the step, and the largest number of steps that there will be.

    Raises:
        TrainingError: a loss, a gradient or a weight is not finite, or another process ended; the last good checkpoint
            is kept.
        StorageError: the checkpoint is of another training, or cannot be read or written.
        SettingError: there are fewer than two images, more processes than images in a batch, or something in the folder
            would be overwritten.
    """
    check_processes(processes, schedule.batch)
    if count < 2:
        raise SettingError(f"{count} images are too few to train on; give at least 2")
    fabric = _one_process(schedule.precision, device)
    if folder is not None:
        check_folder(folder, resume)
    module.to(memory_format=torch.channels_last)  # a twentieth quicker on CPUs; images come in this format
    optimizers = _optimizers(module, schedule.learning_rate)
    device_module, *device_optimizers = fabric.setup(module, *optimizers)
    known = _known({**(identity or {}), **asdict(schedule), "images": count})
    each = schedule.steps(count)
    total = schedule.epochs * each
    done, best = _resumed(folder if resume else None, known, module, optimizers, warm)
    patience = schedule.patience if judge is not None else None
    steps: list[Step] = []
    start = saved = time.monotonic()
    with (
        torch.random.fork_rng(),
        Log(folder, done.step) as log,
        _others(processes, module, optimizers, schedule, device) as others,
    ):
        left = range(done.step, done.step if _is_done(best, patience, enough) else total)
        orders = schedule.order_from(left.start, count) if left else iter(())
        for number, batch in zip(left, batches(orders), strict=True):
            images = batch if others is None else others.give(number, batch)
            joined = None if others is None else others.joined
            _seed(schedule, number)
            told = _step(fabric, module, device_module, device_optimizers, images, number, folder, joined)
            now = time.monotonic()
            seconds = done.seconds + now - start
            late = schedule.minutes is not None and seconds > 60 * schedule.minutes
            last = late or number + 1 == total
            due = now - saved > EVERY
            judged = patience is not None and (last or (number + 1) % JUDGED == 0)
            if last or due or judged:
                _check_weights(module, number, folder)
            if judge is not None and patience is not None and judged:
                device_module.eval()
                told["judged"] = judge()
                best = best.or_better(told["judged"], module)
                last = last or _is_done(best, patience, enough)
            steps.append(Step(number, number // each, seconds, told))
            log.write(steps[-1])
            if watch:
                watch(steps[-1], total)
            if last or due:
                saved = now
                if folder is not None:
                    reached = Reached(number + 1, seconds)
                    checkpoint.save(folder / CHECKPOINT, known, reached, best, module, optimizers, note)
            if last:
                break
        device_module.eval()
    if best.state:
        module.load_state_dict(best.state)
    module.to(memory_format=torch.contiguous_format)
    return steps


def _is_done(best: Best, patience: int | None, enough: float | None) -> bool:
    """Whether training ends by what was judged."""
    return patience is not None and (best.since >= patience or (enough is not None and best.judged >= enough))


def check_processes(processes: int, batch: int) -> None:
    """Raises `SettingError` unless there are one process or several, each with an image of every batch."""
    if not 1 <= processes <= batch:
        raise SettingError(
            f"processes {processes} is out of range; give 1 to {batch}, so that each has an image of every batch"
        )


def follow() -> None:
    """Trains in a process that `workers.started` started, on its share of every batch of the first process."""
    with called() as call:
        module, states, schedule, device = call.work
        fabric = _one_process(schedule.precision, device, call.joined.share.rank)
        optimizers = _optimizers(module, schedule.learning_rate)
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        device_module, *device_optimizers = fabric.setup(module, *optimizers)
        with call.joined.joins(module):
            for number, images in call.shares():
                _seed(schedule, number)
                _step(fabric, module, device_module, device_optimizers, images, number, None, call.joined)


@contextmanager
def _others(
    processes: int, module: nn.Module, optimizers: Sequence[Optimizer], schedule: Schedule, device: str
) -> Iterator[Workers | None]:
    """Yields the other processes, which train the module as it is now; `None` if there is one process."""
    if processes == 1:
        yield None
        return
    states = [optimizer.state_dict() for optimizer in optimizers]
    with started(processes, (module, states, schedule, device)) as others, others.joined.joins(module):
        yield others


def _seed(schedule: Schedule, number: int) -> None:
    torch.manual_seed(schedule.seed * 1_000_003 + number)


def _resumed(
    folder: Path | None, known: dict[str, Any], module: nn.Module, optimizers: Sequence[Optimizer], warm: bool
) -> tuple[Reached, Best]:
    """Sets module and optimisers to the folder's checkpoint, if there is one, and returns how far it is.

    If the start is to be `warm`, the module alone is set, and the training is at its beginning.
    """
    if folder is None or not (folder / CHECKPOINT).exists():
        return Reached(0, 0.0), Best()
    if warm:
        checkpoint.load_weights(folder / CHECKPOINT, known, module)
        return Reached(0, 0.0), Best()
    return checkpoint.load(folder / CHECKPOINT, known, module, optimizers)


def _step(
    fabric: Fabric,
    module: nn.Module,
    device_module: nn.Module,
    optimizers: Sequence[Optimizer],
    images: Any,
    number: int,
    folder: Path | None,
    joined: Joined | None,
) -> dict[str, float]:
    """Takes one step, together with other processes if it is joined to any, and returns the terms of its loss.

    Raises `TrainingError` before a step that is not finite.
    """
    device_module.train()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    terms = device_module(fabric.to_device(images))
    fabric.backward(terms["loss"] if joined is None else joined.share.weight * terms["loss"])
    if joined is not None:
        terms = joined.add_up(module, terms)
    _check(terms, module, number, folder)
    for optimizer in optimizers:
        optimizer.step()
    return {name: float(term.detach()) for name, term in terms.items()}


def check_folder(folder: Path, resume: bool) -> None:
    """Checks that a training in this folder overwrites nothing but the training that it resumes.

    Raises:
        SettingError: the path is not a folder, holds a training that is not to be resumed, or a log of something else.
        StorageError: the checkpoint cannot be written there.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise SettingError(f"{folder}: is not a folder; give another one for checkpoints")
    held = [name for name in (CHECKPOINT, LOG) if os.path.lexists(folder / name)]
    if held and not resume:
        raise SettingError(
            f"{folder}: holds a training already ({held[0]}); continue it with --resume, or give another folder"
        )
    check_free(folder / CHECKPOINT, checkpoint.KIND, force=resume)
    for _ in read_lines(folder / LOG):
        pass


def _known(decisive: dict[str, Any]) -> dict[str, Any]:
    """Returns what decides a training, except for its length, in the form that a loaded card has."""
    found: dict[str, Any] = json.loads(
        json.dumps({name: value for name, value in decisive.items() if name not in LENGTHS})
    )
    return found


def _one_process(precision: str, device: str, rank: int = 0) -> Fabric:
    """Returns a Fabric of this process on a device, by default the next one for each rank; it logs warnings only."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    kind, _, number = device.replace(".", ":").partition(":")
    devices: Any = 1
    if number:
        devices = [int(number)]
    elif rank and kind in {"auto", "cuda"} and torch.cuda.is_available():
        devices = [rank % torch.cuda.device_count()]
    return Fabric(accelerator=kind, devices=devices, precision=precision)  # type: ignore[arg-type]  # one of `PRECISIONS`


def _optimizers(module: nn.Module, learning_rate: float) -> list[Optimizer]:
    own: Callable[[float], list[Optimizer]] | None = getattr(module, "optimizers", None)
    if own is not None:
        return own(learning_rate)
    return [torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=learning_rate)]


def _check(terms: dict[str, Tensor], module: nn.Module, number: int, folder: Path | None) -> None:
    """Raises `TrainingError` if the loss or a gradient is not finite; called before the step is taken."""
    bad = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if not bad and not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
        bad = ["the gradient"]
    if bad:
        raise _diverged(f"{bad[0]} is not finite", number, folder)


def _check_weights(module: nn.Module, number: int, folder: Path | None) -> None:
    """Raises `TrainingError` if a weight is not finite, which a step can cause even if its gradient was finite."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (*module.parameters(), *module.buffers())):
        raise _diverged("the weights are not finite", number, folder)


def _diverged(what: str, number: int, folder: Path | None) -> TrainingError:
    kept = f"; the last good checkpoint is {folder / CHECKPOINT}" if folder and (folder / CHECKPOINT).exists() else ""
    return TrainingError(f"training diverged at step {number}: {what}; lower the learning rate{kept}")
