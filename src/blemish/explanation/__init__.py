"""Why one image has its score."""

from blemish.explanation.explain import explain_components, explain_layers, peak_of
from blemish.explanation.explanation import Cause, Explanation

__all__ = [
    "Cause",
    "Explanation",
    "explain_components",
    "explain_layers",
    "peak_of",
]
