// Elements of drawings.

/** Returns an SVG element with these attributes and this text. */
export function drawn(name, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

/** Returns the sign of a verdict: a circle for good, a triangle for anomalous, a square for none. */
export function sign(kind) {
  const svg = drawn("svg", { class: `sign ${kind}`, viewBox: "0 0 48 48", "aria-hidden": "true" });
  svg.append(drawn("use", { href: `#sign-${kind}` }));
  return svg;
}

/** Returns about `wanted` round values from low to high. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + 1e-9 * step; at += 1) found.push(at * step);
  return found;
}
