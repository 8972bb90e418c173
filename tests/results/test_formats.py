from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from by_hand import FIRST, SECOND, made_up_model, predicted
from PIL import Image

from blemish.datasets import read_source
from blemish.errors import SettingError, StorageError
from blemish.model import Prediction
from blemish.results import stream_results, write_results
from geotiffs import DEGREES, UTM, write


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "images"


@pytest.fixture(scope="module")
def predictions(images: Path) -> list[Prediction]:
    return [
        predicted(images / "a" / "0.png", 50.0, (FIRST, SECOND)),
        predicted(images / "b" / "0.png", 2.0),
        predicted(images / "b" / "bad.png", 0.0, error="is empty"),
    ]


@pytest.fixture(scope="module")
def written(images: Path, predictions: list[Prediction], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "out"
    formats = ["jsonl", "csv", "coco", "yolo", "geojson"]
    found = write_results(made_up_model(), predictions, folder, "npy", sources=[images], formats=formats)
    assert list(found) == predictions
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def streamed(form: str, predictions: list[Prediction], *sources: Path) -> str:
    file = io.StringIO()
    list(stream_results(made_up_model(), predictions, file, form, sources=sources))
    return file.getvalue()


def test_maps_are_in_the_folders_of_the_source_and_the_lines_name_them(written: Path) -> None:
    lines = [json.loads(line) for line in (written / "results.jsonl").read_text().splitlines()]
    assert [line.get("map") for line in lines] == ["maps/a/0.npy", "maps/b/0.npy", None]
    assert np.load(written / "maps" / "a" / "0.npy").shape == (64, 64)


def test_tables_have_a_line_an_image_and_a_line_a_box(written: Path) -> None:
    images = table(written / "images.csv")
    assert [row["image"] for row in images] == ["a/0.png", "b/0.png", "b/bad.png"]
    first, second, bad = images
    assert (first["is_anomaly"], first["boxes"], first["area"], first["p_value"]) == ("true", "2", "980", "0.05")
    assert (second["is_anomaly"], second["boxes"]) == ("false", "0")
    assert (bad["error"], bad["score"], bad["is_anomaly"]) == ("is empty", "", "")
    boxes = table(written / "boxes.csv")
    assert [(row["image"], row["box"], row["centre_row"], row["centre_column"], row["area"]) for row in boxes] == [
        ("a/0.png", "1", "20.0", "40.0", "700"),
        ("a/0.png", "2", "55.0", "115.0", "280"),
    ]
    assert [row["p_value"] for row in boxes] == ["0.05", "0.1"], "19 good maps, one of them has a peak of 19"
    assert boxes[0]["crs"] == ""


def test_a_spreadsheet_takes_no_name_for_a_formula(tmp_path: Path) -> None:
    name = "=HYPERLINK(1).png"
    told = streamed("csv", [predicted(tmp_path / name, 2.0)], tmp_path)
    assert next(csv.DictReader(io.StringIO(told)))["image"] == f"'{name}"


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_a_name_that_no_encoding_has_is_in_every_file(tmp_path: Path) -> None:
    found = predicted(tmp_path / "new" / "x.png", 50.0, (FIRST,))
    assert isinstance(found.path, Path)
    path = found.path.rename(found.path.with_name(os.fsdecode(b"caf\xe9.png")))
    found = replace(found, path=path)
    formats = ["csv", "coco", "yolo", "geojson"]
    model = made_up_model()
    list(write_results(model, [found], tmp_path / "out", "npy", sources=[tmp_path], formats=formats, review=True))
    assert table(tmp_path / "out" / "images.csv")[0]["image"] == r"new/caf\udce9.png"
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["images"][0]["file_name"] == "new/caf\udce9.png"
    assert (tmp_path / "out" / "maps" / "new" / "caf_.npy").is_file()
    assert (tmp_path / "out" / "review" / "new" / "caf_.jpg").is_file()
    list(write_results(model, [found], tmp_path / "out", "none", force=True))


def test_cocos_json_is_read_back_beside_the_images(written: Path, images: Path) -> None:
    content = json.loads((written / "coco.json").read_text())
    assert content["unreadable"] == ["b/bad.png"]
    assert [image["score"] for image in content["images"]] == [50.0, 2.0]
    assert content["annotations"][0] | {"p_value": 0} == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 40, 20], "area": 700, "iscrowd": 0, "score": 40.0,
        "p_value": 0,
    }  # fmt: skip
    (images / "coco.json").write_text((written / "coco.json").read_text())
    dataset = read_source(f"coco:{images}/coco.json")
    (anomalous,) = [sample for sample in dataset.test if sample.is_anomalous]
    assert anomalous.kind == "anomaly"
    assert anomalous.path == images / "a" / "0.png"
    assert anomalous.mask is not None
    assert sorted(anomalous.mask.boxes) == [(10, 20, 30, 60), (50, 100, 60, 130)]  # type: ignore[union-attr]


def test_yolos_texts_are_read_back_beside_the_images(written: Path, images: Path) -> None:
    assert (written / "labels" / "a" / "0.txt").read_text().splitlines()[
        0
    ] == "0 0.200000 0.200000 0.200000 0.200000 0.950000"
    assert (written / "labels" / "b" / "0.txt").read_text() == ""
    assert not (written / "labels" / "b" / "bad.txt").exists()
    for text in (written / "labels").rglob("*.txt"):
        (images.parent / text.relative_to(written)).parent.mkdir(parents=True, exist_ok=True)
        (images.parent / text.relative_to(written)).write_text(text.read_text())
    dataset = read_source(f"yolo:{images.parent}")
    (anomalous,) = [sample for sample in dataset.test if sample.is_anomalous]
    assert anomalous.kind == "anomaly"
    assert anomalous.mask.boxes[0] == pytest.approx((0.1, 0.1, 0.3, 0.3))  # type: ignore[union-attr]


def test_geojson_of_plain_images_is_in_pixels_as_qgis_shows_them(written: Path) -> None:
    content = json.loads((written / "boxes.geojson").read_text())
    assert content["crs"] is None
    kinds = [feature["properties"]["kind"] for feature in content["features"]]
    assert kinds == ["image", "box", "box", "image", "image"]
    image, box, *_, bad = content["features"]
    assert image["properties"]["boxes"] == 2
    assert box["properties"]["centre_column"] == 40.0
    assert box["geometry"]["coordinates"] == [[[20, -30], [60, -30], [60, -10], [20, -10], [20, -30]]]
    assert bad["geometry"] is None
    assert bad["properties"]["error"] == "is empty"


def located(path: Path, keys: list[int], scale: float) -> Path:
    return write(path, keys, (100, 200), scale=(scale, scale, 0.0), tie=(0.0, 0.0, 0.0, 10.0, 50.0, 0.0))


def test_geojson_has_the_coordinates_of_the_first_image_and_none_of_images_in_others(tmp_path: Path) -> None:
    metres = located(tmp_path / "metres.tif", UTM, 0.5)
    degrees = located(tmp_path / "degrees.tif", DEGREES, 1e-5)
    found = [predicted(metres, 50.0, (FIRST,)), predicted(degrees, 50.0, (FIRST,))]
    content = json.loads(streamed("geojson", found, tmp_path))
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    _, box, other, _ = content["features"]
    assert box["geometry"]["coordinates"][0][0] == [20.0, 35.0], "10 + 0.5 · 20, 50 - 0.5 · 30"
    assert (box["properties"]["x"], box["properties"]["ground_area"], box["properties"]["ground_unit"]) == (
        30.0, 175.0, "square metre",
    )  # fmt: skip
    assert other["geometry"] is None
    assert other["properties"]["crs"] == "EPSG:4326"
    alone = json.loads(streamed("geojson", found[1:], tmp_path))
    assert "crs" not in alone, "longitude and latitude, as RFC 7946 wants"
    (row,) = csv.DictReader(io.StringIO(_boxes(found[:1], tmp_path)))
    assert (row["x"], row["y"], row["crs"], row["ground_area"]) == ("30.0", "40.0", "EPSG:32633", "175.0")


def _boxes(found: list[Prediction], folder: Path) -> str:
    list(write_results(made_up_model(), found, folder / "out", "none", formats=["csv"]))
    return (folder / "out" / "boxes.csv").read_text()


def test_documents_of_no_image_are_whole(tmp_path: Path) -> None:
    assert json.loads(streamed("coco", []))["images"] == []
    assert json.loads(streamed("geojson", [])) == {"type": "FeatureCollection", "features": []}


def test_what_is_no_single_document_or_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="yolo writes a file for each image; give --out DIR"):
        list(stream_results(made_up_model(), [], io.StringIO(), "yolo"))
    with pytest.raises(SettingError, match="format 'xml' is not known; give one of jsonl, csv, coco, yolo, geojson"):
        list(write_results(made_up_model(), [], tmp_path / "out", formats=["xml"]))
    with pytest.raises(SettingError, match="maps 'png' is not known; give one of none, overlay, heat, npy"):
        list(write_results(made_up_model(), [], tmp_path / "out", "png"))


def test_a_folder_with_folders_is_replaced_only_if_nobody_changed_it(
    images: Path, predictions: list[Prediction], tmp_path: Path
) -> None:
    def write_again() -> Iterator[Prediction]:
        return write_results(made_up_model(), predictions, tmp_path / "out", "npy", sources=[images], force=True)

    list(write_again())
    list(write_again())
    (tmp_path / "out" / "maps" / "a" / "mine.txt").write_text("note")
    with pytest.raises(StorageError, match="holds maps/a/mine.txt, which blemish did not write"):
        list(write_again())
    (tmp_path / "out" / "maps" / "a" / "mine.txt").unlink()
    (tmp_path / "out" / "maps" / "a" / "0.npy").write_bytes(b"changed")
    with pytest.raises(StorageError, match=r"maps/a/0.npy was changed after blemish wrote it"):
        list(write_again())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".blemish")]


def test_a_picture_of_a_crop_shows_the_whole_image(tmp_path: Path) -> None:
    from blemish.images import Geometry
    from blemish.model.picture import uncropped

    model = made_up_model()
    model.recipe.geometry = Geometry(64, 64, crop=32)
    values = np.full((32, 32), 7.0, np.float32)
    whole, (box,) = uncropped(
        model.recipe.geometry, model.calibration.display[0], values, [FIRST.moved(0, 0, (0.5, 0.5))]
    )
    assert whole.shape == (64, 64)
    assert (whole[16:48, 16:48] == 7).all()
    assert (whole == 0).sum() == 64 * 64 - 32 * 32
    assert (box.top, box.left) == (16 + 5, 16 + 10)
    assert isinstance(Image.fromarray(whole), Image.Image)
