"""The tables and figures of the paper on FRE (Ndiour et al. 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from blemish.bench.kept import free, kept_models
from blemish.bench.measure import fit_and_time
from blemish.bench.mvtec import MEAN
from blemish.bench.protocol import AUPRO, IMAGE_AUROC, PIXEL_AUROC, Drawing, Entry, Protocol, Shown
from blemish.bench.published import published
from blemish.bench.results import select
from blemish.bench.sources import categories

MIDDLE, THREE = (8,), (4, 8, 16)
NETWORKS = {"ResNet-18": "r18", "ResNet-50": "r50", "VGG16": "vgg16", "EfficientNet-B5": "effb5"}
LAYERS = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
LINES = (*LAYERS, "avgpool")
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Shares of variance that are kept: the horizontal axis of Fig. 2."""
EPOCHS = (100, 200, 300, 400, 500, 600)
FORMS = {"FRE-AE": "ae", "FRE-AEt": "tied"}


def _one(network: str, name: str | None = None) -> Entry:
    stride = (16,) if network == "EfficientNet-B5" else MIDDLE
    return Entry(name or f"{network} 1L", {"preset": f"fre-{NETWORKS[network]}-1l"}, strides=stride)


def _three(network: str) -> Entry:
    return Entry(f"{network} 3L", {"preset": f"fre-{NETWORKS[network]}-3l"}, strides=THREE)


def _share(layer: str, share: float) -> Entry:
    """Returns the entry of one layer and one share; all shares of a layer come from one fit."""
    fit = {"preset": "fre-r50-1l", "layers": [layer], "settings": {"variance": max(SHARES)}}
    return Entry(f"{layer} {share}", fit, {"variance": share}, (LAYERS[layer],) if layer in LAYERS else ())


def _trained(form: str, epochs: int) -> Entry:
    settings = {"method": FORMS[form], "epochs": epochs, "patience": None}
    fit: dict[str, Any] = {"preset": "fre-r50-1l", "detector": "fre-ae", "layers": ["layer3"], "settings": settings}
    return Entry(f"{form} {epochs}", fit, strides=(16,), draws=True)


def draw_shares(drawing: Drawing) -> list[str]:
    """Draws Fig. 2, middle and right: detection and segmentation over the share of variance, a line for each layer."""
    names = []
    for shown, kind, layers in ((IMAGE_AUROC, "detection", LINES), (AUPRO, "segmentation", tuple(LAYERS))):
        lines = {}
        for layer in layers:
            points = [(share, _by_category(drawing, f"{layer} {share}", shown)) for share in SHARES]
            points = [(share, values) for share, values in points if values]
            if points:
                lines[layer] = points
        names += _plotted(drawing, lines, f"figure-2-{kind}.png", "share of variance that is kept", shown)
    return names


def draw_forms(drawing: Drawing) -> list[str]:
    """Draws Fig. 2, left: detection by the three forms over the epochs."""
    lines = {}
    whole = _by_category(drawing, "FRE-PCA", IMAGE_AUROC)
    if whole:
        lines["FRE-PCA"] = [(float(epochs), whole) for epochs in EPOCHS]
    for form in FORMS:
        points = [(float(epochs), _by_category(drawing, f"{form} {epochs}", IMAGE_AUROC)) for epochs in EPOCHS]
        points = [(epochs, values) for epochs, values in points if values]
        if points:
            lines[form] = points
    return _plotted(drawing, lines, "figure-2-forms.png", "epochs", IMAGE_AUROC)


def draw_maps(drawing: Drawing) -> list[str]:
    """Draws Fig. 3: image, truth and map, of one layer and of three."""
    from blemish.report.layers import draw_layers

    names = []
    for result, model, dataset in kept_models(drawing):
        place = free(drawing, "figure-3", result.category, result.entry)
        Image.fromarray(draw_layers(model, dataset, drawing.pick or 4)).save(place)
        names.append(place.name)
    return names


def _by_category(drawing: Drawing, entry: str, shown: Shown) -> list[float]:
    """Returns the figure of each category that was measured, as the mean over seeds."""
    found = []
    for category in dict.fromkeys(result.category for result in drawing.results):
        values = [result.figures.get(shown.key) for result in select(drawing.results, entry, category)]
        numbers = [value for value in values if isinstance(value, float)]
        if values and len(numbers) == len(values):
            found.append(float(np.mean(numbers)))
    return found


def _plotted(
    drawing: Drawing, lines: dict[str, list[tuple[float, list[float]]]], name: str, across: str, shown: Shown
) -> list[str]:
    """Writes a chart of means over categories, shaded by their standard error. Returns its name, if there is a line."""
    from blemish.maps.curves import curves

    if not lines:
        return []
    drawn = {
        line: ([place for place, _ in points], [100 * float(np.mean(values)) for _, values in points])
        for line, points in lines.items()
    }
    errors = {
        line: [100 * float(np.std(values, ddof=1)) / len(values) ** 0.5 for _, values in points]
        for line, points in lines.items()
        if all(len(values) > 1 for _, values in points)
    }
    Image.fromarray(curves(drawn, across, f"{shown.title} %", errors)).save(drawing.folder / name)
    return [name]


def _table(
    number: int,
    title: str,
    entries: tuple[Entry, ...],
    *figures: Shown,
    by_category: bool = True,
    data: str = "MVTec AD",
    **more: Any,
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
        **more,
    )


FIFTY = (_one("ResNet-50"), _three("ResNet-50"))
B5 = Entry("FRE (EfficientNet-B5)", {"preset": "fre-effb5-detection"}, strides=(16,))
DETECTION = (
    Entry("ResNet-18", {"preset": "fre-r18-detection"}, strides=(16,)),
    Entry("ResNet-50", {"preset": "fre-r50-detection"}, strides=(16,)),
    _one("VGG16", "VGG16"),
    replace(B5, name="EfficientNet-B5"),
)
BY_CODE = "The layers are those of the published code; the paper does not name them."
EACH = tuple(
    entry
    for network in ("EfficientNet-B5", "VGG16", "ResNet-18", "ResNet-50")
    for entry in (_one(network), _three(network))
)

PROTOCOLS = (
    _table(1, "detection", (B5,), IMAGE_AUROC, differs=BY_CODE),
    _table(2, "detection", (B5,), IMAGE_AUROC, data="Magnetic Tile Defects", differs=BY_CODE),
    _table(3, "detection by networks", DETECTION, IMAGE_AUROC, by_category=False, differs=BY_CODE),
    _table(4, "localisation", FIFTY, PIXEL_AUROC, by_category=False),
    _table(5, "localisation by networks", EACH, PIXEL_AUROC, by_category=False),
    _table(
        6,
        "localisation, by region; and Fig. 3",
        FIFTY,
        AUPRO,
        draw=draw_maps,
        pictured=("ResNet-50 1L", "ResNet-50 3L"),
    ),
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
    _table(
        9,
        "time",
        (
            Entry("FRE-PCA", {"preset": "fre-r50-1l"}, strides=MIDDLE, measure=fit_and_time),
            Entry(
                "FRE-AEt",
                {"preset": "fre-r50-1l", "detector": "fre-ae", "settings": {"method": "tied"}},
                strides=MIDDLE,
                measure=fit_and_time,
            ),
        ),
        Shown("fit_seconds", "to fit", "s"),
        Shown("images_per_second", "images a second", "1/s"),
        by_category=False,
        differs="Time depends on the processor. Ours was measured on this machine, with decoding and calibration.",
    ),
    Protocol(
        name="fre-figure-2-forms",
        title="FRE, Fig. 2, left: principal components and the two autoencoders, over epochs",
        data="MVTec AD",
        entries=(
            Entry("FRE-PCA", {"preset": "fre-r50-1l", "layers": ["layer3"]}, strides=(16,)),
            *(_trained(form, epochs) for form in FORMS for epochs in EPOCHS),
        ),
        figures=(IMAGE_AUROC,),
        sources=categories,
        groups=MEAN,
        draw=draw_forms,
    ),
    Protocol(
        name="fre-figure-2-shares",
        title="FRE, Fig. 2, middle and right: the share of variance that is kept, by layers",
        data="MVTec AD",
        entries=tuple(_share(layer, share) for layer in LINES for share in SHARES),
        figures=(IMAGE_AUROC, PIXEL_AUROC, AUPRO),
        sources=categories,
        groups=MEAN,
        draw=draw_shares,
    ),
)
