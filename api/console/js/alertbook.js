// The alerts this page knows: read once, then kept by the stream. Pure but for `steps`, which ask the server.

import { get, post } from "./api.js";
import { language, w, t } from "./i18n.js";
import { amount, dateTime } from "./format.js";
import { SEVERITIES } from "./shapes.js";

const LIMIT = 1000;
const alerts = new Map();
let read = false; // until the list was read once, nothing says that there are none
let more = false;

export const openAlerts = () => [...alerts.values()].filter((a) => a.state !== "closed");
export const isRead = () => read;
/** Whether there are more open alerts than the page holds. */
export const hasMore = () => more;
export const alertOf = (id) => alerts.get(id);

/** Read the open alerts of every base of the token. */
export async function readOpen() {
  const answer = await get("/alerts", { state: "open", limit: LIMIT });
  alerts.clear();
  answer.alerts.forEach((a) => alerts.set(a.id, a));
  more = answer.next !== null;
  read = true;
}

/** Read closed alerts, newest first. */
export async function readClosed(base) {
  return (await get("/alerts", { state: "closed", base, limit: 100 })).alerts;
}

/** Take an alert as the stream or a step told it; the previous one, or undefined when it is new here. */
export function take(alert) {
  const before = alerts.get(alert.id);
  alerts.set(alert.id, alert);
  if (alert.state === "closed") setTimeout(() => alerts.get(alert.id)?.state === "closed" && alerts.delete(alert.id), 60000);
  return before;
}

/** One step of an operator; the alert as it is afterwards. */
export async function step(id, change, said = {}) {
  const answer = await post(`/alerts/${id}/${change}`, said);
  take(answer.alert);
  return answer.alert;
}

/** A shelf time that ran out brings the alert back without a word from the server. */
export function stateOf(alert, now = Date.now()) {
  if (alert.state !== "shelved" || Date.parse(alert.shelved_until) > now) return alert.state;
  if (alert.suppressed) return "suppressed";
  if (!alert.active) return "returned";
  return alert.acknowledged ? "acknowledged" : "unacknowledged";
}

/** Whether someone still has to acknowledge it. */
export const isUnacknowledged = (alert) =>
  !alert.acknowledged && ["unacknowledged", "returned"].includes(stateOf(alert));

const RANK = { unacknowledged: 0, acknowledged: 1, returned: 2, suppressed: 3, shelved: 4, out_of_service: 5, closed: 6 };
/** Put aside by somebody: for a time, or out of service. */
export const isAside = (alert) => ["shelved", "out_of_service"].includes(stateOf(alert));
/** What needs someone first: not acknowledged, then severity, then the newest. */
export function byUrgency(a, b) {
  const rank = (x) => (isUnacknowledged(x) ? 0 : RANK[stateOf(x)]);
  return rank(a) - rank(b) || SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity)
    || Date.parse(b.opened_at) - Date.parse(a.opened_at);
}

const mark = () => (language() === "zh" ? "zh" : "en");
export const titleOf = (alert) => alert.rule?.[mark()] || alert.rule?.code || "";
export const placeOf = (alert) => {
  const unit = alert.names?.unit?.[mark()];
  const point = alert.names?.point?.[mark()];
  return [unit, point && point !== unit ? point : null].filter(Boolean).join(" · ") || alert.device || `${t("whole_base")} ${alert.base}`;
};
export const textOf = (alert) => alert.explanation?.[mark()] || "";

export function stateText(alert) {
  const state = stateOf(alert);
  return state === "returned" && !alert.acknowledged ? t("returned_unacknowledged") : w("alert", state);
}

/** "41.2 mg/m³ / limit 35": the value beside what it is held against. */
export function againstText(alert) {
  if (alert.value === null || alert.value === undefined) return "";
  const held = [];
  if (alert.high !== null && alert.high !== undefined) held.push(`${t("limit_short")} ${amount(alert.high, alert.unit)}`);
  else if (alert.low !== null && alert.low !== undefined) held.push(`${t("low_short")} ${amount(alert.low, alert.unit)}`);
  if (!held.length && alert.expected !== null && alert.expected !== undefined) held.push(`${t("expected_short")} ${amount(alert.expected, alert.unit)}`);
  return [amount(alert.value, alert.unit), ...held].join(" / ");
}

/** Until when it is shelved, by whom and why. */
export const shelfText = (alert) => [t("shelved_until", { at: dateTime(alert.shelved_until) }), alert.shelf?.by, alert.shelf?.reason].filter(Boolean).join(" · ");
