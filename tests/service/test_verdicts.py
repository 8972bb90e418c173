"""Verdicts over HTTP are those of the model; what cannot be judged is refused in one line."""

from __future__ import annotations

import base64
import io
import json
import math
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from serving import Running, multipart


@pytest.fixture(scope="module", autouse=True)
def stopped(service: Running) -> Iterator[socket.socket]:
    """A connection whose upload stopped in its middle, when the first test began."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as line:
        head = (
            f"POST /v1/models/parts/predict HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: image/png\r\n"
        )
        line.sendall(f"{head}Content-Length: 5000\r\n\r\n".encode() + bytes(100))
        service.until(lambda: service.metric("blemish_body_bytes") == 100)
        yield line


def test_an_answer_is_the_models_verdict(service: Running, small: Path, defect_image: bytes) -> None:
    (expected,) = blemish.load(str(small)).predict(defect_image)
    answer = service.judge(defect_image, **{"X-Name": "C:\\line\\b%C3%A4d.png"})
    assert answer.status == 200
    (found,) = answer.json["results"]
    assert answer.json["model"] == "parts"
    assert found["score"] == pytest.approx(expected.score, rel=1e-5)
    assert (found["p_value"], found["is_anomaly"], found["threshold"], found["false_alarm_rate"]) == (
        expected.p_value,
        expected.is_anomaly,
        expected.threshold,
        expected.false_alarm_rate,
    )
    assert [(box["top"], box["left"], box["bottom"], box["right"]) for box in found["boxes"]] == [
        (box.top, box.left, box.bottom, box.right) for box in expected.boxes
    ]
    assert (found["name"], found["height"], found["width"], found["error"]) == ("bäd.png", 96, 96, None)
    assert (found["map"], found["shadow"], found["is_known"]) == (None, None, False)
    assert found["latency"] > 0
    assert len(found["id"]) == 32


def test_many_at_once_get_the_verdicts_of_each(service: Running, small: Path, tree: Path) -> None:
    files = sorted(tree.rglob("test/*/*.png"))
    predicted = blemish.load(str(small)).predict(files)
    expected = {path: prediction.score for path, prediction in zip(files, predicted, strict=True)}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda path: service.judge(path.read_bytes()), files * 4))
    for path, answer in zip(files * 4, answers, strict=True):
        assert answer.json["results"][0]["score"] == pytest.approx(expected[path], rel=1e-4)


@pytest.mark.parametrize("map", ["png", "overlay"])
def test_a_map_is_a_picture_in_the_images_proportions(service: Running, defect_image: bytes, map: str) -> None:
    (found,) = service.judge(defect_image, f"?map={map}").json["results"]
    picture = Image.open(io.BytesIO(base64.b64decode(found["map"])))
    assert (picture.format, picture.size) == ("PNG", (64, 64))


def test_another_rate_moves_the_threshold_as_the_calibration_says(
    service: Running, small: Path, good_image: bytes
) -> None:
    (found,) = service.judge(good_image, "?false_alarm_rate=0.5").json["results"]
    model = blemish.load(str(small)).at(false_alarm_rate=0.5)
    (expected,) = model.predict(good_image)
    assert (found["threshold"], found["false_alarm_rate"]) == (model.threshold, 0.5)
    assert found["is_anomaly"] == expected.is_anomaly


@pytest.mark.parametrize("rate", ["0", "1", "nan", "-0.1", "x", "", "1e999", "0_1", "0.001"])
def test_a_rate_that_cannot_be_promised_is_refused(service: Running, good_image: bytes, rate: str) -> None:
    answer = service.judge(good_image, f"?false_alarm_rate={rate}")
    assert answer.status == 422
    assert "rate" in answer.error


def test_several_images_in_one_request_are_answered_in_order(
    service: Running, defect_image: bytes, good_image: bytes
) -> None:
    body, headers = multipart(("../../a.png", defect_image), ("b.png", b"no image"), ("c.png", good_image), ("..", b""))
    answer = service.ask("POST", "/v1/models/parts/predict", body, headers)
    assert answer.status == 200
    first, second, third, fourth = answer.json["results"]
    assert (first["name"], first["is_anomaly"], third["name"]) == ("a.png", True, "c.png")
    assert set(second) == {"id", "name", "error"}
    assert "not an image" in second["error"]
    assert (fourth["name"], "empty" in fourth["error"]) == (None, True)


def png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and is not."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def saved(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

BAD = {
    "empty": (b"", 422),
    "text": (b"hello", 415),
    "a picture of another format": (saved(NOISE, "GIF"), 415),
    "a page that begins as one": (b"GIF89a<script>alert(1)</script>", 415),
    "an archive": (b"PK\x03\x04" + bytes(100), 415),
    "a shell behind a mark": (b"\xff\xd8\xff\xe0" + b"#!/bin/sh\n" * 50, 422),
    "a bomb": (png(60_000, 60_000), 413),
    "too many pixels": (png(600, 600), 413),
    "cut short": (saved(NOISE, "PNG")[:4000], 422),
    "cut short within a JPEG": (saved(NOISE, "JPEG")[:1500], 422),
    "only a header": (png(64, 64), 422),
    "floating point": (saved(NOISE[..., 0].astype(np.float32), "TIFF"), 422),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_good_image_is_refused_with_the_reason(service: Running, kind: str) -> None:
    content, status = BAD[kind]
    answer = service.judge(content)
    assert (answer.status, "/" in answer.error.replace("and/or", "")) == (status, False)
    assert service.judge(saved(NOISE, "PNG")).status == 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_the_five_formats_are_judged_whatever_their_type_says(service: Running, kind: str) -> None:
    answer = service.judge(saved(NOISE, kind), **{"Content-Type": "application/octet-stream"})
    assert (answer.status, answer.json["results"][0]["height"]) == (200, 64)


def test_a_png_whose_rotation_comes_behind_its_pixels_is_measured_upright(service: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    plain = saved(NOISE[:40], "PNG")
    late = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    (found,) = service.judge(plain[:-12] + late + plain[-12:]).json["results"]
    assert (found["height"], found["width"]) == (64, 40)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x", "text/html", 415),
        (b"x", "application/x-www-form-urlencoded", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=" + "a" * 100, 400),
        (b"x", "multipart/form-data; boundary=a", 400),
        (b"--a\r\n", "multipart/form-data; boundary=a", 400),
        (b"--a\r\n\r\n--a--", "multipart/form-data; boundary=a", 400),
        (b"--a--", "multipart/form-data; boundary=a", 422),
        (b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--a--', "multipart/form-data; boundary=a", 422),
        (b"--a\r\n" + b"x" * 9000 + b"\r\n\r\n\r\n--a--", "multipart/form-data; boundary=a", 400),
    ],
)
def test_a_body_that_is_not_as_its_type_says_is_refused(service: Running, body: bytes, kind: str, status: int) -> None:
    answer = service.ask("POST", "/v1/models/parts/predict", body, {"Content-Type": kind})
    assert (answer.status, bool(answer.error)) == (status, True)


def test_too_many_parts_and_bytes_are_refused(service: Running, good_image: bytes) -> None:
    body, headers = multipart(*[("a.png", b"x")] * 65)
    assert service.ask("POST", "/v1/models/parts/predict", body, headers).status == 413
    assert service.judge(bytes((1 << 20) + 1)).status == 413
    assert service.judge(good_image).status == 200


def test_a_body_of_unknown_length_ends_at_the_limit(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as line:
        head = (
            f"POST /v1/models/parts/predict HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: image/png\r\n"
        )
        line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(18):
            line.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        line.sendall(b"0\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_headers_without_end_are_cut(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as line:
        with suppress(OSError):
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * (1 << 20))
        assert line.recv(4096).startswith(b"HTTP/1.1 431")
    assert service.get("/healthz", X="a" * 20_000).status == 200


def test_a_client_that_goes_leaves_nothing_behind(service: Running, defect_image: bytes) -> None:
    for _ in range(5):
        line = socket.create_connection(("127.0.0.1", service.port))
        head = (
            f"POST /v1/models/parts/predict HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: image/png\r\n"
        )
        line.sendall(f"{head}Content-Length: {len(defect_image)}\r\n\r\n".encode() + defect_image)
        line.close()
    service.until(lambda: not (service.metric("blemish_queue") + service.metric("blemish_in_flight")))
    assert service.judge(defect_image).status == 200


def test_an_unknown_model_and_another_method_are_refused(service: Running, good_image: bytes) -> None:
    assert service.judge(good_image, name="..").status == 404
    assert service.judge(good_image, name="%2e%2e").status == 404
    answer = service.get("/v1/models/parts/predict")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_an_empty_body_is_said_and_makes_no_row(service: Running) -> None:
    told = service.judge(b"")
    assert (told.status, told.error) == (422, "the body is empty; send an image")


def test_mutations_of_an_image_never_break_the_service(service: Running, defect_image: bytes) -> None:
    rng = np.random.default_rng(0)
    worker = service.worker().pid
    contents = []
    for start in (defect_image, saved(NOISE, "JPEG"), saved(NOISE, "TIFF"), saved(NOISE, "WEBP"), saved(NOISE, "BMP")):
        for _ in range(20):
            changed = np.frombuffer(start, np.uint8).copy()
            places = rng.integers(0, len(changed), rng.integers(1, 12))
            changed[places] = rng.integers(0, 256, len(places))
            contents.append(changed[: rng.integers(1, len(changed) + 1)].tobytes())
    with ThreadPoolExecutor(8) as pool:
        statuses = {answer.status for answer in pool.map(service.judge, contents)}
    assert statuses <= {200, 413, 415, 422}
    assert service.worker().pid == worker


def test_json_holds_no_number_that_is_none(service: Running, defect_image: bytes) -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    found = json.loads(service.judge(defect_image).body, parse_constant=refuse)
    assert all(math.isfinite(box["peak"]) for box in found["results"][0]["boxes"])


def test_without_a_token_nobody_lets_a_model_learn(service: Running) -> None:
    answer = service.post("/v1/models/parts/update")
    assert (answer.status, "--token-file" in answer.error) == (403, True)


def test_an_upload_that_stops_is_ended_and_nothing_is_kept_of_it(service: Running, stopped: socket.socket) -> None:
    assert stopped.recv(4096).startswith(b"HTTP/1.1 408")
    assert stopped.recv(4096) == b""
    service.until(lambda: service.metric("blemish_body_bytes") == 0)
