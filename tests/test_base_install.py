"""The base install, without torch and the other extras: what it does, and what it says of the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
    assert len([*(tmp_path / "results" / "maps").rglob("*.jpg")]) == len(found)


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


ASKED = [
    ("fit TREE -o NEW", "fit needs torch, torchvision, timm and 4 more packages", "fit"),
    ("fit elpv:mono -o NEW", "fit needs torch, torchvision, timm and 5 more packages", "fit,demo"),
    ("fit TREE -o NEW --ray local", "fit needs torch, torchvision, timm and 7 more packages", "fit,ray"),
    ("compare TREE", "compare needs torch, torchvision, timm and 4 more packages", "fit"),
    ("check TREE --deep", "check --deep needs torch, torchvision, timm and 4 more packages", "fit"),
    ("demo --report NEW", "demo needs torch, torchvision, timm and 6 more packages", "fit,report,demo"),
    ("bench list", "bench needs torch, torchvision, timm and 4 more packages", "fit"),
    ("update MODEL TREE -o NEW", "update needs torch", "fit"),
    ("forget MODEL TREE -o NEW", "forget needs torch", "fit"),
    ("merge MODEL MODEL -o NEW", "merge needs torch", "fit"),
    ("prune MODEL --drop-border 2 -o NEW", "prune needs torch", "fit"),
    ("sample MODEL -o NEW", "sample needs torch", "fit"),
    ("explain MODEL TREE --components 3 --out NEW", "explain needs torch", "fit"),
    ("predict MODEL TREE --out NEW --review", "predict needs jinja2", "report"),
    ("explain MODEL --gallery TREE --out NEW", "explain needs torch", "fit"),
    ("export MODEL --format onnx -o NEW", "an export to onnx needs torch, timm", "fit,export"),
    ("predict MODEL TREE --ray local --out NEW", "predict needs ray, pyarrow, fsspec", "ray"),
    ("predict MODEL s3://bucket/images", "s3:// needs fsspec", "remote"),
    ("predict s3://bucket/model TREE", "s3:// needs fsspec", "remote"),
    ("evaluate MODEL folder:s3://bucket/images", "s3:// needs fsspec", "remote"),
    ("evaluate MODEL TREE --report NEW", "evaluate needs jinja2", "report"),
    ("evaluate MODEL TREE --curves NEW", "evaluate needs jinja2", "report"),
    ("drift MODEL TREE", "drift needs scipy", "report"),
    ("watch MODEL camera:0", "a camera needs cv2", "camera"),
    ("watch MODEL TREE --once --out sqlite:///NEW", "the log needs sqlalchemy", "serve"),
    ("watch MODEL TREE --out postgresql://h/d", "a log in PostgreSQL needs sqlalchemy, psycopg", "postgresql"),
    ("log NEW", "the log needs sqlalchemy", "serve"),
    ("serve MODEL --state NEW", "serve needs fastapi, uvicorn, httptools and 3 more packages", "serve"),
]
"""Commands, what each says, and the extra that it names."""

ALL = """
import contextlib, io, json, sys
import blemish.model.model
from blemish.cli import main
def refuse(*_, **__): raise AssertionError("it was asked too late")
blemish.model.model.Model.load = refuse
blemish.datasets.read_source = refuse
for words in {commands!r}:
    sys.argv, code = ["blemish", *words], None
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            main()
        except SystemExit as left:
            code = left.code
    print(json.dumps([code, errors.getvalue()]))
"""


def test_every_command_says_in_one_line_which_extra_it_needs_before_any_work(
    base: dict[str, str], saved: Path, tree: Path, tmp_path: Path
) -> None:
    paths = {"MODEL": saved, "TREE": tree, "NEW": tmp_path / "new"}
    commands = [[str(paths.get(word, word)) for word in words.split()] for words, _, _ in ASKED]
    done = subprocess.run(
        [sys.executable, "-c", ALL.format(commands=commands)], capture_output=True, text=True, check=True, env=base
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, told, extra), (status, errors) in zip(ASKED, found, strict=True):
        expected = f"error: {told}; pip install 'blemish[{extra}]', or '.[{extra}]' in a clone\n"
        assert (status, errors) == (1, expected), words
    assert not list(tmp_path.iterdir())


IN_PYTHON = """
import blemish
model = blemish.load({model!r})
for of, call in {{
    "fit": lambda: blemish.fit({tree!r}),
    "blemish.PaDiM": lambda: blemish.PaDiM,
    "update": lambda: model.update({tree!r}),
    "forget": lambda: model.forget({tree!r}),
    "merge": lambda: model.merge(model),
    "sample": lambda: model.sample(1),
}}.items():
    try:
        call()
    except blemish.BlemishError as error:
        assert f"{{of}} needs torch" in str(error) and "pip install 'blemish[fit]'" in str(error), error
        print("told")
"""


def test_python_too_says_which_extra_it_needs(base: dict[str, str], saved: Path, tree: Path) -> None:
    code = IN_PYTHON.format(model=str(saved), tree=str(tree))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=base)
    assert done.stdout.split() == 6 * ["told"], done.stderr


def test_the_base_says_which_extra_the_torch_engine_needs(base: dict[str, str], saved: Path, tree: Path) -> None:
    done = slim.blemish(base, "predict", saved, tree, "--engine", "torch")
    assert done.returncode == 2
    assert "the torch engine needs torch; pip install 'blemish[fit]'" in done.stderr


@pytest.mark.skipif(find_spec("blemish.cli.watch") is None, reason="this checkout has no blemish watch")
def test_the_base_watches_a_folder(base: dict[str, str], saved: Path, tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree / "test" / "scratch", tmp_path / "line")
    done = slim.blemish(base, "watch", saved, tmp_path / "line", "--once", "--json", "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(line)["score"] for line in done.stdout.splitlines())
    assert found == sorted(p.score for p in library.load(str(saved)).predict(str(tmp_path / "line")))
