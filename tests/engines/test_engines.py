from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from blemish.backbones import canonical_name
from blemish.backbones.backbone import Backbone
from blemish.backbones.levels import layers_of_strides
from blemish.backbones.pixels import PixelBackbone
from blemish.detectors import DETECTORS, Trained, make_detector
from blemish.detectors.scoring import Scoring
from blemish.engines import BATCH, choose_engine
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.openvino_runtime import openvino
from blemish.engines.stream import stream
from blemish.engines.torch_engine import _SINGLE_PRECISION, TorchEngine
from blemish.errors import ImageError, ModelError, SettingError, StorageError
from blemish.images import Geometry
from conftest import part, scratched

BACKBONES = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "vgg16",
    "tf_efficientnet_b5",
]
SIDE = 64


class Sums(nn.Module):
    """A module whose results tell which image they belong to."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return images.float().sum((1, 2, 3)), images.float().mean(3)


class Doubled(nn.Module):
    def forward(self, outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return 2 * outputs[0], outputs[1]


def batches(sizes: list[int]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for size in sizes:
        yield rng.integers(0, 255, (size, SIDE, SIDE, 3), dtype=np.uint8)


def both() -> list[OpenVINOEngine | TorchEngine]:
    return [OpenVINOEngine.from_module(Sums(), SIDE, SIDE), TorchEngine(Sums(), torch.device("cpu"))]


@pytest.mark.parametrize("sizes", [[8] * 9, [8, 8, 3], [1], [], [5, 8, 1]])
def test_results_come_in_the_order_of_the_batches_with_as_many_rows(sizes: list[int]) -> None:
    for engine in both():
        found = list(engine.run(batches(sizes)))
        assert [len(arrays[0]) for arrays in found] == sizes
        for images, arrays in zip(batches(sizes), found, strict=True):
            assert np.allclose(arrays[0], images.sum((1, 2, 3), dtype=np.float64), rtol=1e-6)
            assert arrays[1].shape == (len(images), SIDE, SIDE)


def test_a_module_put_after_an_engine_gets_its_outputs() -> None:
    for engine in both():
        longer = engine.then(Doubled())
        for first, second in zip(engine.run(batches([8, 2])), longer.run(batches([8, 2])), strict=True):
            assert np.array_equal(2 * first[0], second[0])
            assert np.array_equal(first[1], second[1])


class Further(nn.Module):
    """`Doubled`, and one more result."""

    def forward(self, outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return *Doubled()(outputs), 3 * outputs[1]


def test_further_results_are_in_the_same_graph_and_computed_by_the_explainer_alone(tmp_path: Path) -> None:
    for engine in both():
        whole = engine.then(Doubled(), ["score", "map"], Further(), ["layer0"])
        whole.save(tmp_path, (SIDE, SIDE))
        for found in (whole, OpenVINOEngine.from_folder(tmp_path)):
            assert list(found.names) == ["layer0"]
            (few,), (all_of_them,) = found.run(batches([3])), found.explainer.run(batches([3]))
            assert len(few) == 2
            np.testing.assert_allclose(all_of_them[2], 3 * few[1], rtol=1e-5)
            for one, other in zip(few, all_of_them, strict=False):
                np.testing.assert_array_equal(one, other)
    assert not engine.names
    assert len(next(iter(engine.explainer.run(batches([1]))))) == 2


def test_a_consumer_that_stops_early_leaves_nothing_running() -> None:
    for engine in both():
        results = engine.run(batches([8] * 20))
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert len(list(engine.run(batches([8, 8])))) == 2


def test_openvino_computes_in_single_precision_and_several_images_at_once() -> None:
    engine = OpenVINOEngine.from_module(Sums(), SIDE, SIDE)
    with engine.features.requests("THROUGHPUT") as requests:
        assert len(requests) >= 2
        precision = requests[0].get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
    assert precision.get_type_name() == "f32"


def test_runs_at_the_same_time_do_not_disturb_each_other() -> None:
    for engine in both():
        longer = engine.then(Doubled())
        runs = [longer.run(batches(sizes)) for sizes in ([4, 4, 4], [4, 4, 4])]
        for images, *found in zip(batches([4, 4, 4]), *runs, strict=True):
            for arrays in found:
                assert np.allclose(arrays[0], 2 * images.sum((1, 2, 3), dtype=np.float64), rtol=1e-6)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(list, [longer.run(batches([3] * 8)) for _ in range(8)]):
                for images, arrays in zip(batches([3] * 8), found, strict=True):
                    assert np.allclose(arrays[0], 2 * images.sum((1, 2, 3), dtype=np.float64), rtol=1e-6)


def test_a_graph_that_eight_threads_ask_for_at_first_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, compiled, start = OpenVINOEngine.from_module(Sums(), SIDE, SIDE), [], threading.Barrier(8)
    core = openvino.Core

    class Counting:
        def compile_model(self, *arguments: object) -> object:
            compiled.append(arguments[1])
            return core().compile_model(*arguments)

    def run(_: int) -> list[tuple[np.ndarray, ...]]:
        start.wait()
        return list(engine.run(batches([5, 5])))

    monkeypatch.setattr(openvino, "Core", Counting)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(run, range(8)):
            for images, arrays in zip(batches([5, 5]), found, strict=True):
                assert np.allclose(arrays[0], images.sum((1, 2, 3), dtype=np.float64), rtol=1e-6)
    assert compiled == ["CPU"]


def test_after_an_error_its_requests_serve_others() -> None:
    graph = OpenVINOEngine.from_module(Sums(), SIDE, SIDE).features
    with graph.requests("LATENCY") as before:
        pass
    with pytest.raises(ZeroDivisionError), graph.requests("LATENCY"):
        raise ZeroDivisionError
    with graph.requests("LATENCY") as after:
        assert after is before


def test_after_a_failure_every_image_that_is_being_computed_is_waited_for() -> None:
    class Request:
        def __init__(self, fails: bool) -> None:
            self.fails, self.waits = fails, 0

        def set_input_tensor(self, tensor: object) -> None: ...

        def set_output_tensor(self, index: int, tensor: object) -> None: ...

        def start_async(self) -> None: ...

        def wait(self) -> None:
            self.waits += 1
            if self.fails:
                raise RuntimeError("Exception from a device")

    engine = OpenVINOEngine.from_module(Sums(), SIDE, SIDE)
    list(engine.run(batches([2])))
    requests = [Request(fails=number == 1) for number in range(3)]
    engine.features._free["THROUGHPUT", None] = [requests]
    with pytest.raises(ModelError, match="OpenVINO cannot run this graph"):
        list(engine.run(batches([3])))
    assert all(request.waits for request in requests)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_engine_gives_the_same_scores_and_maps_for_every_closed_form_detector(name: str) -> None:
    torch.manual_seed(0)
    weights = timm.create_model(canonical_name(name), pretrained=False).state_dict()
    rng = np.random.default_rng(0)
    normal = np.stack([part(rng, SIDE) for _ in range(12)])
    images = np.stack([*normal[:4], *[scratched(rng, SIDE)[0] for _ in range(4)]])
    closed_form = {detector: kind for detector, kind in DETECTORS.items() if not issubclass(kind, Trained)}
    layers = sorted({layer for kind in closed_form.values() for layer in layers_of_strides(name, kind.strides)})
    backbone = Backbone(name, layers, weights)
    with torch.inference_mode():
        features = backbone(torch.from_numpy(normal))
    chosen, scorings = [], []
    for detector_name, kind in closed_form.items():
        chosen.append([layers.index(layer) for layer in layers_of_strides(name, kind.strides)])
        detector = make_detector(detector_name).update([features[index].clone() for index in chosen[-1]])
        scorings.append(Scoring(detector, (SIDE, SIDE)))
    every = _Every(chosen, scorings)
    reference = next(TorchEngine(backbone, torch.device("cpu")).then(every).run([images]))
    other = next(OpenVINOEngine.from_module(backbone, SIDE, SIDE).then(every).run([images]))
    for place, detector_name in enumerate(closed_form):
        (scores, maps), (other_scores, other_maps) = (found[2 * place : 2 * place + 2] for found in (reference, other))
        assert np.abs(other_scores - scores).max() <= 1e-3 * np.abs(scores).max(), detector_name
        assert np.abs(other_maps - maps).max() <= 1e-3 * np.abs(maps).max(), detector_name
        assert scores.std() > 0, detector_name


class _Every(nn.Module):
    """Scores and maps of several detectors, each of its own choice of the backbone's layers; all are handed on."""

    def __init__(self, chosen: list[list[int]], scorings: list[Scoring]) -> None:
        super().__init__()
        self.chosen, self.scorings = chosen, nn.ModuleList(scorings)

    def forward(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pairs = zip(self.chosen, self.scorings, strict=True)
        results = [scoring(tuple(features[index] for index in indices)) for indices, scoring in pairs]
        return (*(array for result in results for array in result), *features)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_images_score_does_not_depend_on_the_images_beside_it(name: str) -> None:
    weights = timm.create_model("resnet18").state_dict()
    backbone = PixelBackbone() if DETECTORS[name].sees_pixels else Backbone("resnet18", [1, 2], weights)
    rng = np.random.default_rng(0)
    images = np.stack([part(rng, SIDE) for _ in range(BATCH)])
    detector = make_detector(name).update(list(backbone(torch.from_numpy(images))))
    if isinstance(detector, Trained):
        detector.objective()  # random weights will do
    engine = OpenVINOEngine.from_module(backbone, SIDE, SIDE).then(Scoring(detector, (SIDE, SIDE)))
    images[::2] = [scratched(rng, SIDE)[0] for _ in range(BATCH // 2)]
    scores, maps = next(engine.run([images]))
    for size in (1, 3, BATCH - 1):
        some, some_maps = next(engine.run([images[:size]]))
        assert np.allclose(some, scores[:size], rtol=1e-5, atol=0)
        assert np.allclose(some_maps, maps[:size], rtol=1e-5, atol=1e-5 * np.abs(maps).max())


def test_an_images_features_do_not_depend_on_the_images_beside_it_to_the_last_bit() -> None:
    weights = timm.create_model("resnet18").state_dict()
    engine = OpenVINOEngine.from_module(Backbone("resnet18", [2], weights), SIDE, SIDE)
    images = next(batches([BATCH]))
    together = next(engine.run([images]))[0]
    for index in range(BATCH):
        alone = next(engine.run([images[index : index + 1]]))[0]
        assert np.array_equal(alone[0], together[index])


def test_a_stream_gives_every_source_once_as_a_row_or_as_an_error(tmp_path: object) -> None:
    rng = np.random.default_rng(0)
    sources: list[np.ndarray] = [part(rng, SIDE) for _ in range(30)]
    broken = {0, 7, 8, 9, 29}
    for index in broken:
        sources[index] = np.zeros((2, 2, 2), np.float32)
    rows: dict[int, float] = {}
    errors: dict[int, ImageError] = {}
    for chunk in stream(TorchEngine(Sums(), torch.device("cpu")), sources, Geometry(SIDE, SIDE)):  # type: ignore[arg-type]
        rows |= {index: float(chunk.arrays[0][row]) for row, index in enumerate(chunk.indices)}
        errors |= chunk.errors
    assert set(errors) == broken
    assert set(rows) == set(range(30)) - broken
    assert all(rows[index] == sources[index].sum() for index in rows)


def test_no_space_for_temporary_files_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Can't open bin file.")

    monkeypatch.setattr(openvino, "save_model", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StorageError, match="no space for the graph; make some, or set TMPDIR"):
        OpenVINOEngine.from_module(Sums(), SIDE, SIDE)
    assert list(tmp_path.iterdir()) == []


def test_cuda_computes_in_single_precision_until_the_last_thread_has_left() -> None:
    def settings() -> tuple[str, str]:
        return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision

    before = settings()
    with _SINGLE_PRECISION, ThreadPoolExecutor(1) as other:
        assert settings() == ("ieee", "ieee")
        with _SINGLE_PRECISION:
            assert other.submit(settings).result() == ("ieee", "ieee")
        assert settings() == ("ieee", "ieee")
    assert settings() == before != ("ieee", "ieee")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_gives_the_scores_of_the_processor() -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.module(images.permute(0, 3, 1, 2) / 255),)

    (expected,), (found,) = (
        next(iter(TorchEngine(Maps(), torch.device(device)).run(batches([4])))) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.ptp(expected))


def test_engines_are_chosen_by_name_and_others_refused() -> None:
    assert choose_engine("openvino") == ("openvino", "CPU")
    assert choose_engine("torch").engine == "torch"
    assert choose_engine("auto").engine == ("torch" if torch.cuda.is_available() else "openvino")
    with pytest.raises(SettingError, match="auto, openvino, torch"):
        choose_engine("tensorrt")


def test_an_error_while_the_second_graph_is_compiled_beside_the_first_is_told_once_when_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = OpenVINOEngine.from_module(Sums(), SIDE, SIDE).then(Doubled())
    assert engine.scoring is not None
    ran: list[str] = []

    def refuse(hint: str, count: int | None) -> None:
        ran.append(threading.current_thread().name)
        raise RuntimeError("cannot be compiled")

    monkeypatch.setattr(engine.scoring, "_compile", refuse)
    with pytest.raises(ModelError, match="OpenVINO cannot run this graph"):
        list(engine.run(batches([1])))
    assert sorted(ran) == ["MainThread", "compile"]


def test_a_graph_that_may_run_in_one_thread_is_not_compiled_beside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OpenVINOEngine.from_module(Sums(), SIDE, SIDE).then(Doubled()).save(tmp_path, (SIDE, SIDE))
    engine = OpenVINOEngine.from_folder(tmp_path, threads=1)
    before = threading.Thread.start
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), before(thread))[1])
    list(engine.run(batches([1])))
    assert "compile" not in started
