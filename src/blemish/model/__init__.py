"""What is kept of a fit, and what it says of an image."""

from blemish.model.model import Model
from blemish.model.prediction import Prediction
from blemish.model.recipe import Learned, Recipe

__all__ = [
    "Learned",
    "Model",
    "Prediction",
    "Recipe",
]
