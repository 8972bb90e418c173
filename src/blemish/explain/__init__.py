"""What a model's components are like over many images: diagnoses, the paper's figures, a gallery, and pruning."""

from blemish.explain.diagnoses import Diagnosis, diagnose
from blemish.explain.figures import write_figures
from blemish.explain.gallery import write_gallery
from blemish.explain.layers import write_layers
from blemish.explain.pruning import Pruning, prune
from blemish.explain.survey import Survey, survey

__all__ = [
    "Diagnosis",
    "Pruning",
    "Survey",
    "diagnose",
    "prune",
    "survey",
    "write_figures",
    "write_gallery",
    "write_layers",
]
