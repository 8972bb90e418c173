"""A watch that is killed at any moment loses nothing and repeats nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import ENVIRONMENT
from conftest import ROOT, write_parts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forked processes")
def test_killed_at_any_line_of_its_own_it_loses_nothing_and_repeats_nothing() -> None:
    program = Path(__file__).with_name("killed.py")
    path = os.pathsep.join([str(ROOT / "src"), str(program.parent)])
    done = subprocess.run(
        [sys.executable, program, "3", "12"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("killed 12 times among")


def test_the_command_killed_at_work_goes_on_where_it_was(saved: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "line", 120, seed=4)
    command = [sys.executable, "-m", "blemish", "watch", saved, tmp_path / "line", "--out", tmp_path / "out"]
    command += ["--move", f"good={tmp_path / 'good'},anomalous={tmp_path / 'odd'}"]
    results = tmp_path / "out" / "results.jsonl"
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None and not (results.exists() and results.stat().st_size):
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)
    done = subprocess.run([*command, "--once", "--json"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == [f"{number:03d}.png" for number in range(120)]
    assert results.read_text().endswith(done.stdout)
    assert not list((tmp_path / "line").iterdir())
    moved = [path.name for folder in ("good", "odd") for path in (tmp_path / folder).iterdir()]
    assert sorted(moved) == sorted(line["path"] for line in lines)
