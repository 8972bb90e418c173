from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

import blemish
from blemish.cli import app
from blemish.components import diagnose
from blemish.datasets import read_source
from blemish.detectors import DETECTORS, Trained
from blemish.errors import BadImagesError, ImageError, SettingError, ShapeError
from blemish.images import Geometry, Mosaic, Tiling, read_image, read_size, read_tile, read_tiles
from blemish.model import Model
from blemish.report import write_report
from blemish.results import write_results

TILE, OVERLAP = 64, 16
SHAPE = (150, 210)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[Tiling, int]:
    side = draw(st.integers(32, 80))
    overlap = draw(st.integers(0, side - 1) if side > 33 else st.just(0))
    return Tiling(side, min(overlap, side - 4)), draw(st.integers(side, 400))


@settings(max_examples=200, deadline=None)
@given(tilings())
def test_tiles_cover_a_side_and_share_at_least_the_overlap(drawn: tuple[Tiling, int]) -> None:
    tiling, length = drawn
    starts = tiling.starts(length)
    assert starts[0] == 0
    assert starts[-1] == length - tiling.side
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (tiling.side - steps >= tiling.overlap).all()
    assert len(starts) == 1 or len(starts) <= 1 + np.ceil((length - tiling.side) / (tiling.side - tiling.overlap))


@settings(max_examples=50, deadline=None)
@given(tilings(), st.floats(-1e3, 1e3, width=32))
def test_a_flat_map_stays_flat_whatever_the_tiles(drawn: tuple[Tiling, int], level: float) -> None:
    tiling, width = drawn
    height = tiling.side + 17
    mosaic = Mosaic(tiling, height, width)
    for place in tiling.places(height, width):
        mosaic.add(place, 1.0, np.full((tiling.side, tiling.side), level, np.float32))
    assert place.is_last
    assert np.abs(mosaic.map - level).max() <= 1e-5 * max(1.0, abs(level))


def test_tiles_that_disagree_meet_without_a_seam() -> None:
    """Between tiles whose maps differ by 1 no neighbouring pixels differ by more than a step across the overlap."""
    tiling, width = Tiling(TILE, OVERLAP), TILE + 4 * (TILE - OVERLAP)
    mosaic = Mosaic(tiling, TILE, width)
    for number, place in enumerate(tiling.places(TILE, width)):
        mosaic.add(place, 0.0, np.full((TILE, TILE), float(number % 2), np.float32))
    assert np.abs(np.diff(mosaic.map, axis=1)).max() < 1.1 / OVERLAP
    assert mosaic.map.min() == 0
    assert mosaic.map.max() == 1


def test_a_map_cut_into_tiles_is_put_together_again() -> None:
    whole = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 3).astype(np.float32)
    for tiling in (Tiling(TILE, 0), Tiling(TILE, 16), Tiling(TILE, 50)):
        mosaic = Mosaic(tiling, *SHAPE)
        for score, place in enumerate(tiling.places(*SHAPE)):
            mosaic.add(place, score, whole[place.top : place.top + TILE, place.left : place.left + TILE])
        assert np.abs(mosaic.map - whole).max() < 1e-6
        assert mosaic.score == score, "that of the worst tile"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_tiles_are_the_photographs_own_pixels_in_memory_or_outside(
    tmp_path: Path, mode: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.images.photographs.IN_MEMORY", kept)
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    geometry = Geometry(TILE, TILE, tile=TILE, overlap=OVERLAP)
    expected = read_image(tmp_path / "a.png", Geometry(*SHAPE))
    tiles = list(read_tiles(tmp_path / "a.png", geometry))
    assert len(tiles) == 3 * 5
    for number, (place, tile) in enumerate(tiles):
        assert np.array_equal(tile, expected[place.top : place.top + TILE, place.left : place.left + TILE])
        assert np.array_equal(tile, read_tile(tmp_path / "a.png", number, geometry))
    assert [tile.tolist() for _, tile in read_tiles(expected, geometry)] == [tile.tolist() for _, tile in tiles]


def test_a_photograph_lies_as_its_camera_was_held(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (first, *_, (last, _)) = read_tiles(tmp_path / "a.png", Geometry(TILE, TILE, tile=TILE, overlap=OVERLAP))
    assert (last.height, last.width) == read_size(tmp_path / "a.png") == SHAPE[::-1]
    assert np.array_equal(first[1], np.rot90(pixels, -1)[:TILE, :TILE])


def test_tiles_are_resized_to_the_models_input() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    geometry = Geometry(32, 32, tile=TILE, overlap=0)
    _, tile = next(iter(read_tiles(pixels, geometry)))
    assert tile.shape == (32, 32, 3)
    assert np.array_equal(tile, read_image(np.ascontiguousarray(pixels[:TILE, :TILE]), Geometry(32, 32)))
    alone = Tiling(TILE, 0).places(TILE, TILE)[0]
    mosaic = Mosaic(Tiling(TILE, 0), TILE, TILE).add(alone, 0.0, np.eye(32, dtype=np.float32))
    wanted = np.asarray(Image.fromarray(np.eye(32, dtype=np.float32)).resize((TILE, TILE), Image.Resampling.BILINEAR))
    assert np.array_equal(mosaic.map, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 16}, "tile 16 is out of range; give 32 to 4096 pixels"),
        ({"tile": 64, "overlap": 64}, "overlap 64 does not fit tiles of 64; give 0 to 63"),
        ({"tile": 64, "overlap": -1}, "overlap -1 does not fit"),
        ({"overlap": 8}, "--overlap is for tiles; give --tile too"),
        ({"tile": 64, "crop": 48}, "tiles cannot be cropped"),
    ],
)
def test_tilings_that_make_no_sense_are_refused(photographs: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        blemish.fit(photographs, **options)  # type: ignore[arg-type]


def test_sides_shorter_than_a_tile_have_none() -> None:
    with pytest.raises(ShapeError, match="40 pixels are fewer than a tile's 64"):
        Tiling(64, 0).starts(40)
    with pytest.raises(SettingError, match="images are not cut into tiles here"):
        _ = Geometry().tiling


@pytest.fixture(scope="session")
def tiled(photographs: Path) -> Model:
    """PaDiM on their tiles; not to be changed."""
    return blemish.fit(photographs, detector="padim", tile=TILE, overlap=OVERLAP)


def test_photographs_are_left_out_whole_and_their_tiles_are_the_samples(tiled: Model) -> None:
    assert tiled.provenance.images == len(tiled.calibration.scores) == tiled.calibration.folds == 24
    assert tiled.learned.detector.count == 24 * 15 * (1 + tiled.recipe.copies)
    assert tiled.recipe.geometry.shape == (TILE, TILE)


def test_a_photograph_is_as_anomalous_as_its_worst_tile_and_the_map_is_made_of_theirs(
    tiled: Model, photographs: Path
) -> None:
    path = photographs / "test" / "animal" / "0.png"
    (found,) = tiled.predict(path)
    assert found.map is not None
    assert found.map.shape == SHAPE
    geometry = tiled.recipe.geometry
    tiles = list(read_tiles(path, geometry))
    ((scores, maps),) = tiled.engine.run([np.stack([tile for _, tile in tiles])])
    assert found.score == scores.max()
    mosaic = Mosaic(geometry.tiling, *SHAPE)
    for (place, _), score, values in zip(tiles, scores, maps, strict=True):
        mosaic.add(place, score, values)
    assert np.array_equal(found.map, mosaic.map)
    (again,) = tiled.predict(np.array(Image.open(path)))
    assert np.array_equal(again.map, found.map), "an array is a photograph too"  # type: ignore[arg-type]


def test_animals_are_boxed_in_the_photographs_own_pixels(tiled: Model, photographs: Path) -> None:
    for prediction in tiled.predict(photographs / "test" / "animal"):
        assert prediction.is_anomaly
        best = prediction.boxes[0]
        assert best.top < 106 < best.bottom
        assert best.left < 159 < best.right
    for prediction in tiled.predict(photographs / "train" / "good"):
        assert prediction.score <= max(tiled.calibration.scores)


def test_evaluation_is_at_the_photographs_own_size(tiled: Model, photographs: Path, tmp_path: Path) -> None:
    found = blemish.evaluate(tiled, photographs)
    assert found.image["auroc"] == 1
    assert (found.pixel["auroc"] or 0) > 0.95
    assert found.boxes["true"] == 2
    write_report(tiled, found, tmp_path / "report.html")
    assert '"size":[150,210]' in (tmp_path / "report.html").read_text()


def test_an_evaluation_counts_the_boxes_that_the_data_set_has(tiled: Model, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "test", tmp_path / "images")
    names = sorted(path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.png"))
    animals = [number for number, name in enumerate(names) if name.startswith("animal")]
    boxes = ([150, 100, 9, 12], [159, 100, 9, 12])  # two animals that touch, of which a mask would make one
    content = {
        "images": [{"id": id, "file_name": name, "height": 150, "width": 210} for id, name in enumerate(names)],
        "annotations": [{"image_id": id, "category_id": 1, "bbox": box} for id in animals for box in boxes],
        "categories": [{"id": 1, "name": "cow"}],
    }
    (tmp_path / "herd.json").write_text(json.dumps(content))
    found = blemish.evaluate(tiled, f"coco:{tmp_path / 'herd.json'}")
    assert found.boxes["true"] == 4
    assert (found.pixel["auroc"] or 0) > 0.95
    assert found.per_class["cow"]["count"] == 2


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_takes_tiles_and_a_saved_model_cuts_as_it_did(
    name: str, photographs: Path, tmp_path: Path
) -> None:
    small = {"epochs": 1} if issubclass(DETECTORS[name], Trained) else {}
    if name.startswith("vae"):
        small |= {"latent": 8, "drawn": 32}
    some = read_source(photographs)
    model = blemish.fit(replace(some, train=some.train[:6]), detector=name, settings=small, tile=TILE, overlap=OVERLAP)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.recipe.geometry == model.recipe.geometry
    path = photographs / "test" / "animal" / "0.png"
    (one,), (other,) = model.predict(path), loaded.predict(path)
    assert one.score == other.score
    assert np.array_equal(one.map, other.map)  # type: ignore[arg-type]


def test_the_worst_tile_is_explained(tiled: Model, photographs: Path) -> None:
    path = photographs / "test" / "animal" / "0.png"
    explanation = tiled.explain(path)
    (prediction,) = tiled.predict(path)
    assert explanation.score == pytest.approx(prediction.score, rel=1e-5)
    assert explanation.tile is not None
    top, left, side = explanation.tile
    assert side == TILE
    assert top <= 106 < top + TILE
    assert left <= 159 < left + TILE
    assert explanation.as_dict()["tile"] == {"x": left, "y": top, "side": TILE}
    column, row = explanation.place
    assert (row - top, column - left) == explanation.peak, "in the photograph's own pixels"
    inside = [(box.top + top, box.left + left) for box in explanation.boxes]
    assert [(box.top, box.left) for box in explanation.boxes_in_image] == inside != []
    assert explanation.image.shape == (TILE, TILE, 3)


def test_photographs_far_larger_than_those_that_calibrated_are_warned_of_once(
    tiled: Model, photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [np.asarray(Image.open(path)) for path in sorted((photographs / "train" / "good").glob("*.png"))[:10]]
    large = [np.tile(image, (2, 2, 1)) for image in good]
    assert len(list(tiled.predict([good[0], large[0], large[1]]))) == 3
    (said,) = caplog.messages
    assert said.startswith("image 2 has 54 tiles; the photographs that set the threshold have at most 15. The highest")
    caplog.clear()
    again = blemish.calibrate(tiled, large, false_alarm_rate=0.1)
    assert len(list(again.predict(large[:2]))) == 2
    assert not caplog.messages, "it was calibrated on photographs of this size"


def test_components_are_not_surveyed_over_tiles(photographs: Path, tmp_path: Path) -> None:
    model = blemish.fit(photographs, detector="gaussian", tile=TILE)
    with pytest.raises(SettingError, match="surveyed over whole images, not tiles"):
        diagnose(model, read_source(photographs).train)


def test_a_photograph_smaller_than_a_tile_is_named(tiled: Model, photographs: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (50, 300)).save(small)
    paths: list[str | Path] = [small, photographs / "test" / "good" / "0.png", tmp_path / "none.png"]
    Image.new("RGB", (9, 9)).save(tmp_path / "none.png")
    first, second, third = tiled.predict(paths, errors="keep")  # type: ignore[arg-type]
    assert first.error == (
        "is 300x50, smaller than the model's tiles of 64; leave it out, or fit with a smaller --tile"
    )
    assert second.error is None
    assert third.error is not None
    with pytest.raises(ImageError, match="smaller than the model's tiles"):
        tiled.explain(small)
    with pytest.raises(BadImagesError, match="is 150x210, smaller than the model's tiles of 256"):
        blemish.fit(photographs, tile=256)


def test_a_full_disk_is_said_to_be_full(
    tiled: Model, photographs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("blemish.images.photographs.IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", _full)
    (prediction,) = tiled.predict(photographs / "test" / "good" / "0.png", errors="keep")
    assert prediction.error is not None
    assert "for its pixels (No space left on device); make some, or set TMPDIR" in prediction.error


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_large_photographs_are_shown_small_with_their_peaks(
    tiled: Model, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.model.picture.LONGEST", 70)
    predictions = tiled.predict(photographs / "test" / "animal")
    list(write_results(tiled, predictions, tmp_path / "out"))
    with Image.open(tmp_path / "out" / "maps" / "0.jpg") as picture:
        assert picture.size == (70, 50)


def test_the_command_fits_and_predicts_on_tiles(photographs: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    model = str(tmp_path / "model")
    words = ["fit", str(photographs), "-o", model, "--tile", "64", "--overlap", "16", "--json"]
    fitted = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(fitted.stdout)["input"] == [64, 64]
    assert "24 photographs, 360 tiles in all" in fitted.stderr
    words = ["predict", model, str(photographs / "test" / "animal"), "--json", "--out", str(tmp_path / "o"), "--maps"]
    CliRunner().invoke(app, [*words, "npy"], catch_exceptions=False)
    assert np.load(tmp_path / "o" / "maps" / "0.npy").shape == SHAPE
