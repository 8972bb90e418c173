"""The clients of docs/clients.md against a service that runs with the base and `serve` alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import slim
from conftest import ROOT, write_parts

pytestmark = pytest.mark.skipif(find_spec("blemish.cli.serve") is None, reason="this checkout has no blemish serve")

PAGE = (ROOT / "docs" / "clients.md").read_text()
WAIT = 60
"""Seconds until the service answers, at most; it is there in two where the machine is idle."""

BAD = "0 bad.png"
"""A file that is no image, before the others."""


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def service(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service, without the slash at its end."""
    folder = tmp_path_factory.mktemp("service")
    words = ["serve", f"cells={saved}", "--port", "0", "--state", folder / "state"]
    with (folder / "told").open("w") as told:
        running = subprocess.Popen(
            [sys.executable, "-m", "blemish", *map(str, words)],
            env=slim.environment(folder / "slim", "serve"), stdout=told, stderr=told,
        )  # fmt: skip
        try:
            yield address_of(running, folder / "told")
        finally:
            running.terminate()
            running.wait(WAIT)
    assert running.returncode == 0
    assert "Traceback" not in (folder / "told").read_text()


def address_of(running: subprocess.Popen[bytes], told: Path) -> str:
    """The address that a service tells, once it is ready."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end and running.poll() is None:
        found = re.search(r"serving at (http://\S+?)/;", told.read_text())
        with suppress(OSError):
            if found and ready(found[1]):
                return found[1]
        time.sleep(0.05)
    raise AssertionError(told.read_text())


def ready(address: str) -> bool:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def paths_of(folder: Path) -> list[Path]:
    """The images, without the file that is none."""
    return sorted(path for path in (folder / "images").iterdir() if path.name != BAD)


@pytest.fixture(scope="module")
def images(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder `images`: a file that is no image, two good parts, and one with a scratch."""
    folder = tmp_path_factory.mktemp("line")
    write_parts(folder / "images", 2, seed=40)
    shutil.copy(tree / "test" / "scratch" / "000.png", folder / "images" / "002.png")
    (folder / "images" / BAD).write_text("no image")
    return folder


@pytest.fixture(scope="module")
def expected(saved: Path, images: Path) -> list[tuple[bool, float]]:
    """Verdict and score of each image, by the library."""
    import blemish

    found = [(bool(p.is_anomaly), p.score) for p in blemish.load(str(saved)).predict(paths_of(images))]
    assert [verdict for verdict, _ in found] == [False, False, True]
    return found


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=WAIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(address: str, code: str) -> str:
    """An example, for the service at this address."""
    assert ":8420" in code or ", 8420" in code
    port = urlsplit(address).port
    return code.replace("127.0.0.1:8420", f"127.0.0.1:{port}").replace('"127.0.0.1", 8420', f'"127.0.0.1", {port}')


def test_curl_gets_the_verdict_of_one_image_and_of_several(
    service: str, images: Path, expected: list[tuple[bool, float]]
) -> None:
    (code,) = examples("sh")
    script = at(service, code).replace("\ncurl", "\necho; curl")
    one, several = map(json.loads, run(["bash", "-ec", script], images).splitlines())
    assert (one["results"][0]["score"], one["results"][0]["name"]) == (expected[0][1], "000.png")
    assert one["results"][0]["false_alarm_rate"] == 0.1
    assert [(found["is_anomaly"], found["score"]) for found in several["results"]] == expected[:2]


def test_python_without_packages_gets_the_verdict_of_each_image(
    service: str, images: Path, expected: list[tuple[bool, float]]
) -> None:
    lines = run([sys.executable, "-c", at(service, examples("py")[0])], images).splitlines()
    assert lines[0].startswith(f"{BAD} has no verdict: ")
    found = [line.split()[:3] for line in lines[1:]]
    assert found == [
        [f"{index:03d}.png", "anomalous" if verdict else "good", repr(score)]
        for index, (verdict, score) in enumerate(expected)
    ]


def test_python_without_packages_says_of_each_image_why_there_is_no_verdict(service: str, images: Path) -> None:
    code = at(service, examples("py")[0]).replace('model: str = "cells"', 'model: str = "other"')
    lines = run([sys.executable, "-c", code], images).splitlines()
    assert len(lines) == 4
    assert all(" has no verdict: " in line and "'other'" in line for line in lines)


def test_httpx_gets_the_verdicts_of_several_images_in_one_request(
    service: str, images: Path, expected: list[tuple[bool, float]]
) -> None:
    lines = run([sys.executable, "-c", at(service, examples("py")[1])], images).splitlines()
    assert lines[0].startswith(f"{BAD} has no verdict: ")
    assert [line.split()[:2] for line in lines[1:]] == [
        [f"{index:03d}.png", "anomalous" if verdict else "good"] for index, (verdict, _) in enumerate(expected)
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed; apt-get install nodejs")
def test_javascript_gets_the_verdict_of_each_image(
    service: str, images: Path, expected: list[tuple[bool, float]]
) -> None:
    (code,) = examples("js")
    (images / "client.mjs").write_text(at(service, code))
    lines = run([str(shutil.which("node")), "client.mjs"], images).splitlines()
    assert lines[0].startswith(f"{BAD} has no verdict: ")
    assert [(line.split()[1] == "anomalous", float(line.split()[2])) for line in lines[1:]] == expected


class Camera(BaseHTTPRequestHandler):
    """Gives a picture, or breaks off."""

    picture: bytes | None = None

    def do_GET(self) -> None:
        if self.picture is None:
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.picture)

    def log_message(self, *_: object) -> None:
        pass


class Broker:
    """Stands in for paho's client: keeps what is published, and triggers."""

    def __init__(self, *_: object) -> None:
        self.published: list[tuple[str, dict[str, object]]] = []
        self.on_message = self.on_connect = None

    def publish(self, topic: str, payload: str, qos: int) -> None:
        assert qos == 1
        self.published.append((topic, json.loads(payload)))

    def connect(self, host: str) -> None:
        assert host == "127.0.0.1"

    def loop_forever(self) -> None:
        pass


def test_the_gateway_ejects_whatever_is_not_found_good(
    service: str, images: Path, expected: list[tuple[bool, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paho = types.ModuleType("paho.mqtt.client")
    paho.Client, paho.CallbackAPIVersion = Broker, types.SimpleNamespace(VERSION2=2)  # type: ignore[attr-defined]
    for name in ("paho", "paho.mqtt"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", paho)
    with HTTPServer(("127.0.0.1", 0), Camera) as camera:
        threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        code = at(service, examples("py")[2]).replace("192.0.2.10", f"127.0.0.1:{camera.server_port}")
        names: dict[str, object] = {}
        exec(compile(code, "gateway", "exec"), names)
        broker, judge = names["client"], names["judge"]
        assert isinstance(broker, Broker)
        assert callable(judge)
        pictures = [*(path.read_bytes() for path in paths_of(images)), b"no image", None]
        for number, picture in enumerate(pictures):
            Camera.picture = picture
            judge(broker, None, types.SimpleNamespace(payload=str(number).encode()))
        camera.shutdown()
    assert [topic for topic, _ in broker.published] == ["line/3/verdict"] * 5
    told = [words for _, words in broker.published]
    assert [words["part"] for words in told] == [*"01234"]
    assert [words["eject"] for words in told] == [*(verdict for verdict, _ in expected), True, True]
    assert ["error" in words for words in told] == [False, False, False, True, True]
