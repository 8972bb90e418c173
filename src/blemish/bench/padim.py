"""The tables of the paper on PaDiM (Defard et al. 2021) that its ablations are in, and its baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from blemish.bench.measure import Bench, Measured
from blemish.bench.mvtec import GROUPS
from blemish.bench.protocol import AUPRO, IMAGE_AUROC, PIXEL_AUROC, Entry, Protocol
from blemish.bench.published import published
from blemish.bench.sources import categories, scenes
from blemish.datasets import read_truth
from blemish.errors import SourceError
from blemish.metrics import PixelTally, auroc, tally

FIRST_THREE = ("layer1", "layer2", "layer3")
STRIDES = (4, 8, 16)
LARGE = (
    "The paper averages ten random choices of channels for Rd, and runs everything else once; standard errors are over "
    "the seeds."
)


def sum_of_layers(bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
    """Returns the figures of the summed maps of one model for each layer; the score is the sum's largest value."""
    layers = arguments.get("layers", FIRST_THREE)
    models, seconds = [], 0.0
    for layer in layers:
        model, taken = bench.fitted({**arguments, "layers": [layer]})
        models.append(model)
        seconds += taken
    start = time.perf_counter()
    samples, pixels = bench.dataset.test, PixelTally()
    scores, images = [], {}
    judged = zip(*(model.judge([sample.path for sample in samples]) for model in models), strict=True)
    for sample, predictions in zip(samples, judged, strict=True):
        maps = [prediction.map for prediction in predictions if prediction.map is not None]
        if len(maps) < len(models):
            raise SourceError(f"{sample.path}: cannot be read ({predictions[0].error}); see `blemish check`")
        summed = np.asarray(np.sum(maps, 0), np.float32)
        pixels.update(summed, read_truth(sample, models[0].recipe.geometry))
        scores.append(float(summed.max()))
        images[str(sample.path)] = {"kind": sample.kind, "score": scores[-1]}
    figures = {f"pixel.{name}": value for name, value in pixels.figures().items()}
    figures["image.auroc"] = auroc(tally(scores, [sample.is_anomalous for sample in samples]))
    return Measured(figures, images, {"fit": seconds, "evaluate": time.perf_counter() - start})


def _single(number: int) -> Entry:
    """Returns the entry of one layer alone, with all of its channels."""
    layer = FIRST_THREE[number - 1]
    return Entry(f"Layer {number}", {"preset": "padim-r18", "layers": [layer]}, strides=(STRIDES[number - 1],))


TABLE_1 = Protocol(
    name="padim-table-1",
    title="PaDiM, Table I: layers alone, the sum of their maps, and together",
    data="MVTec AD",
    entries=(
        _single(1),
        _single(2),
        _single(3),
        Entry(
            "Layer 1+2+3",
            {"preset": "padim-r18", "layers": list(FIRST_THREE)},
            strides=STRIDES,
            measure=sum_of_layers,
        ),
        Entry("PaDiM-R18", {"preset": "padim-r18"}, strides=STRIDES),
    ),
    figures=(PIXEL_AUROC, AUPRO),
    sources=categories,
    groups=GROUPS,
    published=published("padim-table-1"),
    reference="PaDiM-R18",
)

TABLE_2 = Protocol(
    name="padim-table-2",
    title="PaDiM, Table II: fewer dimensions, drawn at random or by principal components",
    data="MVTec AD",
    entries=(
        Entry("Rd 100", {"preset": "padim-r18-rd100"}, strides=STRIDES, draws=True, seeds=10),
        Entry("PCA 100", {"preset": "padim-r18-pca100"}, strides=STRIDES),
        Entry("Rd 200", {"preset": "padim-r18-rd200"}, strides=STRIDES, draws=True, seeds=10),
        Entry("PCA 200", {"preset": "padim-r18-pca200"}, strides=STRIDES),
        Entry("all (448)", {"preset": "padim-r18"}, strides=STRIDES),
    ),
    figures=(PIXEL_AUROC, AUPRO),
    sources=categories,
    groups=GROUPS,
    published=published("padim-table-2"),
    reference="all (448)",
    differs=LARGE,
)

BASELINES = Protocol(
    name="padim-baselines",
    title="PaDiM beside SPADE and the VAE that its paper runs",
    data="MVTec AD",
    entries=(
        Entry("PaDiM-R18-Rd100", {"preset": "padim-r18-rd100"}, strides=STRIDES, draws=True),
        Entry("PaDiM-WR50-Rd550", {"preset": "padim-wr50-rd550"}, strides=STRIDES, draws=True),
        Entry("SPADE", {"preset": "spade-wr50"}, strides=(*STRIDES, 32)),
        Entry("VAE", {"preset": "padim-vae"}, draws=True),
    ),
    figures=(IMAGE_AUROC, PIXEL_AUROC, AUPRO),
    sources=categories,
    groups={"mean": GROUPS["all"]},
    published=published("padim-baselines"),
    by_category=True,
    reference="PaDiM-R18-Rd100",
    differs="Published figures of PaDiM and SPADE are as the paper on FRE has them.",
)

STC = Protocol(
    name="padim-stc",
    title="PaDiM on frames of ShanghaiTech Campus",
    data="ShanghaiTech Campus",
    entries=(
        Entry("PaDiM-R18-Rd100", {"preset": "padim-r18-rd100-stc"}, strides=STRIDES, draws=True),
        Entry("PaDiM-WR50-Rd550", {"preset": "padim-wr50-rd550-stc"}, strides=STRIDES, draws=True),
    ),
    figures=(IMAGE_AUROC, PIXEL_AUROC),
    sources=scenes,
    reference="PaDiM-R18-Rd100",
)

PROTOCOLS = (TABLE_1, TABLE_2, BASELINES, STC)
