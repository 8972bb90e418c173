"""A detector of one's own: the example of the page, by name, saved, and loaded where its module is not imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blemish
from blemish.detectors import Gaussian, find_detector, import_own, make_detector, name_of
from blemish.errors import ModelError, SettingError
from command import inside
from conftest import ROOT

NAME = "my_detector:MeanDistance"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's module is."""
    folder = tmp_path_factory.mktemp("own")
    code = re.search(r"```python\n(# my_detector\.py\n.*?)```", (ROOT / "docs/own-detector.md").read_text(), re.DOTALL)
    assert code
    (folder / "my_detector.py").write_text(code[1])
    (folder / "broken_detector.py").write_text("1 / 0\n")
    (folder / "needy_detector.py").write_text("import a_package_that_is_not_there\n")
    (folder / "half_detector.py").write_text(
        "from blemish.detectors import Detector\nclass Half(Detector):\n    name = 'half'\nclass Other: pass\n"
    )
    return folder


@pytest.fixture(autouse=True)
def importable(folder: Path) -> Iterator[None]:
    """The module can be imported, and is not yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        sys.modules.pop("my_detector", None)
        yield
        sys.modules.pop("my_detector", None)


@pytest.fixture(scope="module")
def own(folder: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model by the page's detector, saved."""
    path = tmp_path_factory.mktemp("model") / "own.blemish"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        fitted = blemish.fit(tree, detector=NAME, settings={"power": 2}, size=64, layers=[1, 2], false_alarm_rate=0.1)
    fitted.save(path)
    return path


def test_a_loaded_model_predicts_and_evaluates_without_the_module_and_imports_nothing(own: Path, tree: Path) -> None:
    loaded = blemish.load(str(own))
    assert loaded.recipe.detector == NAME
    assert loaded.recipe.settings["power"] == 2
    assert blemish.evaluate(loaded, tree).image["auroc"] == 1.0
    for asks in (lambda: loaded.explain(tree / "test/good/000.png"), lambda: blemish.load(str(own), engine="torch")):
        with pytest.raises(ModelError, match="my_detector:MeanDistance is your own class.*import my_detector first"):
            asks()
    assert "my_detector" not in sys.modules


def test_once_the_module_is_imported_a_model_explains_and_learns_too(own: Path, tree: Path) -> None:
    import_own(NAME)
    loaded = blemish.load(str(own))
    explained = loaded.explain(tree / "test/scratch/000.png")
    assert explained.score == loaded.predict_one(tree / "test/scratch/000.png").score
    assert sum(layer.share or 0 for layer in explained.layers) == pytest.approx(1, abs=1e-4)
    assert len(loaded.update(tree / "test" / "good").inside) == 29
    in_torch = blemish.load(str(own), engine="torch")
    assert in_torch.predict_one(tree / "test/good/000.png").score == pytest.approx(
        loaded.predict_one(tree / "test/good/000.png").score, rel=1e-3
    )


def test_the_command_says_what_to_import_and_imports_it_when_asked(
    own: Path,
    tree: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    words = ("explain", own, tree / "test/scratch/000.png", "--out", tmp_path / "why")
    refused = inside(capsys, *words)
    assert refused.returncode == 1
    assert "--import my_detector" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert inside(capsys, *words, "--import", "my_detector").returncode == 0
    failed = inside(capsys, *words, "--import=broken_detector")
    assert failed.returncode == 2
    assert "--import broken_detector: it cannot be imported (ZeroDivisionError" in failed.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module:Class", "no module is called no_such_module"),
        ("my_detector.deeper:Class", "no module is called my_detector.deeper"),
        ("my_detector:Missing", "my_detector has no Missing"),
        ("half_detector:Other", "is not a detector class"),
        ("half_detector:Half", "lacks batches, empty, head, memory, strides"),
        ("broken_detector:Class", "cannot be imported.*ZeroDivisionError"),
        ("needy_detector:Class", "needs a_package_that_is_not_there"),
        ("my detector:Class", "names no class"),
        (":Class", "names no class"),
        ("my_detector:", "names no class"),
        ("os:system('x')", "names no class"),
        ("mine", "no detector is called 'mine'"),
    ],
)
def test_what_is_no_detector_is_refused_in_a_line(name: str, expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        find_detector(name)


def test_a_name_in_a_file_leads_to_no_import_and_to_no_other_object() -> None:
    for name in (NAME, "os:system", "blemish.detectors:make_detector", "sys:modules"):
        with pytest.raises(ModelError, match="your own class"):
            make_detector(name)
    assert "my_detector" not in sys.modules


def test_settings_of_ones_own_are_checked_by_name() -> None:
    import_own(NAME)
    assert make_detector(NAME, {"power": 3}).settings()["power"] == 3
    with pytest.raises(SettingError, match="has no setting 'powr'"):
        make_detector(NAME, {"powr": 3})


class Closer(Gaussian):
    """A class of one's own with the name of another."""


def test_a_class_of_ones_own_is_not_taken_for_the_one_it_comes_from() -> None:
    assert name_of(Gaussian()) == "gaussian"
    assert name_of(Closer()).endswith("test_own:Closer")
    assert type(make_detector(name_of(Closer()))) is Closer


def test_a_cluster_whose_workers_lack_the_class_is_refused_before_the_work(tree: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(SettingError, match="is your own class"):
        blemish.fit(tree, detector=Closer(), size=64, ray="local")
