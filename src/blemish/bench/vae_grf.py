"""The tables and figures of the paper on VAE-GRF (Gangloff et al. 2023)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from blemish.bench.kept import free, kept_models
from blemish.bench.measure import Bench, Measured, evaluated
from blemish.bench.protocol import Drawing, Entry, Protocol, Shown
from blemish.bench.published import published
from blemish.bench.sources import categories
from blemish.errors import SettingError, SourceError

PER_IMAGE = Shown("pixel.auroc_per_image", "pixel AUROC, mean over images")
BOXES = (Shown("boxes.f1@0.5", "F1"), Shown("boxes.recall@0.5", "recall"), Shown("boxes.precision@0.5", "precision"))
MAPS = {
    "l2": "l2",
    "SM": "sm",
    "MAD": "mad",
    "MAD·SM": "mad-sm",
    "gradient": "gradient",
    "gradient·SM": "gradient-sm",
    "projection": "projection",
}
TEXTURES = ("leather", "wood", "tile", "carpet", "grid", "hazelnut")
DIFFERS = (
    "The paper does not give the epochs; the presets have those of its published code, 1,000 of 1,024 images. Here 20 "
    "of the good images are held out for the threshold."
)


def other_map(bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
    """Returns the figures of another map of one trained network."""
    from blemish.fitting import with_map

    model, seconds = bench.fitted(arguments)
    start = time.perf_counter()
    viewed = with_map(model, view["map"], bench.dataset, progress=bench.progress)
    return evaluated(bench, viewed, {"fit": seconds, "map": time.perf_counter() - start})


def textures(root: str) -> dict[str, str]:
    """Returns the sources of the paper's categories below a root. Raises `SourceError` if none of them is there."""
    found = {name: source for name, source in categories(root).items() if name in TEXTURES}
    if not found:
        raise SourceError(f"{root}: has none of {', '.join(TEXTURES)}; give the folder that holds MVTec AD")
    return found


def _entries(data: str, grf: Sequence[str], vae: Sequence[str]) -> tuple[Entry, ...]:
    """Returns an entry for each map of one VAE-GRF and of one ordinary VAE; `data` ends the presets' names."""
    return tuple(
        Entry(f"{title}, {name}", {"preset": f"{kind}-{data}"}, {"map": MAPS[name]}, draws=True, measure=other_map)
        for title, kind, names in (("VAE-GRF", "vae-grf", grf), ("VAE", "vae", vae))
        for name in names
    )


def draw_training(drawing: Drawing) -> list[str]:
    """Draws Fig. 1, correlations over the distance; Fig. 3, the beta-ELBO over epochs; and Fig. 4."""
    from blemish.report.reconstructions import correlation_curves, loss_curves

    Image.fromarray(correlation_curves()).save(drawing.folder / "figure-1-correlations.png")
    names = ["figure-1-correlations.png"]
    trainings: dict[str, dict[str, str]] = {}
    for result in drawing.results:
        training = result.fit.get("training")
        if training:
            if not Path(training).is_dir():
                again = f"run `blemish bench run {result.protocol}` again with --models FOLDER"
                raise SettingError(f"{training}: the log of this training is no longer there; {again}")
            own = trainings.setdefault(result.category, {})
            own.setdefault(result.entry.split(",")[0], training)
    for category, folders in trainings.items():
        place = free(drawing, "figure-3", category)
        Image.fromarray(loss_curves(folders)).save(place)
        names.append(place.name)
    return [*names, *_drawn(drawing, "4")]


def draw_livestock(drawing: Drawing) -> list[str]:
    """Draws Fig. 5: the map over the reconstruction, and the truth."""
    return _drawn(drawing, "5")


def draw_semmacape(drawing: Drawing) -> list[str]:
    """Draws Fig. 6: the map over the reconstruction, with the true boxes and the boxes that were found."""
    return _drawn(drawing, "6")


def _drawn(drawing: Drawing, figure: str) -> list[str]:
    from blemish.datasets import evenly_spaced, picked
    from blemish.report.reconstructions import FIGURES, reconstructions

    names = []
    for result, model, dataset in kept_models(drawing):
        anomalous = [number for number, sample in enumerate(dataset.test) if sample.is_anomalous]
        chosen = drawing.pick or [anomalous[place] for place in evenly_spaced(len(anomalous), 6)]
        place = free(drawing, f"figure-{figure}", result.category)
        Image.fromarray(reconstructions(model, picked(dataset, chosen), FIGURES[figure])).save(place)
        names.append(place.name)
    return names


_SHARED: dict[str, Any] = {"sources": categories, "differs": DIFFERS}
PROTOCOLS = (
    Protocol(
        name="vae-grf-table-1",
        title="VAE-GRF, Table I and Figs. 1, 3 and 4: textures, against the ordinary VAE",
        data="MVTec AD",
        entries=_entries("{category}", ("l2", "SM", "MAD", "MAD·SM"), ("l2", "SM", "MAD", "MAD·SM")),
        figures=(PER_IMAGE,),
        published=published("vae-grf-table-1"),
        by_category=True,
        reference="VAE-GRF, MAD·SM",
        draw=draw_training,
        pictured=("VAE-GRF, MAD·SM",),
        **{**_SHARED, "sources": textures},
    ),
    Protocol(
        name="vae-grf-table-2",
        title="VAE-GRF, Table II: textures, against other maps",
        data="MVTec AD",
        entries=_entries("{category}", ("MAD·SM",), ("gradient", "gradient·SM", "projection")),
        figures=(PER_IMAGE,),
        published=published("vae-grf-table-2"),
        by_category=True,
        reference="VAE-GRF, MAD·SM",
        **{**_SHARED, "sources": textures},
    ),
    Protocol(
        name="vae-grf-table-3",
        title="VAE-GRF, Table III and Fig. 5: animals on grassland",
        data="Livestock",
        entries=_entries("livestock", ("SM", "MAD", "MAD·SM"), tuple(MAPS)),
        figures=(PER_IMAGE,),
        published=published("vae-grf-table-3"),
        reference="VAE-GRF, MAD",
        draw=draw_livestock,
        pictured=("VAE-GRF, MAD",),
        **_SHARED,
    ),
    Protocol(
        name="vae-grf-table-4",
        title="VAE-GRF, Table IV and Fig. 6: animals at sea",
        data="Semmacape",
        entries=_entries("semmacape", ("SM", "MAD", "MAD·SM"), ("l2", "gradient", "gradient·SM", "projection")),
        figures=BOXES,
        published=published("vae-grf-table-4"),
        reference="VAE-GRF, MAD",
        draw=draw_semmacape,
        pictured=("VAE-GRF, MAD",),
        **_SHARED,
    ),
)
