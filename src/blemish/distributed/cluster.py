"""Joins a Ray cluster, or starts one on this machine for as long as it is used.

Before Ray is imported, it is told not to report its use over the network. Another process tries first whether a cluster
answers: Ray itself would try for two minutes and then end the process that asked.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError, ClusterError, SettingError, install, require
from blemish.interrupts import hold

if TYPE_CHECKING:
    from types import ModuleType

STORE = 4 << 30
"""The most bytes of memory for objects in a cluster on this machine; more are written to its temporary folder."""

SHARE = 0.2
"""The share of the free memory that these objects may take."""

SMALLEST = 100 << 20
"""Bytes for them at least; Ray wants more than 75 MiB."""

FULL_DISK = {"local_fs_capacity_threshold": 1.0}
"""Lets a cluster on this machine write to a disk until it is full. Ray would stop at 95 %, however much is left."""

REACHING = 3.0
"""Seconds to wait for an address to take a connection."""

JOINING = 10.0
"""Seconds to wait then until a cluster answers."""

ANSWERING = 60.0
"""Seconds to wait until every machine has said what is installed there."""

EVERY = 0.1
"""Seconds until it is checked again whether the cluster still takes connections."""

TICK = 0.5
"""Seconds that Ray waits at a time. Ctrl-C is handled in between, since within Ray it would become an error of Ray's.

It is not handled either while Ray starts or shuts down: it could be lost there, and a lock of the logs stay held.
"""

PARTS = ("torch", "openvino")
"""What blemish needs on every machine besides itself."""

_HOST = re.compile(r"(ray://)?(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")

_TRIAL = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
ray.shutdown()
"""


@dataclass(frozen=True)
class Node:
    """What is installed on one machine of a cluster.

    Attributes:
        host: its name.
        version: of blemish there; `None` if it is not installed.
        missing: names of the `PARTS` that are not installed.
    """

    host: str
    version: str | None
    missing: tuple[str, ...] = ()


def load_ray() -> ModuleType:
    """Returns Ray, told not to report its use. Raises `MissingExtraError` if it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise it warns of a change to come
    require("ray", of="a cluster", extra="ray")
    import ray

    return ray


class Cluster:
    """The cluster that this process is connected to.

    Args:
        address: as it was given.

    Attributes:
        is_gone: whether it was found to be gone.
    """

    def __init__(self, address: str) -> None:
        from ray.util.client import ray as client

        self.address, self.is_gone, self._checked = address, False, float("-inf")
        self._ports: list[tuple[str, int]] = []
        is_client: bool = client.is_connected()  # type: ignore[no-untyped-call]
        if not is_client:  # a client's own connection raises by itself
            context = load_ray().get_runtime_context()
            head, _, port = context.gcs_address.rpartition(":")
            here = next(node for node in load_ray().nodes() if node["NodeID"] == context.get_node_id())
            self._ports = [(head, int(port)), (here["NodeManagerAddress"], here["NodeManagerPort"])]

    def check(self) -> None:
        """Raises `ClusterError` if the cluster's head, or its part on this machine, takes no connection any more.

        Call it before a task is submitted: otherwise Ray would end this process without a message.
        """
        if time.monotonic() < self._checked + EVERY:
            return
        self._checked = time.monotonic()
        try:
            for port in self._ports:
                socket.create_connection(port, REACHING).close()
        except OSError as error:
            self.is_gone = True
            raise _broken(self.address, error) from None

    def finished(self, tasks: Sequence[Any]) -> list[Any]:
        """Returns those of the tasks that are finished, once one is. Raises `ClusterError` if the cluster is gone."""
        ray = load_ray()
        while True:
            self.check()
            with hold():
                if ray.wait(tasks, num_returns=1, timeout=TICK, fetch_local=False)[0]:
                    return list(ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)[0])

    def get(self, task: Any) -> Any:
        """Returns the result of a task, or raises what it raised, once it is finished."""
        self.finished([task])
        with hold():
            return load_ray().get(task)


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connects this process to a cluster within the context; what was started for it is shut down at its end.

    If the process is connected already, that connection is used and not closed.

    Args:
        address: `local` starts a cluster on this machine with a worker for each core; `auto` joins the one that runs on
            it, or that `RAY_ADDRESS` names; `HOST:PORT` and `ray://HOST:PORT` join another.

    Raises:
        SettingError: it is no address.
        MissingExtraError: Ray is not installed.
        ClusterError: there is no cluster, or a machine of it lacks this version of blemish.
    """
    told = check_address(address)
    ray = load_ray()
    if ray.is_initialized():
        check_nodes(address, ask_nodes(address))
        with faults(address):
            yield Cluster(address)
        return
    cluster = None
    try:
        with _own_signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, of things to come
            _start(ray) if address == "local" else _join(ray, told)
        cluster = Cluster(address)
        check_nodes(address, ask_nodes(address))
        with faults(address), _last_words(address):
            yield cluster
    finally:
        if cluster is None or not cluster.is_gone:  # otherwise Ray would wait for it, and does so when Python ends
            with hold():
                ray.shutdown()


def check_address(address: str) -> str:
    """Returns the address. Raises `SettingError` if it is none."""
    found = _HOST.fullmatch(address)
    if address not in {"local", "auto"} and (found is None or not 0 < int(found["port"]) < 1 << 16):
        raise SettingError(
            f"{address!r} is no address of a cluster; give local, auto, HOST:PORT or ray://HOST:PORT, such as "
            "10.0.0.1:6379"
        )
    return address


def workers() -> int:
    """Returns how many tasks of one core the cluster can run at the same time now, at least one."""
    return max(1, int(load_ray().cluster_resources().get("CPU", 0)))


def cores() -> int:
    """Returns how many cores every machine with workers has at least, so that such a task can run on any of them."""
    counts = [node["Resources"].get("CPU", 0) for node in load_ray().nodes() if node["Alive"]]
    return max(1, int(min((count for count in counts if count >= 1), default=1)))


@contextmanager
def faults(address: str) -> Iterator[None]:
    """Turns what Ray raises within the context into errors of one line.

    An error that a task raised is raised itself, if it is one of blemish's.

    Raises:
        ClusterError: the cluster is gone, or a task cannot be done.
    """
    exceptions = load_ray().exceptions
    try:
        yield
    except exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, BlemishError):
            raise cause from None
        if isinstance(cause, exceptions.OutOfDiskError):
            raise _full(address) from error
        if isinstance(cause, MemoryError):
            raise ClusterError(f"{address}: a worker has too little memory; start fewer on each machine") from error
        raise ClusterError(f"{address}: a task failed ({_line(cause)}); please report this") from error
    except exceptions.OutOfDiskError as error:
        raise _full(address) from error
    except (exceptions.RayError, ConnectionError) as error:
        raise _broken(address, error) from error


def ask_nodes(address: str) -> list[Node]:
    """Returns what is installed on each machine of the cluster that this process is connected to.

    Raises:
        ClusterError: a machine does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray = load_ray()

    # Sent as code, since a machine may lack this module.
    def ask(parts: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
        from importlib import metadata, util

        try:
            found = metadata.version("blemish")
        except metadata.PackageNotFoundError:
            return None, ()
        return found, tuple(part for part in parts if util.find_spec(part) is None)

    task = ray.remote(ask)
    alive = [node for node in ray.nodes() if node["Alive"]]
    answers = [
        task.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            PARTS
        )
        for node in alive
    ]
    hosts = [str(node["NodeManagerHostname"]) for node in alive]
    late, end = answers, time.monotonic() + ANSWERING
    while late and time.monotonic() < end:
        with hold():
            _, late = ray.wait(late, num_returns=len(late), timeout=TICK)
    if late or not answers:
        silent = [host for host, answer in zip(hosts, answers, strict=True) if answer in late]
        told = ", ".join(silent) or "no machine"
        raise ClusterError(f"{address}: {told} did not answer within {ANSWERING:.0f} s; is it overloaded or gone?")
    with faults(address), hold():
        return [Node(host, *answer) for host, answer in zip(hosts, ray.get(answers), strict=True)]


def check_nodes(address: str, nodes: Sequence[Node]) -> None:
    """Raises `ClusterError` that names the machines without this version of blemish, or what it needs."""
    own = version("blemish")
    wrong = [
        f"{node.host} has {'no blemish' if node.version is None else f'blemish {node.version}'}"
        for node in nodes
        if node.version != own
    ]
    if wrong:
        raise ClusterError(f"{address}: {_some(wrong)}; install blemish {own} on every machine, as it is here")
    lacking = [f"{node.host} has no {' and no '.join(node.missing)}" for node in nodes if node.missing]
    if lacking:
        raise ClusterError(f"{address}: {_some(lacking)}; there, {install('fit,ray')}")


@contextmanager
def _last_words(address: str) -> Iterator[None]:
    """If this process is killed within the context, another process that waits for this prints a message.

    Ray ends the process without a message when its part on this machine dies; so does the system when memory runs out.
    """
    if os.name == "nt":
        yield
        return
    words = f"{address}: this process was killed, or its cluster broke off; start again, with --resume if there were "
    waiting = subprocess.Popen(  # noqa: S603  # a constant program
        ["/bin/sh", "-c", 'read -r _ || echo "$0" >&2', f"blemish: {words}--checkpoints"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            waiting.communicate(b"\n")


def _broken(address: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"{address}: the cluster broke off ({_line(error)}); start again, with --resume if there were --checkpoints"
    )


def _full(address: str) -> ClusterError:
    return ClusterError(f"{address}: the disk of a machine is full, so nothing more can be kept there; make room on it")


def _start(ray: Any) -> None:
    """Starts a cluster on this machine, of this process alone."""
    import psutil

    store = max(SMALLEST, min(STORE, int(SHARE * psutil.virtual_memory().available)))
    try:
        with _loopback(), _no_dashboard(), hold():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=store,
                _system_config=FULL_DISK,
            )
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise ClusterError(f"local: no cluster can be started here ({_line(error)}); leave --ray out") from error


@contextmanager
def _loopback() -> Iterator[None]:
    """Lets a cluster that starts within it listen at 127.0.0.1 alone, as Ray does by itself on Windows and macOS.

    On Linux it would listen at every address of the machine.
    """
    constants: Any = import_module("ray._private.ray_constants")
    variable, before = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", constants.ENABLE_RAY_CLUSTER
    given = os.environ.get(variable)
    os.environ[variable], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(variable)
        if given is not None:
            os.environ[variable] = given


@contextmanager
def _no_dashboard() -> Iterator[None]:
    """Keeps a cluster that starts within it from starting the process that reports Ray's use.

    Ray starts it without a dashboard too. With reports switched off, it still asks the network which cloud this is.
    """
    services: Any = import_module("ray._private.services")
    before = services.start_api_server
    services.start_api_server = lambda *given, **named: (None, None)  # no address, and no process
    try:
        yield
    finally:
        services.start_api_server = before


def _join(ray: Any, address: str) -> None:
    """Joins a cluster, after another process has tried it."""
    advice = "start one with `ray start --head`, or give --ray local"
    if found := _HOST.fullmatch(address):
        try:
            socket.create_connection((found["host"].strip("[]"), int(found["port"])), REACHING).close()
        except OSError as error:
            raise ClusterError(
                f"{address}: nothing answers there ({error.strerror or error}); check the address, or {advice}"
            ) from None
    try:
        trial = subprocess.run(  # noqa: S603  # this very Python
            [sys.executable, "-c", _TRIAL, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOINING,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{address}: what answers there is no Ray cluster of this version; {advice}") from None
    if trial.returncode:
        reason = (trial.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ClusterError(f"{address}: cannot be joined ({reason[:300]}); {advice}")
    try:
        with hold():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise ClusterError(f"{address}: cannot be joined ({_line(error)}); {advice}") from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restores the signal handlers that Ray replaces, so that Ctrl-C and signals to end still clean up."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError):  # not in the main thread, where Ray sets none either
                signal.signal(number, handler)


def _some(told: Sequence[str]) -> str:
    return ", ".join(told[:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
