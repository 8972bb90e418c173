// Keyboard shortcuts for the buttons; off while the person types, and they can be switched off.

/** Calls `actions[key]`, with keys in lower case; arrows work in the list of images even if shortcuts are off. */
export function takeKeys(actions) {
  const isOn = document.getElementById("keys");
  document.addEventListener("keydown", (event) => {
    const isTyped = event.target.closest("input:not([type=checkbox]), select, textarea, dialog");
    if (isTyped || event.ctrlKey || event.metaKey || event.altKey) return;
    const isArrow = event.key.startsWith("Arrow");
    if (!isOn.checked && !(isArrow && event.target.closest("#recent-list"))) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    if (isArrow) event.preventDefault();
    action();
  });
}
