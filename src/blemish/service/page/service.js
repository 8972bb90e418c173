// The service's HTTP interface: JSON and pictures, with a token if one is needed.

import { askForToken } from "./token.js";

const KEY = "blemish-token";
let asking = null; // the dialog for the token, for which all refused requests wait
let declined = false; // whether the dialog was closed; then it does not open again by itself
let ahead = 0; // milliseconds by which the service's clock is ahead of this computer's

/** What went wrong, in one line; `status` is 0 if there was no answer. */
export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Returns the service's time in milliseconds since 1970. */
export function now() {
  return Date.now() + ahead;
}

/** Returns parsed JSON. Throws `ServiceError`. */
export async function getJson(path) {
  return (await answer(path)).json();
}

/** Sends JSON, or nothing, and returns parsed JSON. Throws `ServiceError`. */
export async function postJson(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await answer(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** Returns the bytes of a picture, or null if it is no longer kept. Throws `ServiceError`. */
export async function getPicture(id, kind) {
  try {
    return await (await answer(`v1/verdicts/${encodeURIComponent(id)}/${kind}`)).blob();
  } catch (error) {
    if (error.status === 404 || error.status === 410) return null;
    throw error;
  }
}

/** Sends one image to be judged. Throws `ServiceError`. */
export async function judge(model, image, name, rate) {
  const query = new URLSearchParams({ map: "png" });
  if (rate !== null) query.set("false_alarm_rate", rate);
  const type = image.type.startsWith("image/") ? image.type : "application/octet-stream";
  const headers = { "Content-Type": type, "X-Name": encodeURIComponent(name) };
  const path = `v1/models/${encodeURIComponent(model)}/predict?${query}`;
  const judged = await (await answer(path, { method: "POST", headers, body: image })).json();
  return { ...judged, result: judged.results[0] };
}

/** Asks for the token, even if the dialog was closed before. */
export async function enterToken() {
  declined = false;
  await newToken(sessionStorage.getItem(KEY));
}

async function answer(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const response = await sent(path, options, token);
    if (response.ok) return response;
    if (response.status !== 401) throw new ServiceError(await reason(response), response.status);
    await newToken(token);
  }
}

async function sent(path, options, token) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  try {
    const signal = AbortSignal.timeout(60_000);
    const response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    const date = Date.parse(response.headers.get("Date") ?? "");
    const difference = date - Date.now();
    if (Math.abs(difference) > 2000) ahead = difference; // the header has whole seconds only
    else if (!Number.isNaN(difference)) ahead = 0;
    return response;
  } catch {
    throw new ServiceError("The service does not answer; is it running?", 0);
  }
}

async function newToken(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return; // another request has asked for it meanwhile
  if (declined) throw new ServiceError("This service needs a token.", 401);
  asking ??= askForToken(Boolean(refused)).finally(() => {
    asking = null;
  });
  const given = await asking;
  if (!given) {
    declined = true;
    throw new ServiceError("This service needs a token.", 401);
  }
  sessionStorage.setItem(KEY, given);
}

async function reason(response) {
  try {
    return (await response.json()).error ?? response.statusText;
  } catch {
    return `The service answered ${response.status}.`;
  }
}
