from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.datasets import Sample, evenly_spaced, read_truth
from blemish.errors import ImageError
from blemish.images import Geometry


@given(total=st.integers(0, 200), count=st.integers(1, 50))
def test_evenly_spaced_numbers_are_different_in_range_and_at_equal_distances(total: int, count: int) -> None:
    found = evenly_spaced(total, count)
    assert found == sorted(set(found))
    assert len(found) == min(count, total)
    assert found[:1] == [0][:total]
    assert set(found) <= set(range(total))
    if count > 1 and total:
        assert found[-1] == total - 1
        assert len(set(np.diff(found).tolist())) <= 2, "a distance, and one more where it does not divide"


def test_the_truth_is_as_large_as_the_map_and_empty_without_a_mask(tmp_path: Path) -> None:
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.new("RGB", (90, 120)).save(image)
    marked = np.zeros((120, 90), bool)
    marked[40:80, 30:60] = True
    Image.fromarray(marked).save(mask)
    whole, tiled = Geometry(64, 48), Geometry(64, 64, tile=64, overlap=16)
    for sample, share in ((Sample(image), 0.0), (Sample(image, "scratch", mask), marked.mean())):
        assert read_truth(sample, whole).shape == (64, 48)
        assert read_truth(sample, whole).mean() == pytest.approx(share, abs=0.01)
        assert read_truth(sample, tiled).shape == (120, 90)
        assert read_truth(sample, tiled).mean() == share
    Image.new("L", (8, 8)).save(mask)
    with pytest.raises(ImageError, match="save the mask at the size of its image"):
        read_truth(Sample(image, "scratch", mask), whole)
