"""The base install, without torch and the other extras: what it does, and what it says of the rest."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import blemish as library
import slim


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the base install."""
    return slim.environment(tmp_path_factory.mktemp("base"))


def test_the_base_needs_none_of_the_large_packages() -> None:
    large = {
        "torch",
        "torchvision",
        "timm",
        "scipy",
        "jinja2",
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "ray",
        "cv2",
        "onnx",
    }
    assert large & {*slim.packages_distributions()} <= {*slim.hidden()}
    assert not {"numpy", "PIL", "openvino", "safetensors", "typer", "rich", "watchdog"} & {*slim.hidden()}
    assert not {"fastapi", "uvicorn", "sqlalchemy", "prometheus_client"} & {*slim.hidden("serve")}
    assert {"torch", "scipy"} <= {*slim.hidden("serve")}


def test_the_base_predicts_the_same_scores_to_the_last_bit(
    base: dict[str, str], saved: Path, tree: Path, tmp_path: Path
) -> None:
    done = slim.blemish(base, "predict", saved, tree, "--json", "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["score"] for line in done.stdout.splitlines()]
    assert found == [prediction.score for prediction in library.load(str(saved)).predict(str(tree))]
    assert len([*(tmp_path / "results").glob("*.png")]) == len(found)


def test_the_base_explains_by_layers_as_it_does_with_torch(
    base: dict[str, str], small: Path, tree: Path, tmp_path: Path
) -> None:
    image = tree / "test" / "scratch" / "000.png"
    done = slim.blemish(base, "explain", small, image, "--json", "--out", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    assert "they need torch; pip install 'blemish[fit]'" in done.stderr
    told, expected = json.loads(done.stdout), library.load(str(small)).explain(image).as_dict()
    assert told["components"] == [] != expected.pop("components")
    told.pop("components")
    assert told == json.loads(json.dumps(expected)), "layers, shares, boxes and places, to the last bit"
    assert (tmp_path / "why" / "000_why.png").is_file()


@pytest.mark.parametrize(
    ("words", "missing", "extra"),
    [
        (("fit", "TREE", "-o", "NEW"), "torch", "fit"),
        (("explain", "MODEL", "IMAGE", "--components", "3", "--out", "NEW"), "torch", "fit"),
        (("predict", "MODEL", "TREE", "--engine", "torch"), "torch", "fit"),
        (("predict", "MODEL", "TREE", "--ray", "local", "--out", "NEW"), "ray", "ray"),
        (("predict", "MODEL", "s3://bucket/images"), "fsspec", "remote"),
        (("evaluate", "MODEL", "TREE"), "scipy", "report"),
        (("drift", "MODEL", "TREE"), "scipy", "report"),
        (("update", "MODEL", "TREE", "-o", "NEW"), "torch", "fit"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else None,
)
def test_the_base_says_in_one_line_which_extra_is_needed(
    words: tuple[str, ...],
    missing: str,
    extra: str,
    base: dict[str, str],
    saved: Path,
    tree: Path,
    tmp_path: Path,
) -> None:
    paths = {"MODEL": saved, "TREE": tree, "IMAGE": tree / "test/good/000.png", "NEW": tmp_path / "new"}
    done = slim.blemish(base, *(paths.get(word, word) for word in words))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert missing in errors[0]
    assert f"blemish[{extra}" in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(find_spec("blemish.cli.watch") is None, reason="this checkout has no blemish watch")
def test_the_base_watches_a_folder(base: dict[str, str], saved: Path, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "test" / "scratch", tmp_path / "line")
    done = slim.blemish(base, "watch", saved, tmp_path / "line", "--once", "--json", "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(line)["score"] for line in done.stdout.splitlines())
    assert found == sorted(p.score for p in library.load(str(saved)).predict(str(tmp_path / "line")))


@pytest.mark.skipif(find_spec("blemish.cli.serve") is None, reason="this checkout has no blemish serve")
def test_the_base_says_which_extra_serves(base: dict[str, str], saved: Path, tmp_path: Path) -> None:
    done = slim.blemish(base, "serve", saved, "--port", "0", "--state", tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("; pip install 'blemish[serve]'")
    assert not (tmp_path / "state").exists()
