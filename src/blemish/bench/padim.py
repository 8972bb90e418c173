"""The tables of the paper on PaDiM (Defard et al. 2021) with its ablations and its baselines."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.bench.measure import Bench, Measured, evaluated
from blemish.bench.mvtec import GROUPS
from blemish.bench.protocol import AUPRO, IMAGE_AUROC, PIXEL_AUROC, Entry, Protocol
from blemish.bench.published import published
from blemish.bench.sources import categories, scenes
from blemish.engines import Arrays, Engine
from blemish.model import Model

if TYPE_CHECKING:
    from torch import nn

FIRST_THREE = ("layer1", "layer2", "layer3")
STRIDES = (4, 8, 16)
DIFFERS = (
    "The paper averages ten random choices of channels for Rd, and runs everything else once. Standard errors are over "
    "the seeds."
)


class SummedMaps:
    """An engine that runs several models and returns the sum of their maps; the score is its largest value."""

    name = "sum"
    names = ()

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = models

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Arrays]:
        for batch in batches:
            outputs = [next(iter(model.engine.run([batch]))) for model in self.models]
            summed = np.asarray(np.sum([maps for _, maps in outputs], 0), np.float32)
            yield summed.max((1, 2)), summed

    @property
    def explainer(self) -> Engine:
        return self

    def then(
        self,
        module: nn.Module,
        outputs: Sequence[str] = (),
        further: nn.Module | None = None,
        names: Sequence[str] = (),
    ) -> Engine:
        raise NotImplementedError

    def save(self, folder: Path, shape: tuple[int, int]) -> None:
        raise NotImplementedError


def sum_of_layers(bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
    """Returns the figures of the summed maps of a model for each layer."""
    fitted = [bench.fitted({**arguments, "layers": [layer]}) for layer in arguments["layers"]]
    model = copy.copy(fitted[0][0])
    model.recipe = replace(model.recipe, layers=tuple(arguments["layers"]))
    model.engine = SummedMaps([one for one, _ in fitted])
    return replace(evaluated(bench, model, {"fit": sum(seconds for _, seconds in fitted)}), is_whole=False)


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
    differs=DIFFERS,
)

BASELINES = Protocol(
    name="padim-baselines",
    title="PaDiM, compared with SPADE and the VAE of its paper",
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
    differs="Published figures of PaDiM and SPADE are those that the paper on FRE gives.",
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
