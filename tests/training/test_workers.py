"""Several processes train what one would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

from blemish.detectors import HFR, VAEGRF
from blemish.errors import SettingError, TrainingError
from blemish.training import Noise, Schedule, Step, train
from blemish.training.log import LOG
from blemish.training.loop import CHECKPOINT
from blemish.training.share import Joined, Share

DATA = torch.randn(13, 3, 6, 5, generator=torch.Generator().manual_seed(0))
SCHEDULE = Schedule(epochs=2, batch=4, learning_rate=1e-2, patience=2)  # 4, 4 and 5 images


class Toy(nn.Module):
    """A network whose batch normalisation and noise depend on the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=2)
        )
        self.noise = Noise()

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        error = (self.layers(batch + 0.1 * self.noise(batch)) - batch).square().mean()
        return {"loss": 2 * error, "error": error}


def batches(orders: Iterable[list[int]]) -> Iterator[Tensor]:
    return (DATA[order].contiguous(memory_format=torch.channels_last) for order in orders)


def trained(processes: int, schedule: Schedule = SCHEDULE, **options: object) -> tuple[Toy, list[Step]]:
    module = Toy()
    return module, train(module, batches, len(DATA), schedule, processes=processes, **options)  # type: ignore[arg-type]


def alike(one: list[Step], other: list[Step], tolerance: float) -> None:
    assert len(one) == len(other)
    for step, same in zip(one, other, strict=True):
        assert step.terms == pytest.approx(same.terms, rel=tolerance)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "follow" in " ".join(child.cmdline())]


def test_several_processes_train_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.loop.JUDGED", 2)
    schedule = replace(SCHEDULE, batch=5, drawn=12)  # 5, 5 and 2 images: the last are too few to share
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    found = []
    for processes in (1, 3):
        judgements = iter([1.0, 2.0, 1.0])
        folder = tmp_path / str(processes)
        found.append(trained(processes, schedule, folder=folder, judge=lambda left=judgements: next(left)))
        assert len((folder / LOG).read_text().splitlines()) == 6, "one of them writes"
    (one, steps), (several, same) = found
    alike(same, steps, 1e-5)
    assert all(torch.allclose(a, several.state_dict()[name], atol=1e-5) for name, a in one.state_dict().items())
    assert several.layers[1](DATA.new_ones(2, 8, 3, 3)).isfinite().all(), "it works alone again"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert not children()


@pytest.mark.parametrize("kind", ["hfr", "vae-grf"])
def test_each_network_learns_the_same_with_two_processes(kind: str) -> None:
    """In double precision, since Adam's first steps depend on the signs of gradients that are nothing but rounding."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 32, 32)] if kind == "vae-grf" else [(6, 8, 8), (8, 4, 4)]
    layers = [torch.rand(12, *shape, generator=generator) for shape in shapes]
    curves = []
    for processes in (1, 2):
        detector = VAEGRF(latent=4) if kind == "vae-grf" else HFR(width=1)
        detector.update(layers)

        def features(orders: Iterable[list[int]]) -> Iterator[Tensor | list[Tensor]]:
            found = ([layer[order].double() for layer in layers] for order in orders)
            return (batch[0] if kind == "vae-grf" else batch for batch in found)

        schedule = Schedule(epochs=2, batch=4, learning_rate=1e-3)
        curves.append(train(detector.objective().double(), features, 12, schedule, processes=processes))
    alike(curves[1], curves[0], 1e-7)


def test_killed_and_interrupted_it_ends_whole_and_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.EVERY", -1.0)

    def kill(step: Step, steps: int) -> None:
        if step.step == 1:
            children()[0].send_signal(signal.SIGKILL)

    def interrupt(step: Step, steps: int) -> None:
        if step.step == 4:
            raise KeyboardInterrupt

    schedule = replace(SCHEDULE, patience=None)
    with pytest.raises(
        TrainingError, match=r"process 2 of 2 of the training ended \(signal 9\); .* continue with --resume"
    ):
        trained(2, schedule, folder=tmp_path, watch=kill)
    assert not children()
    assert {path.name for path in tmp_path.iterdir()} <= {CHECKPOINT, LOG, "tensorboard"}
    with pytest.raises(KeyboardInterrupt):
        trained(2, schedule, folder=tmp_path, resume=True, watch=interrupt)
    assert not children()
    module, steps = trained(1, schedule, folder=tmp_path, resume=True)
    assert [step.step for step in steps] == [4, 5], "as many processes as one likes go on from a checkpoint"
    one, whole = trained(1, schedule)
    alike(steps, whole[4:], 1e-5)
    assert all(torch.allclose(a, module.state_dict()[name], atol=1e-5) for name, a in one.state_dict().items())


def test_processes_end_when_the_first_one_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_workers import *\n"
        "def watch(step, steps):\n"
        "    print(children()[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
        "trained(2, watch=watch)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout
        other = psutil.Process(int(process.stdout.readline()))
        process.kill()
    deadline = time.monotonic() + 30
    while other.is_running() and other.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not other.is_running() or other.status() == psutil.STATUS_ZOMBIE


class Local(nn.Module):
    """A network that another process cannot train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.parent = os.getpid()

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        if os.getpid() != self.parent:
            raise ValueError("not\nhere")
        return {"loss": (self.weight * batch).square().mean()}


def test_an_error_in_another_process_is_told_in_one_line() -> None:
    with pytest.raises(TrainingError, match=r"process 2 of 2 of the training ended \(ValueError: not here\)"):
        train(Local(), batches, len(DATA), SCHEDULE, processes=2)


@pytest.mark.parametrize("processes", [0, -1, 5])
def test_as_many_processes_as_a_batch_has_images_at_most(processes: int) -> None:
    with pytest.raises(SettingError, match=f"processes {processes} is out of range; give 1 to 4"):
        trained(processes)


@pytest.mark.parametrize("whole", [2, 3, 7, 8])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_a_batch_are_all_of_it_and_weigh_one(whole: int, processes: int) -> None:
    shares = [Share(rank, processes, whole) for rank in range(processes)]
    assert sum(share.weight for share in shares) == pytest.approx(1)
    rows = sorted(row for share in shares for row in range(whole)[share.rows])
    assert rows == (sorted([*range(whole)] * processes) if whole < processes else [*range(whole)])


@pytest.mark.parametrize("view", ["contiguous", "channels last", "part of channels last"])
def test_the_shares_of_noise_are_rows_of_what_one_process_draws(view: str) -> None:
    like = torch.zeros(5, 8, 3, 4)
    if view != "contiguous":
        like = like.contiguous(memory_format=torch.channels_last)
    if view == "part of channels last":
        like = like.chunk(2, 1)[0]
    torch.manual_seed(0)
    drawn = Noise()(like)
    for rank in range(2):
        noise, joined = Noise(), Joined(lambda tensor: None, rank, 2)
        with joined.joins(noise):
            torch.manual_seed(0)
            rows = joined.take(5).rows
            assert torch.equal(noise(like[rows]), drawn[rows])
