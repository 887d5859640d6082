// The page: sign in, choose a base, start the panels and the live stream, and keep them telling the truth.

import { byId, h, show, toast, watchTitles } from "./dom.js";
import { language, nameOf, setLanguage, t, w } from "./i18n.js";
import { forgetToken, recall, remember, takeTokenFromAddress, token } from "./session.js";
import { get, whenRefused } from "./api.js";
import { clockText, dayText, hourMinute, setZone, zoneText } from "./format.js";
import { listen } from "./stream.js";
import { tellHidden } from "./hidden.js";
import { changed, whenChanged } from "./bus.js";
import * as book from "./alertbook.js";
import * as alertPanel from "./panels/alerts.js";
import { makeEnergy } from "./panels/energy.js";
import { makePollutants } from "./panels/pollutants.js";
import { makeFlow } from "./panels/flow.js";
import { makeHealth } from "./panels/health.js";
import { makeLinkage } from "./panels/linkage.js";
import { makeIndicators } from "./panels/indicators.js";
import { makeBills } from "./panels/bills.js";
import { drawStrip } from "./panels/strip.js";
import { makeDrawer, closeDrawer, openAlert, openDesk, refreshDrawer } from "./drawer.js";
import { forbid, may, readMe } from "./me.js";
import { chime } from "./sound.js";
import { applyTheme, nextTheme, theme } from "./theme.js";
import { askToken } from "./login.js";

const CARRIERS = ["electricity", "natural_gas", "steam", "water"];

let bases = [];
let base = null;
let panels = {};
let stream = null;
let link = "connecting";
let lastSeen = Date.now();
const seen = { energy: null, pollutants: null, health: null };

takeTokenFromAddress();
setLanguage(language());
applyTheme();
watchTitles();
prepare();
start();

/** Parts that live as long as the page, with or without a token. */
function prepare() {
  const here = () => base;
  const keep = (name) => (data) => { seen[name] = data; lastSeen = Date.now(); drawTop(); };
  alertPanel.makeAlerts(byId("alerts"), { base: here, bases: () => bases, maySteps: () => may("step") });
  makeDrawer(() => may("step"), () => bases);
  whenChanged("forbidden", () => { forbid("step"); drawAlerts(); refreshDrawer(); });
  panels = {
    energy: makeEnergy(byId("energy"), { base: here, onData: (data) => { keep("energy")(data); panels.flow.redraw(); } }),
    pollutants: makePollutants(byId("pollutants"), { base: here, onData: keep("pollutants") }),
    health: makeHealth(byId("health"), { base: here, onData: keep("health") }),
    linkage: makeLinkage(byId("linkage"), { base: here }),
    flow: makeFlow(byId("flow"), { base: here, carriers }),
    indicators: makeIndicators(byId("indicators"), { base: here }),
    bills: makeBills(byId("bills"), { base: here }),
  };
  byId("base-choice").addEventListener("change", (event) => choose(event.target.value));
  byId("language").addEventListener("click", () => { setLanguage(language() === "zh" ? "en" : "zh"); redrawAll(); restartStream(); });
  byId("theme").addEventListener("click", () => { nextTheme(); drawBar(); });
  byId("desk").addEventListener("click", () => base && openDesk(base));
  byId("sound").addEventListener("click", () => { remember("sound", recall("sound") === "on" ? "off" : "on"); drawBar(); if (recall("sound") === "on") chime("low"); });
  byId("sign-out").addEventListener("click", () => { forgetToken(); location.reload(); });
  whenRefused(() => login(t("token_bad")));
  whenChanged("alerts", (alert) => { drawAlerts(); refreshDrawer(alert); });
  setInterval(tick, 1000);
  redrawWords();
}

function carriers() {
  const known = seen.energy?.carriers.map((c) => c.carrier) ?? [];
  return known.length ? known.slice(0, 6) : CARRIERS.slice(0, 1);
}

async function start() {
  if (!token()) {
    login();
    return;
  }
  try {
    await readMe();
    bases = (await get("/bases")).bases;
  } catch (refusal) {
    if (refusal.status === 401) return; // the dialog is open already
    notice(refusal.status === 403 ? t("token_forbidden", { detail: refusal.message }) : t("failed", { detail: refusal.status ? refusal.message : t("no_answer") }), true);
    setTimeout(start, 5000);
    return;
  }
  notice(null);
  if (!bases.length) {
    notice(t("no_bases"), true);
    return;
  }
  const asked = base?.code ?? new URLSearchParams(location.search).get("base") ?? recall("base");
  tellHidden(bases);
  choose((bases.find((b) => b.code === asked) ?? bases[0]).code);
  await readAlerts();
  restartStream();
  const alert = Number(new URLSearchParams(location.search).get("alert"));
  if (Number.isInteger(alert) && alert > 0) openAlert(alert); // the link of a message
}

function choose(code) {
  base = bases.find((b) => b.code === code);
  remember("base", code);
  setZone(base.timezone);
  Object.keys(seen).forEach((name) => { seen[name] = null; });
  closeDrawer();
  Object.values(panels).forEach((panel) => { panel.clear(); panel.again(); });
  drawBar();
  drawAlerts();
}

async function readAlerts() {
  try {
    await book.readOpen();
    await alertPanel.refreshClosed();
    lastSeen = Date.now();
  } catch (refusal) {
    if (refusal.status !== 401) toast(t("failed", { detail: refusal.status ? refusal.message : t("no_answer") }), true);
    if (refusal.status !== 401 && !book.isRead()) setTimeout(readAlerts, 5000);
  }
  drawAlerts();
}

function restartStream() {
  stream?.stop();
  if (!base) return;
  stream = listen("/api/v1/alerts/stream", {
    state(now) { link = now; if (now === "live") lastSeen = Date.now(); drawBar(); },
    again: () => { readAlerts(); refreshDrawer(); Object.values(panels).forEach((panel) => panel.failed() && panel.again()); },
    alive() { lastSeen = Date.now(); },
    event(event) {
      lastSeen = Date.now();
      if (event.type === "reset") readAlerts();
      if (event.type === "transition") told(JSON.parse(event.data));
    },
  });
}

/** A transition from the stream: the list, the title, the sound, and the panels that it may concern. */
function told(transition) {
  const { alert } = transition;
  book.take(alert);
  if (["raise", "reraise"].includes(transition.change)) {
    alertPanel.markFresh(alert.id);
    if (recall("sound") === "on" && !alert.suppressed) chime(alert.severity);
    if (alert.base === base?.code) setTimeout(() => { panels.linkage.again(); panels.pollutants.again(); }, 300);
  }
  alertPanel.refreshClosed();
  changed("alerts", alert);
}

let drawing = null;

/** Soon, and once for many alerts at a time; by a timer, because a page in the background draws no frames. */
function drawAlerts() {
  drawing ??= setTimeout(() => { drawing = null; drawAlertsNow(); }, 30);
}

function drawAlertsNow() {
  alertPanel.draw();
  drawTop();
  const waiting = book.openAlerts().filter(book.isUnacknowledged).length;
  drawWaiting();
  document.title = `${waiting ? `(${waiting}) ` : ""}${base ? `${nameOf(base)} · ` : ""}${t("brand")}`;
}

/** How many alerts wait at each base, in the choice of bases: whoever looks at one sees that another needs him. */
function drawWaiting() {
  for (const option of byId("base-choice").options) {
    const n = book.openAlerts().filter((a) => a.base === option.value && book.isUnacknowledged(a)).length;
    const text = `${n ? `(${n}) ` : ""}${nameOf(bases.find((b) => b.code === option.value))}`;
    if (option.textContent !== text) option.textContent = text;
  }
}

function drawTop() {
  if (base) drawStrip(byId("strip"), seen, base);
}

function drawBar() {
  byId("base-choice").replaceChildren(...bases.map((b) => h("option", { value: b.code, selected: b === base }, nameOf(b))));
  byId("base-choice").hidden = !bases.length;
  drawWaiting();
  const state = byId("link-state");
  state.dataset.state = link;
  state.textContent = w("link", link);
  state.hidden = !token();
  byId("sound").textContent = t(recall("sound") === "on" ? "sound_on" : "sound_off");
  byId("sound").setAttribute("aria-pressed", String(recall("sound") === "on"));
  byId("theme").textContent = t(`theme_${theme()}`);
  byId("theme").setAttribute("aria-label", t("theme"));
  byId("language").textContent = t("other_language");
  byId("desk").textContent = t("desk");
  byId("desk").hidden = !bases.length;
  byId("sign-out").textContent = t("sign_out");
}

function redrawWords() {
  document.querySelectorAll("[data-word]").forEach((e) => { e.textContent = t(e.dataset.word); });
  document.querySelectorAll("[data-label]").forEach((e) => e.setAttribute("aria-label", t(e.dataset.label)));
  drawBar();
}

function redrawAll() {
  redrawWords();
  tick();
  Object.values(panels).forEach((panel) => panel.redraw());
  drawAlerts();
  refreshDrawer();
}

function tick() {
  if (!base) return;
  const now = new Date();
  show(byId("clock"), h("span", {}, clockText(now)), h("small", {}, `${dayText(now)} ${zoneText()}`));
  const age = now - lastSeen;
  byId("strip").classList.toggle("is-stale", link === "lost" && age > 60000);
  if (link === "lost" && age > 5000) notice(t("lost_notice", { at: hourMinute(new Date(lastSeen)) }));
  else if (link === "live") notice(null);
}

function notice(text, bad = false) {
  const box = byId("notice");
  if (box.textContent !== (text ?? "")) box.textContent = text ?? "";
  box.classList.toggle("bad", bad);
  box.hidden = !text;
}

/** Ask for a token; `why` says what was wrong with the one before. */
function login(why = null) {
  stream?.stop();
  if (why) link = "refused";
  drawBar();
  askToken(start, why);
}
