// A camera of this computer: sends an image every few seconds, or when a button or key is pressed; one at a time.

const panel = document.getElementById("camera");
const video = document.getElementById("video");
const every = document.getElementById("every");
const cameras = document.getElementById("cameras");
let stream = null;
let timer = null;
let isBusy = false;

/** Connects the camera's buttons to `send(image, name)`; `complain(text)` shows what went wrong. */
export function startCamera(send, complain) {
  const shoot = () => take(send);
  document.getElementById("camera-start").addEventListener("click", async () => {
    await open(null, shoot, complain);
    document.getElementById("take").focus();
  });
  document.getElementById("camera-stop").addEventListener("click", () => {
    close();
    document.getElementById("camera-start").focus();
  });
  document.getElementById("take").addEventListener("click", shoot);
  every.addEventListener("change", () => pace(shoot));
  cameras.addEventListener("change", () => open(cameras.value, shoot, complain));
  return shoot;
}

async function open(device, shoot, complain) {
  if (!navigator.mediaDevices?.getUserMedia) {
    complain("Browsers allow a camera only over HTTPS or on the computer that runs the service (http://localhost).");
    return;
  }
  close();
  try {
    const wanted = { width: { ideal: 1920 }, height: { ideal: 1080 }, facingMode: "environment" };
    stream = await navigator.mediaDevices.getUserMedia({
      video: device ? { ...wanted, deviceId: { exact: device } } : wanted,
    });
  } catch (error) {
    const refused = "The browser did not allow the camera; allow it for this page.";
    complain(error.name === "NotAllowedError" ? refused : "No camera was found; connect one.");
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    close();
    complain("The camera was lost; connect it and start it again.");
  });
  video.srcObject = stream;
  await video.play();
  panel.hidden = false;
  document.getElementById("camera-start").hidden = true;
  await list();
  pace(shoot);
}

function close() {
  clearInterval(timer);
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  panel.hidden = true;
  document.getElementById("camera-start").hidden = false;
}

async function list() {
  const current = stream.getVideoTracks()[0].getSettings().deviceId;
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  const named = found.map((device, index) => new Option(device.label || `camera ${index + 1}`, device.deviceId));
  cameras.replaceChildren(...named);
  cameras.value = current;
}

function pace(shoot) {
  clearInterval(timer);
  const milliseconds = Math.min(Math.max(1000 * Number(every.value) || 0, 0), 60_000);
  if (milliseconds) timer = setInterval(shoot, Math.max(milliseconds, 50));
}

/** Sends a frame as PNG, which changes no pixel; skips it while the frame before is being sent. */
async function take(send) {
  if (!stream || isBusy || !video.videoWidth) return;
  isBusy = true;
  try {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const image = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    await send(image, `camera ${new Date().toISOString()}`);
  } finally {
    isBusy = false;
  }
}
