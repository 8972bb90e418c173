"""The tables of the paper on HFR (Chen et al. 2024)."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from blemish.bench.kept import free, kept_models
from blemish.bench.mvtec import MEAN
from blemish.bench.protocol import AUPRO, IMAGE_AUROC, PIXEL_AUROC, Drawing, Entry, Protocol, Shown
from blemish.bench.published import published
from blemish.bench.sources import CLASSES, ONE_CLASS, all_classes, categories

STRIDES = (4, 8, 16)
ENTRIES = (
    Entry("HFR (ResNet-18)", {"preset": "hfr-r18"}, strides=STRIDES, draws=True),
    Entry("HFR (Wide ResNet-50-2)", {"preset": "hfr-wr50"}, strides=STRIDES, draws=True),
)
DIFFERS = (
    "The paper does not give epochs, batch or the width inside its blocks. Here 20 of the good images are held "
    "out for the threshold. Training stops early, by the loss on a tenth of the others, 64 at most. The learning rate "
    "stays at 0.4."
)


def draw(drawing: Drawing) -> list[str]:
    """Draws the paper's Fig. 3: image, truth, each layer's residual map, and the map."""
    from blemish.report.layers import draw_layers

    names = []
    for result, model, dataset in kept_models(drawing):
        place = free(drawing, result.category, result.entry)
        Image.fromarray(draw_layers(model, dataset, drawing.pick or 3)).save(place)
        names.append(place.name)
    return names


def _table(number: int, title: str, figure: Shown) -> Protocol:
    return Protocol(
        name=f"hfr-table-{number}",
        title=f"HFR, Table {number}: {title}",
        data="MVTec AD",
        entries=ENTRIES,
        figures=(figure,),
        sources=categories,
        groups=MEAN,
        published=published(f"hfr-table-{number}"),
        by_category=True,
        reference=ENTRIES[0].name,
        draw=draw,
        pictured=tuple(entry.name for entry in ENTRIES),
        differs=DIFFERS,
    )


ONE_CLASS_TABLE = replace(
    _table(2, "each class in turn is good, the others are anomalous", IMAGE_AUROC),
    data="MNIST, Fashion-MNIST and CIFAR-10",
    sources=all_classes,
    groups={name: tuple(f"{name}/{number}" for number in range(CLASSES)) for name in ONE_CLASS},
    differs=f"The paper does not give the size to which images are enlarged; here it is 256. {DIFFERS}",
)

PROTOCOLS = (
    _table(1, "detection", IMAGE_AUROC),
    ONE_CLASS_TABLE,
    _table(3, "localisation", PIXEL_AUROC),
    _table(4, "localisation, by region", AUPRO),
)
