"""Ends `fit`, a save and `update` at random moments, and looks at what is left.

    python benchmarks/kills.py [--times 20] [--only fit] [--seed 0]

Each task runs in a folder of its own and is ended by SIGKILL, SIGTERM or SIGINT. Afterwards its output must be whole
and load, or not be there (of `update`: be the old one or the new one). After SIGTERM and SIGINT nothing else may be
left, the status must be 143 or 130, and the last line must say that it was interrupted. What SIGKILL leaves must be
gone after the next run. Prints one line for each kind of end, and what broke.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import blemish

FIT = ["-m", "blemish", "fit", "parts", "-o", "m", "--size", "64", "--detector", "gaussian"]
SAVE = ["-c", "import blemish, sys; model = blemish.load('old'); [model.save('m', force=True) for _ in range(20)]"]
UPDATE = ["-m", "blemish", "update", "m", "parts"]
TASKS = {"fit": FIT, "save": SAVE, "update": UPDATE}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SAID = "interrupted; nothing half-written was left"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", choices=TASKS)
    parser.add_argument("--signal", choices=[number.name for number in SIGNALS])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _prepare(root)
        for name, words in TASKS.items():
            if arguments.only not in {None, name}:
                continue
            seconds = _whole_run(root, name, words)
            for number in SIGNALS:
                if arguments.signal in {None, number.name}:
                    found = Counter(_ended(root, name, words, number, rng, seconds) for _ in range(arguments.times))
                    broken += sum(count for what, count in found.items() if what not in {"whole", "absent", "done"})
                    told = ", ".join(f"{what} {count}" for what, count in sorted(found.items()))
                    print(f"{name:7} {number.name:8} {told}", flush=True)
    print("sound" if not broken else f"{broken} broke")
    sys.exit(bool(broken))


def _prepare(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / "parts").mkdir()
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / "parts" / f"{index:02}.png")
    (root / "tmp").mkdir()
    subprocess.run([sys.executable, *FIT], cwd=root, env=_environment(root), capture_output=True, check=True)
    (root / "m").rename(root / "old")


def _environment(root: Path) -> dict[str, str]:
    source = str(Path(blemish.__file__).parents[1])  # this checkout, wherever the command runs
    return {**os.environ, "PYTHONPATH": source, "TMPDIR": str(root / "tmp"), "BLEMISH_CACHE": str(root / "cache")}


def _clean(root: Path, name: str) -> None:
    shutil.rmtree(root / "m", ignore_errors=True)
    if name == "update":
        shutil.copytree(root / "old", root / "m")


def _start(root: Path, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], cwd=root, env=_environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def _whole_run(root: Path, name: str, words: list[str]) -> float:
    """Returns the seconds of a run that nothing ends."""
    _clean(root, name)
    start = time.perf_counter()
    _, said = _start(root, words).communicate()
    if not _loads(root):
        raise SystemExit(f"{name}: {said}")
    return time.perf_counter() - start


def _ended(
    root: Path, name: str, words: list[str], number: signal.Signals, rng: np.random.Generator, seconds: float
) -> str:
    """Returns what a run left that a signal ended."""
    _clean(root, name)
    process = _start(root, words)
    time.sleep(rng.uniform(0.05, seconds))
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "HANGS"
    if name != "save" and number != signal.SIGKILL and process.returncode not in {0, 128 + number, -number}:
        return f"ENDS WITH {process.returncode}: {said.splitlines()[-1:]}"
    if name != "save" and process.returncode > 0 and not said.rstrip().endswith(SAID):
        return f"SAYS {said.splitlines()[-1:]}"
    if (root / "m").exists() and not _loads(root):
        return "DOES NOT LOAD"
    if name == "update" and not (root / "m").exists():
        return "LOST"
    if number == signal.SIGKILL or name == "save":
        subprocess.run([sys.executable, "-c", SWEEP], cwd=root, env=_environment(root), check=True)
    if left := _left(root):
        return f"LEAVES {left}"
    return "done" if process.returncode == 0 else "whole" if (root / "m").exists() else "absent"


SWEEP = (
    "from pathlib import Path; from blemish.storage import Scratch; [Scratch(Path(p)).close() for p in ('.', 'tmp')]"
)


def _loads(root: Path) -> bool:
    words = ["-c", "import blemish; blemish.load('m')"]
    return subprocess.run([sys.executable, *words], cwd=root, env=_environment(root), check=False).returncode == 0


def _left(root: Path) -> list[str]:
    found = [path.name for path in root.iterdir() if path.name not in {"parts", "tmp", "cache", "old", "m"}]
    # torch makes an empty folder for its compiler as soon as it is imported.
    return found + [
        f"tmp/{path.name}" for path in (root / "tmp").iterdir() if not path.name.startswith("torchinductor")
    ]


if __name__ == "__main__":
    main()
