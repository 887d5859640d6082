// From a figure down: its counters, days, quarter-hours and samples, the factors and prices in it, bills, and what was revised.

import { byId, h } from "../dom.js";
import { get } from "../api.js";
import { language, nameOf, w as pageGroup } from "../i18n.js";
import { amount, dateTime, dateTimeSeconds, hourMinute, lacking, number, unitText, zoneText } from "../format.js";
import { reasonText } from "../reasons.js";
import { told } from "./tables.js";
import { t, w } from "./words.js";

const MOST = 400;      // rows of one table
const PAGE = 1000;
let path = [];         // figures from the first to the one shown; {samples} at the end
let before = null;     // what had the focus

document.addEventListener("keydown", (event) => { if (event.key === "Escape" && path.length && !byId("dialog").open) closeTrace(); });

export const openTrace = (figure) => { before ??= document.activeElement; path = [figure]; fill(true); };
export const redrawTrace = () => path.length && fill();

export function closeTrace() {
  if (!path.length) return;
  path = [];
  byId("drawer").hidden = true;
  byId("drawer").replaceChildren();
  if (before?.isConnected) before.focus({ preventScroll: true });
  before = null;
}

const down = (next) => { path = [...path, next]; fill(true); };

/** A figure's name in words: "2026-11 · base · Electricity · Cost". */
function wordsOf(figure) {
  const [, period, scope, what, measure] = figure.split("/");
  if (scope === "indicator") return `${period} · ${t("indicator")} ${what}`;
  const [kind, code] = scope.split("=");
  const subject = kind === "outlet" ? pageGroup("quantity", what) : what === "all" ? null : pageGroup("carrier", what);
  return [period, [w("scope", kind), code].filter(Boolean).join(" "), subject, w("measure", measure)].filter(Boolean).join(" · ");
}
const nameOfStep = (step) => (step.samples ? `${t("samples")} ${step.point}` : wordsOf(step));

async function fill(focus = false) {
  const step = path.at(-1);
  const drawer = byId("drawer");
  drawer.hidden = false;
  drawer.classList.add("wide");
  const back = path.length > 1 && h("button.quiet", { onclick: () => { path = path.slice(0, -1); fill(true); } }, `← ${t("back_to", { what: nameOfStep(path.at(-2)) })}`);
  const head = h("header", {}, h("div", {}, h("h2", {}, t("trace")), h("p.name", { title: step.samples ? null : step }, nameOfStep(step)), back), h("button.close", { onclick: closeTrace }, t("close")));
  const show = (...content) => { if (path.at(-1) === step) drawer.replaceChildren(head, h("div.body", {}, content.flat(3).filter(Boolean))); };
  show(h("p.muted", {}, t("loading")));
  if (focus) head.querySelector(".close").focus();
  try {
    show(...(step.samples ? await samples(step) : content(await get("/trace", { figure: step }), await kindNames())));
  } catch (refusal) {
    show(h("p.text-critical", { role: "alert" }, t("failed", { detail: refusal.status ? refusal.message : t("no_answer") })));
  }
}

let kindNames = async () => {
  const kinds = await get("/ledger/kinds").catch(() => null); // without names the codes stand there
  if (!kinds) return null;
  const names = Object.fromEntries(kinds.kinds.map((k) => [k.code, k]));
  kindNames = async () => names;
  return names;
};

/** The parts of an answer of /trace that are there, from the figure to what lies under it. */
function content(a, kinds) {
  const unit = a.cell?.unit ?? a.unit;
  return [value(a, unit), revised(a.revisions), leads(a), steps(a), parts(a, unit), outletDays(a), outletHours(a), outletPoints(a), bills(a), entries(a, kinds), factors(a), tariffs(a),
    a.truncated && h("p.note.muted", {}, t("truncated"))];
}

function value(a, unit) {
  const c = a.cell ?? a;
  const least = c.coverage === null || c.coverage === undefined ? null : lacking(c.coverage, 1);
  const facts = [c.quality && `${t("quality")} ${w("quality", c.quality)}`, c.grade && `${t("grade")} ${c.grade}`, least && t("coverage_mark", { percent: least }),
    a.agrees === true && `✓ ${t("agrees")}`, a.agrees === false && `▲ ${t("disagrees")}`, a.inputs?.withheld && t("withheld", { why: reasonText(a.inputs.withheld) }), c.lacking && t(`lacking_${c.lacking}`)];
  return h("div", {}, h("p.traced", { title: `${a.value ?? "–"} ${unit ?? ""}` }, a.value === null ? "–" : `${number(a.value, Math.abs(a.value) < 10 ? undefined : 2)} ${unitText(unit)}`),
    h("p.muted", {}, [a.first_day && `${a.first_day} – ${a.last_day} ${zoneText()}`, ...facts].filter(Boolean).join(" · ")));
}

function revised(revisions) {
  const all = Object.values(revisions ?? {}).flat().filter((r) => r.superseded_at);
  const newest = all.toSorted((x, y) => (x.superseded_at < y.superseded_at ? 1 : -1))[0];
  return newest && h("p.muted.small", {}, t("revised", { n: number(all.length, 0), at: dateTimeSeconds(newest.superseded_at), reason: reasonText(newest.reason) }));
}

const table = (title, heads, rows) => rows.length > 0 && h("section", {}, h("h3", {}, title), h("div.scroller", {}, h("table.figures", {},
  h("thead", {}, h("tr", {}, heads.map(([word, number_]) => h(number_ ? "th.number" : "th", { scope: "col" }, word && t(word))))), h("tbody", {}, rows.slice(0, MOST)))), rows.length > MOST && h("p.muted", {}, t("truncated")));

const leads = (a) => a.leads_to?.length > 0 && h("section", {}, h("h3", {}, t("leads_to")), h("ul.leads", {}, a.leads_to.map((figure) => h("li", {}, h("button.quiet", { title: figure, onclick: () => down(figure) }, wordsOf(figure))))));

const steps = (a) => a.steps?.length > 0 && table(t("steps"), [["item"], ["amount", 1]], a.steps.map((s) => h("tr", {}, h("th", { scope: "row" }, [s.carrier && pageGroup("carrier", s.carrier), w("step", s.step)].filter(Boolean).join(" · ")),
  h("td.number", {}, s.amount === undefined ? "–" : amount(s.amount, s.unit ?? "")))));

/** A counter with its share, its registers and meters; a month and more leads to its days, a day shows its quarter-hours. */
function parts(a, unit) {
  if (!a.parts) return null;
  const single = a.first_day === a.last_day;
  const isPoint = a.figure.includes("/point=");
  const down1 = (p) => down(`${a.base}/${a.period}/point=${p.point}/${p.carrier}/energy`);
  const rows = a.parts.map((p) => h("tr", {}, h("th", { scope: "row" }, isPoint ? nameOf(p) : h("button.quiet", { "data-key": `part-${p.point}`, onclick: () => down1(p) }, nameOf(p)),
    h("span.sub", {}, [p.point, pageGroup("carrier", p.carrier), p.registers && t("register", { first: number(p.registers.first_value, 2), last: number(p.registers.last_value, 2) })].filter(Boolean).join(" · ")),
    p.formula && h("span.sub", {}, `${t("made_of")} ${p.formula}`), p.meters.map((m) => h("span.sub", {}, meterText(m)))),
  h("td.number", {}, amount(p.amount, p.unit)), h("td.number", {}, p.share === null ? "–" : told(p.share, unit)), h("td.number", {}, `${number(p.n_known, 0)}/${number(p.n_expected, 0)}`), h("td.number", {}, p.estimated ? amount(p.estimated, p.unit) : "")));
  return [table(t("parts"), [["parts"], ["amount", 1], ["share", 1], ["slots", 1], ["estimated", 1]], rows),
    isPoint && !single && a.parts.map((p) => days(a, p)), isPoint && single && a.parts.map((p) => intervals(a, p)),
    isPoint && a.parts.flatMap((p) => p.made_of ?? []).map((m) => h("p", {}, h("button.quiet", { onclick: () => down(m.figure ?? sampleStep(a, m.point)) }, m.figure ?? m.point)))];
}

function meterText(m) {
  const serial = m.serial || "–";
  return m.removed ? t("meter_until", { serial, from: dateTime(m.installed), to: dateTime(m.removed) }) : t("meter", { serial, from: dateTime(m.installed) });
}

const days = (a, p) => table(t("days"), [["day"], ["amount", 1], ["slots", 1], ["estimated", 1]], p.days.map((d) => h("tr", {},
  h("th", { scope: "row" }, h("button.quiet", { "data-key": `day-${d.day}`, onclick: () => down(`${a.base}/${d.day}/point=${p.point}/${p.carrier}/energy`) }, d.day)),
  h("td.number", {}, amount(d.amount, p.unit)), h("td.number", {}, `${d.n_known}/${d.n_expected}`), h("td.number", {}, d.estimated ? amount(d.estimated, p.unit) : ""))));

const sampleStep = (a, point, from, to) => ({ samples: true, base: a.base, point, from: from ?? a.start, to: to ?? a.end });

const intervals = (a, p) => table(`${t("intervals")} · ${zoneText()}`, [["at"], ["amount", 1], ["quality"], ["method"], [""]], p.intervals.map((s) => {
  const until = new Date(Date.parse(s.at) + 900e3);
  return h("tr", {}, h("th", { scope: "row" }, `${hourMinute(s.at)}–${hourMinute(until)}`), h("td.number", {}, amount(s.amount, p.unit)), h("td", {}, w("quality", s.quality)), h("td", {}, w("method", s.method)),
    h("td", {}, h("button.quiet", { "data-key": `samples-${s.at}`, onclick: () => down(sampleStep(a, p.point, s.at, until.toISOString())) }, t("samples"))));
}));

const outletDays = (a) => a.days && a.first_day !== a.last_day && table(t("days"), [["day"], ["amount", 1], ["valid_hours", 1], ["exceeded_hours", 1]], a.days.map((d) => h("tr", {},
  h("th", { scope: "row" }, h("button.quiet", { onclick: () => down(a.figure.replace(`/${a.period}/`, `/${d.day}/`)) }, d.day)), h("td.number", {}, told(d.mass_kg, "kg")), h("td.number", {}, number(d.hours_valid, 0)), h("td.number", {}, number(d.hours_exceeded, 0)))));

const outletHours = (a) => a.hours && a.first_day === a.last_day && table(`${t("hours")} · ${zoneText()}`, [["hour"], ["value", 1], ["amount", 1], ["state"]], a.hours.map((x) => h("tr", {},
  h("th", { scope: "row" }, hourMinute(x.at)), h("td.number", {}, x.converted === null ? "–" : number(x.converted)), h("td.number", {}, told(x.mass_kg, "kg")),
  h("td", {}, [pageGroup("hour", x.state), x.substituted && t("substituted_mark"), x.exceeded && `◆ ${t("over_mark")}`].filter(Boolean).join(" · ")))));

const outletPoints = (a) => a.points && h("section", {}, h("h3", {}, t("samples")), h("ul.leads", {}, a.points.map((p) => h("li", {}, h("button.quiet", { onclick: () => down(sampleStep(a, p.code)) }, p.code)))));

const bills = (a) => a.bills && table(t("bills"), [["item"], ["amount", 1], ["share", 1]], a.bills.filter((b) => b.share !== null).map((b) => h("tr", {}, h("th", { scope: "row" }, `${b.carrier ? pageGroup("carrier", b.carrier) : ""} #${b.entry_id ?? b.id ?? ""}`),
  h("td.number", {}, b.amount === null ? "" : asBooked(b.amount, b.unit)), h("td.number", {}, told(b.share, a.cell?.unit)))));

/** An amount as it was booked, to its last digit. */
const asBooked = (value, unit) => `${value.toLocaleString("en-US", { maximumFractionDigits: 6 })} ${unitText(unit ?? "")}`;

/** Entries of the ledger in the figure, those that a correction replaced after it; `kinds` has their names. */
function entries(a, kinds) {
  const all = [...(a.entries ?? []), ...(a.ledger ?? [])].map((e) => ({ ...e, id: e.id ?? e.entry_id }));
  const by = new Map(all.filter((e) => e.supersedes).map((e) => [e.supersedes, e.id]));
  const kind = (code) => (kinds?.[code] ? kinds[code][language()] : code ?? "");
  return table(t("entries"), [["item"], ["amount", 1], ["state"], ["source"]], all.toSorted((x, y) => by.has(x.id) - by.has(y.id)).map((e) => h(by.has(e.id) ? "tr.replaced" : "tr", {},
    h("th", { scope: "row" }, [`#${e.id}`, kind(e.kind), e.item && pageGroup("carrier", e.item)].filter(Boolean).join(" "), h("span.sub", {}, `${e.first_day ?? ""} – ${e.last_day ?? ""}`)),
    h("td.number", {}, asBooked(e.value ?? e.amount, e.unit)), h("td", {}, by.has(e.id) ? t("replaced_by", { id: by.get(e.id) }) : e.status && w("status", e.status)),
    h("td", {}, e.evidence ?? "", (e.documents ?? []).map((d) => h("span.sub", { title: `SHA-256 ${d.sha256}` }, d.name))))));
}

const factors = (a) => a.factors && table(t("factors"), [["carrier"], ["value", 1], ["edition"], ["source"]], a.factors.map((f) => h("tr", {}, h("th", { scope: "row" }, pageGroup("carrier", f.carrier), h("span.sub", {}, [w("measure", f.kind), f.region].filter(Boolean).join(" · "))),
  h("td.number", {}, `${f.value} ${f.unit}`), h("td", {}, f.edition, h("span.sub", {}, `${f.valid_from} –${f.valid_to ? ` ${f.valid_to}` : ""}`)), h("td", {}, f.source, !f.verified && h("span.sub", {}, t("unverified"))))));

const tariffs = (a) => a.tariffs?.length > 0 && table(t("tariffs"), [["item"], ["source"]], a.tariffs.map((x) => h("tr", {}, h("th", { scope: "row" }, `${x.code} ${x.unit}`), h("td", {}, x.source ?? "", x.verified === false && h("span.sub", {}, t("unverified"))))));

/** Readings as they came, the end of the way; those of a longer time are cut at a page. */
async function samples({ base, point, from, to }) {
  const answer = await get("/readings", { base, point, resolution: "raw", start: from, end: to, limit: PAGE });
  const series = answer.series[0];
  const at = Object.fromEntries(answer.columns.map((name, i) => [name, i]));
  const rows = series.rows.slice(0, MOST).map((r) => h("tr", {}, h("th", { scope: "row" }, dateTimeSeconds(r[at.at])), h("td.number", {}, r[at.value] === null ? "–" : `${number(r[at.value], 3)} ${series.unit}`), h("td", {}, pageGroup("point", r[at.quality] === "good" ? "valid" : r[at.quality]))));
  return [h("p.muted", {}, `${dateTime(from)} – ${dateTime(to)} ${zoneText()}`), table(t("samples"), [["at"], ["value", 1], ["quality"]], rows) || h("p.empty", {}, t("no_readings")), series.rows.length > MOST && h("p.muted", {}, t("truncated"))];
}
