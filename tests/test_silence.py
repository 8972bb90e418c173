"""Nothing leaves the machine: what the system is asked for while every command runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exports import export_of

ADDRESS = re.compile(r"sa_family=AF_INET6?.*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")(?P<address>[^\"]+)")
WRITTEN = re.compile(r"\"(?P<path>/[^\"]*)\", [^)]*O_(?:WRONLY|RDWR|CREAT)")

EVERY_COMMAND = """
import os, sys
from dataclasses import replace
import blemish.datasets
from blemish.cli import main
from blemish.fitting.quality import BALANCED, QUALITIES

QUALITIES[BALANCED] = replace(QUALITIES[BALANCED], size=64, copies=0)
known = blemish.datasets.read_source
def some(source):  # of the demo's images, and all else as it is
    dataset = known(source)
    return replace(dataset, train=dataset.train[:20], test=dataset.test[::40])

def command(*words):
    with __import__("contextlib").suppress(OSError):
        open("/command/" + words[0])  # a mark in the trace
    sys.argv = ["blemish", *words]
    try:
        main()
    except SystemExit as done:
        assert done.code in (0, None), (words, done.code)

tree, digits = sys.argv[1:]
command("check", tree)
command("fit", tree, "-o", "gaussian", "--size", "64", "--detector", "gaussian", "--layers", "1,2")
command("fit", tree, "-o", "hfr", "--size", "64", "--detector", "hfr", "--layers", "1,2", "--set", "epochs=1",
        "--checkpoints", "training")
command("fit", tree, "-o", "vae", "--size", "64", "--detector", "vae", "--set", "epochs=1", "--set", "drawn=32")
command("predict", "gaussian", tree, "--out", "results")
command("evaluate", "gaussian", tree, "--report", "report.html")
command("explain", "gaussian", tree + "/test/scratch/000.png", "--out", "why")
command("explain", "gaussian", "--gallery", tree, "--out", "gallery")
command("sample", "vae", "-n", "1", "-o", "drawn.png")
command("export", "gaussian", "-o", "graph", "--format", "onnx")
command("prune", "gaussian", "--drop", "1:0", "-o", "pruned")
blemish.datasets.read_source = some
command("demo", "--report", "demo.html")
blemish.datasets.read_source = known
command("bench", "run", "hfr-table-2", "--data", digits, "--preset", "fre-lite0-1l", "--size", "64",
        "--category", "MNIST/0", "-o", "b.jsonl")
"""

PREDICT = "import blemish, sys; print(len(list(blemish.load(sys.argv[1]).predict(sys.argv[2]))))"

SERVE = """
import os, signal, sys, threading, urllib.request
from pathlib import Path

os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://192.0.2.1:4318"  # where FastAPI would report to
os.environ["FASTAPI_OTEL_AUTO_CONFIGURE"] = "true"
from blemish.service.serve import serve
from blemish.service.settings import Settings

def told(service, address):
    def ask():
        image = urllib.request.Request(address + "v1/models/parts/predict", Path(sys.argv[2]).read_bytes())
        image.add_header("Content-Type", "image/png")
        assert urllib.request.urlopen(image).status == 200
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=ask).start()

serve(Settings(port=0), {"parts": sys.argv[1]}, {}, told)
"""


def traced(folder: Path, program: str, *words: object) -> str:
    """What the system was asked for by a program with a home folder of its own: addresses, and files opened."""
    (folder / "home").mkdir(exist_ok=True)
    trace = folder / "trace"
    calls = "trace=connect,sendto,sendmsg,open,openat,creat,mkdir"
    watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", calls, "-o", str(trace)]
    home = {name: value for name, value in os.environ.items() if not name.startswith(("BLEMISH", "XDG", "TMP", "ORT_"))}
    environment = {**home, "HOME": str(folder / "home")}
    done = subprocess.run(
        [*watch, sys.executable, "-c", program, *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "PTRACE_TRACEME" in done.stderr or "ptrace" in done.stderr.splitlines()[:1]:
        pytest.skip("this machine does not let strace watch a process")
    assert done.returncode == 0, done.stderr
    return trace.read_text(errors="replace")


def addresses(trace: str) -> set[str]:
    """Those that were called, but for the machine's own."""
    found = {match["address"] for match in ADDRESS.finditer(trace)}
    return {address for address in found if not address.startswith("127.") and address != "::1"}


def written(trace: str, home: Path) -> list[Path]:
    """Files opened for writing in the home folder, from there."""
    opened = [line for line in trace.splitlines() if "ENOENT" not in line and "O_TMPFILE" not in line]  # has no name
    paths = {Path(match["path"]) for line in opened for match in WRITTEN.finditer(line)}
    return sorted(path.relative_to(home) for path in paths if path.is_relative_to(home))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; apt-get install strace")
def test_no_command_calls_another_machine_or_writes_into_the_home_folder_but_to_its_cache(
    tree: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    digits = {
        f"{letter}_{part}": values
        for part in ("train", "test")
        for letter, values in (("x", rng.integers(0, 256, (12, 28, 28), np.uint8)), ("y", np.arange(12) % 2))
    }
    np.savez(tmp_path / "mnist.npz", **digits)
    trace = traced(tmp_path, EVERY_COMMAND, tree, tmp_path / "mnist.npz")
    assert trace.count('"/command/') == 13
    assert addresses(trace) == set()
    files = written(trace, tmp_path / "home")
    assert files, "the cache is written, so writes are seen"
    assert {path.parts[:2] for path in files} == {(".cache", "blemish")}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; apt-get install strace")
def test_predicting_from_a_program_calls_nobody_either(saved: Path, tree: Path, tmp_path: Path) -> None:
    trace = traced(tmp_path, PREDICT, saved, tree)
    assert addresses(trace) == set()
    assert written(trace, tmp_path / "home") == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; apt-get install strace")
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_the_example_beside_an_export_calls_nobody_either(form: str, tree: Path, tmp_path: Path) -> None:
    program = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0])"
    example = Path(export_of("gaussian", form).path) / "predict.py"
    trace = traced(tmp_path, program, example, tree / "train" / "good" / "000.png")
    assert addresses(trace) == set()
    assert written(trace, tmp_path / "home") == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; apt-get install strace")
def test_the_service_calls_nobody_whatever_the_environment_says(small: Path, tree: Path, tmp_path: Path) -> None:
    trace = traced(tmp_path, SERVE, small, tree / "test" / "good" / "000.png")
    assert addresses(trace) == set()
    assert written(trace, tmp_path / "home") == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; apt-get install strace")
def test_a_call_and_a_file_would_be_seen(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, socket\n"
        "pathlib.Path(os.environ['HOME'], 'identifier').write_text('x')\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 53))\n"  # sends nothing
    )
    trace = traced(tmp_path, program)
    assert addresses(trace) == {"192.0.2.1"}
    assert written(trace, tmp_path / "home") == [Path("identifier")]
