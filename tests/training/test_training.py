from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import blemish
from blemish.engines.stream import Chunk
from blemish.errors import SettingError, StorageError, TrainingError
from blemish.fitting.cache import FeatureCache
from blemish.fitting.trained.image_files import ImageFiles
from blemish.fitting.trained.kept_features import KeptFeatures
from blemish.images import Geometry
from blemish.training import Schedule, Step, train
from blemish.training.log import LOG
from blemish.training.loop import CHECKPOINT, JUDGED

DATA = torch.randn(37, 5, generator=torch.Generator().manual_seed(0))


class Toy(nn.Module):
    """A network with everything that a checkpoint must hold: weights, running statistics, noise in the loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        error = (self.layers(batch + 0.1 * torch.randn_like(batch)) - batch).square().mean()
        return {"loss": 2 * error, "error": error}


def batches(orders: Iterable[list[int]]) -> Iterator[Tensor]:
    return (DATA[order] for order in orders)


SCHEDULE = Schedule(epochs=3, batch=4, learning_rate=1e-2)


def trained(**options: object) -> tuple[Toy, list[Step]]:
    module = Toy()
    steps = train(module, batches, len(DATA), options.pop("schedule", SCHEDULE), **options)  # type: ignore[arg-type]
    return module, steps


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights() -> None:
    first, steps = trained()
    assert len(steps) == 3 * 9, "37 images in batches of 4, the one left over joins the last"
    assert sum(step.terms["loss"] for step in steps[-9:]) < sum(step.terms["loss"] for step in steps[:9])
    torch.rand(7)  # what was drawn before does not matter
    assert equal(first, trained()[0])
    assert not equal(first, trained(schedule=replace(SCHEDULE, seed=1))[0])
    assert not first.training


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained()
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    module = Toy()
    torch.random.set_rng_state(state)
    train(module, batches, len(DATA), SCHEDULE)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("stop", [1, 8, 9, 20, 26])
def test_resumed_after_any_step_it_ends_with_the_weights_of_an_unbroken_run(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.EVERY", -1.0)  # a checkpoint after every step

    def watch(step: Step, steps: int) -> None:
        assert steps == 27
        if step.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(folder=tmp_path, watch=watch)
    resumed, steps = trained(folder=tmp_path, resume=True)
    assert steps[0].step == stop, "what was not saved yet is done again"
    unbroken, whole = trained()
    assert equal(resumed, unbroken)
    logged = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in logged] == list(range(27)), "each step once"
    assert [line["loss"] for line in logged] == [step.terms["loss"] for step in whole]


def test_killed_at_any_moment_and_resumed_it_ends_the_same(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import time, blemish.training.loop as loop\n"
        "from pathlib import Path\n"
        "from test_training import *\n"
        "loop.EVERY = -1.0\n"
        "trained(folder=Path(sys.argv[2]), watch=lambda step, steps: time.sleep(0.02))\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / CHECKPOINT).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert equal(trained(folder=tmp_path, resume=True)[0], trained()[0])


def test_one_may_go_on_for_longer(tmp_path: Path) -> None:
    trained(folder=tmp_path, schedule=replace(SCHEDULE, epochs=1))
    longer, steps = trained(folder=tmp_path, resume=True)
    assert steps[0].step == 9
    assert equal(longer, trained()[0])
    assert trained(folder=tmp_path, resume=True)[1] == [], "there is nothing left to do"


def test_without_a_checkpoint_resuming_starts_from_the_beginning(tmp_path: Path) -> None:
    assert len(trained(folder=tmp_path / "new", resume=True)[1]) == 27
    assert len((tmp_path / "new" / LOG).read_text().splitlines()) == 27


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", ["both", LOG, CHECKPOINT])
def test_without_resuming_an_earlier_training_is_never_overwritten(tmp_path: Path, left: str) -> None:
    trained(folder=tmp_path)
    if left == LOG:
        (tmp_path / CHECKPOINT).rename(tmp_path / "elsewhere")
    elif left == CHECKPOINT:
        (tmp_path / LOG).unlink()
    before = contents(tmp_path)
    with pytest.raises(SettingError, match="holds a training already .* continue it with --resume, or give another"):
        trained(folder=tmp_path, watch=lambda *_: pytest.fail("it began"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        "a diary\n",
        "no line's end",
        '{"step": "one"}\n',
        '{"step": true}\n',
        "[1]\n",
        '{"step": 1}\n{"epoch": 1}\n',
        "\xff\n",
    ],
)
def test_a_log_that_is_of_no_training_is_never_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / LOG).write_text(text, encoding="latin-1")
    with pytest.raises(SettingError, match="is not a training log"):
        trained(folder=tmp_path, resume=True, watch=lambda *_: pytest.fail("it began"))
    assert (tmp_path / LOG).read_text(encoding="latin-1") == text


@pytest.mark.parametrize("length", [1, 5, 30])
def test_a_log_whose_last_line_was_cut_short_is_gone_on_with(tmp_path: Path, length: int) -> None:
    trained(folder=tmp_path, schedule=replace(SCHEDULE, epochs=1))
    line = '{"step": 9, "epoch": 1, "seconds": 0.1, "loss": 1.0}'
    with (tmp_path / LOG).open("a") as log:
        log.write(line[:length])
    trained(folder=tmp_path, resume=True)
    assert [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()] == list(range(27))


def test_a_fit_refuses_a_folder_that_holds_a_training_and_a_schedule_that_is_none_before_its_pass(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / LOG).write_text('{"step": 0}\n')
    for settings, message in (
        ({}, "holds a training already"),
        ({"epochs": 1.5}, "vae: epochs is 1.5; expected a whole number"),
    ):
        with pytest.raises(SettingError, match=message):
            blemish.fit(
                tree,
                detector="vae",
                settings=settings,
                size=64,
                checkpoints=tmp_path if not settings else None,
                announce=lambda _: pytest.fail("it was planned"),
            )


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    trained(folder=tmp_path, identity={"detector": "one"})
    with pytest.raises(StorageError, match=r"another training \(detector is 'one' there, 'other' here\)"):
        trained(folder=tmp_path, resume=True, identity={"detector": "other"})
    with pytest.raises(StorageError, match=r"batch is 4 there, 5 here"):
        trained(folder=tmp_path, resume=True, identity={"detector": "one"}, schedule=replace(SCHEDULE, batch=5))


def test_a_checkpoint_that_was_altered_is_refused(tmp_path: Path) -> None:
    trained(folder=tmp_path)
    file = tmp_path / CHECKPOINT / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match="was changed after blemish wrote it"):
        trained(folder=tmp_path, resume=True)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_stops_it_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.EVERY", -1.0)
    module = Toy()
    forward = Toy.forward
    count = 0

    def diverging(self: Toy, batch: Tensor) -> dict[str, Tensor]:
        nonlocal count
        count += 1
        terms = forward(self, batch)
        if count == 6:
            zero = terms["loss"] * 0
            terms["loss"] = zero / zero.detach() if where == "loss" else terms["loss"] + torch.sqrt(zero)
        return terms

    monkeypatch.setattr(Toy, "forward", diverging)
    expected = {"loss": "loss is not finite", "gradient": "the gradient is not finite"}[where]
    with pytest.raises(TrainingError, match=f"diverged at step 5: {expected}; lower the learning rate; the last good"):
        train(module, batches, len(DATA), SCHEDULE, folder=tmp_path)
    monkeypatch.setattr(Toy, "forward", forward)
    resumed, steps = trained(folder=tmp_path, resume=True)
    assert steps[0].step == 5
    assert equal(resumed, trained()[0])


@pytest.mark.parametrize("what", ["parameter", "buffer"])
@pytest.mark.parametrize("stop", [3, 26])
def test_a_step_that_makes_weights_infinite_is_noticed_before_they_are_kept(
    tmp_path: Path, stop: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.EVERY", -1.0)
    module, taken = Toy(), 0
    step = torch.optim.Adam.step

    def too_far(self: torch.optim.Adam, *args: object) -> None:
        nonlocal taken
        step(self, *args)
        if taken == stop:
            tensor = module.layers[0].weight if what == "parameter" else module.layers[1].running_var
            tensor.data[0] = float("inf")
        taken += 1

    monkeypatch.setattr(torch.optim.Adam, "step", too_far)
    expected = f"diverged at step {stop}: the weights are not finite; lower the learning rate; the last good checkpoint"
    with pytest.raises(TrainingError, match=expected):
        train(module, batches, len(DATA), SCHEDULE, folder=tmp_path)
    monkeypatch.undo()
    resumed, steps = trained(folder=tmp_path, resume=True)
    assert steps[0].step == stop
    assert equal(resumed, trained()[0])


def test_weights_that_are_not_finite_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.loop.JUDGED", 1)
    module = Toy()
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: module.layers[0].weight.data.fill_(float("nan")))
    with pytest.raises(TrainingError, match="diverged at step 0: the weights are not finite"):
        train(module, batches, len(DATA), replace(SCHEDULE, patience=3), judge=lambda: pytest.fail("it was asked"))


def test_time_that_is_up_ends_it_with_a_checkpoint(tmp_path: Path) -> None:
    _, steps = trained(folder=tmp_path, schedule=replace(SCHEDULE, minutes=1e-9))
    assert len(steps) == 1
    assert trained(folder=tmp_path, resume=True)[1][0].step == 1


def test_an_epoch_draws_some_images_anew_and_leaves_no_batch_of_one() -> None:
    schedule = Schedule(epochs=2, batch=4, drawn=13)
    first, second = list(schedule.order(0, 100)), list(schedule.order(1, 100))
    assert [len(batch) for batch in first] == [4, 4, 5]
    assert first == list(schedule.order(0, 100))
    assert first != second
    assert len({index for batch in first for index in batch}) == 13
    assert sorted(index for batch in Schedule().order(0, 7) for index in batch) == list(range(7))


def test_where_more_are_drawn_than_there_are_each_comes_as_often() -> None:
    drawn = [index for batch in Schedule(batch=4, drawn=17).order(0, 7) for index in batch]
    counts = [drawn.count(index) for index in range(7)]
    assert len(drawn) == 17
    assert set(counts) == {2, 3}
    assert sorted(drawn[:7]) == list(range(7))


def all_at_one_go(schedule: Schedule, epoch: int, count: int) -> list[list[int]]:
    """The batches of an epoch as they were once drawn: all rounds put together and cut."""
    rng = np.random.default_rng([schedule.seed, epoch])
    rounds = math.ceil((schedule.drawn or count) / count)
    chosen = np.concatenate([rng.permutation(count) for _ in range(rounds)])[: schedule.drawn]
    starts = range(0, len(chosen), schedule.batch)
    found = [chosen[start : start + schedule.batch].tolist() for start in starts]
    if len(found) > 1 and len(found[-1]) == 1:
        left_over = found.pop()
        found[-1] += left_over
    return found


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 50])
@pytest.mark.parametrize("drawn", [None, 1, 2, 9, 13, 21, 22, 43])
@pytest.mark.parametrize("count", [2, 3, 7, 21])
def test_batches_that_come_one_by_one_are_those_drawn_at_one_go(batch: int, drawn: int | None, count: int) -> None:
    schedule = Schedule(epochs=3, batch=batch, drawn=drawn, seed=5)
    orders = [all_at_one_go(schedule, epoch, count) for epoch in range(3)]
    assert [list(schedule.order(epoch, count)) for epoch in range(3)] == orders
    assert [schedule.steps(count)] * 3 == [len(order) for order in orders]
    whole = [images for order in orders for images in order]
    for step in range(len(whole) + 2):
        assert list(schedule.order_from(step, count)) == whole[step:]


def test_of_a_schedule_without_end_only_what_is_needed_is_drawn(tmp_path: Path) -> None:
    def watch(step: Step, steps: int) -> None:
        assert steps == 10**6 * 250_000_000
        if step.step == 2:
            raise KeyboardInterrupt

    endless = replace(SCHEDULE, epochs=10**6, drawn=10**9)
    with pytest.raises(KeyboardInterrupt):
        trained(schedule=endless, watch=watch)
    assert next(endless.order_from(999_999 * 250_000_000, 37)) == next(endless.order(999_999, 37))


def test_images_and_kept_features_take_their_batches_one_by_one(tree: Path) -> None:
    orders = ([number % 3, 0] for number in count())
    paths = sorted((tree / "train" / "good").glob("*"))[:3]
    files = ImageFiles(paths, Geometry(32, 32))
    files.keep(Chunk([0, 1, 2], [], (), {}, [False] * 3, {}))
    images = files.batches(orders)
    assert [next(images).shape for _ in range(3)] == 3 * [(2, 3, 32, 32)]
    assert next(orders)[0] < 3
    cache = FeatureCache(1 << 20).append([np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)])
    kept = KeptFeatures(cache, 0, judged=False).batches(orders)
    assert [next(kept)[0].shape for _ in range(3)] == 3 * [(2, 1, 1, 1)]
    for source in (images, kept):
        source.close()  # type: ignore[attr-defined]


def judged(values: list[float], **options: object) -> tuple[Toy, list[Step], list[dict[str, Tensor]]]:
    """A training whose judgements are these, one a step, and the weights at each."""
    left, states = list(values), []
    module = Toy()

    def judge() -> float:
        assert not module.training
        states.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return left.pop(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.training.loop.JUDGED", 1)
        schedule = replace(SCHEDULE, patience=3)
        steps = train(module, batches, len(DATA), schedule, judge=judge, **options)  # type: ignore[arg-type]
    return module, steps, states


def test_training_ends_when_it_gets_no_better_and_keeps_the_best_weights() -> None:
    values = [0.1, 0.5, 0.4, 0.6, 0.6, 0.5, 0.2, 0.9]
    module, steps, states = judged(values)
    assert [step.terms["judged"] for step in steps] == values[:7], "three in a row were no better than the fourth"
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), states[3].values(), strict=True))


def test_training_ends_when_it_is_judged_good_enough_and_then_is_not_gone_on_with(tmp_path: Path) -> None:
    def run(resume: bool) -> list[Step]:
        judged = count(1.0)
        schedule = replace(SCHEDULE, epochs=100, patience=99)
        return trained(schedule=schedule, judge=lambda: next(judged), enough=3.0, folder=tmp_path, resume=resume)[1]

    assert len(run(resume=False)) == 3 * JUDGED
    assert run(resume=True) == []


def test_judging_changes_nothing_in_the_steps_themselves() -> None:
    _, steps, _ = judged([float(step) for step in range(27)])
    assert [step.terms["loss"] for step in steps] == [step.terms["loss"] for step in trained()[1]]


def test_without_patience_nothing_is_judged_and_the_last_weights_stay() -> None:
    module = Toy()
    steps = train(module, batches, len(DATA), SCHEDULE, judge=lambda: pytest.fail("it was asked"))
    assert len(steps) == 27
    assert equal(module, trained()[0])


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_resumed_it_remembers_the_best_weights(tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.loop.EVERY", -1.0)
    values = [0.1, 0.5, 0.4, 0.6, 0.6, 0.5, 0.2, 0.9]

    def watch(step: Step, steps: int) -> None:
        if step.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(values, folder=tmp_path, watch=watch)
    resumed, steps, _ = judged(values[stop:], folder=tmp_path, resume=True)
    assert equal(resumed, judged(values)[0])
    assert steps[-1].step == 6
    again, steps, _ = judged([], folder=tmp_path, resume=True)
    assert steps == [], "its patience is at an end"
    assert equal(again, resumed)


@pytest.mark.parametrize("setting", ["epochs", "batch", "drawn", "learning_rate", "minutes", "patience"])
def test_schedules_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(SettingError, match=f"schedule: {setting} is 0; expected a .*number"):
        Schedule(**{setting: 0})
    with pytest.raises(SettingError, match="1 images are too few to train on"):
        train(Toy(), batches, 1, SCHEDULE)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 1.5, "epochs is 1.5; expected a whole number from 1 to 1,000,000"),
        ("epochs", "many", "epochs is 'many'; expected a whole number"),
        ("epochs", None, "epochs is None; expected a whole number"),
        ("batch", True, "batch is True; expected a whole number"),
        ("drawn", [3], r"drawn is \[3\]; expected a whole number"),
        ("patience", 2.5, "patience is 2.5; expected a whole number"),
        ("seed", 0.5, "seed is 0.5; expected a whole number"),
        ("learning_rate", 1e38, "learning_rate is 1e.38; expected a number above 0 and up to 1e.30"),
        ("seed", -1, "seed is -1; expected a whole number from 0 to 4,294,967,295"),
        ("seed", 1 << 70, "seed is .*; expected a whole number"),
        ("learning_rate", "1e-3", "learning_rate is '1e-3'; expected a number"),
        ("learning_rate", float("nan"), "learning_rate is nan; expected a number"),
        ("minutes", True, "minutes is True; expected a number"),
    ],
)
def test_schedules_of_the_wrong_type_are_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Schedule(**{setting: value})  # type: ignore[arg-type]


def mine_with_other_fields(log: Path) -> None:
    log.write_text('{"step": 0, "loss": 1, "mine": "precious"}\n')


def a_link_to_mine(log: Path) -> None:
    (log.parents[1] / "mine.txt").write_text('{"step": 0, "epoch": 0, "seconds": 1, "loss": 1}\n')
    log.symlink_to(log.parents[1] / "mine.txt")


def a_dangling_link(log: Path) -> None:
    log.symlink_to(log.parents[1] / "victim")


def a_pipe(log: Path) -> None:
    os.mkfifo(log)


@pytest.mark.parametrize("what", [mine_with_other_fields, a_link_to_mine, a_dangling_link, a_pipe])
@pytest.mark.parametrize("resume", [True, False])
def test_a_log_that_no_training_wrote_is_never_overwritten(tmp_path: Path, what: object, resume: bool) -> None:
    folder = tmp_path / "training"
    folder.mkdir()
    what(folder / "log.jsonl")  # type: ignore[operator]
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SettingError):
        train(Toy(), batches, 8, SCHEDULE, folder=folder, resume=resume)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_file_or_a_users_folder_in_the_place_of_checkpoints_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="is not a folder"):
        train(Toy(), batches, 8, SCHEDULE, folder=tmp_path / "file")
    (tmp_path / "mine" / "checkpoint").mkdir(parents=True)
    (tmp_path / "mine" / "checkpoint" / "thesis.txt").write_text("years")
    with pytest.raises(StorageError, match="holds no blemish.json"):
        train(Toy(), batches, 8, SCHEDULE, folder=tmp_path / "mine", resume=True)
