"""The origin of an evaluation: the model, its settings, and the versions of the software."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blemish.model import Model
from blemish.model.provenance import now, versions
from blemish.model.saved import Saved
from blemish.storage.cards import digest_of


@dataclass(frozen=True)
class Origin:
    """The origin of an evaluation.

    Attributes:
        path: of the saved model; `None` if it is only in memory.
        digest: of the saved model, which ends its `model.json`; `None` if it is only in memory.
        detector, settings: of the model.
        backbone, weights, layers: network, origin of its weights, and layers of the features.
        input: height and width of the model's input.
        seed: of the fit.
        fitted_on: where the images of the fit came from.
        images: how many images the fit used.
        fitted: date and time of the fit, ISO 8601, UTC.
        fitted_with: versions of the software at the fit.
        versions: of the software at this evaluation: Python, blemish and the libraries that compute.
        created: date and time of this evaluation, ISO 8601, UTC.
    """

    path: str | None
    digest: str | None
    detector: str
    settings: dict[str, Any]
    backbone: str
    weights: str
    layers: tuple[int | str, ...]
    input: tuple[int, int]
    seed: int
    fitted_on: str
    images: int
    fitted: str
    fitted_with: dict[str, str]
    versions: dict[str, str]
    created: str

    @classmethod
    def of(cls, model: Model) -> Origin:
        """Returns the origin of an evaluation of this model, made now."""
        store, recipe, provenance = model.store, model.recipe, model.provenance
        saved = store if isinstance(store, Saved) else None
        return cls(
            path=str(saved.folder) if saved is not None and saved.scratch is None else None,
            digest=None if saved is None else digest_of(saved.card),
            detector=recipe.detector,
            settings=dict(recipe.settings),
            backbone=recipe.backbone,
            weights=provenance.weights,
            layers=tuple(recipe.layers),
            input=recipe.geometry.shape,
            seed=recipe.seed,
            fitted_on=provenance.source,
            images=provenance.images,
            fitted=provenance.created,
            fitted_with=provenance.versions,
            versions=versions(),
            created=now(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns `model`, `versions` and `created` as JSON values."""
        model = {
            "path": self.path,
            "digest": self.digest,
            "detector": self.detector,
            "settings": self.settings,
            "backbone": self.backbone,
            "weights": self.weights,
            "layers": list(self.layers),
            "input": list(self.input),
            "seed": self.seed,
            "fitted_on": self.fitted_on,
            "images": self.images,
            "fitted": self.fitted,
            "versions": self.fitted_with,
        }
        return {"model": model, "versions": self.versions, "created": self.created}
