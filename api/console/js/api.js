// Requests to /api/v1 with the token in a header. A failure is a Refusal with the server's own sentence.

import { token } from "./session.js";
import { language } from "./i18n.js";

const ROOT = "/api/v1";
const TIMEOUT_MS = 20000;

export class Refusal extends Error {
  /** `status` 0 means that no answer came at all. */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const onRefused = [];
/** Call `listener(refusal)` whenever a request is answered with 401. */
export const whenRefused = (listener) => onRefused.push(listener);

export function headers(more = {}) {
  return { Authorization: `Bearer ${token()}`, "Accept-Language": language(), ...more };
}

async function request(method, path, parameters = {}, body) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined) query.append(name, one);
  }
  const address = `${ROOT}${path}${query.size ? `?${query}` : ""}`;
  let answer;
  try {
    answer = await fetch(address, {
      method,
      headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw new Refusal(0, error.message);
  }
  return read(answer);
}

export async function read(answer) {
  if (answer.ok) return answer.json();
  const refusal = await refusalOf(answer);
  if (refusal.status === 401) onRefused.forEach((listener) => listener(refusal));
  throw refusal;
}

export async function refusalOf(answer) {
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail ?? detail;
  } catch {
    // not a problem document: the status line has to do
  }
  return new Refusal(answer.status, detail);
}

export const get = (path, parameters) => request("GET", path, parameters);
export const post = (path, body, parameters) => request("POST", path, parameters, body);
export const put = (path, body, parameters) => request("PUT", path, parameters, body);
export const remove = (path, parameters) => request("DELETE", path, parameters);
