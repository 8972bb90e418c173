"""Explains the score of one image from its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blemish.errors import SettingError
from blemish.explanation.explanation import Cause, Explanation, Map
from blemish.images import Location, Pixels
from blemish.maps import Box

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.detectors.scoring import Scoring


SHOWN = 12
"""How many components `worst` and `best` show."""


CHANCE = 6.6349
"""The 99th percentile of the square of a standard normal variable, whose mean is 1."""


def explain(
    scoring: Scoring,
    features: list[Tensor],
    names: Sequence[str],
    components: int | str | Sequence[int] | None,
    *,
    path: Location | None,
    image: Pixels,
    map: Map,
    score: float,
    p_value: float,
    threshold: float,
    false_alarm_rate: float,
    boxes: list[Box],
    display: tuple[float, float],
    shown: tuple[int, int],
    reconstruction: Pixels | None = None,
    tile: tuple[int, int, int] | None = None,
    offset: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (1.0, 1.0),
) -> Explanation:
    """Returns the explanation of one image from its features (1, C_l, H_l, W_l).

    Args:
        scoring: of the fitted detector.
        features: of each layer.
        names: of the layers.
        components: which to show; see `Model.explain`.
        path, image, map, score, p_value, threshold, false_alarm_rate, boxes, display, shown, reconstruction, tile,
            offset, scale: as in `Explanation`.

    Raises:
        SettingError: there is no such component, or the detector has none.
    """
    import torch

    from blemish.detectors import ComponentsHead

    head = scoring.head
    peak = (int(map.argmax()) // map.shape[1], int(map.argmax()) % map.shape[1])
    whole = float(map[peak])

    def cause(layers: Sequence[int], index: int | None, values: Tensor) -> Cause:
        name = "+".join(names[layer] for layer in layers)
        full = scoring.resized(values[None])[0].numpy()
        at_peak = float(full[peak])
        return Cause(name, index, full, at_peak, at_peak / whole if head.adds_up and whole else None)

    with torch.inference_mode():
        layers = [
            cause(part.layers, None, maps[0])
            for part, maps in zip(head.parts, head.layers(tuple(features)), strict=True)
        ]
        picked: list[Cause] = []
        if isinstance(head, ComponentsHead):
            found = head.components(tuple(features))
            at_peak = torch.cat([scoring.at(maps[0], peak) for maps in found])
            places = [(part, row) for part, maps in enumerate(found) for row in range(maps.shape[1])]
            for place in _chosen(components, at_peak, [head.parts[part].components[row] for part, row in places]):
                part, row = places[place]
                of_part = head.parts[part]
                picked.append(cause(of_part.layers, of_part.components[row], found[part][0, row]))
        elif components is not None:
            raise SettingError(
                f"this detector has no components, it explains by layers ({', '.join(names)}); "
                "leave --components out, or fit gaussian or padim"
            )
    # The map's typical value on the good images that calibrate, divided among the components.
    limit = CHANCE * display[0] / max(1, sum(len(part.components) for part in head.parts))
    return Explanation(
        path,
        image,
        map,
        score,
        p_value,
        threshold,
        false_alarm_rate,
        boxes,
        display,
        peak,
        shown,
        layers,
        picked,
        limit,
        reconstruction,
        tile,
        offset,
        scale,
    )


def _chosen(asked: int | str | Sequence[int] | None, at_peak: Tensor, indices: Sequence[int]) -> list[int]:
    """Returns the places of the components to show among all of them."""
    order = at_peak.argsort(descending=True, stable=True).tolist()
    if asked is None or asked == "best":
        return list(order[:SHOWN])
    if asked == "worst":
        return list(order[::-1][:SHOWN])
    if isinstance(asked, str):
        raise SettingError(f"components {asked!r} are not known; give a number, best, worst, or indices")
    if isinstance(asked, int):
        if asked < 1:
            raise SettingError(f"{asked} components cannot be shown; give 1 or more")
        return list(order[:asked])
    missing = [index for index in asked if index not in indices]
    if missing:
        raise SettingError(f"there is no component {missing[0]}; there are {_ranges(sorted(set(indices)))}")
    wanted = set(asked)
    return [place for place in order if indices[place] in wanted]


def _ranges(numbers: Sequence[int]) -> str:
    """Returns numbers as `0 to 4, 7, 9 to 12`, shortened if there are many gaps."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    texts = [" to ".join(map(str, run)) for run in runs]
    return ", ".join(texts[:8]) + (f", and others up to {numbers[-1]}" if len(texts) > 8 else "")
