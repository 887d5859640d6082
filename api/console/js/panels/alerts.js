// Live alerts: what needs someone first, each with what happened, since when, how far off, and the steps to take.

import { byId, h, show } from "../dom.js";
import { t, w, nameOf } from "../i18n.js";
import { dateTime, moment, number, since } from "../format.js";
import { recall, remember } from "../session.js";
import { SEVERITIES, severityShape } from "../shapes.js";
import * as book from "../alertbook.js";
import { acknowledge, acknowledgeAll, shelve, unshelve, comment, assign } from "../steps.js";
import { openAlert } from "../drawer.js";

const SHOWN = 200;
const GROUP_FROM = 5; // as many alerts of one rule in one state are a flood: one row until someone wants to see them
const expanded = new Set();
const filter = { state: "open", severities: new Set(SEVERITIES), everyBase: recall("every-base") === "yes" };
let closed = [];
let context = null; // {base(), bases()}
let element = null;
let selected = null;
const fresh = new Map(); // id -> time when it came, for a short mark

export function makeAlerts(target, given) {
  element = target;
  context = given;
  element.addEventListener("keydown", onKey);
  document.addEventListener("keydown", (event) => {
    if (["ArrowDown", "j"].includes(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey && nothingHasTheFocus()) {
      element.querySelector(".alert")?.focus();
      event.preventDefault();
    }
  });
  setInterval(draw, 15000);
}

/** The keys that the panel names work from a page that was just opened, too. */
function nothingHasTheFocus() {
  return document.activeElement === document.body && byId("drawer").hidden && !byId("dialog").open;
}

/** Mark an alert as just come. */
export function markFresh(id) {
  fresh.set(id, Date.now());
  setTimeout(() => { fresh.delete(id); draw(); }, 8000);
}

function inBase(alert) {
  return filter.everyBase || alert.base === context.base()?.code;
}

function shownAlerts() {
  if (filter.state === "closed") return closed.filter(inBase).filter((a) => filter.severities.has(a.severity));
  const wanted = book.openAlerts().filter(inBase).filter((a) => filter.severities.has(a.severity));
  if (filter.state === "unacknowledged") return wanted.filter(book.isUnacknowledged).sort(book.byUrgency);
  if (filter.state === "shelved") return wanted.filter(book.isAside).sort(book.byUrgency);
  return wanted.filter((a) => !book.isAside(a)).sort(book.byUrgency);
}

async function choose(state) {
  filter.state = state;
  if (state === "closed") closed = await book.readClosed(filter.everyBase ? null : context.base()?.code).catch(() => []);
  draw();
}

export async function refreshClosed() {
  if (filter.state === "closed") await choose("closed");
}

export function draw() {
  if (!element || !context.base()) return;
  const list = shownAlerts();
  if (selected && !list.some((a) => a.id === selected)) selected = null;
  element.setAttribute("aria-label", t("alerts"));
  show(element,
    h("header", {}, h("h2", {}, t("alerts")), h("span.meta", {}, stateFilter())),
    h("div.filters", {}, severityFilter(), context.bases().length > 1 && baseFilter()),
    h("div.list", { role: "list", "data-scroll": "alerts" },
      list.length ? rows(list) : h("p.empty", {}, t(book.isRead() ? "alerts_none" : "loading")),
      book.hasMore() && filter.state !== "closed" && h("p.empty", {}, t("alerts_beyond"))),
    h("p.keys", { "aria-hidden": "true" }, t("keys")));
}

function stateFilter() {
  const open = book.openAlerts().filter(inBase);
  const count = book.isRead() && {
    open: open.filter((a) => !book.isAside(a)).length,
    unacknowledged: open.filter(book.isUnacknowledged).length,
    shelved: open.filter(book.isAside).length,
  };
  return h("span.segmented", { role: "group", "aria-label": t("filter_state") },
    ["open", "unacknowledged", "shelved", "closed"].map((state) => h("button", {
      "aria-pressed": String(filter.state === state), "data-key": `state-${state}`, onclick: () => choose(state),
    }, `${w("filter", state)}${count[state] === undefined ? "" : ` ${number(count[state], 0)}`}`)));
}

function severityFilter() {
  const open = book.openAlerts().filter(inBase);
  return h("span.chips", { role: "group", "aria-label": t("filter_severity") }, SEVERITIES.map((severity) => {
    const on = filter.severities.has(severity);
    const n = open.filter((a) => a.severity === severity && !book.isAside(a)).length;
    return h("button.chip", {
      "aria-pressed": String(on), "data-key": `severity-${severity}`,
      onclick: () => { filter.severities[on ? "delete" : "add"](severity); draw(); },
      "aria-label": `${w("severity", severity)} ${n}`, title: w("severity", severity),
    }, severityShape(severity), book.isRead() ? String(n) : "–");
  }));
}

function baseFilter() {
  const waiting = (every) => book.openAlerts().filter((a) => (every || a.base === context.base()?.code) && book.isUnacknowledged(a)).length;
  return h("span.segmented", { role: "group", "aria-label": t("filter_base"), title: t("filter_base_about") }, [false, true].map((every) => h("button", {
    "aria-pressed": String(filter.everyBase === every), "data-key": `every-${every}`,
    onclick: () => { filter.everyBase = every; remember("every-base", every ? "yes" : "no"); choose(filter.state); },
  }, `${t(every ? "all_bases" : "this_base")}${book.isRead() ? ` ${number(waiting(every), 0)}` : ""}`)));
}

const sameRule = (a) => [a.base, a.rule?.code, a.severity, a.active, book.isUnacknowledged(a), book.stateOf(a)].join("/");
/** Alerts that came in one flood belong together, whatever their rule; a critical one that did not come first keeps its own row. */
const groupOf = (a) => (a.first_out && (a.severity !== "critical" || a.id === a.first_out)
  ? ["flood", a.base, a.first_out, book.isUnacknowledged(a), book.stateOf(a)].join("/") : sameRule(a));

/** One row an alert; a flood is one row, with its alerts below when it is opened. */
function rows(list) {
  const groups = Map.groupBy ? Map.groupBy(list, groupOf) : grouped(list);
  return [...groups].flatMap(([key, members]) => {
    if (members.length < GROUP_FROM) return members.map((alert) => row(alert));
    const open = expanded.has(key);
    return [groupRow(key, members, open), ...(open ? members.slice(0, SHOWN).map((alert) => row(alert, true)) : []),
      open && members.length > SHOWN && h("p.empty", {}, t("alerts_more", { n: SHOWN }))];
  });
}

function grouped(list) {
  const groups = new Map();
  list.forEach((a) => groups.set(groupOf(a), [...(groups.get(groupOf(a)) ?? []), a]));
  return groups;
}

function groupRow(key, members, open) {
  const first = members.find((a) => a.id === a.first_out) ?? members[0];
  const flood = key.startsWith("flood/");
  const waiting = book.isUnacknowledged(first);
  const toggle = () => { expanded[open ? "delete" : "add"](key); draw(); };
  const places = [...new Set(members.map(book.placeOf))];
  const times = members.map((a) => a.opened_at).sort();
  return h(`div.alert.group.${first.severity}${waiting ? ".waiting" : ""}`, {
    role: "listitem", tabindex: 0, "data-key": `group-${key}`, onclick: (event) => { if (!event.target.closest("button")) toggle(); },
    onkeydown: (event) => { if (event.key === "Enter" && event.target === event.currentTarget) toggle(); },
  },
  severityShape(first.severity, !first.active),
  h("div.main", {},
    h("div.head", {}, h("strong.title", {}, book.titleOf(first), flood && first.id === first.first_out && h("span.count", {}, t("first_out")),
      h("span.count", {}, flood ? t("followed", { n: members.length - 1 }) : `× ${members.length}`)),
      h("time.since", { datetime: times[0] }, `${moment(times[0])} · ${since(times[0])}`)),
    filter.everyBase && h("div.place", {}, h("span.base", {}, baseName(first.base))),
    h("div.text", {}, (flood ? rulesOf(members) : places).slice(0, 3).join("、"), places.length > 3 && !flood && ` ${t("and_more")}`),
    h("div.foot", {}, h("span.state", {}, book.stateText(first)),
      h("span.steps", {}, h("button", { "data-key": `open-${key}`, "aria-expanded": String(open), onclick: toggle }, t(open ? "collapse" : "expand")),
        waiting && context.maySteps() && h("button.ack", { "data-key": `ack-${key}`, onclick: () => acknowledgeAll(members, flood) }, t("ack_all"))))));
}

/** "SO2 high × 12": the rules of a flood, the busiest first. */
function rulesOf(members) {
  const counts = new Map();
  members.forEach((a) => counts.set(book.titleOf(a), (counts.get(book.titleOf(a)) ?? 0) + 1));
  return [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name} × ${n}`);
}

function row(alert, inner = false) {
  const state = book.stateOf(alert);
  const waiting = book.isUnacknowledged(alert) && state !== "closed";
  const classes = ["alert", inner && "inner", alert.severity, waiting && "waiting", !alert.active && "over", fresh.has(alert.id) && "fresh", state].filter(Boolean);
  return h(`div.${classes.join(".")}`, {
    role: "listitem", tabindex: 0, "data-key": `alert-${alert.id}`, "data-id": alert.id,
    "aria-current": selected === alert.id ? "true" : null,
    onclick: (event) => { if (!event.target.closest("button")) openAlert(alert.id); },
    onfocus: () => { selected = alert.id; },
  },
  severityShape(alert.severity, !alert.active),
  h("div.main", {},
    h("div.head", {},
      h("strong.title", {}, book.titleOf(alert)),
      h("time.since", { datetime: alert.opened_at, title: dateTime(alert.opened_at) }, `${moment(alert.opened_at)} · ${since(alert.opened_at)}`)),
    h("div.place", {}, filter.everyBase && h("span.base", {}, baseName(alert.base)), book.placeOf(alert)),
    book.textOf(alert) && h("div.text", {}, book.textOf(alert)),
    h("div.foot", {},
      h("span.against", {}, book.againstText(alert)),
      h("span.state", {}, state === "shelved" ? book.shelfText(alert) : book.stateText(alert)),
      alert.assigned_to && h("span.who", {}, t("assigned", { name: alert.assigned_to })),
      alert.n_raised > 1 && h("span.times", {}, t("raised_times", { n: alert.n_raised })),
      alert.late && h("span.times", {}, t("late")),
      h("span.steps", {}, buttons(alert, state, waiting)))));
}

function baseName(code) {
  const base = context.bases().find((b) => b.code === code);
  return base ? nameOf(base) : code;
}

function buttons(alert, state, waiting) {
  if (state === "closed" || !context.maySteps()) return [];
  const key = (name) => ({ "data-key": `${name}-${alert.id}`, "data-step": name });
  return [
    h("button.quiet", { ...key("comment"), onclick: () => comment(alert) }, t("comment")),
    h("button.quiet", { ...key("assign"), onclick: () => assign(alert) }, t("assign")),
    state === "shelved"
      ? h("button.quiet", { ...key("unshelve"), onclick: () => unshelve(alert) }, t("unshelve"))
      : h("button.quiet", { ...key("shelve"), onclick: () => shelve(alert) }, t("shelve")),
    waiting && h("button.ack", { ...key("ack"), onclick: () => acknowledge(alert) }, t("ack")),
  ];
}

function onKey(event) {
  const current = event.target.closest(".alert");
  if (!current || event.target !== current || event.ctrlKey || event.metaKey || event.altKey) return;
  const alert = current.dataset.id && book.alertOf(Number(current.dataset.id));
  const move = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  const may = alert && context.maySteps();
  if (move) (move > 0 ? current.nextElementSibling : current.previousElementSibling)?.focus();
  else if (event.key === "Enter" && current.dataset.id) openAlert(Number(current.dataset.id));
  else if (event.key === "a" && may && book.isUnacknowledged(alert)) acknowledge(alert);
  else if (event.key === "s" && may) shelve(alert);
  else if (event.key === "c" && may) comment(alert);
  else return;
  event.preventDefault();
}
