// One alert or one point in full, with its readings around the time in question.

import { byId, h, toast } from "./dom.js";
import { t, w, nameOf } from "./i18n.js";
import { get } from "./api.js";
import { amount, dateTime, dateTimeSeconds, hourMinute, isoDay, number, since, unitText } from "./format.js";
import { severityShape } from "./shapes.js";
import { lineChart } from "./charts/line.js";
import { onResize } from "./charts/scale.js";
import * as book from "./alertbook.js";
import { acknowledge, assign, closeAlert, comment, shelve, unshelve } from "./steps.js";
import { may } from "./me.js";
import { deviceContent } from "./device.js";
import { deskContent } from "./desk/desk.js";
import { dispatch } from "./desk/cases.js";
import { takeOut } from "./desk/service.js";

const RANGES = [2, 24, 168, 720]; // hours
const OF_ALERT = "auto"; // the alert's own time, with some before and after
const RESOLUTION = { 2: "raw", 24: "1m", 168: "15m", 720: "1h" };
const POLLUTION = ["emission_limit", "linkage"];
const OUTLET = ["so2", "nox", "dust", "co", "hcl", "nmhc", "cod", "ammonia", "ph", "total_nitrogen", "total_phosphorus"];
const STEP_S = { raw: 60, "1m": 60, "15m": 900, "1h": 3600 };
const PAGE = 20000;

let open = null; // {kind: "alert", id} or {kind: "point", code, base, limit}
let before = null; // what had the focus
let maySteps = () => false;
let baseOf = (code) => ({ code });
let range = 24;
let retry = null;
const RETRY_MS = 5000;

export function makeDrawer(given, bases = () => []) {
  maySteps = given;
  baseOf = (code) => bases().find((b) => b.code === code) ?? { code, name_zh: code, name_en: code };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && open && !byId("dialog").open) closeDrawer();
  });
}

export const openAlert = (id) => present({ kind: "alert", id });
/** A point: {code, base, about, limits: [{value, text}], hours: [{ts, value, state}] as an outlet's hours, hourLimits} */
export const openPoint = (point) => present({ kind: "point", ...point });
/** A device as /overview/health tells it: why it is silent, and which of its points are. */
export const openDevice = (device, base, tolerance_s) => present({ kind: "device", device, base, tolerance_s });
/** The alert desk of a base; `tab` is cases, duty, routes, service or figures. */
export const openDesk = (base, tab = null) => present({ kind: "desk", base, tab: tab ?? deskTab });
let deskTab = "cases";

/** Show again what is open, if it is this alert (or anything, without one). */
export function refreshDrawer(alert) {
  if (open && open.kind !== "desk" && (!alert || (open.kind === "alert" && open.id === alert.id))) fill();
}

function present(what) {
  before ??= document.activeElement;
  open = what;
  range = what.kind === "alert" ? OF_ALERT : 24;
  byId("drawer").hidden = false;
  byId("drawer").classList.toggle("wide", what.kind === "desk");
  fill(true);
}

export function closeDrawer() {
  clearTimeout(retry);
  open = null;
  byId("drawer").hidden = true;
  byId("drawer").replaceChildren();
  const key = before?.dataset?.key;
  const back = before?.isConnected ? before : key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  back?.focus?.({ preventScroll: true });
  before = null;
}

async function fill(focus = false, again = false) {
  const what = open;
  const drawer = byId("drawer");
  clearTimeout(retry);
  if (focus) {
    drawer.replaceChildren(head(what.kind === "desk" ? t("desk") : ""), h("div.body", { "aria-busy": "true" }, h("p.muted", {}, t("loading"))));
    drawer.querySelector(".close").focus();
  }
  try {
    const content = await (what.kind === "alert" ? alertContent(what.id) : what.kind === "desk" ? desk(what) : what.kind === "device" ? deviceContent(what, head, pair, openPoint) : pointContent(what));
    if (open !== what) return;
    const scrolled = drawer.querySelector(".body")?.scrollTop ?? 0;
    const key = drawer.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    drawer.replaceChildren(...content);
    drawer.querySelector(".body").scrollTop = scrolled;
    (key && drawer.querySelector(`[data-key="${CSS.escape(key)}"]`))?.focus({ preventScroll: true });
  } catch (refusal) {
    if (open !== what) return;
    const stands = drawer.querySelector(".body:not([aria-busy])") && !drawer.querySelector("[role=alert]") && !refusal.status; // not wrong yet
    if (stands && !again) toast(t("no_answer"), true);
    if (!stands) drawer.replaceChildren(head(what.kind === "desk" ? t("desk") : ""), h("div.body", {}, h("p.text-critical", { role: "alert" }, t("failed", { detail: refusal.status ? refusal.message : t("no_answer") }))));
    if (!refusal.status || refusal.status >= 500) retry = setTimeout(() => fill(false, true), RETRY_MS);
    if (focus || !drawer.contains(document.activeElement)) drawer.querySelector(".close").focus();
  }
}

function head(title, shape, sub) {
  return h("header", {}, shape, h("div", {}, h("h2", {}, title), sub && h("p.muted", {}, sub)),
    h("button.close", { "data-key": "close", onclick: closeDrawer }, t("close")));
}

async function desk(what) {
  const content = await deskContent({
    tab: what.tab, base: what.base, again: () => open === what && fill(),
    choose: (tab) => { deskTab = tab; what.tab = tab; fill(); },
  });
  return [head(`${t("desk")} · ${nameOf(what.base)}`), h("div.body.desk", {}, content)];
}

const pair = (name, value) => (value ? [h("dt", {}, name), h("dd", {}, value)] : []);

async function alertContent(id) {
  const alert = await get(`/alerts/${id}`);
  const state = book.stateOf(alert);
  const e = alert.explanation ?? {};
  const held = [["high", "limit_short"], ["low", "low_short"], ["expected", "expected_short"]]
    .filter(([field]) => alert[field] !== null && alert[field] !== undefined)
    .map(([field, word]) => ({ value: alert[field], text: `${t(word)} ${amount(alert[field], alert.unit)}` }));
  const hourly = alert.rule.kind?.startsWith("emission") && alert.unit_code && alert.quantity; // held against means of hours
  const limits = alert.rule.kind === "limit" ? held : [];
  const span = { from: Date.parse(alert.opened_at), to: alert.returned_at ? Date.parse(alert.returned_at) : Date.now() };
  return [
    head(book.titleOf(alert), severityShape(alert.severity, !alert.active),
      `${w("severity", alert.severity)} · ${state === "shelved" ? t("shelved_until", { at: dateTime(alert.shelved_until) }) : book.stateText(alert)} · ${book.placeOf(alert)}`),
    h("div.body", {},
      book.textOf(alert) && h("p.explanation", {}, book.textOf(alert)),
      h("dl", {},
        pair(t("since"), `${dateTimeSeconds(alert.opened_at)} (${since(alert.opened_at)})`),
        pair(t("returned_at"), alert.returned_at && dateTimeSeconds(alert.returned_at)),
        pair(t("value"), amount(alert.value, alert.unit)),
        pair(t("expected"), alert.expected !== null && alert.expected !== undefined && amount(alert.expected, alert.unit)),
        pair(t("limits"), limitsText(alert)),
        pair(t("point"), alert.point), pair(t("rule"), alert.rule.code), pair(t("channel"), alert.channel),
        pair(t("contributor"), contributorText(e.contributor)),
        pair(t("first_out_of"), alert.first_out && alert.first_out !== alert.id && h("button.quiet", { onclick: () => openAlert(alert.first_out) }, `#${alert.first_out}`)),
        pair(t("excess"), typeof e.excess?.amount === "number" && amount(e.excess.amount, e.excess.unit)),
        pair(t("cost"), typeof e.cost === "number" && `¥ ${number(e.cost)}`),
        pair("CO₂", typeof e.co2_kg === "number" && amount(e.co2_kg, "kg"))),
      maySteps() && state !== "closed" && h("div.actions", {},
        !alert.acknowledged && h("button.primary", { onclick: () => acknowledge(alert) }, t("ack")),
        state === "shelved" ? h("button", { onclick: () => unshelve(alert) }, t("unshelve")) : h("button", { onclick: () => shelve(alert) }, t("shelve")),
        h("button", { onclick: () => comment(alert) }, t("comment")), h("button", { onclick: () => assign(alert) }, t("assign")),
        !alert.active && h("button", { onclick: () => closeAlert(alert) }, t("close_alert")),
        isPollution(alert) && may("dispatch") && h("button", { "data-do": "dispatch", onclick: () => dispatch(alert, () => openDesk(baseOf(alert.base), "cases")) }, t("dispatch")),
        may("out_of_service") && h("button", { "data-do": "take-out", onclick: () => takeOut({ rule: alert.rule.code, point: alert.point, device: alert.device, unit: alert.point ? null : alert.unit_code }, { code: alert.base }, () => fill()) }, t("take_out"))),
      hourly && hoursOf(await emissionHours(alert), held, alert.unit),
      (alert.point ?? e.chart) && await chartOf(alert.point ?? e.chart, alert.base, limits, [span]),
      h("section", {}, h("h3", {}, t("history")), h("ol.history", {}, alert.transitions.map((step) => h("li", {},
        h("time", { datetime: step.at }, dateTimeSeconds(step.at)), h("strong", {}, w("change", step.change)),
        h("span", {}, [step.actor === "evaluator" ? t("evaluator") : step.actor, stepDetail(step), step.note].filter(Boolean).join(" · "))))))),
  ];
}

const isPollution = (alert) => POLLUTION.includes(alert.rule.kind) || OUTLET.includes(alert.quantity);

function contributorText(contributor) {
  if (!contributor) return null;
  if (typeof contributor === "string") return contributor;
  return nameOf(contributor, "zh", "en") || contributor.code || Object.values(contributor).flat().filter((v) => typeof v === "string").join(" · ") || null;
}

function limitsText(alert) {
  const known = (v) => v !== null && v !== undefined;
  if (known(alert.low) && known(alert.high)) return `${amount(alert.low, "")}–${amount(alert.high, alert.unit)}`;
  if (known(alert.high)) return `≤ ${amount(alert.high, alert.unit)}`;
  return known(alert.low) ? `≥ ${amount(alert.low, alert.unit)}` : null;
}

function stepDetail(step) {
  if (step.change === "shelve" && step.detail?.until) return t("shelved_until", { at: dateTime(step.detail.until) });
  return step.change === "assign" ? t("assigned", { name: step.detail?.to ?? "" }) : null;
}

async function pointContent({ code, base, limits = [], hours, hourLimits, unit, about }) {
  const found = (await get("/points", { base, code })).points[0];
  const title = found ? nameOf(found) : code;
  const latest = found?.latest;
  return [
    head(title, null, about),
    h("div.body", {},
      h("dl", {}, pair(t("point"), code), pair(t("place"), found?.belongs_to),
        pair(t("newest"), latest && `${amount(latest.value, found.unit)} · ${dateTimeSeconds(latest.at)}`),
        pair(t("quality"), latest && w("point", latest.quality === "good" ? "valid" : latest.quality)), pair(t("device"), found?.device)),
      hours?.length && hoursOf(hours, hourLimits, unit ?? found?.unit),
      await chartOf(code, base, limits, [])),
  ];
}

/** The hours of an outlet's pollutant yesterday and today, as /overview/pollutants gives them. */
async function emissionHours(alert) {
  const days = [new Date(Date.now() - 86400e3), new Date()].map((day) => get("/emissions", {
    outlet: alert.unit_code, base: alert.base, quantity: alert.quantity, period: isoDay(day) }));
  return (await Promise.all(days)).flatMap((answer) => answer.pollutants.flatMap((p) => p.hours))
    .map((hour) => ({ ts: hour.at, value: hour.state === "valid" ? hour.converted : null, state: hour.state }));
}

/** Valid hours as a line against the limit that holds for them; what is not valid is a gap with its reason. */
function hoursOf(hours, limits, unit) {
  const points = hours.map((hour) => ({ t: Date.parse(hour.ts), v: hour.value, note: hour.state }));
  const holder = h("div.chart-holder");
  const [from, to] = [points[0]?.t ?? Date.now(), (points.at(-1)?.t ?? Date.now()) + 3600e3];
  const draw = () => holder.replaceChildren(lineChart({
    points, from, to, limits, height: 190, width: holder.clientWidth || 640, gapMs: 1.5 * 3600e3, title: t("hour_values"),
    number: (v) => number(v), label: (ms) => hourMinute(new Date(ms)),
    describe: (p) => p && `${dateTime(new Date(p.t))}\n${p.v === null ? w("hour", p.note) : amount(p.v, unit)}`,
  }));
  onResize(holder, draw);
  return h("section", {}, h("div.chart-head", {}, h("span.muted", {}, `${t("hour_values")} · ${unitText(unit)}`)), holder);
}

/** [from, to] and the resolution of a chart: the last hours, or the time of an alert with what led to it. */
function windowOf(spans) {
  const now = Date.now();
  if (range !== OF_ALERT || !spans.length) return { from: now - (range === OF_ALERT ? 24 : range) * 3600e3, to: now, resolution: RESOLUTION[range] ?? "1m" };
  const [{ from, to }] = spans;
  const long = Math.max(to - from, 0);
  const start = from - Math.max(2 * 3600e3, long / 2);
  const end = Math.min(now, to + Math.max(1800e3, long / 4));
  const hours = (end - start) / 3600e3;
  return { from: start, to: end, resolution: hours <= 6 ? "raw" : hours <= 72 ? "1m" : hours <= 400 ? "15m" : "1h" };
}

async function chartOf(code, base, limits, spans) {
  const { from, to, resolution } = windowOf(spans);
  const answer = await get("/readings", {
    point: code, base, resolution, start: new Date(from).toISOString(), end: new Date(to).toISOString(), limit: PAGE });
  const series = answer.series[0];
  const at = Object.fromEntries(answer.columns.map((name, i) => [name, i]));
  const counter = series.kind === "counter" && resolution !== "raw";
  const points = series.rows.map((row) => ({
    t: Date.parse(row[at.at]),
    v: resolution === "raw" ? row[at.value] : counter ? row[at.increment] : row[at.mean] ?? null,
    low: counter || resolution === "raw" ? null : row[at.min], high: counter || resolution === "raw" ? null : row[at.max],
    note: resolution === "raw" ? row[at.quality] : null,
  }));
  const holder = h("div.chart-holder");
  const draw = () => holder.replaceChildren(points.some((p) => p.v !== null)
    ? lineChart({
      points, from, to, limits: counter ? [] : limits, spans, height: 240, width: holder.clientWidth || 640, gapMs: gapOf(points, resolution),
      title: code, number: (v) => number(v), label: (ms) => (to - from > 26 * 3600e3 ? dateTime(new Date(ms)) : hourMinute(new Date(ms))),
      describe: (p) => p && [dateTimeSeconds(new Date(p.t)), `${amount(p.v, series.unit)}${p.note && p.note !== "good" ? ` · ${w("point", p.note)}` : ""}`,
        p.low != null && p.high > p.low && `${number(p.low)}–${number(p.high)} ${unitText(series.unit)}`].filter(Boolean).join("\n"),
    })
    : h("p.empty", {}, t("no_readings")));
  onResize(holder, draw);
  return h("section", {},
    h("div.chart-head", {}, h("span.muted", {}, `${t("readings_of", { code })} · ${unitText(series.unit)}`),
      h("span.segmented", {}, [...(spans.length ? [OF_ALERT] : []), ...RANGES].map((hours) => h("button", {
        "aria-pressed": String(hours === range), onclick: () => { range = hours; fill(); },
      }, w("range", hours))))), holder);
}

/** A hole is longer than three usual steps: the usual one is the median of what came. */
function gapOf(points, resolution) {
  const steps = points.slice(1).map((p, i) => p.t - points[i].t).sort((a, b) => a - b);
  const usual = steps[steps.length >> 1] ?? STEP_S[resolution] * 1000;
  return Math.max(3.1 * usual, resolution === "raw" ? 0 : 1.5 * STEP_S[resolution] * 1000);
}

