// The picture of one image, with its heat map and boxes.

import { getPicture } from "./service.js";
import { drawn } from "./svg.js";
import { put } from "./text.js";
import { places } from "./words.js";

const stage = document.getElementById("stage");
let wanted = null; // the id whose picture is shown or being loaded
const urls = []; // object URLs of the shown pictures

/** Shows an entry's picture, or none for null, unless another is requested meanwhile. */
export async function showPicture(entry) {
  if ((entry?.id ?? null) === wanted) return;
  wanted = entry?.id ?? null;
  put("places", "");
  stage.classList.add("waiting");
  const photo = entry && (await photoOf(entry));
  if (!isWanted(entry, photo)) return;
  stage.classList.remove("waiting");
  const isMissing = Boolean(entry) && !photo;
  stage.dataset.missing = !isMissing ? "" : entry.error ? "No picture." : "This picture is no longer kept.";
  stage.replaceChildren();
  urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  if (!photo) return;
  const height = entry.height ?? photo.naturalHeight;
  const width = entry.width ?? photo.naturalWidth;
  stage.style.setProperty("--proportion", String(width / height));
  photo.className = "photo";
  const words = entry.error ? "" : places(entry.boxes, height, width);
  put("places", words);
  photo.alt = `${entry.name ?? "The image"}. ${words}`;
  stage.append(photo, outlines(entry, height, width));
  urls.push(photo.src);
  const heat = await heatOf(entry);
  if (!isWanted(entry, heat) || !heat) return;
  photo.after(heat);
  urls.push(heat.src);
}

/** Returns whether an entry's picture is still wanted; releases it otherwise. */
function isWanted(entry, image) {
  if (wanted === (entry?.id ?? null)) return true;
  if (image) URL.revokeObjectURL(image.src);
  return false;
}

/** Sets the opacity of the heat map, from 0 to 1. */
export function setShare(share) {
  stage.style.setProperty("--share", String(share));
}

/** Returns the decoded image, or null if it is no longer kept. */
async function photoOf(entry) {
  const sent = await shown(entry.image);
  return sent ?? (entry.error ? null : shown(await kept(entry, "image")));
}

/** Returns the decoded heat map; for an image from another client, the kept map is mixed with the image. */
async function heatOf(entry) {
  if (entry.error) return null;
  const map = await shown(entry.map);
  const heat = map ?? (await shown(await kept(entry, "overlay")));
  if (!heat) return null;
  heat.className = map ? "heat" : "heat mixed";
  heat.alt = "";
  return heat;
}

async function kept(entry, kind) {
  try {
    return await getPicture(entry.id, kind);
  } catch {
    return null; // problems of the service are shown elsewhere
  }
}

/** Returns a decoded picture, or null if there is none or the browser cannot read it, such as a TIFF. */
async function shown(blob) {
  if (!blob) return null;
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
    return image;
  } catch {
    URL.revokeObjectURL(image.src);
    return null;
  }
}

function outlines(entry, height, width) {
  const whole = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" };
  const svg = drawn("svg", { class: "boxes", "aria-hidden": "true", ...whole });
  for (const box of entry.boxes ?? []) {
    const place = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
    svg.append(drawn("rect", { ...place, class: "under" }), drawn("rect", { ...place, class: "over" }));
  }
  return svg;
}
