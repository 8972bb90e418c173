// The chart of a day: scores against the threshold, the number of images and alarms, and drift.

import { drawn, ticks } from "./svg.js";
import { hourAndMinute, short } from "./words.js";

const STEP = 600_000; // milliseconds in a bucket
const FARTHEST = 2.5; // the scale ends at this multiple of the distance from the lowest score to the threshold
const LEFT = 56;
const RIGHT = 12;
const SCORES = [14, 150]; // top and bottom of the lanes
const COUNTS = [186, 246];

/** Returns the drawing, `width` pixels wide, of buckets from the service; `threshold` is null if it is not known. */
export function dayChart(buckets, threshold, width) {
  const svg = drawn("svg", { viewBox: `0 0 ${width} 276`, width, height: 276, role: "img" });
  const { start, end } = hours(buckets);
  const x = (time) => LEFT + ((time - start) / (end - start)) * (width - LEFT - RIGHT);
  const wide = Math.max(2, x(start + STEP) - x(start) - 2);
  const anomalies = buckets.reduce((sum, bucket) => sum + bucket.anomalies, 0);
  const span = `from ${hourAndMinute(start)} to ${hourAndMinute(end)}`;
  const label = `Scores and alarms ${span}: ${anomalies} anomalous. The table below has the figures.`;
  svg.setAttribute("aria-label", label);
  scores(svg, buckets, threshold, x, wide, width);
  counts(svg, buckets, x, wide, width);
  hourMarks(svg, start, end, x, width);
  return svg;
}

/** Returns a bar of the evidence of drift (log10), with a mark where it becomes an alarm. */
export function driftBar(evidence, alarm, isAlarm, width) {
  const svg = drawn("svg", { viewBox: `0 0 ${width} 34`, width, height: 34, "aria-hidden": "true" });
  const most = 1.5 * alarm;
  const x = (value) => LEFT + (Math.min(Math.max(value, 0), most) / most) * (width - LEFT - RIGHT);
  svg.append(drawn("text", { x: LEFT - 6, y: 14, "text-anchor": "end" }, "drift"));
  svg.append(drawn("rect", { x: LEFT, y: 4, width: x(most) - LEFT, height: 12, rx: 3, class: "images" }));
  const kind = `evidence ${isAlarm ? "anomalous" : ""}`;
  svg.append(drawn("rect", { x: LEFT, y: 4, width: Math.max(x(evidence) - LEFT, 3), height: 12, rx: 3, class: kind }));
  svg.append(drawn("line", { x1: x(alarm), x2: x(alarm), y1: 0, y2: 20, class: "threshold" }));
  svg.append(drawn("text", { x: x(alarm), y: 32, "text-anchor": "middle" }, "alarm"));
  return svg;
}

function scores(svg, buckets, threshold, x, wide, width) {
  const measured = buckets.filter((bucket) => bucket.lowest !== null);
  const values = measured.flatMap((bucket) => [bucket.lowest, bucket.highest]).concat(threshold ?? []);
  const low = Math.min(...values);
  const highest = Math.max(...values);
  const high = threshold > low ? Math.min(highest, low + FARTHEST * (threshold - low)) : highest;
  const y = lane(low, high, SCORES);
  marks(svg, ticks(low, high, 4), y, width);
  title(svg, "score", SCORES);
  for (const bucket of measured) {
    const left = x(bucket.start) + 1;
    const cut = threshold === null ? bucket.highest : Math.min(Math.max(threshold, bucket.lowest), bucket.highest);
    bar(svg, left, wide, y(cut), y(bucket.lowest), "range");
    if (cut < bucket.highest) above(svg, left + wide / 2, y(cut), y(bucket.highest), bucket.highest > high);
    const middle = y(bucket.median);
    svg.append(drawn("line", { x1: left, x2: left + wide, y1: middle, y2: middle, class: "median" }));
  }
  if (threshold === null) return;
  svg.append(drawn("line", { x1: LEFT, x2: width - RIGHT, y1: y(threshold), y2: y(threshold), class: "threshold" }));
  const place = { x: width - RIGHT, y: y(threshold) - 5, "text-anchor": "end", class: "strong" };
  svg.append(drawn("text", place, `threshold ${short(threshold)}`));
}

/** Draws the highest score above the threshold: a dot at its place, or an arrow if it lies beyond the scale. */
function above(svg, x, bottom, top, isBeyond) {
  svg.append(drawn("line", { x1: x, x2: x, y1: bottom, y2: top, class: "above" }));
  if (isBeyond) svg.append(drawn("path", { d: `M${x} ${top - 6}l4 8h-8z`, class: "alarms" }));
  else svg.append(drawn("circle", { cx: x, cy: top, r: 3, class: "alarms" }));
}

function counts(svg, buckets, x, wide, width) {
  const most = Math.max(...buckets.map((bucket) => bucket.count));
  const y = lane(0, most, COUNTS);
  marks(svg, [0, most], y, width);
  title(svg, "images", COUNTS);
  for (const bucket of buckets) {
    const left = x(bucket.start) + 1;
    bar(svg, left, wide, y(bucket.count), y(0), "images");
    if (!bucket.anomalies) continue;
    const top = Math.min(y(bucket.anomalies), y(0) - 3); // a single one must be visible
    bar(svg, left, wide, top, y(0), "alarms");
    svg.append(drawn("path", { d: `M${left + wide / 2} ${COUNTS[1] + 3}l5 8h-10z`, class: "alarms" }));
  }
}

function hourMarks(svg, start, end, x, width) {
  const hour = 6 * STEP;
  const room = Math.floor((width - LEFT - RIGHT) / 58);
  const step = [1, 2, 3, 4, 6].find((by) => (end - start) / hour / by <= room) ?? 6;
  for (let time = start; time <= end; time += step * hour) {
    svg.append(drawn("line", { x1: x(time), x2: x(time), y1: SCORES[0], y2: COUNTS[1], class: "grid" }));
    const anchor = x(time) > width - 30 ? "end" : "middle";
    svg.append(drawn("text", { x: x(time), y: 273, "text-anchor": anchor }, hourAndMinute(time)));
  }
}

function marks(svg, values, y, width) {
  for (const value of values) {
    svg.append(drawn("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
}

function title(svg, text, [top, bottom]) {
  const turned = `translate(12 ${(top + bottom) / 2}) rotate(-90)`;
  svg.append(drawn("text", { transform: turned, "text-anchor": "middle" }, text));
}

function bar(svg, left, wide, top, bottom, kind) {
  svg.append(drawn("rect", { x: left, y: top, width: wide, height: Math.max(bottom - top, 1), rx: 1, class: kind }));
}

function lane(low, high, [top, bottom]) {
  const span = high - low || 1;
  return (value) => bottom - Math.min((value - low) / span, 1) * (bottom - top);
}

/** Returns the full hours around the buckets: at least three, and no later than midnight. */
export function hours(buckets) {
  const hour = 6 * STEP;
  const first = new Date(buckets[0].start);
  first.setMinutes(0, 0, 0);
  const midnight = new Date(first).setHours(24, 0, 0, 0);
  const start = Math.min(first.getTime(), midnight - 3 * hour);
  const last = buckets.at(-1).start + STEP;
  return { start, end: start + Math.max(3, Math.ceil((last - start) / hour)) * hour };
}
