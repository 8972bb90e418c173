"""Examines the components of a `gaussian` model: diagnoses, the paper's figures, a gallery, and pruning."""

from blemish.components.diagnoses import Diagnosis, diagnose
from blemish.components.figures import write_figures
from blemish.components.gallery import write_gallery
from blemish.components.pruning import Pruning, prune
from blemish.components.survey import Survey, survey

__all__ = [
    "Diagnosis",
    "Pruning",
    "Survey",
    "diagnose",
    "prune",
    "survey",
    "write_figures",
    "write_gallery",
]
