// Judged images, newest first: those that this page sent and those in the log.

import { thresholdAt } from "./calibration.js";

/** How many entries are kept and shown. */
export const MOST = 50;
const WITH_IMAGE = 10; // so many entries keep the bytes that this page sent; for others the service is asked

/** Returns the entry of an image that this page sent: `judged` is the answer, `image` its bytes. */
export function fromAnswer(judged, image) {
  const { result, model, version } = judged;
  const map = result.map ? bytes(result.map) : null;
  return { feedback: null, ...result, model, version, time: timeOf(result.id), image, map };
}

/** Returns the entry of a row in the log. */
export function fromRow(row) {
  return { ...row, time: Date.parse(row.time) };
}

/**
 * Returns "good", "anomalous" or "unknown" for an entry.
 *
 * If a false-alarm rate was chosen on this page and the loaded model judged the image, the verdict follows from the
 * model's calibration at this rate. Otherwise it is the verdict that the service gave.
 */
export function verdictOf(entry, model, rate) {
  if (entry.error) return "unknown";
  if (rate === null || !applies(entry, model)) return entry.is_anomaly ? "anomalous" : "good";
  return entry.score > thresholdAt(model.scores, rate) ? "anomalous" : "good";
}

/** Returns the same for the verdict of a second model, at its own rate; null if it has not judged the image. */
export function secondOf(entry) {
  if (!entry?.shadow) return null;
  return entry.shadow.is_anomaly === null ? "unknown" : entry.shadow.is_anomaly ? "anomalous" : "good";
}

/** Returns whether the loaded model judged the image, so that its calibration can be used. */
export function applies(entry, model) {
  return model?.scores !== undefined && entry.model === model.name && entry.version === model.version;
}

/** The newest entries by their ids, which sort by time. */
export class Entries {
  #byId = new Map();
  newest = [];

  get(id) {
    return this.#byId.get(id);
  }

  /** Adds entries; fields that are known already are kept, unless the new entry has them too. */
  add(entries) {
    for (const entry of entries) {
      const known = this.#byId.get(entry.id);
      this.#byId.set(entry.id, known ? joined(known, entry) : entry);
    }
    const order = [...this.#byId.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
    for (const old of order.slice(MOST)) this.#byId.delete(old.id);
    for (const old of order.slice(WITH_IMAGE)) old.image = null;
    this.newest = order.slice(0, MOST);
  }

  clear() {
    this.#byId.clear();
    this.newest = [];
  }
}

function joined(known, entry) {
  const { feedback = null, shadow = null } = known;
  return { ...known, ...entry, feedback: entry.feedback ?? feedback, shadow: entry.shadow ?? shadow };
}

function timeOf(id) {
  return Number.parseInt(id.slice(0, 12), 16); // milliseconds since 1970
}

function bytes(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
