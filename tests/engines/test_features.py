from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.engines.features import Variety
from blemish.errors import DegenerateError, ImageError


def variety(*values: float) -> Variety:
    found = Variety()
    for value in values:
        found.update([np.full((1, 2, 3, 3), value, np.float32)])
    return found


@given(values=st.lists(st.sampled_from([1.0, 2.0]), max_size=6), cut=st.integers(0, 6))
def test_the_variety_of_parts_is_that_of_the_whole(values: list[float], cut: int) -> None:
    merged, whole = variety(*values[:cut]).merge(variety(*values[cut:])), variety(*values)
    assert (merged.count, merged.found) == (whole.count, whole.found)


def test_pictures_that_are_all_the_same_are_refused_also_in_parts() -> None:
    with pytest.raises(DegenerateError, match="all 4 images"):
        variety(1, 1).merge(variety(1, 1)).check("parts")
    variety(1, 1).merge(variety(2, 2)).check("parts")


def test_an_error_of_an_image_is_the_same_in_another_process() -> None:
    found = pickle.loads(pickle.dumps(ImageError(Path("a.png"), "is no image")))  # noqa: S301  # our own bytes
    assert (type(found), found.path, found.reason, str(found)) == (
        ImageError,
        Path("a.png"),
        "is no image",
        "a.png: is no image",
    )
