"""Why one image has its score."""

from blemish.explanation.explain import explain
from blemish.explanation.explanation import Explanation

__all__ = [
    "Explanation",
    "explain",
]
