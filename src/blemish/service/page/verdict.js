// The verdict on one image, its figures, and the verdict of a second model.

import { thresholdAt } from "./calibration.js";
import { applies, secondOf, verdictOf } from "./entries.js";
import { now } from "./service.js";
import { sign } from "./svg.js";
import { put } from "./text.js";
import { ago, clockTime, counted, dayAndTime, likelihood, percent, places, short } from "./words.js";

const WORDS = { good: "Good", anomalous: "Anomalous", unknown: "No verdict" };
const LOST = "No answer";
const QUIET = 3000; // milliseconds between two announcements to a screen reader

const element = (id) => document.getElementById(id);
const panel = element("verdict");
let announcedAt = 0;
let announcing = null;

/** Shows an entry's verdict at a false-alarm rate (null: the service's verdict). */
export function showVerdict(entry, model, rate) {
  const verdict = verdictOf(entry, model, rate);
  const calibrating = applies(entry, model) ? model.scores.length : null;
  if (panel.className !== verdict) {
    panel.className = verdict;
    element("sign").replaceChildren(sign(verdict));
  }
  const sentence = entry.error ? `The image ${entry.error}.` : likelihood(entry.p_value, calibrating);
  put("word", WORDS[verdict]);
  const known = entry.is_known ? " The model was fitted on this image, so its score says little." : "";
  put("sentence", `${sentence}${known}`);
  put("source", entry.name ?? "without a name");
  put("by", `${entry.model} ${entry.version}`);
  element("since").dateTime = new Date(entry.time).toISOString();
  element("since").title = dayAndTime(entry.time);
  showSince(entry);
  document.title = `${WORDS[verdict]} – ${entry.model} – blemish`;
  announce(`${WORDS[verdict]}. ${sentence}`);
}

/** Shows that the service does not answer, instead of its last verdict. */
export function showLost() {
  if (panel.className !== "unknown") {
    panel.className = "unknown";
    element("sign").replaceChildren(sign("unknown"));
  }
  const sentence = "The service does not answer. Parts that came since then are not judged.";
  if (element("word").textContent !== LOST) announce(`${LOST}. ${sentence}`);
  put("word", LOST);
  put("sentence", sentence);
  document.title = `${LOST} – blemish`;
}

/** Shows how long ago an entry was judged. */
export function showSince(entry) {
  const seconds = (now() - entry.time) / 1000;
  put("since", seconds < 86400 ? `${ago(seconds)}, ${clockTime(entry.time)}` : dayAndTime(entry.time));
}

/** Shows that there is no image yet. */
export function showNone(model) {
  panel.className = "none";
  element("sign").replaceChildren();
  put("word", "No image yet");
  put("sentence", "Drop an image anywhere on this page, paste one, choose a file, or start the camera.");
  for (const id of ["since", "source", "by"]) put(id, "");
  document.title = model ? `${model} – blemish` : "blemish";
}

/** Shows all figures of an entry. */
export function showFigures(entry, model, rate) {
  const rows = [
    ["Image", entry.name ?? "without a name"],
    ["Judged", dayAndTime(entry.time)],
    ...(entry.error ? [] : measured(entry, model, rate)),
    ["Model", `${entry.model}, version ${entry.version}`],
  ];
  if (model && entry.model === model.name) {
    const backbone = model.backbone ? ` on ${model.backbone}` : "";
    rows.push(["Detector", `${model.detector}${backbone}, ${model.width} × ${model.height} pixels`]);
    rows.push(["Fitted on", counted(model.images, "good image")]);
  }
  if (entry.feedback) rows.push(["Marked as", entry.feedback]);
  element("figures").replaceChildren(...rows.flatMap(([name, value]) => [filled("dt", name), filled("dd", value)]));
}

function measured(entry, model, rate) {
  const isOurs = rate !== null && applies(entry, model);
  const judgedAt = percent(entry.false_alarm_rate);
  const rows = [
    ["Score", short(entry.score)],
    ["p-value", short(entry.p_value)],
    ["Threshold", short(isOurs ? thresholdAt(model.scores, rate) : entry.threshold)],
    ["False-alarm rate", isOurs ? `${percent(rate)}, chosen on this page; judged at ${judgedAt}` : judgedAt],
    ["Places", places(entry.boxes, entry.height, entry.width)],
    ["Took", `${short(1000 * entry.latency)} ms`],
  ];
  if (entry.height) rows.push(["Size", `${entry.width} × ${entry.height} pixels`]);
  return rows;
}

/** Shows the second model's verdict on an entry, and how often the two models agree on `entries`. */
export function showShadow(entry, entries, model, rate) {
  const compared = entries.filter((one) => one.shadow && !one.error);
  element("shadow").hidden = !model?.shadow && !compared.length;
  const second = entry?.shadow;
  const text = element("shadow-verdict");
  if (second) {
    const verdict = secondOf(entry);
    const differs = verdict !== verdictOf(entry, model, rate);
    const words = document.createElement("span");
    const agrees = differs ? "It disagrees." : "It agrees.";
    words.append(filled("strong", WORDS[verdict]), `, p = ${short(second.p_value)}. ${agrees}`);
    text.replaceChildren(sign(verdict), words);
  } else {
    text.replaceChildren("It has not judged this image.");
  }
  const agree = compared.filter((one) => secondOf(one) === verdictOf(one, model, rate)).length;
  const name = second ? second.model : model?.shadow?.name;
  const role = name ? `${name} does not decide. ` : "";
  const often = compared.length ? `The two models agree on ${agree} of the last ${counted(compared.length, "image")}.` : "";
  put("shadow-agrees", `${role}${often}`);
}

/** Announces the latest verdict to a screen reader, with a pause between announcements. */
function announce(text) {
  clearTimeout(announcing);
  const wait = Math.max(0, announcedAt + QUIET - Date.now());
  announcing = setTimeout(() => {
    announcedAt = Date.now();
    put("announced", text);
  }, wait);
}

function filled(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
