// The dialog that asks for the token.

/** Returns the token, or null if the dialog was closed. `again` is true if a token was refused before. */
export function askForToken(again) {
  const dialog = document.getElementById("token-dialog");
  const field = document.getElementById("token");
  document.getElementById("token-refused").hidden = !again;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "enter" && field.value.trim() ? field.value.trim() : null);
      field.value = "";
    }, { once: true });
  });
}
