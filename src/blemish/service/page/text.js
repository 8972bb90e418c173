// Writes text into the page only if it has changed, so that a screen reader does not read it again.

/** Sets the text of the element with this id. */
export function put(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
}
