"""The picture at the top of the README: a good solar cell and a cracked one, with their p-values.

    python benchmarks/found.py

Fits `fre` with its defaults on the good monocrystalline cells of the package elpv-dataset (CC BY-NC-SA 4.0), predicts
the test part, and writes docs/pictures/found.png: the defective cell whose score is the median of the defective ones,
and the good cell whose score is the median of the good ones, so that neither is chosen by eye.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import blemish
from blemish.datasets import read_source
from blemish.maps import write_picture

SIDE, GAP, TEXT = 300, 12, 36
FILE = Path(__file__).parent.parent / "docs" / "pictures" / "found.png"


def median(predictions: list[blemish.Prediction]) -> blemish.Prediction:
    return sorted(predictions, key=lambda p: p.score)[len(predictions) // 2]


def told(p: blemish.Prediction) -> str:
    return f"{'anomalous' if p.is_anomaly else 'good'}: p-value {p.p_value:.3f}"


def main() -> int:
    cells = read_source("elpv:mono")
    model = blemish.fit("elpv:mono")
    found = {}
    for name, anomalous in {"good": False, "anomalous": True}.items():
        wanted = [sample.path for sample in cells.test if sample.is_anomalous == anomalous]
        found[name] = median(list(model.predict(wanted)))
    good, cracked = found["good"], found["anomalous"]
    sheet = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE + TEXT), "white")
    draw, letters = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    panels = {
        told(good): good.picture(),
        "a cracked cell": Image.open(str(cracked.path)).convert("RGB"),
        told(cracked): cracked.picture(),
    }
    for index, (text, picture) in enumerate(panels.items()):
        left = index * (SIDE + GAP)
        sheet.paste(picture.resize((SIDE, SIDE)), (left, 0))
        draw.text((left, SIDE + 8), text, "black", letters)
    write_picture(np.asarray(sheet.quantize(128).convert("RGB")), FILE, force=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
