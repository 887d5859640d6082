// The entries and their audit: who booked, corrected and settled what, when and why.

import { h, show, toast } from "../dom.js";
import { ask } from "../steps.js";
import { may } from "../me.js";
import { get, post } from "../api.js";
import { dateTime } from "../format.js";
import { upload } from "../files.js";
import { nameOf, t } from "./words.js";

/** A booked amount as it was typed: grouped, no places that were not given. */
const plain = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 6 });

/** `state` as in form.js; `correct(entry)` opens the form. */
export function makeLists(element, state, correct) {
  let tab = "entries";
  let kind = "";
  let rows = [];
  let next = null;
  let trouble = null; // why the rows were not read: then nothing says that there are none
  let asked = 0;
  let reading = true;

  async function again(more = false) {
    const mine = ++asked;
    const about = { base: state.base, limit: 50, cursor: more ? next : undefined };
    try {
      const answer = tab === "entries" ? await get("/ledger", { ...about, kind: kind || undefined }) : await get("/ledger/audit", about);
      if (mine !== asked) return;
      trouble = null;
      const fresh = answer.entries ?? answer.steps;
      rows = more ? [...rows, ...fresh] : fresh;
      next = answer.next;
      reading = false;
    } catch (refusal) {
      if (mine !== asked) return;
      trouble = t("failed", { detail: refusal.status ? refusal.message : t("no_answer") });
      if (rows.length) toast(trouble, true);
      if (!refusal.status || refusal.status >= 500) setTimeout(() => mine === asked && again(more), 5000);
    }
    draw();
  }

  /** Another list: what stood there is not it. */
  function clear() {
    rows = [];
    next = null;
    trouble = null;
    reading = true;
    draw();
    again();
  }

  function draw() {
    const tabs = h("span.segmented", {}, ["entries", "audit"].map((name) => h("button", {
      "aria-pressed": String(name === tab), "data-key": name, onclick: () => { tab = name; clear(); } }, t(name))));
    const filter = tab === "entries" && h("select", { "aria-label": t("kind"), onchange: (e) => { kind = e.target.value; clear(); } },
      h("option", { value: "" }, t("all_kinds")), state.kinds.map((k) => h("option", { value: k.code, selected: k.code === kind }, nameOf(k))));
    show(element, h("div.head", {}, h("h2", {}, t(tab)), tabs, h("span.spring"), filter),
      rows.length ? h("div.scroller", {}, tab === "entries" ? entries() : steps()) : h(trouble ? "p.empty.error" : "p.empty", {}, trouble ?? t(reading ? "loading" : "empty")),
      next && h("div.head", {}, h("button", { onclick: () => again(true) }, t("more"))));
  }

  const kindName = (code) => nameOf(state.kinds.find((k) => k.code === code)) || code;
  const owner = (code) => (code ? nameOf(state.enterprises.find((e) => e.code === code)) || code : t("whole_base"));
  const subject = (r) => [kindName(r.kind), h("span.sub", {}, [owner(r.enterprise), r.counterparty && `${r.action === "received" ? "←" : "→"} ${owner(r.counterparty)}`, state.carrierNames[r.item] ?? r.item,
    r.action && (nameOf(state.actions[r.action]) || r.action)].filter(Boolean).join(" · "))];
  const status = (r) => h(`span.status.${r.status}`, {}, t(r.status));
  const head = (...names) => h("thead", {}, h("tr", {}, names.map((n) => h(n === "value" ? "th.number" : "th", {}, n ? t(n) : ""))));

  function entries() {
    return h("table", {}, head("kind", "period", "value", "status", "evidence", "by", ""), h("tbody", {}, rows.map((r) => h("tr", { "data-entry": r.id },
      h("td", {}, subject(r)), h("td.nowrap", {}, r.first_day, h("span.sub", {}, r.last_day)),
      h("td.number", {}, plain(r.value), h("span.unit", {}, r.unit)), h("td", {}, status(r)),
      h("td", {}, r.evidence, r.documents.map((d) => h("span.sub", {}, h("a", { href: "#", onclick: (e) => { e.preventDefault(); save(d); } }, d.name), " ", h("code", { title: d.sha256 }, d.sha256.slice(0, 8))))),
      h("td", {}, r.recorded_by, h("span.sub", {}, `${dateTime(r.recorded_at)} · ${r.id}`)),
      h("td.nowrap", {}, may("ledger") && [h("button", { onclick: () => correct(r) }, t("correct")), " ", r.status === "preliminary" && h("button", { onclick: () => settle(r) }, t("finalise"))])))));
  }

  function steps() {
    return h("table", {}, head("who", "step", "what", "changes", "why"), h("tbody", {}, rows.map((r) => h("tr", {},
      h("td", {}, r.by, h("span.sub", {}, dateTime(r.at))),
      h("td.nowrap", {}, t(`step.${r.step}`), h("span.sub", {}, r.supersedes ? `${r.supersedes} → ${r.id}` : r.id)),
      h("td", {}, subject(r)),
      h("td", {}, r.step === "booked" ? `${plain(r.value)} ${r.unit}` : Object.entries(r.changes).map(([field, [was, is]]) => h("div", {}, `${t(field)} `, h("span.old", {}, word(was)), " → ", word(is))), r.documents > 0 && h("span.sub", {}, `${t("more_documents")} ${r.documents}`)),
      h("td", {}, r.reason)))));
  }

  const word = (value) => (typeof value === "number" ? plain(value) : ["preliminary", "final"].includes(value) ? t(value) : value ?? t("none"));

  function settle(r) {
    const why = h("input", { name: "reason", required: true, maxlength: 500, value: t("finalise_why") });
    const body = Object.fromEntries(["kind", "enterprise", "counterparty", "item", "action", "first_day", "last_day", "value", "unit", "evidence", "note"].map((f) => [f, r[f]]));
    const files = h("input", { type: "file", multiple: true, accept: ".pdf,.png,.jpg,.jpeg,.xlsx,.docx,.csv" });
    ask({ title: t("finalise"), about: `${kindName(r.kind)} · ${r.first_day} – ${r.last_day} · ${plain(r.value)} ${r.unit}. ${t("finalise_about")}`,
      fields: [h("label", {}, t("documents"), files), h("label", {}, t("why"), why)],
      send: async () => {
        const documents = [];
        for (const file of files.files) documents.push((await upload(state.base, file)).id);
        await post("/ledger", { ...body, base: state.base, status: "final", supersedes: r.id, reason: why.value.trim(), documents });
        again();
      } });
  }

  const save = (d) => state.download(`/api/v1/evidence/${d.id}?${new URLSearchParams({ base: state.base })}`, d.name);

  return { again, clear, draw };
}
