"""Statistics learn in one pass: they start empty, take in batches, are merged, and are finished.

Each is a commutative monoid up to rounding: any split of the data into batches and parts, in any order, gives the same
answer, so streaming, updating, and fitting on several machines are the same fold. `update` works in place and returns
the statistic; `merge` changes nothing.
"""

from blemish.statistics.grid_moments import GridMoments
from blemish.statistics.moments import Moments
from blemish.statistics.periodogram import Periodogram
from blemish.statistics.statistic import Divisible, Reversible, Statistic
from blemish.statistics.subspace import Principal, Subspace
from blemish.statistics.sums import Sums

__all__ = [
    "Divisible",
    "GridMoments",
    "Moments",
    "Periodogram",
    "Principal",
    "Reversible",
    "Statistic",
    "Subspace",
    "Sums",
]
