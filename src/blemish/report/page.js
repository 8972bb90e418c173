"use strict";
const at = id => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const pictures = JSON.parse(at("pictures").textContent);
const { models, images, unit, folder } = data;
const CHUNK = 60;
const source = name => folder === null ? "data:image/jpeg;base64," + pictures[name] : folder + name;
const current = () => at("model") ? Number(at("model").value) : 0;
for (const model of models) model.now = model.threshold;

/* Returns how many of these ascending scores are above the threshold. */
function above(scores, threshold) {
  let low = 0, high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] > threshold) high = middle; else low = middle + 1;
  }
  return scores.length - low;
}
const rate = (part, whole, kind) => whole ? `${part} of ${whole} (${(100 * part / whole).toFixed(2)} %)` : `– (no ${kind} images)`;
const isAbove = (image, number) => image.models[number].score > models[number].now;

/* ---- thresholds ---- */
models.forEach((model, number) => {
  const axis = model.axis, slider = at(`threshold-${number}`), line = at(`line-${number}`), marker = at(`marker-${number}`);
  const to = axis.log ? Math.log : value => value, from = axis.log ? Math.exp : value => value;
  const span = to(axis.high) - to(axis.low);
  function show() {
    const share = (to(model.now) - to(axis.low)) / span;
    for (const side of ["x1", "x2"]) line.setAttribute(side, axis.start + share * (axis.end - axis.start));
    const alarms = above(model.good, model.now), found = above(model.anomalous, model.now);
    at(`rates-${number}`).textContent = `${model.now.toPrecision(4)}: false alarms ${rate(alarms, model.good.length, "good")}, ` +
      `detected ${rate(found, model.anomalous.length, "anomalous")}`;
    if (marker) {
      marker.setAttribute("cx", unit.left + alarms / model.good.length * (unit.right - unit.left));
      marker.setAttribute("cy", unit.bottom - found / model.anomalous.length * (unit.bottom - unit.top));
    }
    slider.setAttribute("aria-valuetext", model.now.toPrecision(4));
  }
  const place = () => { slider.value = Math.round(1000 * (to(model.now) - to(axis.low)) / span); };
  slider.addEventListener("input", () => { model.now = from(to(axis.low) + slider.value / 1000 * span); show(); choose(); });
  at(`calibrated-${number}`).addEventListener("click", () => { model.now = model.threshold; place(); show(); choose(); });
  place(); show();
});

/* ---- one image ---- */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function drawing(image, number) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const [height, width] = image.size;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const add = (name, kind, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    shape.setAttribute("class", kind);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  };
  const boxes = (kind, list) => { for (const [x, y, w, h] of list) add("rect", kind, { x, y, width: w, height: h }); };
  const outline = (kind, lines, [left, top, wide, high]) => {
    if (!lines) return;
    const scale = [wide * width / lines.grid[0], high * height / lines.grid[1]];
    add("path", kind, { d: lines.path, transform: `translate(${left * width} ${top * height}) scale(${scale.join(" ")})` });
  };
  outline("marked", image.truth, [0, 0, 1, 1]);
  boxes("marked", image.boxes);
  if (number !== null) {
    outline("found", image.models[number].outline, models[number].area);
    boxes("found", image.models[number].boxes);
  }
  return svg;
}
/* The photograph, with a model's map unless the number is null. */
function view(image, number) {
  const box = element("div", { class: "view", style: `--ratio: ${image.size[1] / image.size[0]}` });
  box.append(element("img", { src: source(image.picture), alt: `${image.kind}, ${image.name}`, loading: "lazy", decoding: "async" }));
  if (number !== null) {
    const [left, top, width, height] = models[number].area.map(share => `${100 * share}%`);
    const style = `left: ${left}; top: ${top}; width: ${width}; height: ${height}`;
    const alt = models.length > 1 ? `its heat map by ${models[number].name}` : "its heat map";
    box.append(element("img", { src: source(image.models[number].heat), alt, class: "heat", style, loading: "lazy", decoding: "async" }));
  }
  box.append(drawing(image, number));
  return box;
}
function told(image, number) {
  const { score, p, known, calibrated } = image.models[number];
  const notes = (known ? "; the model was fitted on it" : "") + (calibrated ? "; it calibrated the model" : "");
  return `score ${score.toPrecision(4)}, p = ${p.toFixed(4)}${notes}`;
}
const verdict = (image, number) => "judged " + (isAbove(image, number) ? "anomalous" : "good");
const named = number => models.length > 1 ? `${models[number].name}: ` : "";

/* ---- the gallery ---- */
const tiles = new Map();
let chosen = [], drawn = 0, large = null;
function tile(index) {
  if (!tiles.has(index)) {
    const image = images[index];
    const numbers = models.map((_, number) => number);
    const views = element("div", { class: "views" }, ...(models.length > 1 ? [view(image, null)] : []), ...numbers.map(number => view(image, number)));
    const open = element("button", { type: "button", class: "open", "aria-label": `Enlarge ${image.name}` }, views);
    open.addEventListener("click", () => enlarge(chosen.indexOf(index)));
    const caption = element("figcaption", {}, `${image.name} · ${image.kind}`);
    for (const number of numbers) {
      caption.append(element("br"), `${named(number)}${told(image, number)}, `, element("span", { class: "verdict" }));
    }
    tiles.set(index, element("figure", { class: "tile", "data-score": image.models[0].score, "data-name": image.name }, open, caption));
  }
  const made = tiles.get(index);
  made.querySelectorAll(".verdict").forEach((span, number) => { span.textContent = verdict(images[index], number); });
  made.classList.toggle("above", isAbove(images[index], current()));
  return made;
}
function choose() {
  const number = current(), label = at("label").value, judged = at("verdict").value, text = at("search").value.trim().toLowerCase();
  const order = at("order").value;
  const keep = image => {
    const over = isAbove(image, number);
    const right = { all: true, good: !over, anomalous: over, alarms: over && !image.anomalous, missed: !over && image.anomalous,
                    differ: models.some((_, other) => isAbove(image, other) !== over),
                    known: image.models[number].known || image.models[number].calibrated }[judged];
    const own = label === "all" || (label === "good" ? !image.anomalous : image.anomalous && (label === "anomalous" || image.kind === label.slice(5)));
    return right && own && (!text || image.name.toLowerCase().includes(text));
  };
  const score = index => images[index].models[number].score;
  const compare = { falling: (a, b) => score(b) - score(a), rising: (a, b) => score(a) - score(b),
                    name: (a, b) => images[a].name < images[b].name ? -1 : images[a].name > images[b].name ? 1 : 0 }[order];
  chosen = [...images.keys()].filter(index => keep(images[index])).sort(compare);
  drawn = Math.min(CHUNK, chosen.length);
  at("gallery").replaceChildren(...chosen.slice(0, drawn).map(tile));
  tell();
}
function tell() {
  at("shown").textContent = `${chosen.length} of ${images.length} images`;
  at("more").hidden = drawn >= chosen.length;
  at("more").querySelector("button").textContent = `Show more (${chosen.length - drawn} left)`;
}
function more() {
  const next = chosen.slice(drawn, drawn + CHUNK);
  drawn += next.length;
  at("gallery").append(...next.map(tile));
  tell();
}
at("more").querySelector("button").addEventListener("click", more);
new IntersectionObserver(seen => { if (seen.some(one => one.isIntersecting) && drawn < chosen.length) more(); }, { rootMargin: "600px" }).observe(at("more"));
for (const id of ["order", "label", "verdict", "search", "model"]) at(id)?.addEventListener("input", choose);
at("blend").addEventListener("input", event => document.documentElement.style.setProperty("--blend", event.target.value / 100));
for (const box of document.querySelectorAll("input[data-hides]")) {
  const show = () => document.documentElement.classList.toggle(`hide-${box.dataset.hides}`, !box.checked);
  box.addEventListener("input", show);
  show();
}

/* ---- one image, enlarged ---- */
const dialog = at("large");
function enlarge(place) {
  large = Math.max(0, Math.min(chosen.length - 1, place));
  const image = images[chosen[large]];
  at("large-name").textContent = `${image.name} · ${image.kind}`;
  at("large-place").textContent = `${large + 1} of ${chosen.length}`;
  const panel = (number, text) => element("figure", {}, view(image, number), element("figcaption", {}, text));
  const own = `${image.size[1]} × ${image.size[0]} pixels; ${image.anomalous ? "anomalous" : "good"} by its label`;
  at("large-views").replaceChildren(panel(null, own),
    ...models.map((_, number) => panel(number, `${named(number)}${told(image, number)}, ${verdict(image, number)}`)));
  at("previous").setAttribute("aria-disabled", large === 0); // a disabled button would lose the focus, and so the keys
  at("next").setAttribute("aria-disabled", large === chosen.length - 1);
  if (!dialog.open) dialog.showModal();
}
at("previous").addEventListener("click", () => enlarge(large - 1));
at("next").addEventListener("click", () => enlarge(large + 1));
at("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  while (large >= drawn) more();
  tiles.get(chosen[large])?.querySelector(".open").focus();
});
dialog.addEventListener("keydown", event => {
  const place = { ArrowLeft: large - 1, ArrowRight: large + 1, Home: 0, End: chosen.length - 1 }[event.key];
  if (place !== undefined) { event.preventDefault(); enlarge(place); }
});
choose();
