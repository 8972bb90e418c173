"""One model in several threads, in forked processes, in loops that end early; saves killed, raced, or without space."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import blemish
from blemish import interrupts
from blemish.errors import StorageError
from blemish.storage import Scratch, folders, new_folder, scratch

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def scores(model: blemish.Model, images: Path) -> list[float]:
    return [prediction.score for prediction in model.predict(images)]


def test_four_threads_predict_on_one_model_at_once_as_one_does(small: Path, tree: Path) -> None:
    model = blemish.load(small)
    images = tree / "test" / "good"
    alone = scores(blemish.load(small), images)
    ready = threading.Barrier(4)

    def together(_: int) -> list[list[float]]:
        ready.wait()
        return [scores(model, images) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(together, range(4)):
            assert found == [pytest.approx(alone, rel=1e-6)] * 3


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_loop_over_predictions_that_ends_early_leaves_no_thread_and_no_open_file(
    engine: str, small: Path, tree: Path
) -> None:
    model = blemish.load(small, engine)
    images = tree / "train" / "good"
    list(model.predict(tree / "test" / "good"))  # compiles, which starts threads that stay
    before = {thread.name for thread in threading.enumerate()}
    files = open_files(tree)
    for _ in range(5):
        for prediction in model.predict(images):
            assert prediction.error is None
            break
    started = model.predict(images)
    next(started)
    started.close()
    unstarted = model.predict(images)
    del unstarted
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("decode")} <= before
    assert open_files(tree) == files


def open_files(below: Path) -> list[str]:
    """Files below a folder that this process has open; none where the system does not tell."""
    listed = Path("/proc/self/fd")
    if not listed.is_dir():
        return []
    found = []
    for entry in listed.iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # that of the listing itself
            continue
        if target.startswith(str(below)):
            found.append(target)
    return found


def in_a_fork(work: Callable[[], object]) -> str:
    """What a forked process found, or the sentence of its error."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(str(work()))
        except blemish.BlemishError as error:
            sender.send(str(error))

    process = context.Process(target=run)
    process.start()
    told = receiver.recv() if receiver.poll(60) else "hangs"
    process.join(10)
    process.kill()
    return told


@needs_fork
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_process_predicts_with_torch_and_is_refused_in_a_sentence_by_openvino(small: Path, tree: Path) -> None:
    image = tree / "test" / "good" / "000.png"
    model = blemish.load(small, "torch")
    (alone,) = scores(model, image)
    assert float(in_a_fork(lambda: scores(model, image)[0])) == pytest.approx(alone, rel=1e-5)
    assert scores(model, image) == [alone], "the parent goes on"
    other = blemish.load(small, "openvino")
    list(other.predict(image))
    assert "cannot run in a fork; start processes with" in in_a_fork(lambda: scores(other, image))


@needs_fork
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("moment", [1, 2, 3, 7])
def test_a_save_that_is_killed_leaves_a_whole_model_or_none_and_the_next_one_cleans_up(
    moment: int, replaces: bool, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, goal = blemish.load(small), tmp_path / "m"
    if replaces:
        model.save(goal)
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        calls = 0
        known = folders._sync

        def sync(path: Path) -> None:
            nonlocal calls
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            known(path)

        folders._sync = sync
        model.save(goal, force=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert goal.exists() or not replaces
    if goal.exists():
        blemish.load(goal)
    monkeypatch.setattr(scratch, "_swept", set())
    Scratch(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == (["m"] if goal.exists() else [])


def test_of_two_writers_of_one_folder_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    goal = tmp_path / "m"

    def write(text: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        with new_folder(goal, "predictions") as draft:
            (draft / "a").write_text(text)
            meanwhile()

    with pytest.raises(StorageError, match="exists already; give another path"):
        write("slow", meanwhile=lambda: write("quick"))
    assert (goal / "a").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folders, "_sync", full)
    with pytest.raises(StorageError, match=r"m: cannot be written \(no space left on the disk\); nothing of it"):
        blemish.load(small).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_while_what_was_learned_is_read_or_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    held: list[int] = []

    def watched(known: Callable[..., object]) -> Callable[..., object]:
        def run(*words: object) -> object:
            held.append(interrupts._holding)
            return known(*words)

        return run

    for name in ("load_file", "save_file"):
        monkeypatch.setattr(safetensors.torch, name, watched(getattr(safetensors.torch, name)))
    model = blemish.load(small)
    model.save(tmp_path / "m")
    assert model.learned.detector.count > 0
    assert held
    assert set(held) == {1}
