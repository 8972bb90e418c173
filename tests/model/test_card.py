"""A model's card is checked as a whole: every field, its type and its range, each with a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import blemish
from blemish.errors import ModelError
from blemish.storage import digest
from blemish.storage.cards import digest_of

Card = dict[str, Any]


def sign(folder: Path, card: Card) -> None:
    """Writes the card with digests that are right, as somebody who means harm would."""
    for name in card["files"]:
        if (folder / name).is_file():
            card["files"][name] = digest(folder / name)
    card.pop("digest", None)
    (folder / "model.json").write_text(json.dumps({**card, "digest": digest_of(card)}))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "m"))


def load_both(folder: Path) -> None:
    for engine in ("openvino", "torch"):
        blemish.load(str(folder), engine)


def test_a_card_that_is_signed_again_unchanged_is_read(folder: Path) -> None:
    sign(folder, json.loads((folder / "model.json").read_text()))
    load_both(folder)


def at(*keys: Any, value: Any) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        for key in keys[:-1]:
            card = card[key]
        card[keys[-1]] = value

    return change


def former(**changed: Any) -> Card:
    """An entry of the history, with some fields changed."""
    right = {"created": "", "source": "", "images": 1, "rate": 0.5, "threshold": 1.0, "box_rate": 0.5}
    return {**right, **changed}


def without(*keys: str) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        for key in keys[:-1]:
            card = card[key]
        del card[keys[-1]]

    return change


def without_layers(card: Card) -> None:
    card["calibration"] |= {"layer_typical": [], "layer_highest": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("recipe"), "the card has no recipe"),
        (without("recipe", "seed"), "recipe has no seed"),
        (without("calibration", "rate"), "calibration has no rate"),
        (without("provenance", "weights"), "provenance has no weights"),
        (at("payload", value="x"), "the card has the field 'payload'"),
        (at("recipe", "command", value="x"), "recipe has the field 'command'"),
        (at("recipe", value=[]), "recipe is []; expected an object with backbone"),
        (at("recipe", "detector", value=7), "recipe.detector is 7; expected a text of at most 200 characters"),
        (at("recipe", "backbone", value="x" * 70_000), "recipe.backbone is 'xxxx"),
        (without("recipe", "normalisation"), "recipe has no normalisation"),
        (at("recipe", "normalisation", value={"mean": [0, 0, 0]}), "recipe.normalisation has no std"),
        (
            at("recipe", "normalisation", "mean", value=[0.5, 0.5]),
            "recipe.normalisation.mean is [0.5, 0.5]; expected a list of 3 values",
        ),
        (
            at("recipe", "normalisation", "std", value=[0.5, 0.5, 0]),
            "recipe.normalisation.std[2] is 0; expected a number from 0.001 to 1,000",
        ),
        (at("recipe", "layers", value=[]), "recipe.layers is []; expected a list of 1 to 256 values"),
        (
            at("recipe", "layers", value=[-1, 2, 3]),
            "recipe.layers[0] is -1; expected a whole number from 0 to 1,000, or a text",
        ),
        (at("recipe", "layers", value=[2]), "1 layers do not fit the shapes of 3"),
        (at("recipe", "seed", value=True), "recipe.seed is True; expected a whole number"),
        (at("recipe", "settings", value=None), "recipe.settings is None; expected an object"),
        (at("recipe", "geometry", "height", value=1 << 30), "size 1073741824 is out of range"),
        (at("recipe", "geometry", "height", value="64"), "recipe.geometry.height is '64'; expected a whole number"),
        (at("recipe", "geometry", "crop", value=900), "crop 900 does not fit"),
        (at("calibration", "rate", value=2), "calibration.rate is 2; expected a number from 0 to 1"),
        (at("calibration", "rate", value=0.0001), "cannot promise a false-alarm rate"),
        (at("calibration", "threshold", value=0.5), "which its scores give"),
        (at("calibration", "box_rate", value=0.0001), "cannot promise a box rate"),
        (at("calibration", "box_rate", value=None), "calibration.box_rate is None; expected a number from 0 to 1"),
        (at("calibration", "box_level", value=0.5), "which its scores give"),
        (
            at("calibration", "given_threshold", value="high"),
            "calibration.given_threshold is 'high'; expected a finite number, or null",
        ),
        (at("calibration", "given_threshold", value=1e9), "promises a rate of 0.04, not"),
        (without("calibration", "given_threshold"), "calibration has no given_threshold"),
        (at("calibration", "scores", value=[]), "calibration.scores is []; expected a list of finite numbers"),
        (at("calibration", "scores", value=["1"] * 24), "calibration.scores[0] is '1'; expected a finite number"),
        (at("calibration", "scores", 0, value=1e300), "calibration.scores are not sorted"),
        (at("calibration", "display", value=[1.0, 1.0]), "which its scores give"),
        (at("calibration", "medians", value=[1.0]), "24 scores, 1 medians and 24 maxima"),
        (at("calibration", "maxima", 0, value=None), "calibration.maxima[0] is None; expected a finite number"),
        (at("calibration", "scores", 0, value=10**400), "calibration.scores[0] is 1000"),
        (at("calibration", "names", value=["a"]), "24 scores, 1 names and 24 digests"),
        (at("recipe", "copies", value=-1), "recipe.copies is -1; expected a whole number from 0 to 64"),
        (at("recipe", "copies", value=65), "recipe.copies is 65; expected a whole number from 0 to 64"),
        (at("calibration", "folds", value=1), "calibration.folds is 1; expected 0, or from 2 to 24"),
        (at("calibration", "folds", value=25), "calibration.folds is 25; expected 0, or from 2 to 24"),
        (at("calibration", "digests", 0, value="no"), "calibration.digests[0] is 'no'; expected 16 hexadecimal digits"),
        (at("provenance", "changes", value=[]), "provenance.changes is []; expected a list of 1 to 1,000 values"),
        (
            at("provenance", "changes", 0, "kind", value="theft"),
            "provenance.changes[0].kind is 'theft'; expected fit, update, merge, forget or several",
        ),
        (
            at("provenance", "changes", 0, "images", value=-1),
            "provenance.changes[0].images is -1; expected a whole number",
        ),
        (
            at("provenance", "changes", 0, "worst", value=[["a"]]),
            "provenance.changes[0].worst[0] is ['a']; expected a pair",
        ),
        (
            at("provenance", "changes", 0, "worst", value=[["a", 2]]),
            "provenance.changes[0].worst[0][1] is 2; expected a number from 0 to 1",
        ),
        (at("provenance", "calibrated_on", "images", value=3), "24 scores do not fit a calibration on 3 images"),
        (at("calibration", "layer_typical", value=3), "calibration.layer_typical is 3; expected a list of 0 to 256"),
        (
            at("calibration", "layer_highest", value=[[1.0]]),
            "calibration.layer_highest does not have 24 numbers a layer",
        ),
        (at("calibration", "layer_highest", value=[]), "calibration.layer_highest have different numbers of layers"),
        (without_layers, "is calibrated for other layers than its graph has"),
        (
            at("provenance", "calibrated_on", value=None),
            "provenance.calibrated_on is None; expected an object with created",
        ),
        (at("provenance", "calibrated_on", "source", value=3), "provenance.calibrated_on.source is 3; expected a text"),
        (
            at("provenance", "calibrated_on", "seen", value=-1),
            "provenance.calibrated_on.seen is -1; expected a whole number",
        ),
        (at("provenance", "history", value=[{}] * 17), "expected a list of 0 to 16 values"),
        (at("provenance", "history", value=[{"rate": 0.5}]), "provenance.history[0] has no created"),
        (
            at("provenance", "history", value=[former(rate="x")]),
            "provenance.history[0].rate is 'x'; expected a number from 0 to 1",
        ),
        (at("provenance", "images", value=-1), "provenance.images is -1; expected a whole number"),
        (at("provenance", "source", value=None), "provenance.source is None; expected a text"),
        (at("recipe", "shapes", 0, value={}), "recipe.shapes[0] has no name"),
        (
            at("recipe", "shapes", 0, "width", value=1 << 40),
            "recipe.shapes[0].width is 1099511627776; expected a whole number",
        ),
        (at("provenance", "versions", value={"torch": 2}), "provenance.versions.torch is 2; expected a text"),
        (at("files", value={}), "its files are not those of a model"),
        (at("files", "payload.sh", value="0" * 64), "payload.sh is missing"),
        (at("files", "features.bin", value=7), "without a digest"),
        (at("kind", value="gallery"), "holds 'gallery' by its model.json, not 'model'"),
    ],
)
def test_a_field_that_is_not_as_it_should_be_is_named_in_a_sentence(
    folder: Path, change: Callable[[Card], None], said: str
) -> None:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    if said != "without a digest":
        sign(folder, card)
    else:
        card.pop("digest")
        (folder / "model.json").write_text(json.dumps({**card, "digest": digest_of(card)}))
    for engine in ("openvino", "torch"):
        with pytest.raises(ModelError) as caught:
            blemish.load(str(folder), engine)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_refused(folder: Path, number: str) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"rate": ', f'"rate": {number}, "was": ', 1))
    with pytest.raises(ModelError, match="is not a number"):
        blemish.load(str(folder))


def test_a_file_that_is_named_outside_of_the_folder_is_neither_read_nor_written(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["files"]["../payload.sh"] = "0" * 64
    sign(folder, card)
    (tmp_path / "payload.sh").write_text("x")
    with pytest.raises(ModelError, match="not a plain name"):
        blemish.load(str(folder)).save(tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "payload.sh"]


def swapped(folder: Path) -> None:
    (folder / "scoring.xml").write_bytes((folder / "features.xml").read_bytes())
    (folder / "scoring.bin").write_bytes((folder / "features.bin").read_bytes())


def of_another_format(folder: Path) -> None:
    (folder / "features.xml").write_text("node { op: 'ReadFile' }")


def of_other_sides(folder: Path) -> None:
    graph = folder / "features.xml"
    graph.write_text(graph.read_text().replace('shape="1,64,64,3"', 'shape="1,96,96,3"'))


def with_a_number_that_is_none(folder: Path) -> None:
    content = bytearray((folder / "scoring.bin").read_bytes())
    content[4000:4004] = bytes.fromhex("0000c07f")
    (folder / "scoring.bin").write_bytes(content)


@pytest.mark.parametrize("change", [swapped, of_another_format, of_other_sides, with_a_number_that_is_none])
def test_graphs_that_do_not_fit_the_card_are_refused(folder: Path, change: Callable[[Path], None]) -> None:
    change(folder)
    sign(folder, json.loads((folder / "model.json").read_text()))
    with pytest.raises(ModelError, match=r"do not fit its model\.json|cannot read this graph|not finite"):
        blemish.load(str(folder), "openvino")


@pytest.mark.parametrize("way", ["gone", "of another shape", "not finite", "empty"])
def test_tensors_that_do_not_fit_the_card_are_refused(folder: Path, way: str) -> None:
    tensors = load_file(folder / "learned.safetensors")
    name = "detector.layer1.rows"
    if way == "gone":
        del tensors[name]
    elif way == "of another shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif way == "empty":
        tensors = {}
    else:
        tensors[name][0, 0] = float("inf")
    with safe_open(folder / "learned.safetensors", "numpy") as opened:
        graphs = opened.metadata()
    save_file(tensors, folder / "learned.safetensors", graphs)
    sign(folder, json.loads((folder / "model.json").read_text()))
    with pytest.raises(ModelError):
        blemish.load(str(folder), "torch")
    loaded = blemish.load(str(folder), "openvino")  # whose graphs are good
    with pytest.raises(ModelError):
        loaded.learned  # noqa: B018


def test_what_another_model_learned_is_refused_by_every_engine(folder: Path, small: Path) -> None:
    shutil.copy(small / "learned.safetensors", folder / "learned.safetensors")
    sign(folder, json.loads((folder / "model.json").read_text()))
    for engine in ("openvino", "torch"):
        with pytest.raises(ModelError, match="was not written with the graphs beside it"):
            blemish.load(str(folder), engine)


def test_a_model_whose_graphs_were_left_out_is_refused(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["files"] = {name: digest for name, digest in card["files"].items() if name.endswith(".safetensors")}
    sign(folder, card)
    with pytest.raises(ModelError, match="was not written with the graphs beside it"):
        blemish.load(str(folder))


@pytest.mark.parametrize("name", ["model.json", "learned.safetensors", "scoring.bin"])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ModelError, match="is a link that leads out of the folder"):
        blemish.load(str(folder))


def test_a_link_within_the_folder_and_to_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "data").mkdir()
    (folder / "scoring.bin").rename(folder / "data" / "scoring.bin")
    (folder / "scoring.bin").symlink_to(Path("data") / "scoring.bin")
    (tmp_path / "current").symlink_to(folder)
    assert blemish.load(str(tmp_path / "current"), "openvino").recipe.detector == "fre"


def test_a_file_larger_than_any_of_a_model_is_refused_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / "scoring.bin", 1 << 40)
    with pytest.raises(ModelError, match="more than any file of blemish's"):
        blemish.load(str(folder))


@pytest.mark.parametrize("name", ["model.json", "learned.safetensors", "features.xml"])
def test_what_is_no_file_is_refused_before_it_is_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match="is not a file|is not a saved model"):
        blemish.load(str(folder))
