"""Neighbours and correspondences against loops, scipy and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

import blemish
from blemish.detectors import SPADE, make_detector
from blemish.detectors.scoring import Scoring
from blemish.detectors.spade.gallery import Gallery
from blemish.detectors.spade.pyramid import Pyramid
from blemish.engines.openvino_graph import Graph
from blemish.errors import MemoryLimitError, SettingError, ShapeError
from blemish.fitting import plan as planning
from blemish.model import Model

GRIDS = [(3, 16, 12), (4, 8, 6), (5, 4, 3), (7, 2, 2)]


def features(count: int, seed: int, grids: list[tuple[int, int, int]] | None = None, mean: float = 2.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [mean + torch.randn(count, *grid, generator=generator) for grid in grids or GRIDS]


def scored(detector: SPADE, fresh: list[Tensor]) -> tuple[Tensor, Tensor]:
    head = detector.head()
    coarse = head(tuple(fresh))
    return head.score(tuple(fresh), coarse, coarse), coarse


def slow_vectors(layers: list[Tensor]) -> np.ndarray:
    """Of all layers but the last, on a grid of 8 × 6: (B, P, D)."""
    fine, middle, coarse = (layer.double() for layer in layers[:-1])
    blocks = fine.unflatten(3, (6, 2)).unflatten(2, (8, 2)).mean((3, 5))
    grown = F.interpolate(coarse, (8, 6), mode="bilinear", align_corners=False)
    return torch.cat([blocks, middle, grown], 1).movedim(1, -1).flatten(1, 2).numpy()


def slow_spade(
    train: list[Tensor], fresh: list[Tensor], neighbours: int, correspondences: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image by image and position by position."""
    known, new = (layers[-1].double().mean((2, 3)).numpy() for layers in (train, fresh))
    neighbours = min(neighbours, len(known))
    distances, nearest = NearestNeighbors(n_neighbors=neighbours).fit(known).kneighbors(new)
    gallery, queries = slow_vectors(train), slow_vectors(fresh)
    maps = np.zeros((len(new), 48))
    for image in range(len(new)):
        rows = np.concatenate([gallery[other] for other in nearest[image]])
        for position in range(48):
            apart = cdist(queries[image, position][None], rows)[0]
            maps[image, position] = np.sort(apart)[:correspondences].mean()
    return distances.mean(1), maps.reshape(-1, 8, 6)


@pytest.mark.parametrize(("neighbours", "correspondences"), [(1, 1), (4, 1), (4, 3), (50, 1), (2, 60), (1, 1000)])
def test_score_and_map_equal_a_loop_over_images_and_positions(neighbours: int, correspondences: int) -> None:
    detector = SPADE(neighbours=neighbours, correspondences=correspondences, side=8)
    train, fresh = features(9, 0), features(3, 1)
    for start in range(0, 9, 4):
        detector.update([layer[start : start + 4] for layer in train])
    score, coarse = scored(detector, fresh)
    wanted_score, wanted_map = slow_spade(train, fresh, neighbours, correspondences)
    assert np.abs(score.numpy() / wanted_score - 1).max() < 1e-5
    assert np.abs(coarse.numpy() / wanted_map - 1).max() < 1e-5


def test_a_large_mean_and_small_differences_lose_nothing() -> None:
    train, fresh = features(9, 0, mean=1000.0), features(3, 1, mean=1000.0)
    score, coarse = scored(SPADE(neighbours=4, side=8).update(train), fresh)
    wanted_score, wanted_map = slow_spade(train, fresh, 4, 1)
    assert np.abs(score.numpy() / wanted_score - 1).max() < 1e-3
    assert np.abs(coarse.numpy() / wanted_map - 1).max() < 1e-3


def test_an_image_that_was_learned_is_at_distance_zero_up_to_rounding() -> None:
    train = features(9, 0)
    score, coarse = scored(SPADE(neighbours=1).update(train), [layer[:4] for layer in train])
    assert float(score.abs().max()) < 1e-5
    assert float(coarse.abs().max()) < 1e-5


def test_one_image_alone_is_enough() -> None:
    train, fresh = features(1, 0), features(3, 1)
    score, coarse = scored(SPADE(side=8).update(train), fresh)
    wanted_score, wanted_map = slow_spade(train, fresh, 5, 1)
    assert np.abs(score.numpy() / wanted_score - 1).max() < 1e-5
    assert np.abs(coarse.numpy() / wanted_map - 1).max() < 1e-5


@pytest.mark.parametrize("correspondences", [1, 3])
def test_layers_add_up_to_the_map_and_are_named(correspondences: int) -> None:
    train, fresh = features(9, 0), features(3, 1)
    head = SPADE(correspondences=correspondences).update(train).head()
    assert head.adds_up
    assert [part.layers for part in head.parts] == [(0,), (1,), (2,)], "the coarsest makes the score alone"
    maps = head.layers(tuple(fresh))
    assert torch.allclose(torch.stack(maps).sum(0), head(tuple(fresh)), rtol=1e-5)
    same = head.layers(tuple(layer[:2] for layer in train))
    assert all(bool(layer.isfinite().all()) for layer in same)


@pytest.mark.parametrize(
    ("grids", "side", "expected"),
    [
        (GRIDS, 32, Pyramid(3, (0, 1, 2), (3, 4, 5), (16, 12))),
        (GRIDS, 8, Pyramid(3, (0, 1, 2), (3, 4, 5), (8, 6))),
        (GRIDS, 1, Pyramid(3, (0, 1, 2), (3, 4, 5), (1, 1))),
        (GRIDS[::-1], 32, Pyramid(0, (1, 2, 3), (5, 4, 3), (16, 12))),
        (GRIDS[:1], 32, Pyramid(0, (0,), (3,), (16, 12))),
        ([(3, 8, 8), (4, 8, 8)], 32, Pyramid(1, (0,), (3,), (8, 8))),
        ([(3, 1, 90), (4, 1, 9)], 32, Pyramid(1, (0,), (3,), (1, 32))),
    ],
)
def test_the_coarsest_layer_tells_of_the_image_and_the_others_of_its_positions(
    grids: list[tuple[int, int, int]], side: int, expected: Pyramid
) -> None:
    assert Pyramid.of(grids, side) == expected
    detector = SPADE(side=side).update(features(4, 0, grids))
    score, coarse = scored(detector, features(2, 1, grids))
    assert coarse.shape == (2, *expected.grid)
    assert bool((score > 0).all())


def test_a_grid_that_a_layer_does_not_divide_is_averaged_over_blocks_as_torch_has_them() -> None:
    layers = features(2, 0, [(3, 15, 13), (4, 5, 5)])
    joined = Pyramid.of([(3, 15, 13), (4, 5, 5)], 10).joined(layers)
    assert torch.equal(joined.transpose(1, 2).unflatten(2, (10, 9)), F.adaptive_avg_pool2d(layers[0], (10, 9)))


def test_the_parts_of_a_split_merged_score_as_the_whole() -> None:
    train, fresh = features(11, 0), features(3, 1)
    whole = SPADE(neighbours=4).update(train)
    parts = [SPADE(neighbours=4).update([layer[part] for layer in train]) for part in (slice(8, 11), slice(8))]
    merged = parts[0].merge(parts[1])
    assert merged.count == 11
    assert merged.summary() == whole.summary() == {"vectors": 11 * 16 * 12, "dimensions": 12}
    for found, wanted in zip(scored(merged, fresh), scored(whole, fresh), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("grids", [GRIDS, GRIDS[1:3], [(3, 15, 13), (4, 5, 5)]])
@pytest.mark.parametrize("correspondences", [1, 3])
def test_the_graph_gives_the_scores_and_maps_of_torch_for_any_number_of_images(
    grids: list[tuple[int, int, int]], correspondences: int
) -> None:
    detector = SPADE(neighbours=4, correspondences=correspondences, side=8).update(features(9, 0, grids))
    scoring = Scoring(detector, (64, 48))
    examples = tuple(torch.zeros(2, *grid) for grid in grids)
    names = [f"features{index}" for index in range(len(grids))]
    graph = Graph.from_module("scoring", scoring, (examples,), names, ("score", "map"), batch=-1)
    for count in (1, 5):
        fresh = features(count, 1, grids)
        with graph.requests("LATENCY") as (request, *_):
            request.infer([layer.numpy() for layer in fresh])
            found = [tensor.data.copy() for tensor in request.output_tensors]
        for ours, wanted in zip(found, scoring.arrays(fresh), strict=True):
            assert np.allclose(ours, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"neighbours": 0}, "neighbours is 0; expected a whole number from 1 to"),
        ({"correspondences": 0}, "correspondences is 0; expected a whole number from 1 to"),
        ({"side": 0}, "side is 0; expected a whole number from 1 to"),
        ({"k": 5}, "no setting 'k'; it has smoothing, interpolation, neighbours"),
    ],
)
def test_settings_out_of_range_or_misspelt_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        make_detector("spade", settings)


def test_a_gallery_keeps_all_vectors_in_their_order() -> None:
    vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    gallery = Gallery.empty(3)
    for batch in vectors.split(7):
        gallery.update(batch)
    assert gallery.count == 40
    assert torch.equal(gallery.finish(), vectors)
    assert torch.equal(Gallery.empty(3).merge(gallery).finish(), vectors)
    with pytest.raises(ShapeError, match=r"\(n, 3\)"):
        gallery.update(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="of 3 and of 4"):
        gallery.merge(Gallery.empty(4))


def test_a_gallery_made_again_shares_nothing_that_is_written_later() -> None:
    vectors = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    gallery = Gallery.empty(3).update(vectors[:8]).update(vectors[8:9])
    again = Gallery.from_tensors(gallery.tensors())
    gallery.update(vectors[9:10])
    again.update(vectors[11:])
    assert torch.equal(gallery.finish(), vectors[:10])
    assert torch.equal(again.finish(), torch.cat([vectors[:9], vectors[11:]]))


def test_memory_grows_with_the_images_and_a_fit_that_would_not_have_it_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (SPADE().memory(GRIDS, images, 32) for images in (10, 1000))
    assert many - few >= 990 * 4 * 16 * 12 * 12
    monkeypatch.setattr(planning, "memory_limits", lambda: (800_000_000, 801_000_000))
    with pytest.raises(MemoryLimitError, match="another detector"):
        blemish.fit(tree, detector="spade", size=64)


def test_a_saved_model_gives_the_same_scores_on_both_engines_and_explains_itself(tree: Path, tmp_path: Path) -> None:
    model = blemish.fit(tree, detector="spade", size=64)
    assert model.learned.detector.count == model.provenance.images, "every image is kept"
    assert model.provenance.learned["vectors"] == model.provenance.images * 16 * 16
    model.save(tmp_path / "m")
    paths = sorted((tree / "test").glob("*/*.png"))
    wanted = list(model.predict(paths))
    for engine in ("openvino", "torch"):
        for found, before in zip(Model.load(tmp_path / "m", engine=engine).predict(paths), wanted, strict=True):
            assert found.map is not None
            assert before.map is not None
            assert found.score == pytest.approx(before.score, rel=1e-3)
            assert np.abs(found.map - before.map).max() <= 1e-3 * np.abs(before.map).max()
    explanation = model.explain(paths[0])
    shares = [cause.share for cause in explanation.layers]
    assert len(shares) == 3
    assert sum(share for share in shares if share is not None) == pytest.approx(1, abs=1e-4)


def test_the_map_finds_the_scratches(tree: Path) -> None:
    found = blemish.evaluate(blemish.fit(tree, detector="spade", size=64), tree)
    assert (found.pixel["auroc"] or 0) > 0.9
