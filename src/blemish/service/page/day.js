// One day: its chart, the same figures as a table, and drift.

import { dayChart, driftBar } from "./chart.js";
import { getJson, now } from "./service.js";
import { sign } from "./svg.js";
import { put } from "./text.js";
import { counted, hourAndMinute, short } from "./words.js";

const ALARM = 100; // evidence of drift that raises an alarm

const field = document.getElementById("date");
const place = document.getElementById("chart");
let shown = { buckets: [], unreadable: 0, drift: null };
let line = null; // the threshold

/** Connects the date and the buttons beside it; `load()` is called when another day is chosen. */
export function startDay(load) {
  field.value = isoDate(new Date(now()));
  field.addEventListener("change", () => field.value && load());
  for (const [id, days] of [["day-before", -1], ["day-after", 1]]) {
    document.getElementById(id).addEventListener("click", () => {
      const date = new Date(`${field.value}T12:00`);
      date.setDate(date.getDate() + days);
      field.value = isoDate(date);
      load();
    });
  }
  new ResizeObserver(draw).observe(place);
}

/** Returns whether the shown day is today and can still change. */
export function isToday() {
  return field.value === isoDate(new Date(now()));
}

/** Loads the chosen day of a model. Returns its drift, or null if another day was chosen meanwhile. Throws `ServiceError`. */
export async function loadDay(model) {
  const date = field.value;
  const offset = -new Date(`${date}T12:00`).getTimezoneOffset();
  const query = new URLSearchParams({ date, tz_offset: offset });
  const day = await getJson(`v1/models/${encodeURIComponent(model)}/day?${query}`);
  if (date !== field.value) return null;
  shown = { ...day, buckets: day.buckets.map((bucket) => ({ ...bucket, start: Date.parse(bucket.start) })) };
  summary();
  table();
  drift();
  draw();
  return day.drift;
}

/** Moves the threshold in the chart. */
export function showThreshold(threshold) {
  if (threshold === line) return;
  line = threshold;
  draw();
}

function draw() {
  if (!shown.buckets.length) place.replaceChildren();
  else place.replaceChildren(dayChart(shown.buckets, line, width()));
  const bar = document.getElementById("drift-bar");
  const found = shown.drift;
  if (!found || found.martingale_log10 === null) bar.replaceChildren();
  else bar.replaceChildren(driftBar(found.martingale_log10, Math.log10(ALARM), found.alarm, width()));
}

function width() {
  return Math.max(place.clientWidth, 280);
}

function summary() {
  const judged = shown.buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  const images = judged + shown.unreadable;
  const anomalies = shown.buckets.reduce((sum, bucket) => sum + bucket.anomalies, 0);
  const share = judged ? ` (${((100 * anomalies) / judged).toFixed(1)} %)` : "";
  const without = shown.unreadable ? `, ${counted(shown.unreadable, "without a verdict", "without a verdict")}` : "";
  put("day-says", images ? `${counted(images, "image")}, ${anomalies} anomalous${share}${without}.` : "No images on this day.");
  document.getElementById("day-details").hidden = !judged;
}

function table() {
  const rows = shown.buckets.map((bucket) => {
    const row = document.createElement("tr");
    const scores = [bucket.lowest, bucket.median, bucket.highest].map(short);
    row.append(cell("th", hourAndMinute(bucket.start)));
    row.append(...[bucket.count, bucket.anomalies, ...scores].map((value) => cell("td", value)));
    return row;
  });
  document.getElementById("day-rows").replaceChildren(...rows);
}

function cell(name, value) {
  const made = document.createElement(name);
  if (name === "th") made.scope = "row";
  made.textContent = value;
  return made;
}

/** Shows in words how much evidence of drift there is. */
function drift() {
  const text = document.getElementById("drift");
  const found = shown.drift;
  if (!found || found.martingale_log10 === null) {
    text.replaceChildren("Drift: there are too few images to tell.");
    return;
  }
  const evidence = short(Number((10 ** Math.min(found.martingale_log10, 12)).toPrecision(2)));
  const words = found.alarm
    ? "Drift: the scores differ from those that calibrated the model. Look at the images; then calibrate again, or repair the line."
    : "No drift: the scores are like those that calibrated the model.";
  const strength = `Evidence ${evidence} from ${counted(found.images, "image")}; ${ALARM} raises an alarm.`;
  text.replaceChildren(sign(found.alarm ? "anomalous" : "good"), ` ${words} ${strength}`);
}

function isoDate(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
