// The slider for the false-alarm rate, and the scores that set the threshold.

import { lowestRate, thresholdAt } from "./calibration.js";
import { drawn } from "./svg.js";
import { counted, percent, short } from "./words.js";

const HIGHEST = 0.5;
const STEPS = 1000;
const FARTHEST = 1.8; // the scale ends at this multiple of the range of the good images' scores
const MARKS = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

const slider = document.getElementById("rate");
const says = document.getElementById("rate-says");
const reset = document.getElementById("as-set");
const gauge = document.getElementById("gauge");
let lowest = 0;

/** Calls `changed(rate)` when the slider moves, with null when it returns to the model's own rate. */
export function startRate(changed) {
  slider.addEventListener("input", () => changed(rateAt(Number(slider.value))));
  reset.addEventListener("click", () => {
    changed(null);
    slider.focus();
  });
}

/** Shows the range of rates that are possible with a model's scores. */
export function showRange(model) {
  lowest = lowestRate(model.scores.length);
  slider.disabled = lowest >= HIGHEST;
  document.getElementById("lowest").textContent =
    `Lowest possible rate: ${percent(lowest)}, with ${counted(model.scores.length, "good image")} to calibrate.`;
  const ticks = document.getElementById("rate-ticks");
  ticks.replaceChildren();
  const marks = MARKS.filter((mark) => mark >= lowest);
  marks.forEach((mark, index) => {
    const tick = document.createElement("span");
    const at = placeOf(mark);
    tick.textContent = percent(mark);
    tick.style.setProperty("--at", String(at));
    tick.classList.toggle("bare", marks.length > 6 && index % 3 !== (marks.length - 1) % 3);
    ticks.append(tick);
  });
}

/** Shows the chosen rate, or the model's own if it is null. */
export function showRate(model, rate) {
  const now = rate ?? model.false_alarm_rate;
  slider.value = String(Math.round(STEPS * placeOf(now)));
  slider.setAttribute("aria-valuetext", percent(now));
  reset.hidden = rate === null;
  reset.textContent = `Back to ${percent(model.false_alarm_rate)}`;
  const often = now < 0.1 ? `1 of ${Math.round(1 / now)}` : `${Math.round(100 * now)} of 100`;
  says.replaceChildren(strong(percent(now)), `: at most ${often} good images raises an alarm.`);
}

/** Draws the scores that calibrated the model as short lines, the threshold, and the score of the shown image. */
export function showGauge(model, rate, score, verdict) {
  const width = Math.max(gauge.clientWidth, 200);
  const height = 62;
  const threshold = rate === null ? model.threshold : thresholdAt(model.scores, rate);
  const low = Math.min(model.scores[0], Number.isFinite(score) ? score : Infinity);
  const known = Math.max(model.scores.at(-1), threshold) - low || 1;
  const span = Math.min(Math.max(known, score - low || 0), FARTHEST * known);
  const x = (value) => 8 + (Math.min((value - low) / span, 1)) * (width - 16);
  gauge.setAttribute("viewBox", `0 0 ${width} ${height}`);
  gauge.setAttribute("height", height);
  gauge.replaceChildren(drawn("line", { x1: 8, x2: width - 8, y1: 40, y2: 40, class: "axis" }));
  for (const one of thinned(model.scores)) {
    gauge.append(drawn("line", { x1: x(one), x2: x(one), y1: 30, y2: 40, class: "calibrating" }));
  }
  const at = x(threshold);
  gauge.append(drawn("line", { x1: at, x2: at, y1: 16, y2: 46, class: "threshold" }));
  const anchor = at > width - 60 ? "end" : at < 60 ? "start" : "middle";
  gauge.append(drawn("text", { x: at, y: 60, "text-anchor": anchor }, `threshold ${short(threshold)}`));
  if (Number.isFinite(score)) {
    const mark = x(score);
    const isBeyond = score - low > span;
    const arrow = isBeyond ? `M${mark + 6} 23l-10-6v12z` : `M${mark} 28l-6-10h12z`;
    gauge.append(drawn("path", { d: arrow, class: `mark ${verdict}` }));
    const side = mark > width - 60 ? "end" : mark < 60 ? "start" : "middle";
    gauge.append(drawn("text", { x: mark, y: 12, "text-anchor": side, class: "strong" }, `this image ${short(score)}`));
  }
  const range = `from ${short(model.scores[0])} to ${short(model.scores.at(-1))}`;
  const words = Number.isFinite(score) ? `; this image's score is ${short(score)}` : "";
  gauge.setAttribute("aria-label", `Scores of good images ${range}; the threshold is ${short(threshold)}${words}`);
}

function rateAt(step) {
  const exact = lowest * (HIGHEST / lowest) ** (step / STEPS);
  return Math.min(Math.max(Number(exact.toPrecision(2)), lowest), HIGHEST);
}

function placeOf(rate) {
  const place = Math.log(rate / lowest) / Math.log(HIGHEST / lowest);
  return Math.min(Math.max(place, 0), 1);
}

function thinned(scores) {
  const step = Math.ceil(scores.length / 300);
  return scores.filter((_, index) => index % step === 0 || index === scores.length - 1);
}

function strong(text) {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}
