// The form of an entry: what a kind needs, documents with their hash, a correction with its why.

import { h, toast } from "../dom.js";
import { post, Refusal } from "../api.js";
import { upload } from "../files.js";
import { nameOf, t } from "./words.js";

/** `state` has base, kinds, carriers, actions, enterprises; `done()` is called after an entry was booked. */
export function makeForm(element, state, done) {
  let correcting = null;
  let documents = [];
  let entry = {};

  const draw = () => {
    const kind = state.kinds.find((k) => k.code === entry.kind) ?? state.kinds[0];
    if (!kind) return;
    entry.kind = kind.code;
    const field = (name, label, control, must = false) => h("label", {}, h("span", {}, t(label), must && h("span.must", {}, " *")), control);
    const input = (name, options = {}) => h("input", { name, value: entry[name] ?? "", "data-key": name, oninput: (e) => { entry[name] = e.target.value; }, ...options });
    const select = (name, choices, change = () => {}) => {
      if (!choices.some(([code]) => code === (entry[name] ?? ""))) entry[name] = choices[0]?.[0] ?? "";
      return h("select", { name, "data-key": name, onchange: (e) => { entry[name] = e.target.value; change(); } },
        choices.map(([code, text]) => h("option", { value: code, selected: code === entry[name] }, text)));
    };
    const owners = [["", t("whole_base")], ...state.enterprises.map((e) => [e.code, nameOf(e)])];
    const units = kind.item === "carrier" && !kind.units.length ? state.carriers[entry.item] ?? Object.values(state.carriers)[0] : kind.units;
    const error = h("p.error", { role: "alert", hidden: true });
    const send = h("button.primary", { type: "submit" }, t("send"));
    const item = kind.item === "carrier"
      ? field("item", "carrier", select("item", Object.keys(state.carriers).map((c) => [c, state.carrierNames[c] ?? c]), draw), true)
      : field("item", "item", input("item", { maxlength: 200, required: kind.item === "required" }), kind.item === "required");
    element.replaceChildren(h("form", { onsubmit: (event) => { event.preventDefault(); book(error, send); } },
      h("h2", {}, t(correcting ? "correct_title" : "book")),
      correcting && h("p.correcting", {}, t("correcting", { id: correcting.id })),
      field("kind", "kind", h("select", { name: "kind", disabled: Boolean(correcting), onchange: (e) => { entry.kind = e.target.value; draw(); } },
        state.kinds.map((k) => h("option", { value: k.code, selected: k === kind }, nameOf(k))))),
      h("div.two", {}, field("enterprise", "enterprise", select("enterprise", owners)),
        (kind.counterparty || kind.actions.includes("moved")) && field("counterparty", "counterparty", select("counterparty", [["", t("none")], ...owners.slice(1)]), kind.counterparty)),
      h("div.two", {}, item, kind.actions.length > 1 || kind.actions[0] ? field("action", "action",
        select("action", kind.actions.map((a) => [a, a ? nameOf(state.actions[a]) : t("none")]))) : null),
      h("div.two", {}, field("first_day", "first_day", input("first_day", { type: "date", required: true }), true),
        field("last_day", "last_day", input("last_day", { type: "date", required: true }), true)),
      h("div.two", {}, field("value", "value", input("value", { type: "number", step: "any", required: true }), true),
        field("unit", "unit", units?.length ? select("unit", units.map((u) => [u, u])) : input("unit", { required: true, maxlength: 40 }), true)),
      h("div.two", {}, field("status", "status", select("status", [["preliminary", t("preliminary")], ["final", t("final")]])),
        field("evidence", "evidence", input("evidence", { maxlength: 500 }))),
      field("documents", "documents", h("input", { type: "file", multiple: true, accept: ".pdf,.png,.jpg,.jpeg,.xlsx,.docx,.csv", onchange: (e) => keep([...e.target.files], error) })),
      documents.length > 0 && h("ul.documents", {}, documents.map((d) => h("li", {}, h("span.name", {}, d.name), h("code", { title: d.sha256 }, `SHA-256 ${d.sha256.slice(0, 12)}…`)))),
      field("note", "note", h("textarea", { name: "note", maxlength: 500, oninput: (e) => { entry.note = e.target.value; } }, entry.note ?? "")),
      correcting && field("reason", "reason", input("reason", { required: true, maxlength: 500 }), true),
      error, h("div.actions", {}, send, correcting && h("button", { type: "button", onclick: () => start() }, t("cancel")))));
  };

  async function keep(files, error) {
    error.hidden = true;
    for (const file of files) {
      try {
        const document = await upload(state.base, file);
        if (!documents.some((d) => d.id === document.id)) documents.push(document);
      } catch (refusal) {
        error.textContent = `${file.name}: ${refusal instanceof Refusal ? refusal.message : t("no_answer")}`;
        error.hidden = false;
        return;
      }
    }
    draw();
  }

  async function book(error, send) {
    send.disabled = true;
    error.hidden = true;
    const kind = state.kinds.find((k) => k.code === entry.kind);
    const asks = kind.counterparty || kind.actions.includes("moved");
    try {
      const booked = await post("/ledger", {
        base: state.base, kind: entry.kind, enterprise: entry.enterprise || null, counterparty: (asks && entry.counterparty) || null,
        item: entry.item ?? "", action: kind.actions.includes(entry.action) ? entry.action : "", first_day: entry.first_day, last_day: entry.last_day,
        value: Number(entry.value), unit: entry.unit, status: entry.status, evidence: entry.evidence ?? "", note: entry.note ?? "",
        documents: documents.map((d) => d.id), supersedes: correcting?.id ?? null, reason: entry.reason ?? "" });
      toast(t("booked", { id: booked.id }));
      start();
      done();
    } catch (refusal) {
      error.textContent = refusal.status ? refusal.message : t("no_answer");
      error.hidden = false;
    } finally {
      send.disabled = false;
    }
  }

  /** Begin anew, or with an entry that is to be corrected. */
  function start(former = null) {
    correcting = former;
    documents = [];
    entry = former ? { ...former, enterprise: former.enterprise ?? "", counterparty: former.counterparty ?? "", reason: "" }
      : { kind: entry.kind, enterprise: entry.enterprise, first_day: entry.first_day, last_day: entry.last_day };
    draw();
    if (former) element.scrollIntoView({ block: "start" });
  }

  return { draw, start };
}
