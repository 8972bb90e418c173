"""What tests share: where real images are, small data sets made on the spot, and models fitted once."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import blemish

if TYPE_CHECKING:
    from serving import Running

ROOT = Path(__file__).parents[1]

# Threads that wait sleep: where other programs keep the cores busy, waiting awake makes a short training take minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One thread does small sums as quickly as several, for less of the cores that the other tests share.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Converted backbones are kept for this run alone, for its other processes and for commands that tests start too.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["BLEMISH_CACHE"] = tempfile.mkdtemp(prefix="blemish-tests-")
    atexit.register(shutil.rmtree, os.environ["BLEMISH_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of reference data: $BLEMISH_DATA, or ../shared/data beside the checkout."""
    for candidate in (os.environ.get("BLEMISH_DATA"), ROOT.parent / "shared" / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    pytest.skip("the reference data is absent; set BLEMISH_DATA to its folder")


def part(rng: np.random.Generator, size: int = 96) -> np.ndarray:
    """A made-up good part, uint8 (size, size, 3): a bright disc on a dark ground, with noise."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    disc = 1 / (1 + np.exp(60 * (np.hypot(y, x) - 0.33 - 0.01 * rng.standard_normal())))
    grey = 40 + 150 * disc + 6 * rng.standard_normal((size, size))
    return np.clip(grey[..., None] * [1.0, 0.95, 0.85], 0, 255).astype(np.uint8)


def scratched(rng: np.random.Generator, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A part with a dark scratch, and its mask, bool (size, size)."""
    image = part(rng, size).copy()
    mask = np.zeros((size, size), bool)
    top, left = rng.integers(size // 4, size // 2, 2)
    mask[top : top + size // 6, left : left + size // 10] = True
    image[mask] = 10
    return image, mask


def write_parts(folder: Path, count: int, seed: int = 0, size: int = 96) -> Path:
    """`count` good parts as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(part(rng, size)).save(folder / f"{index:03d}.png")
    return folder


def write_tree(root: Path, train: int = 24, test: int = 5) -> Path:
    """An MVTec-style tree of made-up parts, with masks."""
    write_parts(root / "train" / "good", train)
    write_parts(root / "test" / "good", test, seed=1)
    rng = np.random.default_rng(2)
    for folder in (root / "test" / "scratch", root / "ground_truth" / "scratch"):
        folder.mkdir(parents=True)
    for index in range(test):
        image, mask = scratched(rng)
        Image.fromarray(image).save(root / "test" / "scratch" / f"{index:03d}.png")
        Image.fromarray(mask).save(root / "ground_truth" / "scratch" / f"{index:03d}_mask.png")
    return root


def write_photographs(root: Path) -> Path:
    """A tree of made-up photographs of the ground, 150×210, some with an animal on rows 100-111, columns 150-167."""
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 24), ("test/good", 3), ("test/animal", 2), ("ground_truth/animal", 2)):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            height = ndimage.gaussian_filter(rng.normal(size=(150, 210)), 2, mode="wrap")
            ground = (60 * height + 4 * rng.normal(size=height.shape))[..., None] + [110, 125, 75]
            if "animal" in folder:
                ground[100:112, 150:168] = [30, 25, 20]
            pixels = np.clip(ground, 0, 255).astype(np.uint8)
            if folder.startswith("ground_truth"):
                pixels = (pixels == [30, 25, 20]).all(2)
            Image.fromarray(pixels).save(root / folder / f"{index}{'_mask' if 'truth' in folder else ''}.png")
    return root


NOBODY = 65534


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user may look into, as `tmp_path` is not."""
    with tempfile.TemporaryDirectory(prefix="blemish-open-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def unprivileged(locked: Path) -> Iterator[None]:
    """Within it, `locked` may not be looked into: the superuser, for whom that counts nothing, is somebody else."""
    before = locked.stat().st_mode
    is_superuser = os.geteuid() == 0
    locked.chmod(0)
    if is_superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_superuser:
            os.seteuid(0)
        locked.chmod(before)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an empty bucket on a server of S3's kind, whose credentials are in the environment."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "testing-key"),
            ("AWS_SECRET_ACCESS_KEY", "testing-secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        S3FileSystem().mkdir("parts")
        yield "s3://parts"
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of made-up photographs; not to be changed."""
    return write_photographs(tmp_path_factory.mktemp("photographs") / "fields")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree of made-up parts; not to be changed."""
    return write_tree(tmp_path_factory.mktemp("tree") / "parts")


@pytest.fixture(scope="session")
def vae_model(tree: Path) -> blemish.Model:
    """A small `vae-grf` of the tree, hardly trained; not to be changed."""
    return blemish.fit(tree, detector=blemish.VAEGRF(latent=8, epochs=1, drawn=24), size=64)


@pytest.fixture(scope="session")
def long_tree(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tree with images two and a half times as wide as high, 60×150; not to be changed."""
    root = tmp_path_factory.mktemp("long") / "parts"
    for path in tree.rglob("*.png"):
        (root / path.relative_to(tree)).parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((150, 60), Image.Resampling.NEAREST).save(root / path.relative_to(tree))
    return root


@pytest.fixture(scope="session")
def long_model(long_tree: Path) -> blemish.Model:
    """`gaussian` on the long parts at 64² pixels; not to be changed."""
    return blemish.fit(long_tree, detector="gaussian", size=64, layers=[1, 2])


@pytest.fixture(scope="session")
def model(tree: Path) -> blemish.Model:
    """FRE on the small tree at 64 pixels, on OpenVINO; not to be changed."""
    return blemish.fit(tree, size=64, engine="openvino")


@pytest.fixture(scope="session")
def saved(model: blemish.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model, saved; not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "parts.blemish"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder of the sockets of a PostgreSQL server; see `databases.PostgresDatabase`."""
    from databases import running_postgres

    with running_postgres() as sockets:
        yield sockets


@pytest.fixture(scope="session")
def small(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gaussian` on the small tree at 64², saved; not to be changed."""
    path = tmp_path_factory.mktemp("small") / "parts.blemish"
    blemish.fit(tree, detector="gaussian", size=64, layers=[1, 2], false_alarm_rate=0.1).save(path)
    return path


@pytest.fixture(scope="session")
def other(small: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after it learned from more parts: another version."""
    path = tmp_path_factory.mktemp("other") / "parts.blemish"
    blemish.load(str(small)).update(tree / "test" / "good").save(path)
    return path


@pytest.fixture(scope="session")
def defect_image(tree: Path) -> bytes:
    """A part with a scratch."""
    return (tree / "test" / "scratch" / "000.png").read_bytes()


@pytest.fixture(scope="session")
def good_image(tree: Path) -> bytes:
    """A good part."""
    return (tree / "test" / "good" / "000.png").read_bytes()


@pytest.fixture(scope="module")
def service(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with the defaults but small limits; its models are not to be changed."""
    limits = ("--max-bytes", 1 << 20, "--max-pixels", 250_000, "--timeout", 5)
    from serving import running

    with running(tmp_path_factory.mktemp("service"), small, *limits) as found:
        yield found


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with `TOKEN`."""
    from serving import TOKEN

    file = tmp_path_factory.mktemp("token") / "token.txt"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture(scope="session")
def guarded(
    small: Path, saved: Path, token_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, Path]]:
    """A service that asks for a token, keeps all images and has a shadow; and the folder of its model."""
    from serving import TOKEN, running

    folder = tmp_path_factory.mktemp("guarded")
    source = folder / "cells.blemish"
    shutil.copytree(small, source)
    words = ("--token-file", token_file, "--keep", "all", "--shadow", f"cells=second={saved}")
    with running(folder, source, *words) as found:
        found.token = TOKEN
        yield found, source


@pytest.fixture(scope="session")
def cluster(s3: str) -> Iterator[None]:
    """A Ray cluster of two workers on this machine, to which this process is connected; its store is small, and its
    workers have the credentials of `s3`.
    """
    pytest.importorskip("ray", reason="needs Ray; pip install 'blemish[ray]'")
    from blemish.distributed.cluster import FULL_DISK, load_ray

    ray = load_ray()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=80 << 20,
            _system_config=FULL_DISK,
        )
    yield
    ray.shutdown()
