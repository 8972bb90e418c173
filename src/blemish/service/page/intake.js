// Images that are dropped, pasted or chosen as files; a few are sent at a time.

const AT_ONCE = 3;
const TRIES = 5; // for an image while the service is too busy
const waiting = [];
let running = 0;
let sent = 0;
let all = 0;

const progress = document.getElementById("progress");

/** Accepts images anywhere on the page; `send(image, name)` lets the service judge one and shows what went wrong. */
export function startIntake(send) {
  const take = (files) => {
    const images = [...files].filter((file) => file.size || file.type);
    all += images.length;
    waiting.push(...images);
    while (running < AT_ONCE && waiting.length) work(send);
  };
  takeDrops(take);
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  const chosen = document.getElementById("files");
  chosen.addEventListener("change", () => {
    take(chosen.files);
    chosen.value = "";
  });
}

async function work(send) {
  running += 1;
  while (waiting.length) {
    showProgress();
    const file = waiting.shift();
    await patiently(() => send(file, file.name));
    sent += 1;
  }
  running -= 1;
  if (!running) {
    progress.textContent = "";
    sent = all = 0;
  }
}

function showProgress() {
  if (all > 1) progress.textContent = `${sent} of ${all} images judged`;
}

/** Calls `once` again after a pause, as long as the service is too busy. */
async function patiently(once) {
  for (let tried = 1; (await once()) === "busy" && tried < TRIES; tried += 1) {
    await new Promise((resolve) => setTimeout(resolve, 400 * 2 ** tried));
  }
}

function takeDrops(take) {
  const here = document.getElementById("drop-here");
  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const show = (by) => {
    depth = Math.max(0, depth + by);
    here.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => carries(event) && show(1));
  document.addEventListener("dragleave", (event) => carries(event) && show(-1));
  document.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth = 0;
    here.hidden = true;
    take(event.dataTransfer.files);
  });
}
