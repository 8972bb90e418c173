"""What an export says of itself: `model.json` for programs, and PREPROCESS.md for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from blemish.calibration.conformal import ROUNDING
from blemish.export.checking import Agreement
from blemish.export.formats import INPUT, MAP, SCORE, Format
from blemish.images import Geometry
from blemish.images.geometry import GAP
from blemish.model import Model
from blemish.model.provenance import now, versions

TEMPLATE = Path(__file__).parent / "PREPROCESS.md"

SINGLE_PRECISION = {
    "openvino": "compile with `INFERENCE_PRECISION_HINT` `f32`; else OpenVINO takes bfloat16 where it can.",
    "onnxruntime": "ONNX Runtime on a CPU does so by itself.",
    "torch": "torch on a CPU does so by itself; on a GPU leave TF32 off.",
}
TENSORRT = (
    "TensorRT does so without `--fp16` and with `--noTF32`. This graph was not run in TensorRT: its operators, types and\n"
    "  shapes are those that TensorRT 10 takes, and its results were checked in ONNX Runtime."
)

JPEG = """\
- A JPEG may be shrunk while it is decoded, which is quicker: by 8, 4 or 2, the largest of them that is not above
  min(floor(W / {width2}), floor(H / {height2})) for a file of W × H pixels. `predict.py` does so, by the scaled transform of
  libjpeg (Pillow's `draft`). If it is decoded at full size, pixels differ by 2 grey levels on average at most after
  the next step.
"""

RESIZE = """\
## {number}. Resize to {height} × {width}

Leave this out if the {what} has {height} rows and {width} columns already. Else, for W columns and H rows:

- Average blocks of fx × fy pixels, fx = max(1, floor(W / {width} / {gap:g})), fy = max(1, floor(H / {height} / {gap:g})), the
  first block at the top left; blocks that the right or the lower edge cuts have fewer pixels. Round to the nearest,
  halves up. With fx = fy = 1 nothing changes.
- Resize with a bicubic kernel, along rows first, then along columns, with whole numbers from 0 to 255 after each. Along
  an axis there are m pixels, a length L of W / fx or H / fy, not rounded, and n pixels wanted. The scale is s = L / n,
  and t = max(s, 1). Pixel i has its centre at c = (i + 0.5) · s. It is the sum of w_j · value_j over the pixels j from
  max(0, floor(c - 2 t + 0.5)) to min(m, floor(c + 2 t + 0.5)) - 1, where w_j = k((j - c + 0.5) / t), divided by the sum
  of these. Each w_j is then rounded to a multiple of 2^-22, and the sum to the nearest whole number, halves up, cut off
  at 0 and 255.
- k(x) = 1.5 |x|³ - 2.5 |x|² + 1 for |x| < 1, -0.5 |x|³ + 2.5 |x|² - 4 |x| + 2 for 1 ≤ |x| < 2, and 0 beyond.

In Pillow this is `resize(({width}, {height}), Image.Resampling.BICUBIC, reducing_gap={gap:g})`. The bicubic kernel of OpenCV, and of
most others, is not widened when an image shrinks: pixels and scores are then others.
"""

TILES = """\
## 2. Cut into tiles

- Tiles are squares of {tile} pixels, which share {overlap} or more with their neighbours. A photograph with a shorter side is
  refused.
- Along a side of L pixels there are n = ceil((L - {overlap}) / {step}) tiles. The first pixel of tile i, counted from 0, is
  i · (L - {tile}) / (n - 1), rounded to the nearest whole number, halves to the even one; of a single tile it is 0.
- Each tile goes through the next steps by itself.
- For the map of the photograph, resize each tile's map to {tile} × {tile} (bilinear) and add them up with weights. The weight
  at a tile's pixel (y, x) is the product of min(y + 0.5, {tile} - 0.5 - y, {slope}) and the same of x, divided by the sum of
  these products over all tiles there.
"""

CROP = """\
## {number}. Crop

Keep {crop} rows from row {top} on, and {crop} columns from column {left} on, counted from 0.
"""


def card_of(model: Model, form: Format, agreement: Agreement, *, half: bool) -> dict[str, Any]:
    """Returns the content of an export's `model.json`, without its files and digests."""
    recipe, calibration, provenance = model.recipe, model.calibration, model.provenance
    height, width = recipe.geometry.shape
    return {
        "created": now(),
        "versions": versions(),
        "model": {
            "detector": recipe.detector,
            "settings": recipe.settings,
            "backbone": recipe.backbone,
            "layers": list(recipe.layers),
            "images": provenance.images,
            "created": provenance.created,
        },
        "graph": {
            "format": form.name,
            "file": form.file,
            "runtime": form.runtime,
            "half": half,
            "input": {"name": INPUT, "type": form.pixels, "shape": [form.batch, height, width, 3]},
            "outputs": {
                SCORE: {"type": "float32", "shape": [form.batch]},
                MAP: {"type": "float32", "shape": [form.batch, height, width]},
            },
        },
        "preprocessing": {**asdict(recipe.geometry), "reducing_gap": GAP},
        "calibration": {
            "threshold": calibration.threshold,
            "false_alarm_rate": calibration.rate,
            "rounding": ROUNDING,
            "scores": calibration.scores.tolist(),
            "box_level": calibration.box_level,
            "box_rate": calibration.box_rate,
            "display": list(calibration.display),
        },
        "agreement": {name: value for name, value in asdict(agreement).items() if name != "flipped"},
    }


def steps_of(model: Model, form: Format, *, half: bool) -> str:
    """Returns PREPROCESS.md: every step from a file to a verdict, with this model's numbers."""
    geometry, calibration = model.recipe.geometry, model.calibration
    height, width = geometry.shape
    sizing = _sizing(geometry)
    one = "One image at a time." if form.batch else "Any number of images at a time; none depends on the others."
    numbers = "Its numbers are float16 and become float32 before they are used." if half else "All numbers are float32."
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        file=form.file,
        title=form.title,
        runtime="TensorRT" if form.name == "tensorrt-onnx" else form.runtime,
        precision=numbers,
        input=INPUT,
        score=SCORE,
        map=MAP,
        pixels=form.pixels,
        batch=form.batch or "any",
        batches=one,
        height=height,
        width=width,
        single_precision=TENSORRT if form.name == "tensorrt-onnx" else SINGLE_PRECISION[form.runtime],
        decoding=JPEG.format(height2=2 * geometry.height, width2=2 * geometry.width) if geometry.tile is None else "",
        sizing="\n".join(sizing),
        next=len(sizing) + 2,
        joining="The score is the graph's."
        if geometry.tile is None
        else "The score of a photograph is the largest of its tiles' scores.",
        threshold=repr(calibration.threshold),
        rate=f"{100 * calibration.rate:.4g}",
        count=len(calibration.scores),
        rounding=ROUNDING,
        low=f"{calibration.display[0]:.6g}",
        high=f"{calibration.display[1]:.6g}",
        box_level=f"{calibration.box_level:.6g}",
        box_rate=f"{100 * calibration.box_rate:.4g}",
    )


def _sizing(geometry: Geometry) -> list[str]:
    """Returns the steps from a decoded image to the graph's input."""
    steps = []
    if geometry.tile is not None:
        steps.append(
            TILES.format(
                tile=geometry.tile,
                overlap=geometry.overlap,
                step=geometry.tile - geometry.overlap,
                slope=max(geometry.overlap, 1),
            )
        )
    what = "image" if geometry.tile is None else "tile"
    steps.append(RESIZE.format(number=len(steps) + 2, height=geometry.height, width=geometry.width, gap=GAP, what=what))
    if geometry.crop is not None:
        top, left = geometry.margins
        steps.append(CROP.format(number=len(steps) + 2, crop=geometry.crop, top=top, left=left))
    return steps
