"""The tables and figures of the paper on FRE (Ndiour et al. 2023)."""

from __future__ import annotations

from blemish.bench.measure import fit_and_time
from blemish.bench.mvtec import MEAN
from blemish.bench.protocol import AUPRO, IMAGE_AUROC, PIXEL_AUROC, Entry, Protocol, Shown
from blemish.bench.published import published
from blemish.bench.sources import categories

MIDDLE, THREE = (8,), (4, 8, 16)
B5 = Entry("FRE (EfficientNet-B5)", {"preset": "fre-effb5-1l"}, strides=(16,))
NETWORKS = {"ResNet-18": "r18", "ResNet-50": "r50", "VGG16": "vgg16", "EfficientNet-B5": "effb5"}
LAYERS = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


def _one(network: str, name: str | None = None) -> Entry:
    return Entry(name or f"{network} 1L", {"preset": f"fre-{NETWORKS[network]}-1l"}, strides=MIDDLE)


def _three(network: str) -> Entry:
    return Entry(f"{network} 3L", {"preset": f"fre-{NETWORKS[network]}-3l"}, strides=THREE)


FIFTY = (_one("ResNet-50"), _three("ResNet-50"))
EACH = tuple(
    entry
    for network in ("EfficientNet-B5", "VGG16", "ResNet-18", "ResNet-50")
    for entry in (_one(network), _three(network))
)


def _table(
    number: int,
    title: str,
    entries: tuple[Entry, ...],
    *figures: Shown,
    by_category: bool = True,
    data: str = "MVTec AD",
) -> Protocol:
    return Protocol(
        name=f"fre-table-{number}",
        title=f"FRE, Table {number}: {title}",
        data=data,
        entries=entries,
        figures=figures,
        sources=categories,
        groups=MEAN if data == "MVTec AD" else {},
        published=published(f"fre-table-{number}"),
        by_category=by_category,
        reference=entries[-1].name,
    )


PROTOCOLS = (
    _table(1, "detection", (B5,), IMAGE_AUROC),
    _table(2, "detection", (B5,), IMAGE_AUROC, data="Magnetic Tile Defects"),
    _table(3, "detection by networks", tuple(_one(name, name) for name in NETWORKS), IMAGE_AUROC, by_category=False),
    _table(4, "localisation", FIFTY, PIXEL_AUROC, by_category=False),
    _table(5, "localisation by networks", EACH, PIXEL_AUROC, by_category=False),
    _table(6, "localisation, by region", FIFTY, AUPRO),
    _table(7, "localisation by networks, by region", EACH, AUPRO),
    _table(
        8,
        "localisation by layers",
        tuple(
            Entry(layer, {"preset": "fre-r50-1l", "layers": [layer]}, strides=(stride,))
            for layer, stride in LAYERS.items()
        ),
        AUPRO,
        PIXEL_AUROC,
        by_category=False,
    ),
    Protocol(
        name="fre-table-9",
        title="FRE, Table 9: time",
        data="MVTec AD",
        entries=(
            Entry("FRE-PCA", {"preset": "fre-r50-1l"}, strides=MIDDLE, measure=fit_and_time),
            Entry("FRE-AEt", {"preset": "fre-aet-r50-1l"}, strides=MIDDLE, measure=fit_and_time),
        ),
        figures=(Shown("fit_seconds", "to fit", "s"), Shown("images_per_second", "images a second", "1/s")),
        sources=categories,
        groups=MEAN,
        published=published("fre-table-9"),
        differs="Time depends on the processor. Ours is that of this machine, with decoding and calibration.",
    ),
)
