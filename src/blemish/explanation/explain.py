"""Explains the score of one image: how much of it each layer gives, and each component."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from blemish.errors import SettingError
from blemish.explanation.explanation import Cause, Map
from blemish.maps import LayerMap

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.detectors.scoring import Scoring


SHOWN = 12
"""How many components `worst` and `best` show."""


CHANCE = 6.6349
"""The 99th percentile of the square of a standard normal variable, whose mean is 1."""


def explain_layers(
    map: Map,
    display: tuple[float, float],
    maps: Sequence[Map],
    kinds: Sequence[LayerMap],
    displays: Sequence[tuple[float, float]],
    names: Sequence[str],
) -> list[Cause]:
    """Returns what each layer contributes to an image's map; if there is only one layer, this is the map itself.

    If the maps add up, a layer's share is its part of the map's value at the peak. If they multiply, as those of `fre`
    do, their logarithms add up: the share is log(f_l / g_l) divided by the sum of this over all layers, where f_l is
    the layer's value at the peak and g_l its typical value on good images. So it is the layer's part of how far the
    peak lies above the typical value, as a ratio. All shares add up to 1 in both cases. A share of logarithms is below
    0 if the layer's value is lower there than is typical of good images. It is `None` if the product is not higher than
    the typical one, so that there is nothing to explain.

    Args:
        map: of the image (H, W).
        display: the bottom of the colours, which is a typical value on good images, and their top.
        maps: of the layers (H, W); empty if there is only one layer.
        kinds: which layers each map has, and whether maps add up or multiply.
        displays: as `display`, for each layer.
        names: of the model's layers.
    """
    row, column = peak_of(map)
    whole = float(map[row, column])
    if not kinds:
        return [Cause("+".join(names), None, map, whole, 1.0 if whole else None, display)]
    values = [float(own[row, column]) for own in maps]
    if all(kind.adds_up for kind in kinds):
        shares = [value / whole if whole else None for value in values]
    else:
        shares = _shares_of_logarithms(values, [low for low, _ in displays])
    return [
        Cause("+".join(names[layer] for layer in sorted(kind.layers)), None, own, value, share, colours)
        for kind, own, value, share, colours in zip(kinds, maps, values, shares, displays, strict=True)
    ]


def _shares_of_logarithms(values: Sequence[float], typical: Sequence[float]) -> list[float | None]:
    if min(*values, *typical) <= 0:
        return [None] * len(values)
    logs = [math.log(value / own) for value, own in zip(values, typical, strict=True)]
    total = sum(logs)
    return [own / total if total > 0 else None for own in logs]


def explain_components(
    scoring: Scoring,
    features: list[Tensor],
    names: Sequence[str],
    asked: int | str | Sequence[int] | None,
    map: Map,
    typical: float,
) -> list[Cause]:
    """Returns what components contribute to an image's map, the one that adds the most at the peak first.

    Their colour scale ends at twice the value that a component's map exceeds at one position in a hundred on good
    images, if all components are alike and normally distributed.

    Args:
        scoring: of the fitted detector.
        features: of the image, (1, C_l, H_l, W_l) for each layer.
        names: of the layers.
        asked: which to show; see `Model.explain`.
        map: of the image (H, W).
        typical: the map's value on the good images that calibrate.

    Raises:
        SettingError: there is no such component, or the detector has none.
    """
    import torch

    from blemish.detectors import ComponentsHead

    head = scoring.head
    if not isinstance(head, ComponentsHead):
        if asked is None:
            return []
        raise SettingError(
            f"this detector has no components; it explains by layers ({', '.join(names)}); "
            "leave out --components, or fit gaussian or padim"
        )
    peak = peak_of(map)
    whole = float(map[peak])
    top = 2 * CHANCE * typical / sum(len(part.components) for part in head.parts)
    picked: list[Cause] = []
    with torch.inference_mode():
        found = head.components(tuple(features))
        at_peak = torch.cat([scoring.at(maps[0], peak) for maps in found])
        places = [(part, row) for part, maps in enumerate(found) for row in range(maps.shape[1])]
        for place in _chosen(asked, at_peak, [head.parts[part].components[row] for part, row in places]):
            part, row = places[place]
            own = scoring.resized(found[part][:, row])[0].numpy()
            value = float(own[peak])
            layer = "+".join(names[index] for index in sorted(head.parts[part].layers))
            index, share = head.parts[part].components[row], value / whole if whole else None
            picked.append(Cause(layer, index, own, value, share, (0.0, top)))
    return picked


def peak_of(map: Map) -> tuple[int, int]:
    """Returns row and column where a map (H, W) is largest."""
    row, column = divmod(int(map.argmax()), map.shape[1])
    return row, column


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
