"""Devices: which engine a name is of, what is told of one that is not here, and that graphs go where they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import blemish
from blemish.engines import RunsOn, check_device, choose_engine, devices
from blemish.engines.openvino_graph import Graph
from blemish.errors import SettingError
from command import inside


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs of CUDA, and two of Intel's and an NPU, as far as the libraries say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_openvino_devices", lambda: ["CPU", "GPU.0", "GPU.1", "NPU"])


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("device", "runs"),
    [
        ("cpu", ("openvino", "CPU")),
        ("cuda", ("torch", "cuda")),
        ("cuda:1", ("torch", "cuda:1")),
        ("gpu", ("openvino", "GPU")),
        ("gpu:1", ("openvino", "GPU.1")),
        ("gpu.0", ("openvino", "GPU.0")),
        ("npu", ("openvino", "NPU")),
    ],
)
def test_a_device_says_which_engine_runs(device: str, runs: tuple[str, str]) -> None:
    assert choose_engine("auto", device) == RunsOn(*runs)
    check_device(device)


def test_the_processor_runs_either_engine() -> None:
    assert choose_engine("torch", "cpu") == ("torch", "cpu")
    assert choose_engine("openvino", "cpu") == ("openvino", "CPU")
    assert choose_engine("auto", "cpu", gradients=True) == ("torch", "cpu")


@pytest.mark.usefixtures("machine")
def test_a_device_that_is_not_here_is_told_with_those_that_are() -> None:
    told = "device cuda:2 is not here; give auto, or one of those that are: cpu, cuda:0, cuda:1, gpu:0, gpu:1, npu"
    for device in ("cuda:2", "gpu:7", "mps"):
        with pytest.raises(SettingError, match=told.replace("cuda:2", device, 1)):
            choose_engine("auto", device)


@pytest.mark.parametrize("name", ["", "CUDA", "cuda:", "cuda:-1", "cuda:9999", "tpu", "cpu:0", "gpu 1", "npu\n"])
def test_a_device_of_no_such_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no device is called"):
        choose_engine("auto", name)


@pytest.mark.parametrize(("engine", "device"), [("openvino", "cuda"), ("openvino", "mps"), ("torch", "gpu:0")])
def test_an_engine_and_anothers_device_contradict_each_other(engine: str, device: str) -> None:
    with pytest.raises(SettingError, match=f"not {engine}; leave out --engine {engine}"):
        choose_engine(engine, device)


def test_openvino_takes_no_gradients_on_its_devices() -> None:
    with pytest.raises(SettingError, match="gradients"):
        choose_engine("auto", "npu", gradients=True)


def test_a_graph_is_compiled_for_its_device_and_a_refusal_is_told(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Core:
        def compile_model(self, _: object, device: str, options: dict[str, Any]) -> None:
            asked.append((device, options))
            raise RuntimeError("Exception from src/core.cpp:1:\nshape is dynamic\n")

    monkeypatch.setattr("blemish.engines.openvino_graph.openvino.Core", Core)
    for device in ("GPU.1", "NPU"):
        graph = Graph(saved / "scoring.xml", device=device)
        told = (
            rf"cannot run scoring on device {device.lower().replace('.', ':')} \(shape is dynamic\); give --device cpu"
        )
        with pytest.raises(SettingError, match=told), graph.requests("LATENCY"):
            pass
    assert [device for device, _ in asked] == ["GPU.1", "NPU"]
    assert asked[0][1]["INFERENCE_PRECISION_HINT"] == "f32"
    assert "INFERENCE_PRECISION_HINT" not in asked[1][1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it is")
@pytest.mark.parametrize(
    "words",
    [
        ("fit", "/none", "-o", "/none/m"),
        ("predict", "/none", "/none"),
        ("watch", "/none", "/none"),
        ("serve", "/none"),
        ("explain", "/none", "/none"),
        ("evaluate", "/none", "/none"),
        ("compare", "/none"),
        ("update", "/none", "/none"),
    ],
    ids=lambda words: words[0],
)
def test_the_command_says_so_before_any_work(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, *words, "--device", "cuda:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: device cuda:1 is not here; give auto, or one of those that are: cpu")
    assert done.stderr.count("\n") == 1


def test_python_takes_a_device_too(saved: Path, tree: Path) -> None:
    on_torch = blemish.load(str(saved), engine="torch", device="cpu")
    assert str(on_torch.engine.device) == "cpu"  # type: ignore[attr-defined]
    assert blemish.load(str(saved), device="cpu").engine.name == "openvino"
    with pytest.raises(SettingError, match="no device is called 'tpu'"):
        blemish.fit(tree, device="tpu")
    with pytest.raises(SettingError, match="no device is called 'tpu'"):
        blemish.load(str(saved), device="tpu")
