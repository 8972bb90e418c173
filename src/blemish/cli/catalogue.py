"""`blemish detectors` and `blemish presets`: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table

from blemish.cli.console import escape, out, print_json
from blemish.cli.options import Json

if TYPE_CHECKING:
    from blemish.fitting.presets import Preset


@dataclass(frozen=True)
class About:
    """What a person should know to choose a detector.

    Attributes:
        paper: where it was published.
        suits: the images for which it works well.
        needs: what it needs besides good images.
        fit: how long a fit takes on two cores, for some hundred images.
        memory: what a fit keeps in memory.
        explains: what `blemish explain` shows.
    """

    paper: str
    suits: str
    needs: str
    fit: str
    memory: str
    explains: str


_FRE = "FRE, Ndiour et al. 2023"
_VAE = "VAE-GRF, Gangloff et al. 2023"

ABOUT = {
    "fre": About(_FRE, "most parts and textures (default)", "a backbone", "seconds", "up to 4 GiB a layer", "layers"),
    "fre-ae": About(_FRE, "the same, trained as in the paper", "a backbone", "minutes", "all features", "layers"),
    "padim": About(
        "PaDiM, Defard et al. 2021",
        "parts that lie alike in every image",
        "a backbone",
        "seconds",
        "a matrix for each position",
        "layers",
    ),
    "gaussian": About(
        "Bertoldo et al. 2023",
        "textures, and parts that may lie anywhere",
        "a backbone",
        "seconds",
        "a matrix for each layer",
        "layers, components",
    ),
    "spade": About(
        "SPADE, Cohen & Hoshen 2020",
        "few images",
        "a backbone",
        "seconds; predicts more slowly",
        "features of all images, in the model too",
        "layers",
    ),
    "hfr": About("HFR, Chen et al. 2024", "parts, by a decoder", "a backbone", "minutes", "all features", "layers"),
    "vae": About(
        _VAE, "textures; no backbone fits", "hundreds of images", "minutes to hours", "a network", "reconstruction"
    ),
    "vae-grf": About(
        _VAE,
        "textures with a pattern; no backbone fits",
        "hundreds of images",
        "minutes to hours",
        "a network",
        "reconstruction",
    ),
}


def detectors(as_json: Json = False) -> None:
    """List the detectors: what each is for, what it needs, how long a fit takes, and what it explains.

    Example: [bold]blemish detectors[/bold]
    """
    if as_json:
        print_json({"detectors": [{"name": name, **asdict(about)} for name, about in ABOUT.items()]})
        return
    table = _table("detector", "what for", "needs", "fit", "memory", "explains", "from")
    for name, about in ABOUT.items():
        row = (about.suits, about.needs, about.fit, about.memory, about.explains, about.paper)
        table.add_row(name, *map(escape, row))
    out.print(table)


def presets(as_json: Json = False) -> None:
    """List the papers' settings for fit --preset: what each is for, its backbone, and whether the weights are here.

    Example: [bold]blemish presets[/bold]
    """
    from blemish.fitting.presets import PRESETS

    rows = [_row(name, preset) for name, preset in PRESETS.items()]
    if as_json:
        print_json({"presets": rows})
        return
    words = {True: "installed", False: "to be given", None: "not needed"}
    for (paper, suits), group in groupby(rows, lambda row: (row["paper"], row["suits"])):
        out.print(f"[bold]{escape(paper)}[/bold]: {escape(suits)}")
        table = Table.grid(padding=(0, 1))
        for width in (20, 11, 26, None):  # the same for each paper, within 80 columns
            table.add_column(width=width, overflow="fold")
        for row in group:
            layers = ",".join(map(str, row["layers"]))
            table.add_row(*map(escape, (row["name"], words[row["weights"]], row["backbone"], layers)))
        out.print(table)
        out.print()
    out.print("weights to be given: use --weights FILE or --download; see docs/backbones.md")


def _row(name: str, preset: Preset) -> dict[str, Any]:
    about = ABOUT[preset.detector]
    paper = "SubspaceAD, Lendering et al. 2026" if name.startswith("subspacead") else about.paper
    return {
        "name": name,
        "paper": "PaDiM, Defard et al. 2021" if name == "padim-vae" else paper,
        "detector": preset.detector,
        "suits": about.suits,
        "backbone": preset.backbone,
        "layers": list(preset.layers),
        "weights": _are_here(preset.backbone),
    }


def _are_here(backbone: str) -> bool | None:
    """Returns whether the package with a backbone's weights is installed; `None` if there is no backbone."""
    from blemish.backbones.names import PIXELS, package_of

    if backbone == PIXELS:
        return None
    package = package_of(backbone)
    return package is not None and find_spec(package.module) is not None


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "detector", min_width=14 if column == "explains" else None)
    return table
