"""Drift: whether new images still look like those that calibrated the model, as numbers, a verdict and a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from blemish.calibration.drift import evidence, places, running_mean, window_p_value
from blemish.errors import SettingError, as_count, as_number, number_of
from blemish.images import Pixels
from blemish.maps import Panel, sheet, write_picture
from blemish.maps.charts import HEIGHT, WIDTH, chart

DEFAULT_LEVEL = 100.0
"""The evidence that raises the alarm: good images reach it at some time in at most one stream out of a hundred."""

DEFAULT_WINDOW = 100
LARGEST_WINDOW = 1_000_000


@dataclass(frozen=True)
class Drift:
    """Whether T images in order look like those that calibrated the model.

    Attributes:
        p_values: of the images, as they were given (T,).
        names: of the images, in the same order; empty if none were given.
        calibrated_on: how many images calibrated the model.
        two_sided: whether scores that are lower than those that calibrated count as drift too.
        log10_martingale: decimal logarithm of the evidence of drift after each image (T,).
        level: the evidence that raises the alarm; images that are all alike reach it, at any time, with a probability
            of at most 1 / level.
        alarm: index of the image, from 0, at which the evidence reached the level; `None` if it did not.
        since: index of the first image that differs, estimated at the alarm; `None` without one.
        shift: how the scores differ since then from those before and those that calibrated: `higher`, `lower`,
            `farther apart` or `closer together`; `None` without an alarm.
        running_mean: mean of the latest `window` p-values after each image (T,), or of all if there are fewer.
        window: how many images are in the window.
        window_p_value: of the Kolmogorov-Smirnov test of the window's images against those that calibrated. It holds
            for a single test, and is not part of the verdict.
    """

    p_values: NDArray[np.float64]
    names: tuple[str, ...]
    calibrated_on: int
    two_sided: bool
    log10_martingale: NDArray[np.float64]
    level: float
    alarm: int | None
    since: int | None
    shift: str | None
    running_mean: NDArray[np.float64]
    window: int
    window_p_value: float

    @property
    def is_drift(self) -> bool:
        """Whether the evidence ever reached the level."""
        return self.alarm is not None

    @property
    def most(self) -> float:
        """The decimal logarithm of the largest evidence."""
        return float(self.log10_martingale.max())

    def __str__(self) -> str:
        """Returns the verdict, why, and what to do, in one line."""
        if self.alarm is None or self.since is None:
            return (
                f"no drift seen in {self._many}: evidence {_power(self.most)} at most, the alarm is at {self.level:g}"
            )
        return (
            f"drift since about {self._image(self.since)}: scores are {self.shift} than before; the evidence reached "
            f"{self.level:g} at {self._image(self.alarm)}, and {_power(self.most)} at most; look at these images, and "
            "if they are good, calibrate the model on them or update it with them"
        )

    @property
    def _many(self) -> str:
        return number_of(len(self.p_values), "image")

    def _image(self, index: int) -> str:
        return f"image {index + 1}" + (f" ({self.names[index]})" if self.names else "")

    def as_dict(self) -> dict[str, Any]:
        """Returns all numbers, as JSON can hold them; images are counted from 0."""
        return {
            "images": len(self.p_values),
            "calibrated_on": self.calibrated_on,
            "two_sided": self.two_sided,
            "drift": self.is_drift,
            "level": self.level,
            "alarm": self.alarm,
            "since": self.since,
            "shift": self.shift,
            "log10_most": self.most,
            "window": self.window,
            "window_p_value": self.window_p_value,
            "names": list(self.names),
            "p_values": self.p_values.tolist(),
            "running_mean": self.running_mean.tolist(),
            "log10_martingale": self.log10_martingale.tolist(),
        }

    def picture(self) -> Pixels:
        """Returns two charts, uint8 (h, w, 3): p-values with their running mean, and the evidence with its level."""
        marks = tuple(sorted({index for index in (self.since, self.alarm) if index is not None}))
        level = math.log10(self.level)
        low = min(-1.0, math.floor(float(self.log10_martingale.min())))
        high = max(level + 0.5, min(math.ceil(self.most), 3 * level))
        step = max(1, round((high - low) / 5))
        powers = range(step * math.ceil(low / step), math.floor(high) + 1, step)
        charts = (
            Panel(
                chart(self.running_mean, (0, 1), {0: "0", 0.5: "0.5", 1: "1"}, points=self.p_values, marks=marks),
                f"p-value of each image, and the mean of the latest {self.window}",
            ),
            Panel(
                chart(
                    self.log10_martingale,
                    (low, high),
                    {power: f"{10.0**power:g}" if abs(power) < 5 else f"1e{power:+d}" for power in powers},
                    level=level,
                    marks=marks,
                ),
                f"evidence of drift, and the level of the alarm, {self.level:g}"
                + (f"; more than 1e{high:.3g} is drawn at the top" if self.most > high else ""),
            ),
        )
        title = f"no drift seen in {self._many}"
        if self.since is not None and self.alarm is not None:
            title = f"drift since about image {self.since + 1}, seen at image {self.alarm + 1}: scores {self.shift}"
        return sheet([[panel] for panel in charts], title, side=math.sqrt(HEIGHT * WIDTH))

    def save(self, path: str | Path) -> None:
        """Writes the picture in the format of its suffix: .png, .jpg, .jpeg or .webp. A picture by blemish is replaced.

        Raises:
            SettingError: the suffix is unknown.
            StorageError: another file is there, or the picture cannot be written.
        """
        write_picture(self.picture(), Path(path), force=True)

    def _repr_png_(self) -> bytes:
        """Returns the picture for display in a notebook."""
        buffer = io.BytesIO()
        Image.fromarray(self.picture()).save(buffer, "PNG")
        return buffer.getvalue()


def find_drift(
    p_values: ArrayLike,
    calibrated_on: int,
    *,
    two_sided: bool,
    names: Sequence[str] = (),
    level: float = DEFAULT_LEVEL,
    window: int = DEFAULT_WINDOW,
) -> Drift:
    """Returns whether images look like those that calibrated the model that judged them.

    Args:
        p_values: of images in order (T,), none of which the model was fitted on.
        calibrated_on: how many images calibrated the model.
        two_sided: whether scores that are lower than those that calibrated count as drift too; false for a model that
            has learned from the images that calibrated it, since it gives new images slightly lower scores.
        names: of the images.
        level: the evidence that raises the alarm.
        window: of the latest images, for the running mean and the test of a window.

    Raises:
        SettingError: there is no p-value, or one is not of such a model; names do not fit the images; the level is not
            above 1, or the window not above 0.
        MissingExtraError: scipy is not installed.
    """
    level, window = check_settings(level, window)
    where = places(p_values, calibrated_on)
    found = evidence(where, calibrated_on, level, two_sided=two_sided)
    given = np.array(p_values, np.float64)
    if len(names) not in (0, len(given)):
        raise SettingError(f"{len(names)} names do not fit {len(given)} p-values; give one for each")
    return Drift(
        p_values=given,
        names=tuple(map(str, names)),
        calibrated_on=calibrated_on,
        two_sided=two_sided,
        log10_martingale=found.log10,
        level=level,
        alarm=found.alarm,
        since=found.since,
        shift=found.shift,
        running_mean=running_mean(given, window),
        window=min(window, len(given)),
        window_p_value=window_p_value(where[-window:], calibrated_on, two_sided=two_sided),
    )


def check_settings(level: float, window: int) -> tuple[float, int]:
    """Returns both as Python's own numbers.

    Raises:
        SettingError: the level is not above 1 and finite, or the window not a number of images above 0.
    """
    if not 1 < as_number("level", level) < math.inf:
        raise SettingError(f"level {level} is out of range; give a number above 1, such as 100 for 1 % of false alarms")
    if not 1 <= as_count("window", window) <= LARGEST_WINDOW:
        raise SettingError(
            f"window {window} is out of range; give 1 to {LARGEST_WINDOW:,} images, such as {DEFAULT_WINDOW}"
        )
    return as_number("level", level), as_count("window", window)


def _power(log10: float) -> str:
    """Returns 10 to a power that may be too large for a float: `3.2`, or `1.5e+400`."""
    if log10 < 4:
        return f"{10**log10:.2g}" if log10 < 2 else f"{10**log10:.0f}"
    return f"{10 ** (log10 % 1):.1f}e+{math.floor(log10)}"
