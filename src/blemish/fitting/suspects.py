"""Finds training images that look anomalous themselves, with a model of the others that shows why."""

from __future__ import annotations

from blemish.datasets import Dataset
from blemish.datasets.sample import name_below
from blemish.errors import SettingError
from blemish.fitting.fit import fit
from blemish.images import Location
from blemish.model import Model
from blemish.progress import Progress


def find_suspects(
    dataset: Dataset, progress: Progress | None = None, device: str = "auto"
) -> tuple[Model, list[Location]]:
    """Returns a model of the images that do not look anomalous, and the paths of those that do, the worst first.

    The detector and its settings are the defaults. If more than half of the images look anomalous, the model learns
    from all of them, and the images found in the first round are returned.

    Args:
        dataset: whose training part is looked at; images that cannot be read are left out.
        progress: called with the stage, and how many images of how many are done.
        device: as in `fit`.

    Raises:
        BlemishError: as `fit` does; a `SettingError` if there are too many images for a cross-fit.
    """
    try:
        model = fit(dataset, calibration="cross", trim=True, skip_bad=True, progress=progress, device=device)
        names = list(model.provenance.trimmed)
    except SettingError:
        model = fit(dataset, calibration="cross", skip_bad=True, progress=progress, device=device)
        names = [name for name, _ in model.calibration.suspicious]
    paths = {name_below(dataset.root, sample.path): sample.path for sample in dataset.train}
    return model, [paths[name] for name in names]
