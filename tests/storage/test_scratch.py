from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.storage import Scratch, scratch
from blemish.storage.scratch import FINISHED, MARKER, PREFIX

KILLED = """
import os, signal, sys
from pathlib import Path
from blemish.storage.scratch import Scratch
made = Scratch(Path(sys.argv[1]))
(made.path / "half").write_text("x")
print(made.path.name, flush=True)
{end}
"""


@pytest.fixture(autouse=True)
def sweep_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each test were a process of its own."""
    monkeypatch.setattr(scratch, "_swept", set())


def run(folder: Path, end: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED.format(end=end), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_folder_is_gone_when_it_is_closed_and_when_the_process_ends(tmp_path: Path) -> None:
    with Scratch(tmp_path) as made:
        (made.path / "file").write_text("x")
        assert made.path.parent == tmp_path
        assert made.path.name.startswith(PREFIX)
    assert run(tmp_path, "").returncode == 0
    assert run(tmp_path, "raise RuntimeError").returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX's")
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    done = run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert {file.name for file in left.iterdir()} == {MARKER, "half"}
    with Scratch(tmp_path) as made:
        assert list(tmp_path.iterdir()) == [made.path]


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX's")
def test_what_a_process_still_uses_is_left_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED.format(end="sys.stdin.read()"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        with Scratch(tmp_path):
            assert (tmp_path / name / "half").exists()
        process.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_not_made_here_is_left_alone(tmp_path: Path) -> None:
    unmarked = tmp_path / f"{PREFIX}abcdefgh"
    unmarked.mkdir()
    (unmarked / "thesis.txt").write_text("x")
    linked = tmp_path / f"{PREFIX}abcdefg2"
    linked.mkdir()
    (linked / MARKER).touch()
    (linked / "link").symlink_to(unmarked)
    (tmp_path / f"{PREFIX}abcdefg3").mkdir()
    other = tmp_path / f"{PREFIX}too-long-a-name"
    other.mkdir()
    (other / MARKER).touch()
    with Scratch(tmp_path):
        pass
    assert (unmarked / "thesis.txt").exists()
    assert (linked / "link").is_symlink()
    assert other.exists()
    assert (tmp_path / f"{PREFIX}abcdefg3").exists(), "it is empty, and may be anybody's"


def test_processes_that_make_folders_in_one_place_leave_one_another_alone(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom blemish.storage import scratch\n"
        "for _ in range(300):\n"
        "    scratch._swept.clear()\n"
        "    with scratch.Scratch(Path(sys.argv[1])) as made:\n"
        "        (made.path / 'file').write_text('x')\n"
        "        assert (made.path / 'file').exists()\n"
    )
    several = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in several] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_was_cut_in_the_middle_is_finished(tmp_path: Path) -> None:
    cut = tmp_path / f"{PREFIX}abcdefgh"
    (cut / FINISHED).mkdir(parents=True)
    (cut / FINISHED / "content").write_text("new")
    (cut / "old").mkdir()
    (cut / "old" / "content").write_text("old")
    (cut / MARKER).write_text("model")
    with Scratch(tmp_path) as made:
        assert {path.name for path in tmp_path.iterdir()} == {"model", made.path.name}
    assert (tmp_path / "model" / "content").read_text() == "new"


def test_a_forked_child_does_not_remove_its_parents_folder(tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    fork = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0); print((made.path / 'half').exists())"
    )
    assert run(tmp_path, fork).stdout.splitlines()[-1] == "True"
