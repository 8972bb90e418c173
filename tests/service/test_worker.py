"""The worker may end at any moment; whoever is affected is told, and everybody else is answered."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from blemish.service.frames import packed, read_frame
from serving import PNG, Running, running


@pytest.fixture(scope="module")
def lively(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose worker is ended again and again."""
    with running(tmp_path_factory.mktemp("lively"), small, "--timeout", 20, "--queue", 40) as found:
        yield found


@contextmanager
def busy(service: Running, image: bytes, clients: int = 6) -> Iterator[list[int]]:
    """The statuses that clients get which ask without a pause over kept connections; 0 for none at all."""
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        with closing(HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
            while not ended.is_set():
                try:
                    connection.request("POST", "/v1/models/parts/predict", image, PNG)
                except OSError:
                    return  # the service took no more, and has not seen this request
                try:
                    with connection.getresponse() as response:
                        response.read()
                        statuses.append(response.status)
                        if response.headers["Connection"] == "close":
                            return
                except OSError:
                    statuses.append(0)
                    return

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            service.until(lambda: len(statuses) > 2 * clients)
            yield statuses
        finally:
            ended.set()
        for one in asking:
            one.result()


def test_a_killed_worker_costs_only_what_it_had(lively: Running, good_image: bytes) -> None:
    before = lively.worker()
    with busy(lively, good_image) as statuses:
        before.kill()
        killed = time.monotonic()
        lively.until(lambda: len([child for child in lively.process.children() if child.pid != before.pid]))
        count = len(statuses)
        lively.until(lambda: 200 in statuses[count + 12 :])
        assert time.monotonic() - killed < 60
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) <= 12
    assert lively.metric("blemish_worker_restarts_total") == 1
    assert lively.get("/readyz").status == 200


def test_more_than_may_wait_are_refused_at_once(lively: Running, good_image: bytes) -> None:
    os.kill(lively.worker().pid, signal.SIGSTOP)
    with ThreadPoolExecutor(60) as pool:
        asked: list[Future[int]] = [pool.submit(lambda: lively.judge(good_image).status) for _ in range(60)]
        try:
            lively.until(lambda: sum(one.done() for one in asked) == 20)
            assert lively.get("/readyz").status == 503
            assert lively.get("/healthz").status == 200
        finally:
            os.kill(lively.worker().pid, signal.SIGCONT)
        assert Counter(one.result() for one in asked) == {200: 40, 429: 20}


def test_at_the_end_all_that_was_accepted_is_answered(lively: Running, good_image: bytes) -> None:
    with busy(lively, good_image) as statuses:
        lively.process.send_signal(signal.SIGTERM)
        assert lively.process.wait(30) == 0
    assert set(statuses) == {200}


def test_a_frame_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    file.write_bytes(b"".join([*packed({"a": 1}, [b"x", b"", b"yz"]), *packed({"b": None}), b"\0\0\0\5"]))
    with file.open("rb") as stream:
        first, second = read_frame(stream), read_frame(stream)
        assert first is not None
        assert (first.header, first.parts) == ({"a": 1}, (b"x", b"", b"yz"))
        assert second is not None
        assert second.header == {"b": None}
        assert read_frame(stream) is None


def test_a_worker_does_not_outlive_its_service(small: Path, tmp_path: Path) -> None:
    with running(tmp_path, small) as service:
        worker = service.worker()
        service.process.kill()
        assert worker.wait(20) is None or not worker.is_running()
