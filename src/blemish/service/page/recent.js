// The latest images as a list of thumbnails, newest first; the list is one tab stop, and arrow keys move in it.

import { secondOf, verdictOf } from "./entries.js";
import { getPicture } from "./service.js";
import { sign } from "./svg.js";
import { put } from "./text.js";
import { clockTime, counted } from "./words.js";

const WORDS = { good: "Good", anomalous: "Anomalous", unknown: "No verdict" };
const list = document.getElementById("recent-list");
const items = new Map(); // id → the list item

/** Shows entries with their verdicts; `open(id)` is called when one is chosen. */
export function showRecent(entries, shownId, model, rate, open) {
  const ids = new Set(entries.map((entry) => entry.id));
  for (const [id, item] of items) {
    if (ids.has(id)) continue;
    if (item.url) URL.revokeObjectURL(item.url);
    item.element.remove();
    items.delete(id);
  }
  let tally = 0;
  entries.forEach((entry, index) => {
    const item = items.get(entry.id) ?? made(entry, open);
    if (list.children[index] !== item.element) list.insertBefore(item.element, list.children[index] ?? null);
    const verdict = verdictOf(entry, model, rate);
    tally += verdict === "anomalous";
    label(item, entry, verdict, entry.id === shownId);
    if (!item.isAsked) thumbnail(entry, item);
    item.button.tabIndex = entry.id === shownId || (index === 0 && !ids.has(shownId)) ? 0 : -1;
  });
  if (entries[0]?.id === shownId) list.scrollLeft = 0;
  document.getElementById("recent-none").hidden = entries.length > 0;
  put("recent-says", entries.length ? `${counted(tally, "alarm")} in ${counted(entries.length, "image")}` : "");
}

/** Moves the focus to an entry, if the list has the focus. */
export function keepFocus(id) {
  if (list.contains(document.activeElement)) items.get(id)?.button.focus();
}

function made(entry, open) {
  const element = document.createElement("li");
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  image.alt = "";
  button.append(image);
  button.addEventListener("click", () => open(entry.id));
  element.append(button);
  const item = { element, button, image, verdict: null, url: null, isAsked: Boolean(entry.error) };
  items.set(entry.id, item);
  return item;
}

function label(item, entry, verdict, isShown) {
  if (item.verdict !== verdict) {
    item.button.querySelector("svg")?.remove();
    item.button.append(sign(verdict));
    item.button.className = verdict;
    item.verdict = verdict;
  }
  const differs = ![null, verdict].includes(secondOf(entry));
  item.button.classList.toggle("differs", differs);
  const said = entry.feedback ? `, marked as ${entry.feedback}` : "";
  const words = [WORDS[verdict] + said, clockTime(entry.time), entry.name, differs && "the second model disagrees"];
  item.button.title = words.filter(Boolean).join(", ");
  item.button.setAttribute("aria-label", item.button.title);
  item.button.dataset.said = entry.feedback ?? "";
  if (isShown) item.button.setAttribute("aria-current", "true");
  else item.button.removeAttribute("aria-current");
}

/** Loads the thumbnail from the service, or, if it has none, shows the image that this page sent. */
async function thumbnail(entry, item) {
  item.isAsked = true;
  let blob = entry.image ?? null;
  try {
    blob = (await getPicture(entry.id, "thumbnail")) ?? blob;
  } catch {
    item.isAsked = false; // the service is busy or does not answer: try again later
    return;
  }
  if (!blob || !items.has(entry.id)) return;
  item.url = URL.createObjectURL(blob);
  item.image.src = item.url;
}
