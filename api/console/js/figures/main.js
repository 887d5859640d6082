// What a report writer asks of a base: the figures of a day, month, quarter or year beside the period before and last year's,
// each with its coverage and the way down to its samples, as a file or on paper. The token is the one of the monitoring page.

import { byId, h, show, toast, watchTitles } from "../dom.js";
import { get, headers, refusalOf, whenRefused } from "../api.js";
import { language, nameOf, setLanguage, t as pageWord } from "../i18n.js";
import { isRole, readMe } from "../me.js";
import { recall, remember, takeTokenFromAddress, token } from "../session.js";
import { isoDay, setZone } from "../format.js";
import { applyTheme } from "../theme.js";
import { askToken } from "../login.js";
import { tellHidden } from "../hidden.js";
import { saveBlob } from "../csv.js";
import { KINDS, kindOf, periodOf, shifted, yearBefore } from "./periods.js";
import { drawTables, MEASURES, saveTables } from "./tables.js";
import { closeTrace, openTrace, redrawTrace } from "./trace.js";
import { t, w } from "./words.js";

const REPORTS = ["annual", "midterm", "final"];
const FORMS = ["docx", "xlsx", "pdf", "html"];
const GROUPS = ["carrier", "enterprise", "unit"];
const asked = new URLSearchParams(location.search);
const state = { bases: [], base: null, period: kindOf(asked.get("period")) ? asked.get("period") : null, by: "carrier", measure: "energy", names: {}, answers: null, versions: {} };
let reading = 0;

takeTokenFromAddress();
setLanguage(language());
applyTheme();
watchTitles();
const signIn = (why) => askToken(start, why);
whenRefused(() => signIn(t("token_bad")));
byId("language").addEventListener("click", () => { setLanguage(language() === "zh" ? "en" : "zh"); drawAll(); redrawTrace(); });
byId("base-choice").addEventListener("change", (event) => choose(event.target.value).catch(told));
start();

async function start() {
  drawBar();
  if (!token()) return signIn();
  try {
    await readMe();
    state.bases = (await get("/bases")).bases;
    if (!state.bases.length) return notice(t("no_bases"));
    notice(null);
    tellHidden(state.bases);
    const wanted = state.base?.code ?? asked.get("base") ?? asked.get("figure")?.split("/")[0] ?? recall("base");
    await choose((state.bases.find((b) => b.code === wanted) ?? state.bases[0]).code);
    if (asked.get("figure")) openTrace(asked.get("figure"));
  } catch (refusal) {
    told(refusal);
  }
  return null;
}

/** What went wrong, and once more soon; a token that is refused is told already. */
function told(refusal) {
  if (refusal.status === 401) return;
  notice(t("failed", { detail: refusal.status ? refusal.message : t("no_answer") }));
  setTimeout(start, 5000);
}

async function choose(code) {
  state.base = state.bases.find((b) => b.code === code);
  remember("base", code);
  setZone(state.base.timezone);
  closeTrace();
  const tree = await get(`/bases/${encodeURIComponent(code)}/units`);
  const units = Object.fromEntries((tree.units ?? []).map((u) => [u.code, u]));
  state.names = { enterprise: Object.fromEntries(tree.enterprises.map((e) => [e.code, e])), unit: units };
  const found = asked.get("figure")?.split("/")[1];
  state.period ??= kindOf(found) ? found : periodOf("month", isoDay(new Date()));
  await readAgain();
}

/** The period, the one before and last year's; an answer that comes too late is dropped. */
async function readAgain() {
  const mine = ++reading;
  state.answers = null;
  drawAll();
  const by = state.by === "carrier" ? "carrier" : state.measure === "energy" ? `carrier,${state.by}` : state.by;
  const one = (period) => (period ? get("/aggregates", { base: state.base.code, period, by }) : null);
  history.replaceState(null, "", `?${new URLSearchParams({ base: state.base.code, period: state.period })}`);
  try {
    const [now, before, last] = await Promise.all([state.period, shifted(state.period, -1), yearBefore(state.period)].map(one));
    if (mine !== reading) return;
    state.answers = { now, before, last };
    notice(null);
  } catch (refusal) {
    if (mine !== reading) return;
    byId("about").textContent = t("not_read");
    if (refusal.status === 401) return; // asked for another token already
    notice(t("failed", { detail: refusal.status ? refusal.message : t("no_answer") }));
    if (!refusal.status || refusal.status >= 500) setTimeout(() => mine === reading && readAgain(), 5000);
    return;
  }
  drawAll();
  readVersions(mine);
}

async function readVersions(mine) {
  if (isRole("enterprise")) return; // reports are of the whole base
  const year = state.period.slice(0, 4);
  const told = await Promise.all(REPORTS.map((kind) => get(`/reports/${encodeURIComponent(state.base.code)}/${kind}/${year}/versions`).catch(() => null)));
  if (mine !== reading) return;
  state.versions = Object.fromEntries(REPORTS.map((kind, i) => [kind, told[i]?.versions ?? null]));
  drawReports();
}

function drawAll() {
  drawBar();
  if (!state.base) return;
  drawChoices();
  drawTables(state, openTrace);
  drawReports();
}

function drawBar() {
  document.title = t("title");
  byId("title").textContent = t("title");
  byId("back").textContent = t("back");
  byId("ledger").textContent = t("ledger");
  byId("language").textContent = pageWord("other_language");
  byId("base-choice").setAttribute("aria-label", t("base"));
  byId("base-choice").replaceChildren(...state.bases.map((b) => h("option", { value: b.code, selected: b === state.base }, nameOf(b))));
  byId("base-choice").hidden = !state.bases.length;
}

function drawChoices() {
  const today = isoDay(new Date());
  const kind = kindOf(state.period);
  const go = (period) => { state.period = period; readAgain(); };
  const group = (name, list, now, label, pick) => h("span.segmented", { role: "group", "aria-label": name }, list.map((x) => h("button", {
    "aria-pressed": String(x === now), "data-key": `${name}-${x}`, onclick: () => pick(x) }, label(x))));
  const first = state.answers?.now.first_day ?? today;
  show(byId("choices"),
    group("kind", KINDS, kind, (k) => w("kind", k), (k) => go(periodOf(k, first > today ? today : kind === "year" && first.slice(0, 4) === today.slice(0, 4) ? today : first))),
    h("span.stepper", {}, h("button", { "data-key": "earlier", "aria-label": t("earlier"), title: t("earlier"), onclick: () => go(shifted(state.period, -1)) }, "‹"),
      h("span.period", { "aria-live": "polite" }, state.period),
      h("button", { "data-key": "later", "aria-label": t("later"), title: t("later"), disabled: state.period >= periodOf(kind, today), onclick: () => go(shifted(state.period, 1)) }, "›")),
    group("by", GROUPS, state.by, (b) => w("by", b), (b) => { state.by = b; readAgain(); }),
    group("measure", MEASURES, state.measure, (m) => w("measure", m), (m) => { state.measure = m; readAgain(); }),
    h("span.stepper", {}, h("button", { "data-key": "csv", disabled: !state.answers, onclick: () => saveTables(state) }, t("csv")),
      h("button", { "data-key": "print", onclick: () => print() }, t("print"))));
}

function drawReports() {
  byId("reports").hidden = isRole("enterprise");
  if (!state.base) return;
  const year = state.period.slice(0, 4);
  const sealed = (kind) => (state.versions[kind] === undefined || state.versions[kind] === null ? "" : state.versions[kind].length ? t("sealed", { n: state.versions[kind].length }) : t("not_sealed"));
  show(byId("reports"), h("header", {}, h("h2", {}, t("reports")), h("span.meta", {}, t("reports_about", { year }))),
    h("div.body.documents", {}, REPORTS.map((kind) => [h("span", {}, w("report", kind)),
      h("span.actions", {}, FORMS.map((form) => h("button", { "data-key": `${kind}-${form}`, onclick: (e) => report(e.target, kind, year, form) }, form)),
        h("span.muted", {}, sealed(kind)))])));
}

async function report(button, kind, year, form) {
  const name = `${year}.${form}`;
  button.disabled = true;
  button.textContent = t("making");
  const address = `/api/v1/reports/${encodeURIComponent(state.base.code)}/${kind}/${name}?${new URLSearchParams({ lang: language() })}`;
  const answer = await fetch(address, { headers: headers(), credentials: "omit", cache: "no-store" }).catch(() => null);
  button.disabled = false;
  button.textContent = form;
  if (!answer?.ok) return toast(answer ? (await refusalOf(answer)).message : t("no_answer"), true);
  return saveBlob(`${state.base.code}-${kind}-${name}`, await answer.blob());
}

function notice(text) {
  byId("notice").textContent = text ?? "";
  byId("notice").hidden = !text;
}
