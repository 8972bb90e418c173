"""A table of figures that describe components, one row for each component."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from blemish.components.survey import Survey, gaussian, survey
from blemish.datasets import Sample
from blemish.model import Model
from blemish.progress import Progress

THREE_SIGMA = 9.0
"""The square of three standard deviations."""


@dataclass(frozen=True)
class Diagnosis:
    """Figures of one component, or with index -1 of a whole layer; on good images unless stated otherwise.

    Attributes:
        layer: its name.
        component: its index by eigenvalue, smallest first, counted from 0; -1 for the sum of all.
        eigenvalue: of the covariance; `None` for the sum.
        pixels_a_cell: input pixels along a side of one position of the layer, which limits how exactly a defect is
            located.
        within_3: share of |y| <= 3; 0.997 if y is normally distributed. `None` for the sum.
        percentile_99: of y²; 6.63 if y is normally distributed.
        border: mean of y² on the outermost ring of positions, divided by the mean inside; 1 if the border is like the
            rest. Zero padding of the backbone's convolutions makes it larger.
        corner: the same for the four corners only.
        frontier: correlation of y² with the image's gradient magnitude, over positions; high if a component responds
            to the edges of the good object itself.
        auroc: pixel AUROC of y² alone on the labelled images; `None` without such images.
    """

    layer: str
    component: int
    eigenvalue: float | None
    pixels_a_cell: float
    within_3: float | None
    percentile_99: float
    border: float
    corner: float
    frontier: float
    auroc: float | None


def diagnose(
    model: Model, normal: Sequence[Sample], labelled: Sequence[Sample] = (), progress: Progress | None = None
) -> list[Diagnosis]:
    """Returns diagnoses of all components of a `gaussian` model; each layer's components are followed by their sum.

    Args:
        model: fitted.
        normal: good images, preferably those it was fitted on.
        labelled: images with masks, for the AUROC of each component.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: the detector has no components that all positions share.
        SourceError: there are no good images.
        ImageError: a mask is unreadable or of another size than its image.
    """
    surveys = survey(model, normal, progress=progress)
    judged = survey(model, labelled, masks=True, progress=progress) if labelled else None
    return diagnoses(model, surveys, judged)


def diagnoses(model: Model, surveys: Sequence[Survey], judged: Sequence[Survey] | None = None) -> list[Diagnosis]:
    """Returns diagnoses from surveys of good images and of labelled ones."""
    detector = gaussian(model)
    rows = []
    for layer, normal in enumerate(surveys):
        found = detector.components(layer)
        areas = judged[layer].auroc() if judged else [None] * (len(found.indices) + 1)
        columns = zip(
            (*found.indices, -1),
            normal.share_within(THREE_SIGMA),
            normal.percentile(),
            normal.ring(),
            normal.ring(corners=True),
            normal.frontier(),
            areas,
            strict=True,
        )
        for index, within, percentile, border, corner, frontier, area in columns:
            rows.append(
                Diagnosis(
                    layer=str(model.recipe.layers[layer]),
                    component=index,
                    eigenvalue=None if index < 0 else float(found.values[index]),
                    pixels_a_cell=model.recipe.geometry.shape[0] / normal.total.shape[1],
                    within_3=None if index < 0 else float(within),
                    percentile_99=float(percentile),
                    border=float(border),
                    corner=float(corner),
                    frontier=float(frontier),
                    auroc=area,
                )
            )
    return rows


def as_csv(rows: Sequence[Diagnosis]) -> str:
    """Returns the table as comma-separated values; the first line has the names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Diagnosis)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    return text.getvalue()
