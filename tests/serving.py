"""A running service in a process of its own, as users start it, and what asks it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

PNG = {"Content-Type": "image/png"}

TOKEN = "a-token-of-a-test-0123456789"  # noqa: S105  # no secret


@dataclass
class Answered:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What a request that succeeded was answered."""
        assert self.status == 200, self.body[:500]
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line that says why; nothing else may be in an answer that is none."""
        told = json.loads(self.body)
        assert list(told) == ["error"], told
        assert "\n" not in told["error"]
        assert "Traceback" not in told["error"]
        return str(told["error"])


@dataclass
class Running:
    """A service that runs."""

    process: psutil.Popen
    port: int
    state: Path
    told: Path
    token: str | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answered:
        if self.token is not None:
            headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, content: Any = None, **headers: str) -> Answered:
        body = b"" if content is None else json.dumps(content).encode()
        return self.ask("POST", path, body, {"Content-Type": "application/json", **headers})

    def judge(self, image: bytes, query: str = "", name: str = "parts", **headers: str) -> Answered:
        return self.ask("POST", f"/v1/models/{name}/predict{query}", image, {**PNG, **headers})

    def worker(self) -> psutil.Process:
        """The process that computes."""
        return next(child for child in self.process.children() if "blemish.service.worker" in child.cmdline())

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def until(self, holds: Callable[[], Any], seconds: float = 20) -> Any:
        """Waits until something holds, and returns it."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < end, f"it never came true; the service said: {self.told.read_text()}"
            time.sleep(0.02)
        return found


@contextmanager
def running(folder: Path, *words: object) -> Iterator[Running]:
    """A service at a free port, with its state in a folder; it is ended by SIGTERM, with status 0."""
    told = folder / "told.txt"
    state = folder / "state"
    command = [sys.executable, "-m", "blemish", "serve", *map(str, words), "--port", "0", "--state", str(state)]
    with told.open("w") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, cwd=folder, env={**os.environ, "COLUMNS": "200"})
    try:
        end = time.monotonic() + 60
        while "serving at" not in told.read_text():
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < end, told.read_text()
            time.sleep(0.02)
        port = int(told.read_text().rpartition("serving at ")[2].split(":")[2].partition("/")[0])
        yield Running(process, port, state, told)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, told.read_text()
    finally:
        for child in [*process.children(recursive=True), process] if process.is_running() else []:
            child.kill()
        process.wait(10)
        assert "Traceback" not in told.read_text(), told.read_text()


def multipart(*images: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A body with files, and the headers that say so."""
    parts = []
    for name, image in images:
        head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + image + b"\r\n")
    return b"".join(parts) + b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}
