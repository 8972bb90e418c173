"""How many good images to hold out, and which false-alarm rate they can promise."""

from __future__ import annotations

import math

from blemish.errors import SettingError, number_of

DEFAULT_RATE = 0.01
DEFAULT_SHARE = 0.2
FEWEST_HELD_OUT = 20
MOST_HELD_OUT = 200


def held_out_count(images: int, share: float | None = None, *, trained: bool = False) -> int:
    """Returns how many of `images` good images to hold out: the share, at least 20, at most half.

    Args:
        images: how many there are.
        share: of them; by default a fifth.
        trained: the model never learns from those held out, so by default there are `MOST_HELD_OUT` at most.

    Raises:
        SettingError: a share that is not above 0 and at most 0.5.
    """
    if share is not None and not 0 < share <= 0.5:
        raise SettingError(f"calibration share {share} is out of range; give a share above 0 and up to 0.5")
    count = round((DEFAULT_SHARE if share is None else share) * images)
    if share is None and trained:
        count = min(count, MOST_HELD_OUT)
    return min(max(FEWEST_HELD_OUT, count), images // 2)


def lowest_rate(held_out: int) -> float:
    """Returns the lowest false-alarm rate that `held_out` scores can promise: 1 / (n + 1)."""
    return 1 / (held_out + 1)


def promised_rate(held_out: int, asked: float | None, found: str = "", more: str = "") -> float:
    """Returns the rate to calibrate to: the one asked for, or else 1 % or the lowest possible rate if that is higher.

    Args:
        held_out: scores that there are.
        asked: the rate that was asked for; `None` if none was.
        found: for an error, why there are not more of them.
        more: for an error, another way to get more of them.

    Raises:
        SettingError: the rate asked for is not between 0 and 1, or lower than so few images can promise.
    """
    lowest = lowest_rate(held_out)
    if asked is None:
        return max(DEFAULT_RATE, lowest)
    if not 0 < asked < 1:
        raise SettingError(
            f"false-alarm rate {asked} is out of range; give a rate above 0 and below 1, such as 0.05 for 5 %"
        )
    if asked < lowest - 1e-12:
        needed = math.ceil(1 / asked) - 1
        raise SettingError(
            f"a false-alarm rate of {asked:g} needs {number_of(needed, 'good image')} to calibrate on, and there are "
            f"{held_out}{found}, which allow {math.ceil(1e4 * lowest) / 1e4:g} or more; ask for that, or add "
            f"images{more}"
        )
    return asked
