// Cases of pollution alerts: dispatch, accept, handle, evidence, verify, close; each step with who, when, a note and a file's hash.

import { h, toast } from "../dom.js";
import { language, t, w } from "../i18n.js";
import { get, post } from "../api.js";
import { dateTime, dateTimeSeconds, isoDay } from "../format.js";
import { severityShape } from "../shapes.js";
import { may } from "../me.js";
import { sha256 } from "../sha256.js";
import { ask } from "../steps.js";
import { isKept, save, upload } from "../files.js";
import { area, empty, field, hoursFromNow, instantOf, openForm, timeField, valuesOf } from "./forms.js";

const NEXT = {
  dispatched: ["accept", "dispatch"], accepted: ["handle", "dispatch"], handling: ["handle", "evidence"], evidenced: ["evidence", "verify", "refuse"],
  verified: ["close"], closed: [],
};
const RIGHT = { accept: "handle", handle: "handle", evidence: "handle", comment: "handle", dispatch: "dispatch", verify: "verify", refuse: "verify", close: "verify" };
const STAGES = ["dispatched", "accepted", "handling", "evidenced", "verified", "closed"];
let state = "open";
const open = new Set();

export async function cases({ base, again }) {
  const answer = await get("/cases", { base: base.code, state });
  const rows = await Promise.all(answer.cases.map(async (c) => row(c, base, again, open.has(c.id) ? await get(`/cases/${c.id}`, { base: base.code }) : null)));
  return [
    h("div.desk-tools", {}, h("span.segmented", {}, ["open", "closed", "all"].map((s) => h("button", {
      "aria-pressed": String(s === state), onclick: () => { state = s; again(); } }, w("cases", s)))),
    h("button.quiet", { onclick: () => download(base) }, t("cases_csv"))),
    rows.length ? h("div.cases", {}, rows) : empty("cases_none"),
  ];
}

function row(c, base, again, full) {
  const toggle = () => { open[open.has(c.id) ? "delete" : "add"](c.id); again(); };
  return h(c.overdue && c.state !== "closed" ? "article.case.overdue" : "article.case", { "data-case": c.id },
    h("header", {}, severityShape(c.severity, !c.active), h("strong", {}, language() === "zh" ? c.name_zh : c.name_en),
      h("span.muted", {}, `#${c.id} · ${c.place ?? ""}`), h("button.quiet", { "aria-expanded": String(open.has(c.id)), onclick: toggle }, t(open.has(c.id) ? "collapse" : "expand"))),
    h("ol.stages", { "aria-label": w("case", c.state) }, STAGES.map((s, i) => h(i <= STAGES.indexOf(c.state) ? "li.done" : "li", { "aria-current": s === c.state ? "step" : null }, w("case", s)))),
    h("p.muted", {}, [t("case_handler", { name: c.handler }), c.due_at && t(c.overdue && c.state !== "closed" ? "case_overdue" : "case_due", { at: dateTime(c.due_at) }),
      t("case_opened", { at: dateTime(c.opened_at), name: c.opened_by })].filter(Boolean).join(" · ")),
    full && [h("p", {}, c.text), h("ol.history", {}, full.steps.map((s) => h("li", {}, h("time", { datetime: s.at }, dateTimeSeconds(s.at)),
      h("strong", {}, w("case_step", s.step)), h("span", {}, [s.actor, s.note].filter(Boolean).join(" · "),
        s.attachment && attachment(s, base)))))],
    h("div.actions", {}, [...NEXT[c.state], c.state !== "closed" && "comment"].filter((s) => s && may(RIGHT[s])).map((s, i) => h(i ? "button" : "button.primary",
      { "data-case-step": s, onclick: () => step(c, s, base, again) }, w("case_do", s)))));
}

/** The file of a step: to be saved where the platform has it, else its name; always with its hash. */
function attachment(s, base) {
  const about = ` · SHA-256 ${s.attachment_hash.slice(0, 12)}…`;
  const name = s.document === null ? s.attachment : h("button.quiet", { type: "button", "data-document": s.document,
    onclick: () => save(`/api/v1/evidence/${s.document}?${new URLSearchParams({ base: base.code })}`, s.attachment, t("failed", { detail: "" })) }, s.attachment);
  return h("span.attachment", { title: s.attachment_hash }, name, about);
}

/** Name and hash of the evidence; the platform keeps the file where it is of a kind that it takes, from those who may book. */
async function evidence(file, base) {
  const kept = isKept(file) && may("ledger") ? await upload(base.code, file) : null;
  return { attachment: file.name, sha256: kept?.sha256 ?? await sha256(file) };
}

function step(c, name, base, again) {
  const needsNote = ["handle", "verify", "refuse", "comment"].includes(name);
  const file = h("input", { type: "file", name: "file", required: true });
  ask({
    title: w("case_do", name), about: `#${c.id} ${language() === "zh" ? c.name_zh : c.name_en}`,
    fields: [name === "dispatch" && [field("handler", "handler", { required: true, value: c.handler }), timeField("due_at", "due")],
      name === "evidence" && h("label", {}, t("evidence_file"), file, h("small.muted", {}, t("evidence_about"))),
      area("note", needsNote ? "note_needed" : "note", { required: needsNote })],
    send: async () => {
      const said = valuesOf(openForm());
      const body = { note: said.note };
      if (name === "dispatch") Object.assign(body, { handler: said.handler, due_at: instantOf(said.due_at) });
      if (name === "evidence") Object.assign(body, await evidence(file.files[0], base));
      await post(`/cases/${c.id}/${name}`, body, { base: base.code });
      open.add(c.id);
      toast(t("stepped"));
      again();
    },
  });
}

/** Open a case of an alert; `done` is called with its id. */
export function dispatch(alert, done) {
  ask({
    title: t("dispatch_title"), about: alert.text,
    fields: [field("handler", "handler", { required: true, autofocus: true }), timeField("due_at", "due", { value: hoursFromNow(24) }), area("note", "note")],
    send: async () => {
      const said = valuesOf(openForm());
      const told = await post("/cases", { alert: alert.id, handler: said.handler, due_at: instantOf(said.due_at), note: said.note }, { base: alert.base });
      open.add(told.id);
      toast(t("stepped"));
      done(told.id);
    },
  });
}

const download = (base) => save(`/api/v1/cases?${new URLSearchParams({ base: base.code, state: "all" })}`,
  `cases-${base.code}-${isoDay(new Date())}.csv`, t("failed", { detail: "" }), "text/csv");
