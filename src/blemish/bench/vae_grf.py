"""The tables and figures of the paper on VAE-GRF (Gangloff et al. 2023)."""

from __future__ import annotations

from typing import Any

from blemish.bench.protocol import Entry, Protocol, Shown
from blemish.bench.published import published
from blemish.bench.sources import categories

PER_IMAGE = Shown("pixel.auroc_per_image", "pixel AUROC, mean over images")
OURS = {"SM": "sm", "MAD": "mad", "MAD·SM": "mad-sm"}
OTHERS = {"l2": "l2", "gradient": "gradient", "gradient·SM": "gradient-sm", "projection": "projection"}


def _entries(preset: str) -> tuple[Entry, ...]:
    """Returns the columns of the paper's tables: the maps of one VAE and of one VAE-GRF."""

    def entry(name: str, model: str, map: str) -> Entry:
        fit: dict[str, Any] = {"preset": f"{model}-{preset}"}
        return Entry(name, fit, {"map": map}, draws=True)

    return (
        *(entry(f"VAE-GRF, {name}", "vae-grf", map) for name, map in OURS.items()),
        *(entry(f"VAE, {name}", "vae", map) for name, map in OTHERS.items()),
    )


def _table(number: int, title: str, data: str, *figures: Shown) -> Protocol:
    return Protocol(
        name=f"vae-grf-table-{number}",
        title=f"VAE-GRF, Table {number}: {title}",
        data=data,
        entries=_entries("livestock"),
        figures=figures,
        sources=categories,
        published=published(f"vae-grf-table-{number}"),
        reference="VAE-GRF, MAD",
    )


PROTOCOLS = (_table(3, "animals on grassland", "Livestock", PER_IMAGE),)
