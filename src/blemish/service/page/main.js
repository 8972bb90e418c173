// The state of the page, and how its parts are updated from it.

import { thresholdAt } from "./calibration.js";
import { startCamera } from "./camera.js";
import { isToday, loadDay, showThreshold, startDay } from "./day.js";
import { Entries, fromAnswer, fromRow, verdictOf } from "./entries.js";
import { startIntake } from "./intake.js";
import { takeKeys } from "./keys.js";
import { setShare, showPicture } from "./picture.js";
import { showGauge, showRange, showRate, startRate } from "./rate.js";
import { keepFocus, showRecent } from "./recent.js";
import { enterToken, getJson, judge, now, postJson } from "./service.js";
import { put } from "./text.js";
import { showFigures, showLost, showNone, showShadow, showSince, showVerdict } from "./verdict.js";
import { clockTime, percent } from "./words.js";

const POLL = 1000; // milliseconds between two requests for the log
const DAY = 30_000; // milliseconds between two requests for the day
const DAY_AFTER = 3000; // the same, if there are new images
const PASSES = 10_000; // milliseconds for which a message about one file is shown

const element = (id) => document.getElementById(id);
const entries = new Entries();
let models = [];
let model = null; // the chosen model, with its scores
let shownId = null;
let follows = true; // whether each new image is shown at once
let rate = null; // the rate that was chosen on this page; null for the model's own
let answeredAt = null; // when the service last answered
let dayAt = 0;
let dayOf = null; // the newest image when the day was loaded
let isLost = false; // whether the service does not answer
let passing = null; // the timer of a message about one file
let troubled = null; // the status of the shown error; 0 if there was no answer

// What is shown

function showAll() {
  const shown = entries.get(shownId);
  showRecent(entries.newest, shownId, model, rate, open);
  element("stale").hidden = !shown || shownId === entries.newest[0]?.id;
  for (const id of ["say-good", "say-anomalous"]) element(id).disabled = !shown || Boolean(shown.error);
  element("say-good").setAttribute("aria-pressed", String(shown?.feedback === "good"));
  element("say-anomalous").setAttribute("aria-pressed", String(shown?.feedback === "anomalous"));
  showShadow(shown, entries.newest, model, rate);
  if (model) {
    showRate(model, rate);
    showGauge(model, rate, shown?.score, shown && verdictOf(shown, model, rate));
    showThreshold(rate === null ? model.threshold : thresholdAt(model.scores, rate));
  }
  if (isLost) showLost();
  if (!shown) {
    if (!isLost) showNone(model?.name);
    element("figures").replaceChildren();
    showPicture(null);
    return;
  }
  if (!isLost) showVerdict(shown, model, rate);
  showFigures(shown, model, rate);
  showPicture(shown);
}

function open(id) {
  shownId = id;
  follows = id === entries.newest[0]?.id;
  showAll();
  keepFocus(id);
}

function follow() {
  if (entries.newest.length) open(entries.newest[0].id);
}

function showModel() {
  const waits = model.waiting;
  put("model-is", `version ${model.version}, ${model.detector}`);
  element("problem").hidden = !model.problem;
  put("problem", model.problem ? `A newer version is not used: ${model.problem}` : "");
  const good = `${waits.good} good ${waits.good === 1 ? "waits" : "wait"} for the next update`;
  const kept = `${waits.anomalous} anomalous ${waits.anomalous === 1 ? "is" : "are"} kept`;
  const none = "Images that you mark as good wait for the next update of the model; anomalous ones are kept.";
  put("waiting", waits.good + waits.anomalous ? `${good}; ${kept}.` : none);
}

function complain(text, status = null) {
  clearTimeout(passing);
  passing = null;
  troubled = status;
  element("trouble").hidden = false;
  element("trouble-text").textContent = text;
  element("enter-token").hidden = status !== 401;
}

/** Shows what is wrong with one file, until the next image is judged or some seconds have passed. */
function complainOfFile(text, status) {
  complain(text, status);
  passing = setTimeout(recovered, PASSES);
}

function recovered() {
  clearTimeout(passing);
  passing = null;
  troubled = null;
  element("trouble").hidden = true;
}

function lost(error) {
  const wasLost = isLost;
  isLost = error.status === 0;
  document.body.classList.toggle("lost", isLost);
  put("link", error.status === 0 && answeredAt ? `No answer since ${clockTime(answeredAt)}` : "");
  if (isLost !== wasLost) showAll();
  if (error.status !== 0 || !answeredAt) complain(error.message, error.status);
}

function reached() {
  if (troubled === 0) recovered();
  answeredAt = now();
  document.body.classList.remove("lost");
  put("link", "Connected");
  if (!isLost) return;
  isLost = false;
  showAll();
}

// What comes from the service

async function choose(name) {
  history.replaceState(null, "", hashOf(name));
  entries.clear();
  shownId = null;
  follows = true;
  rate = null;
  dayAt = 0;
  element("drifted").hidden = true;
  model = null;
  await renew(name);
  await look();
}

/** Loads a model with its scores, when it is chosen and when its version has changed. */
async function renew(name) {
  const loaded = await getJson(`v1/models/${encodeURIComponent(name)}`);
  if (element("model").value !== name) return;
  if (rate !== null) rate = Math.max(rate, 1 / (loaded.scores.length + 1));
  model = loaded;
  showModel();
  showRange(model);
  showAll();
}

/** Asks the service once for new images, new versions, and the number of waiting images. */
async function look() {
  models = (await getJson("v1/models")).models;
  listModels();
  const name = element("model").value;
  if (!name) {
    complain("This service has no model; start it with a model.");
    return;
  }
  const listed = models.find((one) => one.name === name);
  if (model?.name !== name || model.version !== listed.version) await renew(name);
  if (model?.name !== name) return; // another one was chosen meanwhile
  model = { ...listed, scores: model.scores };
  showModel();
  const rows = await rowsOf("decides", name);
  if (listed.shadow) addShadows(rows, await rowsOf("shadow", listed.shadow.name));
  if (model?.name !== name) return;
  take(rows.map(fromRow));
  reached();
  const newest = rows[0]?.id ?? null;
  if (isToday() && now() - dayAt > (newest === dayOf ? DAY : DAY_AFTER)) {
    dayOf = newest;
    await today();
  }
}

async function rowsOf(role, name) {
  const query = new URLSearchParams({ model: name, role, limit: 50 });
  return (await getJson(`v1/verdicts?${query}`)).verdicts;
}

function addShadows(rows, seconds) {
  const byRequest = new Map(seconds.map((second) => [second.request, second]));
  for (const row of rows) {
    const second = byRequest.get(row.id);
    if (second) row.shadow = second;
  }
}

function listModels() {
  const select = element("model");
  const names = models.map((one) => one.name);
  if (names.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const before = select.value || names.find((name) => hashOf(name) === location.hash);
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = names.includes(before) ? before : names[0] ?? "";
}

function hashOf(name) {
  return `#${encodeURIComponent(name)}`;
}

function take(found) {
  entries.add(found);
  if (follows || !entries.get(shownId)) shownId = entries.newest[0]?.id ?? null;
  showAll();
}

async function today() {
  dayAt = now();
  const name = element("model").value;
  const drift = await loadDay(name);
  if (drift && isToday() && name === element("model").value) element("drifted").hidden = !drift.alarm;
}

/** Sends one image to be judged and shows it. Returns "busy" if the service has no room for it. */
async function send(image, name) {
  const to = element("model").value;
  if (!to) return "busy"; // the models are not known yet
  try {
    const judged = await judge(to, image, name, rate);
    if (judged.model !== element("model").value) return null;
    reached();
    if (troubled === 429 || troubled === 503 || passing !== null) recovered();
    follows = true;
    take([fromAnswer(judged, image)]);
    if (model && judged.version !== model.version) await renew(to);
  } catch (error) {
    if (error.status === 429 || error.status === 503) {
      complain(`${name}: ${error.message}`, error.status);
      return "busy";
    }
    if (error.status === 0) lost(error);
    const isOfFile = [400, 413, 415, 422].includes(error.status);
    (isOfFile ? complainOfFile : complain)(`${name}: ${error.message}`, error.status);
  }
  return null;
}

async function say(is) {
  const shown = entries.get(shownId);
  if (!shown || element("say-good").disabled) return;
  try {
    const { waiting } = await postJson(`v1/models/${encodeURIComponent(shown.model)}/feedback`, { id: shown.id, is });
    entries.add([{ ...shown, feedback: is }]);
    if (model?.name === shown.model) model.waiting = waiting;
    showModel();
    showAll();
  } catch (error) {
    complain(error.message, error.status);
  }
}

function guarded(work) {
  return async (...given) => {
    try {
      await work(...given);
    } catch (error) {
      if (error.status === undefined) throw error; // a bug in this page
      lost(error);
    }
  };
}

// What the person does

function step(by) {
  const at = entries.newest.findIndex((entry) => entry.id === shownId);
  const next = entries.newest[Math.max(0, at + by)];
  if (next && next.id !== shownId) open(next.id);
}

function start() {
  element("model").addEventListener("change", guarded(() => choose(element("model").value)));
  element("follow").addEventListener("click", () => {
    follow();
    element("verdict").focus();
  });
  element("say-good").addEventListener("click", () => say("good"));
  element("say-anomalous").addEventListener("click", () => say("anomalous"));
  element("share").addEventListener("input", () => {
    const share = Number(element("share").value) / 100;
    put("share-is", percent(share));
    setShare(share);
  });
  element("boxes").addEventListener("change", () => {
    element("stage").classList.toggle("bare", !element("boxes").checked);
  });
  element("dismiss").addEventListener("click", recovered);
  element("enter-token").addEventListener("click", guarded(async () => {
    await enterToken();
    recovered();
    await look();
  }));
  element("print").addEventListener("click", () => window.print());
  window.addEventListener("resize", () => showAll());
  startRate((chosen) => {
    rate = chosen;
    showAll();
  });
  startDay(guarded(today));
  startIntake(send);
  takeKeys({
    g: () => say("good"),
    a: () => say("anomalous"),
    n: follow,
    c: startCamera(send, complain),
    arrowleft: () => step(-1),
    arrowright: () => step(1),
  });
  setInterval(() => {
    const shown = entries.get(shownId);
    if (shown) showSince(shown);
  }, 1000);
  watch();
}

async function watch() {
  const lookOnce = guarded(look);
  for (;;) {
    try {
      if (!document.hidden || !answeredAt) await lookOnce();
    } catch (error) {
      console.error(error); // a bug in this page must not stop it
    }
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

start();
