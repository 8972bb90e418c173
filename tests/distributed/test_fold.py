"""The fold over a cluster gives what one process gives."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import blemish
from blemish.detectors import make_detector
from blemish.detectors.scoring import Scoring
from blemish.distributed import fold as room
from blemish.distributed.cluster import Cluster, load_ray
from blemish.distributed.fold import Fold, Images
from blemish.distributed.summary import empty_detector, unpack
from blemish.distributed.work import Job, Shard
from blemish.engines.extractor import Extractor
from blemish.engines.stream import stream
from blemish.errors import BadImagesError, DegenerateError, SettingError, StorageError
from blemish.model import Recipe
from command import as_in_a_terminal
from conftest import write_parts

COUNT = 34
HELD_OUT = {"calibration": "hold-out", "size": 64, "engine": "openvino"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("fold") / "parts", COUNT, size=72)


@pytest.fixture(scope="module")
def paths(parts: Path) -> list[Path]:
    return sorted(parts.iterdir())


@pytest.fixture(scope="module")
def one(parts: Path) -> blemish.Model:
    """A model of one process that held images out."""
    return blemish.fit(parts, detector="gaussian", **HELD_OUT)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARD", 3)
    monkeypatch.setattr(room, "LARGEST", 3)


def recipe_of(model: blemish.Model, detector: str) -> Recipe:
    return replace(model.recipe, detector=detector, settings=make_detector(detector).settings())


def fold_of(model: blemish.Model, recipe: Recipe, shard: int, **options) -> Fold:
    extractor = Extractor(
        model.extractor, recipe.layers, recipe.shapes, model.learned.weights, "", recipe.normalisation
    )
    return Fold(Cluster("local"), recipe, extractor, shard=shard, **options)


def learned_of(recipe: Recipe, learned):
    return unpack(recipe, Cluster("local").get(learned))


def assert_same(one, other) -> None:
    """Two references stand for arrays that are equal to the bit."""
    np.testing.assert_equal(*(dict(Cluster("local").get(learned)) for learned in (one, other)))


def scores_of(detector, model: blemish.Model, paths: list[Path]) -> np.ndarray:
    scoring = Scoring(detector, model.recipe.geometry.shape)
    chunks = stream(model.extractor, paths, model.recipe.geometry)
    return np.concatenate([scoring.arrays([torch.from_numpy(a) for a in chunk.arrays])[0] for chunk in chunks])


def in_one_process(model: blemish.Model, recipe: Recipe, paths: list[Path]):
    detector = empty_detector(recipe)
    for chunk in stream(model.extractor, paths, recipe.geometry):
        detector.update([torch.from_numpy(array) for array in chunk.arrays])
    return detector


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# Padim's scatter is in single precision, and so are fre's products of long vectors.
TOLERANCES = {"gaussian": 1e-5, "padim": 1e-5, "fre": 1e-4, "spade": 0}


@pytest.mark.parametrize("name", TOLERANCES)
@pytest.mark.parametrize("shards", [1, 2, 5, 17])
def test_any_number_of_shards_gives_the_scores_of_one_process(
    cluster: None, one: blemish.Model, paths: list[Path], name: str, shards: int
) -> None:
    recipe = recipe_of(one, name)
    report, learned = fold_of(one, recipe, math.ceil(COUNT / shards)).learn(Images("fit", paths, names(paths)))
    found, expected = (
        scores_of(detector, one, paths[:8])
        for detector in (learned_of(recipe, learned), in_one_process(one, recipe, paths))
    )
    assert list(report.digests) == list(range(COUNT))
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES[name])


@pytest.mark.parametrize("name", ["gaussian", "padim"])
def test_the_order_of_the_images_changes_nothing(
    cluster: None, one: blemish.Model, paths: list[Path], name: str
) -> None:
    recipe = recipe_of(one, name)
    order = [paths[index] for index in np.random.default_rng(1).permutation(COUNT)]
    _, learned = fold_of(one, recipe, 5).learn(Images("fit", order, names(order)))
    found, expected = (
        scores_of(detector, one, paths[:8])
        for detector in (learned_of(recipe, learned), in_one_process(one, recipe, paths))
    )
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES[name])


def test_a_fit_that_holds_images_out_gives_the_model_of_one_process(
    cluster: None, small_shards: None, one: blemish.Model, parts: Path
) -> None:
    stages = []
    other = blemish.fit(parts, detector="gaussian", ray="local", progress=lambda *told: stages.append(told), **HELD_OUT)
    for name in ("scores", "medians", "maxima"):
        np.testing.assert_allclose(getattr(other.calibration, name), getattr(one.calibration, name), rtol=1e-5)
    assert other.calibration.threshold == pytest.approx(one.calibration.threshold, rel=1e-5)
    assert other.calibration.names == one.calibration.names
    for name in (
        "images",
        "held_out",
        "images_digest",
        "repeated",
        "skipped",
        "layout",
        "source",
        "learned",
        "weights",
    ):
        assert getattr(other.provenance, name) == getattr(one.provenance, name), name
    assert [p.score for p in other.predict(parts)] == pytest.approx([p.score for p in one.predict(parts)], rel=1e-5)
    assert [stage for stage, done, total in stages if done == total] == ["fit", "calibrate"]


def test_a_cross_fit_gives_exactly_the_model_of_one_process(cluster: None, parts: Path) -> None:
    here, there = (blemish.fit(parts, size=64, engine="openvino", **way) for way in ({}, {"ray": "local"}))
    assert here.provenance.held_out == there.provenance.held_out == 0
    assert there.calibration.threshold == here.calibration.threshold
    assert there.calibration.scores.tolist() == here.calibration.scores.tolist()
    theirs = there.learned.detector.tensors()
    for name, tensor in here.learned.detector.tensors().items():
        assert torch.equal(tensor, theirs[name]), name


def test_tiles_are_learned_photograph_by_photograph(cluster: None, small_shards: None, photographs: Path) -> None:
    told = {"detector": "gaussian", "tile": 96, "size": 64, "layers": [1, 2], "calibration": "hold-out"}
    here, there = (blemish.fit(photographs, **told, **way) for way in ({}, {"ray": "local"}))
    np.testing.assert_allclose(there.calibration.scores, here.calibration.scores, rtol=1e-4)
    assert there.inside.names() == here.inside.names()


def test_torch_runs_on_the_workers_too(cluster: None, one: blemish.Model, parts: Path) -> None:
    told = {**HELD_OUT, "engine": "torch"}
    there = blemish.fit(parts, detector="gaussian", ray="local", **told)
    assert there.calibration.threshold == pytest.approx(one.calibration.threshold, rel=1e-3)


def test_the_same_picture_counts_once(
    cluster: None, small_shards: None, one: blemish.Model, parts: Path, tmp_path: Path
) -> None:
    twice = tmp_path / "parts"
    twice.mkdir()
    for path in parts.iterdir():
        (twice / path.name).write_bytes(path.read_bytes())
    for index in range(6):
        (twice / f"again{index}.png").write_bytes((parts / "000.png").read_bytes())
    found = sorted(twice.iterdir())
    report, learned = fold_of(one, one.recipe, 3).learn(Images("fit", found, names(found)))
    assert len(report.digests) == len(set(report.digests.values())) == COUNT
    expected = in_one_process(one, one.recipe, sorted(parts.iterdir()))
    np.testing.assert_allclose(
        scores_of(learned_of(one.recipe, learned), one, found[:8]), scores_of(expected, one, found[:8]), rtol=1e-5
    )
    assert blemish.fit(twice, detector="gaussian", ray="local", **HELD_OUT).provenance.images == COUNT


def test_the_first_of_the_same_pictures_counts_whichever_shard_is_quicker(
    cluster: None, one: blemish.Model, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_shard = room.learn_shard

    def slow_at_first(job: Job, shard: Shard, known: frozenset[str]):
        if shard.number == 0 and not known:
            time.sleep(2)
        return learn_shard(job, shard, known)

    recipe = recipe_of(one, "spade")
    same = [*paths[:7], paths[0], paths[3]]
    quick = fold_of(one, recipe, 3).learn(Images("fit", same, names(same)))
    monkeypatch.setattr(room, "learn_shard", slow_at_first)
    report, learned = fold_of(one, recipe, 3).learn(Images("fit", same, names(same)))
    assert list(report.digests) == list(quick[0].digests) == list(range(7))
    assert_same(learned, quick[1])


def test_images_to_calibrate_that_are_all_among_those_to_fit_are_refused(
    cluster: None, one: blemish.Model, parts: Path, paths: list[Path], tmp_path: Path
) -> None:
    from blemish.datasets import read_source
    from blemish.fitting.on_cluster import learn_and_hold_out
    from blemish.fitting.passes import Passes
    from blemish.fitting.split import Division

    dataset = read_source(parts, 0)
    images = Division(dataset, dataset.train[:10], dataset.train[:5], None, None, None, None)
    passes = Passes(one.extractor, one.recipe.geometry, False, None)
    with pytest.raises(DegenerateError, match="5 images are the same as others"):
        learn_and_hold_out(empty_detector(one.recipe), passes, images, fold_of(one, one.recipe, 4))


def with_bad(parts: Path, folder: Path, count: int) -> Path:
    """The parts, and first of all some files that are no images."""
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:03d}-bad.png").write_bytes(b"no image")
    for path in parts.iterdir():
        (folder / f"x{path.name}").write_bytes(path.read_bytes())
    return folder


def test_bad_images_stop_a_fit_and_ten_are_named(
    cluster: None, small_shards: None, parts: Path, tmp_path: Path
) -> None:
    folder = with_bad(parts, tmp_path / "bad", 12)
    with pytest.raises(BadImagesError, match="over 10 images cannot be used: .*--skip-bad") as told:
        blemish.fit(folder, detector="gaussian", ray="local", **HELD_OUT)
    assert str(told.value).count("-bad.png") == 10


def test_a_few_bad_images_are_all_named(cluster: None, small_shards: None, parts: Path, tmp_path: Path) -> None:
    folder = with_bad(parts, tmp_path / "bad", 2)
    with pytest.raises(BadImagesError, match="2 images cannot be used: ") as told:
        blemish.fit(folder, detector="gaussian", ray="local", **HELD_OUT)
    assert {f"{index:03d}-bad.png" in str(told.value) for index in range(2)} == {True}


def test_a_whole_shard_of_bad_images_can_be_left_out(
    cluster: None, one: blemish.Model, parts: Path, tmp_path: Path
) -> None:
    found = sorted(with_bad(parts, tmp_path / "bad", 5).iterdir())
    report, learned = fold_of(one, one.recipe, 5, skip_bad=True).learn(Images("fit", found, names(found)))
    assert sorted(report.bad) == list(range(5))
    expected = in_one_process(one, one.recipe, sorted(parts.iterdir()))
    np.testing.assert_allclose(
        scores_of(learned_of(one.recipe, learned), one, found[5:9]), scores_of(expected, one, found[5:9]), rtol=1e-5
    )


def test_pictures_that_are_all_the_same_are_refused(
    cluster: None, small_shards: None, parts: Path, tmp_path: Path
) -> None:
    for index in range(30):
        (tmp_path / f"{index:02d}.png").write_bytes((parts / "000.png").read_bytes())
    with pytest.raises(DegenerateError, match="all 15 images to fit are the same picture"):
        blemish.fit(tmp_path, detector="gaussian", ray="local", **HELD_OUT)


def test_a_trained_detector_is_refused_and_the_other_way_named(parts: Path) -> None:
    with pytest.raises(SettingError, match="cannot train hfr; give --processes"):
        blemish.fit(parts, detector="hfr", ray="local")


def test_a_cross_fit_of_many_images_is_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["blemish.fitting.fit"], "LIMIT", 20)
    with pytest.raises(SettingError, match="hold-out"):
        blemish.fit(parts, detector="gaussian", size=64, calibration="cross", ray="local")


def test_a_wrong_address_is_refused_before_the_work(parts: Path) -> None:
    with pytest.raises(SettingError, match="no address"):
        blemish.fit(parts, ray="somewhere")


def test_a_killed_worker_changes_nothing(cluster: None, one: blemish.Model, paths: list[Path]) -> None:
    killed: list[int] = []

    def kill(count: int) -> None:
        if len(killed) < 2:
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::learn_shard"):
                    process.kill()
                    killed.append(process.pid)
                    return

    recipe = recipe_of(one, "padim")
    images = Images("fit", paths, names(paths))
    _, learned = fold_of(one, recipe, 2).learn(images, watch=kill)
    assert killed
    assert_same(learned, fold_of(one, recipe, 2).learn(images)[1])


def test_a_full_store_is_no_harm(cluster: None, one: blemish.Model, paths: list[Path]) -> None:
    recipe = recipe_of(one, "padim")
    images = Images("fit", paths, names(paths))
    ballast = [load_ray().put(np.ones(13 << 20, np.float32)) for _ in range(2)]  # 104 MiB, and the store has 80
    _, learned = fold_of(one, recipe, 2).learn(images)
    assert float(load_ray().get(ballast[0])[0]) == 1
    del ballast
    assert_same(learned, fold_of(one, recipe, 2).learn(images)[1])


INTERRUPTED = """
import os, signal, sys, threading
import blemish, blemish.distributed.fold as room
from blemish import interrupts

interrupts.install()
room.SHARD = room.LARGEST = 1
later = []

def progress(stage, done, total):
    if not later:
        later.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)))
        later[0].start()

try:
    blemish.fit(sys.argv[1], detector="gaussian", calibration="hold-out", size=256, ray=sys.argv[2], progress=progress)
except interrupts.Interrupted as found:
    sys.exit(found.status)
"""


def test_an_interrupt_while_workers_are_busy_ends_the_fit(cluster: None, parts: Path) -> None:
    address = load_ray().get_runtime_context().gcs_address
    command = [sys.executable, "-c", INTERRUPTED, parts, address]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=as_in_a_terminal
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")


STOPPED = """
import os, signal, sys
import blemish, blemish.distributed.fold as room

room.SHARD, room.LARGEST, room.KEPT_LEVEL = 1, 1, 1

def progress(stage, done, total):
    if stage == "calibrate" and done >= 12:
        os.kill(os.getpid(), signal.SIGKILL)

blemish.fit(sys.argv[1], detector="gaussian", calibration="hold-out", size=64, engine="openvino", ray=sys.argv[2],
            checkpoints=sys.argv[3], progress=progress)
"""


def test_a_driver_that_was_killed_goes_on_from_what_is_kept(
    cluster: None, one: blemish.Model, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARD", 1)
    monkeypatch.setattr(room, "LARGEST", 1)
    monkeypatch.setattr(room, "KEPT_LEVEL", 1)
    kept = tmp_path / "kept"
    address = load_ray().get_runtime_context().gcs_address
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED, parts, address, kept], capture_output=True, text=True, check=False
    )
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    assert "start again, with --resume" in stopped.stderr
    run: list[Path] = []
    learn_shard = room.learn_shard

    submit = Fold.task

    def counting(self: Fold, function: Callable, *options, **named) -> Callable:
        task = submit(self, function, *options, **named)

        def counted(job, shard, *rest):
            run.extend(shard.paths if function is learn_shard else [])
            return task(job, shard, *rest)

        return counted

    monkeypatch.setattr(Fold, "task", counting)
    told = {"detector": "gaussian", "ray": "local", "checkpoints": kept, "resume": True, **HELD_OUT}
    model = blemish.fit(parts, **told)
    assert 0 < len(run) < 17  # those to fit are all kept, and some to calibrate
    np.testing.assert_allclose(model.calibration.scores, one.calibration.scores, rtol=1e-5)
    assert model.inside.names() == one.inside.names()
    run.clear()
    assert blemish.fit(parts, **told).calibration.threshold == model.calibration.threshold
    assert run == []
    with pytest.raises(StorageError, match="holds another fit"):
        blemish.fit(parts, **{**told, "detector": "padim"})
    with pytest.raises(SettingError, match="--resume"):
        blemish.fit(parts, **{**told, "resume": False})


def test_a_cluster_that_is_gone_is_told_in_one_line(parts: Path, tmp_path: Path) -> None:
    program = (
        "import sys, psutil, blemish\n"
        "def progress(stage, done, total):\n"
        "    for process in psutil.Process().children(recursive=True):\n"
        "        if process.name() == 'gcs_server': process.kill()\n"
        "import blemish.distributed.fold as room; room.SHARD, room.LARGEST, room.KEPT_LEVEL = 3, 3, 0\n"
        "try:\n"
        "    blemish.fit(sys.argv[1], detector='gaussian', calibration='hold-out', size=64, ray='local',\n"
        "                checkpoints=sys.argv[2], progress=progress)\n"
        "except blemish.BlemishError as error: print(error)\n"
    )
    soon = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # by default it is waited for a minute
    command = [sys.executable, "-c", program, parts, tmp_path / "kept"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=soon)
    # Ray may end this process before it hears of it; another one then says so.
    assert ("local: the cluster broke off" in done.stdout) != ("or its cluster broke off" in done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert list((tmp_path / "kept").iterdir())
