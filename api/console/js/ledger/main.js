// Manual entries: a form, an xlsx template, the list and its audit. The token is the one of the monitoring page.

import { byId, h, show, toast, watchTitles } from "../dom.js";
import { get, headers, read, refusalOf, whenRefused } from "../api.js";
import { save } from "../files.js";
import { may, readMe } from "../me.js";
import { language, setLanguage } from "../i18n.js";
import { recall, remember, takeTokenFromAddress, token } from "../session.js";
import { setZone } from "../format.js";
import { applyTheme } from "../theme.js";
import { makeForm } from "./form.js";
import { makeLists } from "./lists.js";
import { CARRIERS, nameOf, t } from "./words.js";

const state = { base: "", bases: [], kinds: [], carriers: {}, carrierNames: {}, actions: {}, enterprises: [], download };
const lists = makeLists(byId("lists"), state, (entry) => form.start(entry));
const form = makeForm(byId("form"), state, () => lists.again());
let file = null;

takeTokenFromAddress();
setLanguage(language());
applyTheme();
watchTitles();
whenRefused(() => notice(t("no_token")));
byId("language").addEventListener("click", () => { setLanguage(language() === "zh" ? "en" : "zh"); drawAll(); });
byId("base-choice").addEventListener("change", (event) => choose(event.target.value));
start();

async function start() {
  drawBar();
  if (!token()) return notice(t("no_token"));
  try {
    const [bases, known] = await Promise.all([get("/bases"), get("/ledger/kinds"), readMe()]);
    state.bases = bases.bases ?? bases;
    state.kinds = known.kinds;
    state.carriers = known.carriers;
    state.actions = known.actions;
    notice(null);
    const asked = new URLSearchParams(location.search).get("base") ?? recall("base");
    if (!state.bases.length) return notice(t("no_bases"));
    await choose((state.bases.find((b) => b.code === asked) ?? state.bases[0]).code);
  } catch (refusal) {
    if (refusal.status === 401) return null; // told already
    notice(refusal.status ? refusal.message : t("no_answer"));
    setTimeout(start, 5000);
  }
  return null;
}

async function choose(code) {
  state.base = code;
  remember("base", code);
  const found = state.bases.find((b) => b.code === code);
  setZone(found.timezone);
  state.enterprises = (await get(`/bases/${encodeURIComponent(code)}/units`)).enterprises;
  if (may("ledger")) form.start();
  await lists.again();
  drawAll();
}

function drawAll() {
  const zh = language() === "zh";
  state.carrierNames = Object.fromEntries(Object.entries(CARRIERS).map(([code, names]) => [code, names[zh ? 0 : 1]]));
  drawBar();
  lists.draw();
  byId("form").hidden = false;
  byId("sheet").hidden = !may("ledger");
  if (!may("ledger")) return show(byId("form"), h("p.muted", {}, t("may_not")));
  form.draw();
  return drawSheet();
}

function drawBar() {
  document.title = t("title");
  byId("title").textContent = t("title");
  byId("back").textContent = t("back");
  byId("language").textContent = t("other_language");
  byId("base-choice").replaceChildren(...state.bases.map((b) => h("option", { value: b.code, selected: b.code === state.base }, nameOf(b))));
  byId("base-choice").hidden = !state.bases.length;
}

function drawSheet(said = null, mistakes = []) {
  const send = (check) => h("button", { type: "button", disabled: !file, onclick: () => bring(check) }, t(check ? "check" : "import"));
  show(byId("sheet"), h("h2", {}, t("sheet")), h("p.muted.small", {}, t("sheet_about")),
    h("label", {}, h("span", {}, file ? file.name : t("choose")), h("input", { type: "file", accept: ".xlsx", onchange: (e) => { [file] = e.target.files; drawSheet(); } })),
    h("div.actions", {}, h("button", { type: "button", onclick: () => download(`/api/v1/ledger/template.xlsx?${new URLSearchParams({ base: state.base })}`, `ledger-${state.base}.xlsx`) }, t("template")),
      send(true), send(false)),
    said && h("p", { role: "status" }, said), mistakes.length > 0 && h("ol.mistakes", { role: "alert" }, mistakes.map((m) => h("li", {}, m))));
}

async function bring(check) {
  const answer = await fetch(`/api/v1/ledger/import?${new URLSearchParams({ base: state.base, check })}`, {
    method: "POST", body: file, headers: headers({ "Content-Type": "application/octet-stream" }), credentials: "omit" }).catch(() => null);
  if (!answer) return toast(t("no_answer"), true);
  if (!answer.ok) return drawSheet(null, (await refusalOf(answer)).message.split("\n").map((m) => m.replace(/^xlsx: /, "")));
  const body = await read(answer);
  drawSheet(t(check ? "checked" : "imported", { n: body.rows }));
  return check ? null : lists.again();
}

function download(address, name) {
  return save(address, name, t("no_answer"));
}

function notice(text) {
  byId("notice").textContent = text ?? "";
  byId("notice").hidden = !text;
}
