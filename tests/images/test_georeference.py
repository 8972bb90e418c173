from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from blemish.images import read_georeference
from geotiffs import DEGREES, UTM, write


def test_a_projected_image_gives_metres_and_its_coordinate_system(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", UTM, scale=(0.5, 0.25, 0.0), tie=(0.0, 0.0, 0.0, 400_000.0, 5_000_000.0, 0.0))
    found = read_georeference(file)
    assert found is not None
    assert (found.crs, found.unit, found.area_unit) == ("EPSG:32633", "metre", "square metre")
    assert found.place(4, 2) == (400_001.0, 4_999_999.0)
    assert found.area(80, 4, 2) == 10.0


def test_degrees_give_longitude_and_latitude_and_square_metres(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", DEGREES, scale=(1e-5, 1e-5, 0.0), tie=(0.0, 0.0, 0.0, 9.0, 60.0, 0.0))
    found = read_georeference(file)
    assert found is not None
    assert found.crs == "EPSG:4326"
    assert found.place(0, 100) == pytest.approx((9.001, 60.0))
    metres = 1e-5 * math.pi / 180 * 6_371_008.8
    assert found.area(100, 0, 0) == pytest.approx(100 * metres**2 * 0.5), "a degree of longitude is half as long there"


def test_points_count_from_the_middle_of_a_pixel_and_a_matrix_may_turn(tmp_path: Path) -> None:
    points = [*UTM[:11], 2, *UTM[12:]]
    file = write(tmp_path / "a.tif", points, scale=(2.0, 2.0, 0.0), tie=(0.0, 0.0, 0.0, 100.0, 200.0, 0.0))
    found = read_georeference(file)
    assert found is not None
    assert found.place(0.5, 0.5) == (100.0, 200.0)
    turned = (0.0, -1.0, 0.0, 50.0, 1.0, 0.0, 0.0, 70.0, *[0.0] * 7, 1.0)
    found = read_georeference(write(tmp_path / "b.tif", UTM, matrix=turned))
    assert found is not None
    assert found.place(3, 2) == (47.0, 72.0)


def test_tags_that_say_nothing_or_nonsense_give_none(tmp_path: Path) -> None:
    tie, scale = (0.0, 0.0, 0.0, 1.0, 2.0, 0.0), (1.0, 1.0, 0.0)
    assert read_georeference(write(tmp_path / "no.tif")) is None
    assert read_georeference(write(tmp_path / "ties.tif", UTM, tie=tie * 3, scale=scale)) is None
    assert read_georeference(write(tmp_path / "nan.tif", UTM, tie=tie, scale=(math.nan, 1.0, 0.0))) is None
    assert read_georeference(write(tmp_path / "flat.tif", UTM, tie=tie, scale=(0.0, 1.0, 0.0))) is None
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert read_georeference(tmp_path / "a.png") is None
    for name, keys in (("short", [1, 1, 0, 60_000, 1024]), ("own", [*UTM[:15], 32767, *UTM[16:]]), ("none", None)):
        found = read_georeference(write(tmp_path / f"{name}.tif", keys, tie=tie, scale=scale))
        assert found is not None, name
        assert found.crs == "unknown", name
