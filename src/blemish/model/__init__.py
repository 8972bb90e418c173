"""Models: what is kept of a fit, and what it predicts for an image."""

from blemish.model.drift import Drift
from blemish.model.model import Model
from blemish.model.prediction import Prediction
from blemish.model.provenance import Provenance
from blemish.model.recipe import Learned, Recipe
from blemish.model.saved import Fitted

__all__ = ["Drift", "Fitted", "Learned", "Model", "Prediction", "Provenance", "Recipe"]
