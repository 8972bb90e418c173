"""`python predict.py IMAGE...` prints a line of JSON for each: a verdict, or an error. PREPROCESS.md has the steps."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

CARD = json.loads(Path(__file__).with_name("model.json").read_text(encoding="utf-8"))
GRAPH, STEPS, GOOD = CARD["graph"], CARD["preprocessing"], CARD["calibration"]
SIZE, TILE, OVERLAP, CROP = (STEPS["width"], STEPS["height"]), STEPS["tile"], STEPS["overlap"], STEPS["crop"]


def opened(file):
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or ONNX Runtime, and OpenVINO, would report each use to a server
    sys.modules["openvino_telemetry"] = None
    runtime = __import__(GRAPH["runtime"])
    if GRAPH["runtime"] == "openvino":
        model = runtime.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda pixels: model(pixels)["score"]
    if GRAPH["runtime"] == "torch":  # no pickle is in the file, but torch would run one: load no stranger's
        model = runtime.export.load(file).module()
        return lambda pixels: model(runtime.from_numpy(pixels))[0]
    model = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda pixels: model.run(["score"], {"images": pixels})[0]


def pieces(image):  # RGB: the image, or its tiles
    if not TILE:  # a JPEG is shrunk while it is decoded, to no less than twice the size
        lies = image.getexif().get(0x0112) in (5, 6, 7, 8)
        image.draft(None, (2 * SIZE[lies], 2 * SIZE[not lies]))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray(((np.asarray(image).astype(int) + 128) // 257).astype(np.uint8))
    elif image.mode in {"RGBA", "LA", "PA"} or (image.mode == "P" and "transparency" in image.info):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    image = image.convert("RGB")
    if not TILE:
        return [image]
    if min(image.size) < TILE:
        raise ValueError(f"is smaller than the tiles of {TILE} pixels")
    across, down = (np.linspace(0, side - TILE, -((OVERLAP - side) // (TILE - OVERLAP))) for side in image.size)
    return [image.crop((x, y, x + TILE, y + TILE)) for y in map(round, down) for x in map(round, across)]


def pixels_of(image):
    image = image if image.size == SIZE else image.resize(SIZE, Image.Resampling.BICUBIC, reducing_gap=2.0)
    left, top = ((side - (CROP or side)) // 2 for side in SIZE)
    return np.asarray(image)[top:, left:][:CROP, :CROP][None].astype(GRAPH["input"]["type"])


if len(sys.argv) < 2:
    print("usage: python predict.py IMAGE...", file=sys.stderr)
    sys.exit(2)
score_of = opened(str(Path(__file__).with_name(GRAPH["file"])))
known = np.array(GOOD["scores"]) + GOOD["rounding"] * np.abs(GOOD["scores"])
status = 0
for path in sys.argv[1:]:
    try:
        with Image.open(path) as image:
            score = max(float(score_of(pixels_of(piece))[0]) for piece in pieces(image))
        p_value = float((1 + np.sum(known >= score)) / (1 + len(known)))
        line = {"score": score, "p_value": p_value, "is_anomaly": score > GOOD["threshold"]}
    except Exception as error:  # whatever it is, the image has no verdict
        status, line = 1, {"error": str(error)}
    print(json.dumps({"path": path} | line))
sys.exit(status)
