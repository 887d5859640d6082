// Manual entries: a form, an xlsx template, the list and its audit. The token is the one of the monitoring page.

import { byId, h, show, toast, watchTitles } from "../dom.js";
import { get, headers, read, refusalOf, whenRefused } from "../api.js";
import { save } from "../files.js";
import { may, readMe } from "../me.js";
import { language, setLanguage } from "../i18n.js";
import { recall, remember, takeTokenFromAddress, token } from "../session.js";
import { setZone } from "../format.js";
import { applyTheme } from "../theme.js";
import { askToken } from "../login.js";
import { tellHidden } from "../hidden.js";
import { makeForm } from "./form.js";
import { makeLists } from "./lists.js";
import { nameOf, t } from "./words.js";

const state = { base: "", bases: [], kinds: [], carriers: {}, carrierWords: {}, carrierNames: {}, actions: {}, enterprises: [], download };
const lists = makeLists(byId("lists"), state, (entry) => form.start(entry));
const form = makeForm(byId("form"), state, () => lists.again());
let file = null;
let sending = false;

takeTokenFromAddress();
setLanguage(language());
applyTheme();
watchTitles();
const signIn = (why) => askToken(start, why);
whenRefused(() => signIn(t("token_bad")));
byId("language").addEventListener("click", () => { setLanguage(language() === "zh" ? "en" : "zh"); drawAll(); });
byId("base-choice").addEventListener("change", (event) => choose(event.target.value).catch(told));
start();

async function start() {
  drawBar();
  if (!token()) return signIn();
  try {
    const [bases, known] = await Promise.all([get("/bases"), get("/ledger/kinds"), readMe()]);
    state.bases = bases.bases ?? bases;
    state.kinds = known.kinds;
    state.carriers = known.carriers;
    state.carrierWords = known.carrier_names;
    state.actions = known.actions;
    notice(null);
    tellHidden(state.bases);
    const asked = state.base || new URLSearchParams(location.search).get("base") || recall("base");
    if (!state.bases.length) return notice(t("no_bases"));
    await choose((state.bases.find((b) => b.code === asked) ?? state.bases[0]).code);
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
  const another = state.base !== code; // what is typed already outlives a new sign-in
  state.base = code;
  remember("base", code);
  const found = state.bases.find((b) => b.code === code);
  setZone(found.timezone);
  state.enterprises = (await get(`/bases/${encodeURIComponent(code)}/units`)).enterprises;
  if (may("ledger") && another) form.start();
  drawAll();
  lists.clear();
}

function drawAll() {
  state.carrierNames = Object.fromEntries(Object.entries(state.carrierWords).map(([code, names]) => [code, nameOf(names)]));
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
  const send = (check) => h("button", { type: "button", "data-key": check ? "check" : "import", disabled: !file || sending, onclick: () => bring(check) }, t(check ? "check" : "import"));
  show(byId("sheet"), h("h2", {}, t("sheet")), h("p.muted.small", {}, t("sheet_about")),
    h("label", {}, h("span", {}, file ? file.name : t("choose")), h("input", { type: "file", accept: ".xlsx", onchange: (e) => { [file] = e.target.files; drawSheet(); } })),
    h("div.actions", {}, h("button", { type: "button", onclick: () => download(`/api/v1/ledger/template.xlsx?${new URLSearchParams({ base: state.base })}`, `ledger-${state.base}.xlsx`) }, t("template")),
      send(true), send(false)),
    h("p", { role: "status" }, sending ? t("sending") : said),
    mistakes.length > 0 && h("p.error", {}, t("wrong", { n: mistakes.length })), mistakes.length > 0 && h("ol.mistakes", { role: "alert" }, mistakes.map((m) => h("li", {}, m))));
}

async function bring(check) {
  sending = true;
  drawSheet();
  const content = await file.arrayBuffer().catch(() => null); // a file that was saved again since cannot be read
  const answer = content && await send(check, content).catch(() => null);
  sending = false;
  if (!content) file = null;
  if (!answer) return drawSheet(t(content ? "no_answer" : "file_changed"));
  if (answer.status === 401) return signIn(t("token_bad"));
  if (!answer.ok) return drawSheet(null, (await refusalOf(answer)).message.split("\n").map((m) => m.replace(/^xlsx(:\d+)?[:：] ?/, "")));
  const body = await read(answer);
  if (!check) file = null; // booked: a second time each would be there already
  drawSheet(t(check ? "checked" : "imported", { n: body.rows }));
  return check ? null : lists.again();
}

const send = (check, body) => fetch(`/api/v1/ledger/import?${new URLSearchParams({ base: state.base, check })}`, {
  method: "POST", body, headers: headers({ "Content-Type": "application/octet-stream" }), credentials: "omit" });

function download(address, name) {
  return save(address, name, t("no_answer"));
}

function notice(text) {
  byId("notice").textContent = text ?? "";
  byId("notice").hidden = !text;
}
