"""Ctrl-C, SIGTERM, SIGHUP and SIGKILL at any moment: no traceback, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import as_in_a_terminal
from conftest import write_parts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")

SAVING = """
import sys, time
import blemish.model
from blemish import interrupts
from blemish.cli import main

interrupts.install()
known = blemish.model.model.write_card
def slowly(*words):
    print("saving", flush=True)
    time.sleep(60)
    known(*words)
blemish.model.model.write_card = slowly
sys.argv = ["blemish", "fit", sys.argv[1], "-o", sys.argv[2], "--size", "64", "--detector", "gaussian", "--force"]
main()
"""


def started(program: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=as_in_a_terminal,
    )  # fmt: skip


def fit_until_it_saves(parts: Path, folder: Path) -> subprocess.Popen[str]:
    process = started(["-c", SAVING, str(parts), str(folder / "m")], folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_during_a_save_leaves_nothing_and_keeps_the_old_model(
    saved_gaussian: Path, parts: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    shutil.copytree(saved_gaussian, tmp_path / "m")
    before = (tmp_path / "m" / "model.json").read_bytes()
    process = fit_until_it_saves(parts, tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors.splitlines()[-1] == "error: interrupted; nothing half-written was left"
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "m" / "model.json").read_bytes() == before


def test_what_a_kill_during_a_save_leaves_is_removed_by_the_next_run(parts: Path, tmp_path: Path) -> None:
    process = fit_until_it_saves(parts, tmp_path)
    process.kill()
    process.communicate()
    assert len(list(tmp_path.glob(".blemish-*"))) == 1
    assert len(list((tmp_path / "tmp").iterdir())) > 0
    words = ["fit", parts, "-o", tmp_path / "m", "--size", 64, "--detector", "gaussian"]
    process = started(["-m", "blemish", *map(str, words)], tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


REMOVED = """
import os, signal, time
from blemish import interrupts

interrupts.install()
class Removed:
    def __del__(self):  # Python lets no exception out of here
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
try:
    Removed()
    time.sleep(30)
except interrupts.Interrupted as interrupt:
    print(interrupt.status, flush=True)
"""


def test_ctrl_c_while_an_object_is_removed_is_not_lost(tmp_path: Path) -> None:
    process = started(["-c", REMOVED], tmp_path)
    told, said = process.communicate(timeout=20)
    assert (told, said) == ("130\n", "")


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.3, 0.6, 1.0, 1.5])
def test_ctrl_c_during_imports_ends_with_a_line_and_without_a_traceback(
    parts: Path, tmp_path: Path, delay: float
) -> None:
    words = ["fit", parts, "-o", tmp_path / "m", "--size", 64, "--detector", "gaussian"]
    process = started(["-X", "importtime", "-m", "blemish", *map(str, words)], tmp_path)
    assert process.stderr is not None
    for line in process.stderr:  # the interpreter's own start is not ours to guard
        if line.split("|")[-1].strip() == "blemish.interrupts":
            break
    process.stderr.readline()  # the next import comes once the handlers are installed
    time.sleep(delay - 0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    told = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130, told
    assert told[-1] == "error: interrupted; nothing half-written was left"
    assert "Traceback" not in errors
    assert "terminate called" not in errors
    assert not (tmp_path / "m").exists()


CONVERTING = """
import os, signal, time
import torch
from blemish import interrupts
from blemish.engines import openvino_graph
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

interrupts.install()
known = TorchScriptPythonDecoder.get_op_type
def interrupted(self):  # OpenVINO calls it while it converts, and makes an error of its own of any exception
    os.kill(os.getpid(), signal.SIGINT)
    return known(self)
TorchScriptPythonDecoder.get_op_type = interrupted
try:
    with openvino_graph._converted(torch.nn.ReLU(), (torch.zeros(1, 3, 4, 4),), -1):
        pass
    time.sleep(5)
except interrupts.Interrupted as end:
    print("interrupted", end.status)
"""


def test_ctrl_c_while_a_graph_is_converted_waits_until_that_is_done(tmp_path: Path) -> None:
    output, errors = started(["-c", CONVERTING], tmp_path).communicate(timeout=60)
    assert output == "interrupted 130\n", errors


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts") / "good", 8)


@pytest.fixture(scope="module")
def saved_gaussian(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import blemish

    path = tmp_path_factory.mktemp("old") / "m"
    blemish.fit(parts, detector="gaussian", size=64).save(path)
    return path
