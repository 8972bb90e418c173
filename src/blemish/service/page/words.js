// Numbers in words.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Returns a count with its noun: "1 image", "2,000 images". */
export function counted(count, one, many = `${one}s`) {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}

/** Returns a number with four significant digits. */
export function short(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
}

/** Returns a share in per cent with two significant digits, such as "0.5 %". */
export function percent(share) {
  return `${new Intl.NumberFormat("en", { maximumSignificantDigits: 2 }).format(100 * share)} %`;
}

/**
 * Returns the meaning of a p-value in a sentence.
 * `calibrating` is the number of good images that calibrated the model; null if it is not known.
 */
export function likelihood(p, calibrating) {
  if (calibrating !== null && p * (calibrating + 1) < 1.5) {
    return `At most 1 of ${whole.format(calibrating + 1)} good images would score as high.`;
  }
  if (p >= 0.1) return `${Math.round(100 * p)} of 100 good images would score as high.`;
  return `1 of ${whole.format(Math.round(1 / p))} good images would score as high.`;
}

/** Returns in words how long ago something was. */
export function ago(seconds) {
  if (seconds < 1.5) return "just now";
  if (seconds < 90) return `${counted(Math.round(seconds), "second")} ago`;
  if (seconds < 5400) return `${counted(Math.round(seconds / 60), "minute")} ago`;
  if (seconds < 129600) return `${counted(Math.round(seconds / 3600), "hour")} ago`;
  return `${counted(Math.round(seconds / 86400), "day")} ago`;
}

export function clockTime(time) {
  return clock.format(time);
}

export function dayAndTime(time) {
  return day.format(time);
}

export function hourAndMinute(time) {
  return minutes.format(time);
}

/** Returns in words where the boxes are, such as "3 places stand out: upper left (2), centre." */
export function places(boxes, height, width) {
  if (!boxes?.length) return "No place stands out.";
  const lead = boxes.length === 1 ? "1 place stands out" : `${whole.format(boxes.length)} places stand out`;
  if (!height || !width) return `${lead}.`;
  const counts = new Map();
  for (const box of boxes) {
    const name = place(box, height, width);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const named = [...counts].map(([name, count]) => (count > 1 ? `${name} (${whole.format(count)})` : name));
  return `${lead}: ${named.join(", ")}.`;
}

/** Returns which ninth of the picture holds the middle of a box. */
function place(box, height, width) {
  const down = (box.top + box.bottom) / 2 / height;
  const across = (box.left + box.right) / 2 / width;
  const row = down < 1 / 3 ? "upper" : down > 2 / 3 ? "lower" : "";
  const column = across < 1 / 3 ? "left" : across > 2 / 3 ? "right" : "";
  if (!row && !column) return "centre";
  return [row || "middle", column || "middle"].join(" ");
}
