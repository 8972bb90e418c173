// Scores one image with an exported graph: node predict.mjs PIXELS, where PIXELS is a file of H x W x 3 bytes, made by
// the steps in PREPROCESS.md. Prints score, p-value and verdict as JSON. Needs `npm install onnxruntime-web`.
//
// In a browser, fetch model.onnx and model.json, and take the pixels from a canvas (`getImageData`, without alpha).
// Resize them by the steps in PREPROCESS.md: a canvas resizes in another way, which changes the scores.

import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";

const folder = new URL(".", import.meta.url);
const { graph, calibration } = JSON.parse(await readFile(new URL("model.json", folder), "utf8"));
const session = await ort.InferenceSession.create(await readFile(new URL(graph.file, folder)));

export async function predict(bytes) {
  const [, height, width] = graph.input.shape;
  const pixels = graph.input.type === "float32" ? Float32Array.from(bytes) : Uint8Array.from(bytes);
  const images = new ort.Tensor(graph.input.type, pixels, [1, height, width, 3]);
  const { score } = await session.run({ images }, ["score"]);
  const found = score.data[0];
  const good = calibration.scores.map((known) => known + calibration.rounding * Math.abs(known));
  const higher = good.filter((known) => known >= found).length;
  return { score: found, p_value: (1 + higher) / (1 + good.length), is_anomaly: found > calibration.threshold };
}

console.log(JSON.stringify(await predict(await readFile(process.argv[2]))));
