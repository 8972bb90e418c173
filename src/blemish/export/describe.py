"""The description of an export: `model.json` for programs, and PREPROCESS.md for people."""

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

STEPS = Path(__file__).parent / "steps"
"""Templates of the parts of PREPROCESS.md."""

SINGLE_PRECISION = {
    "openvino": "compile with `INFERENCE_PRECISION_HINT` `f32`; otherwise OpenVINO may compute in bfloat16.",
    "onnxruntime": "ONNX Runtime on a CPU does so by itself.",
    "torch": "torch on a CPU does so by itself; on a GPU leave TF32 off.",
}
TENSORRT = (
    "TensorRT does so without `--fp16` and with `--noTF32`. This graph was not run in\n"
    "  TensorRT. TensorRT 10 supports its operators, types and shapes, and its results were checked in ONNX Runtime."
)


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
    """Returns the text of PREPROCESS.md: every step from a file to a verdict, with this model's numbers."""
    geometry, calibration = model.recipe.geometry, model.calibration
    height, width = geometry.shape
    sizing = _sizing(geometry)
    one = "One image at a time." if form.batch else "Any number of images at a time; none depends on the others."
    numbers = "Its numbers are float16 and become float32 before they are used." if half else "All numbers are float32."
    return _filled(
        "all",
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
        decoding="" if geometry.tile else _filled("jpeg", height2=2 * geometry.height, width2=2 * geometry.width),
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


def _filled(name: str, **values: object) -> str:
    """Returns a part of PREPROCESS.md, filled with values."""
    return Template((STEPS / f"{name}.md").read_text(encoding="utf-8")).substitute(values)


def _sizing(geometry: Geometry) -> list[str]:
    """Returns the steps from a decoded image to the graph's input."""
    steps = []
    if geometry.tile is not None:
        steps.append(
            _filled(
                "tiles",
                tile=geometry.tile,
                overlap=geometry.overlap,
                step=geometry.tile - geometry.overlap,
                slope=max(geometry.overlap, 1),
            )
        )
    what = "image" if geometry.tile is None else "tile"
    steps.append(
        _filled(
            "resize", number=len(steps) + 2, height=geometry.height, width=geometry.width, gap=f"{GAP:g}", what=what
        )
    )
    if geometry.crop is not None:
        top, left = geometry.margins
        steps.append(_filled("crop", number=len(steps) + 2, crop=geometry.crop, top=top, left=left))
    return steps
