// The picture of one image, with its heat map and boxes.

import { getPicture } from "./service.js";
import { drawn } from "./svg.js";

const stage = document.getElementById("stage");
let wanted = null; // the id whose picture is shown or on its way
let urls = [];

/** Shows an entry's picture, unless another is asked for meanwhile. `describe(height, width)` gives its words. */
export async function showPicture(entry, describe) {
  if (entry?.id === wanted) return;
  wanted = entry?.id ?? null;
  stage.classList.add("waiting");
  const layers = entry ? await loaded(entry) : null;
  if (wanted !== (entry?.id ?? null)) {
    layers?.forEach((layer) => URL.revokeObjectURL(layer.src));
    return;
  }
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = layers?.map((layer) => layer.src) ?? [];
  stage.classList.remove("waiting");
  if (!layers?.length) {
    stage.replaceChildren();
    stage.classList.toggle("gone", Boolean(entry));
    return;
  }
  stage.classList.remove("gone");
  const [photo] = layers;
  const height = entry.height ?? photo.naturalHeight;
  const width = entry.width ?? photo.naturalWidth;
  stage.style.setProperty("--proportion", String(width / height));
  photo.alt = describe(height, width);
  stage.replaceChildren(...layers, outlines(entry, height, width));
}

/** Sets the heat map's share of the picture, from 0 to 1. */
export function setShare(share) {
  stage.style.setProperty("--share", String(share));
}

/** Returns the decoded layers: the photo and, where it is kept, the heat map; none if the photo is not kept. */
async function loaded(entry) {
  const photo = (await shown(entry.image)) ?? (await shown(await kept(entry, "image"))) ?? (await shown(await kept(entry, "thumbnail")));
  if (!photo) return [];
  const map = await shown(entry.map);
  const heat = map ?? (await shown(await kept(entry, "overlay")));
  photo.className = "photo";
  if (!heat) return [photo];
  heat.className = map ? "heat" : "heat mixed";
  heat.alt = "";
  return [photo, heat];
}

async function kept(entry, kind) {
  try {
    return await getPicture(entry.id, kind);
  } catch {
    return null; // the service's trouble is said elsewhere
  }
}

/** Returns a decoded picture, or null where there is none or the browser cannot read it, such as a TIFF. */
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
  const svg = drawn("svg", { class: "boxes", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const box of entry.boxes ?? []) {
    const place = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
    svg.append(drawn("rect", { ...place, class: "under" }), drawn("rect", { ...place, class: "over" }));
  }
  return svg;
}
