"""The figures of the paper on whitened components (Bertoldo & Arrustico 2023)."""

from __future__ import annotations

from dataclasses import replace

from blemish.bench.kept import free, kept_models
from blemish.bench.mvtec import MEAN
from blemish.bench.protocol import AUPRO, PIXEL_AUPR, PIXEL_AUROC, Drawing, Entry, Protocol
from blemish.bench.published import published
from blemish.bench.sources import categories

STRIDES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


def draw(drawing: Drawing) -> list[str]:
    """Draws three figures for each layer and category: low components on good and on anomalous images, and high ones.

    With `components` all three show these.
    """
    from blemish.components.figures import draw_figures

    names = []
    for result, model, dataset in kept_models(drawing):
        drawn = draw_figures(
            model, dataset, drawing.folder, images=drawing.pick or 3, components=drawing.components or 3
        )
        for name in drawn:
            plain, dot, ending = name.removeprefix("layer-").rpartition(".")
            place = free(drawing, result.category, result.entry, plain, ending=dot + ending)
            (drawing.folder / name).rename(place)
            names.append(place.name)
    return names


FIGURES = Protocol(
    name="mvg-figures",
    title="One Gaussian per layer, Figs. 1 to 3: components of each layer",
    data="MVTec AD",
    entries=tuple(Entry(layer, {"preset": f"mvg-r18-{layer}"}, strides=(stride,)) for layer, stride in STRIDES.items()),
    figures=tuple(replace(shown, digits=2) for shown in (PIXEL_AUROC, PIXEL_AUPR, AUPRO)),
    sources=categories,
    groups=MEAN,
    published=published("mvg-figures"),
    draw=draw,
    pictured=tuple(STRIDES),
)

PROTOCOLS = (FIGURES,)
