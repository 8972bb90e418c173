from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from blemish.distributed import cluster as room
from blemish.distributed.cluster import Node, ask_nodes, check_address, check_nodes, connect, workers
from blemish.errors import ClusterError, DegenerateError, MissingExtraError, SettingError
from command import as_in_a_terminal


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "head.example:1", "ray://[::1]:10001"])
def test_an_address_is_taken(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize("address", ["", "Local", "10.0.0.1", "host:0", "host:99999", "http://host:80", "a b:1"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(SettingError, match="10.0.0.1:6379"):
        check_address(address)


def test_where_nothing_answers_one_line_says_so_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = time.monotonic()
    with pytest.raises(ClusterError, match="nothing answers there") as told, connect_anew(f"127.0.0.1:{port}"):
        pass
    assert time.monotonic() - before < 15
    assert "\n" not in str(told.value)


def test_what_answers_and_is_no_cluster_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "JOINING", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match="no Ray cluster"), connect_anew(f"127.0.0.1:{port}"):
            pass


def connect_anew(address: str):
    """`connect`, as if this process was not connected already."""
    room._join(room.load_ray(), address)
    raise AssertionError


def test_without_ray_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'blemish\[ray\]'"), connect("local"):
        pass


def test_every_machine_says_what_is_installed_there(cluster: None) -> None:
    (node,) = ask_nodes("local")
    check_nodes("local", [node])
    assert node.host
    assert node.missing == ()
    assert workers() == 2


def test_a_machine_without_this_version_is_named() -> None:
    own = room.version("blemish")
    nodes = [Node("good", own), Node("bare", None), Node("old", "0.0.1")]
    with pytest.raises(ClusterError, match=f"bare has no blemish, old has blemish 0.0.1; install blemish {own}"):
        check_nodes("auto", nodes)


def test_a_machine_without_a_part_is_named() -> None:
    with pytest.raises(ClusterError, match="far has no torch"):
        check_nodes("auto", [Node("far", room.version("blemish"), ("torch",))])


def test_what_a_task_raises_of_ours_is_raised_as_it_was(cluster: None) -> None:
    ray = room.load_ray()

    @ray.remote
    def failing() -> None:
        from blemish.errors import DegenerateError

        raise DegenerateError("all the same")

    with pytest.raises(DegenerateError, match="^all the same$"), connect("local"):
        ray.get(failing.remote())


def test_any_other_failure_of_a_task_is_one_line(cluster: None) -> None:
    ray = room.load_ray()

    @ray.remote
    def failing() -> None:
        raise ValueError("odd\nand long")

    with pytest.raises(ClusterError, match=r"^local: a task failed \(odd\)") as told, connect("local"):
        ray.get(failing.remote())
    assert "\n" not in str(told.value)


def test_another_process_joins_a_running_cluster_and_leaves_it_running(cluster: None) -> None:
    address = room.load_ray().get_runtime_context().gcs_address
    program = (
        "import sys; from blemish.distributed.cluster import connect, workers\n"
        "with connect(sys.argv[1]): print(workers())"
    )
    done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr
    assert workers() == 2


INTERRUPTED = """
import os, signal, time
from blemish import interrupts
from blemish.distributed import cluster

class Ray:
    def is_initialized(self):
        return False

    def init(self, **told):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        print("started whole")

    def get_runtime_context(self):
        time.sleep(5)

    def shutdown(self):
        print("shut down")

interrupts.install()
cluster.load_ray = Ray
try:
    with cluster.connect("local"):
        print("connected")
except interrupts.Interrupted:
    print("interrupted")
"""


def test_an_interrupt_while_a_cluster_starts_is_heard_once_it_has() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=as_in_a_terminal)
    assert done.stdout.splitlines() == ["started whole", "shut down", "interrupted"], done.stderr
