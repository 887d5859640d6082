// The note of a shift: what is open, put aside or given to somebody, what was done, which devices are silent; as text or on paper.

import { h, toast } from "../dom.js";
import { language, nameOf, t, w } from "../i18n.js";
import { get } from "../api.js";
import { dateTime, number, zoneText } from "../format.js";
import { SEVERITIES } from "../shapes.js";
import { myName } from "../me.js";
import { recall, remember } from "../session.js";
import * as book from "../alertbook.js";

const HOURS = [8, 12, 24];
let hours = 12;

export async function handover({ base, again }) {
  const since = new Date(Date.now() - hours * 3600e3);
  const about = { base: base.code };
  const [duty, steps, service, cases, health] = await Promise.all([get("/duty", about), get("/alerts/steps", { ...about, since: since.toISOString() }),
    get("/out-of-service", { ...about, every: false }), get("/cases", { ...about, state: "open" }), get("/overview/health", about)]);
  const parts = sections({ duty, steps, service, cases, health, base });
  const title = `${t("handover")} · ${nameOf(base)}`;
  const head = [title, `${dateTime(since)} – ${dateTime(new Date())} ${zoneText()} · ${t("handover_by", { name: myName() })}`];
  const note = h("textarea", { "data-key": "handover-note", maxlength: 4000, rows: 3, "aria-label": t("handover_note"), placeholder: t("handover_note"), oninput: (e) => remember(`note.${base.code}`, e.target.value) });
  note.value = recall(`note.${base.code}`) ?? "";
  const text = () => [...head, note.value, ...parts.flatMap(([name, lines]) => ["", `【${name}】`, ...(lines.length ? lines : [t("handover_none")])])].join("\n");
  return [
    h("div.desk-tools", {}, h("span.segmented", { role: "group", "aria-label": t("handover_hours") }, HOURS.map((n) => h("button", { "aria-pressed": String(n === hours), onclick: () => { hours = n; again(); } }, t("handover_last", { n })))),
      h("button", { "data-do": "copy", onclick: () => copy(text()) }, t("copy_text")), h("button.primary", { "data-do": "print", onclick: () => print() }, t("print"))),
    h("p.muted", {}, head[1]), h("p.small.muted", {}, t("handover_about")), note,
    parts.map(([name, lines]) => h("section.handover", {}, h("h3", {}, `${name} (${number(lines.length, 0)})`), lines.length ? h("ul", {}, lines.map((line) => h("li", {}, line))) : h("p.muted", {}, t("handover_none")))),
  ];
}

/** [title, lines] of each part; the same lines stand on the page, on paper and in the text. */
function sections({ duty, steps, service, cases, health, base }) {
  const zh = language() === "zh";
  const open = book.openAlerts().filter((a) => a.base === base.code).sort(book.byUrgency);
  const alert = (a) => [`[${w("severity", a.severity)}] ${book.titleOf(a)}`, book.placeOf(a), book.againstText(a), dateTime(a.opened_at), book.stateOf(a) === "shelved" ? book.shelfText(a) : book.stateText(a),
    a.assigned_to && t("assigned", { name: a.assigned_to })].filter(Boolean).join(" · ");
  const bySeverity = SEVERITIES.map((s) => `${w("severity", s)} ${number(open.filter((a) => a.severity === s).length, 0)}`).join(" / ");
  const step = (x) => [dateTime(x.at), x.actor, w("change", x.change), x.change === "assign" && x.detail?.to, (zh ? x.rule_zh : x.rule_en), (zh ? x.unit_zh : x.unit_en) || x.point || x.device, x.note].filter(Boolean).join(" · ");
  const out = (o) => [(zh ? o.rule_zh : o.rule_en) || o.rule, o.point, (zh ? o.unit_zh : o.unit_en) || o.unit_code, o.device, `${t("until")} ${dateTime(o.until)}`, o.actor, o.reason].filter(Boolean).join(" · ");
  const silent = health.devices.filter((d) => d.n_fresh < d.n_points || !["online", "unknown"].includes(d.state));
  return [
    [t("handover_duty"), duty.duty.filter((d) => d.now).map((d) => [d.person, d.phone, `${t("until")} ${dateTime(d.ends_at)}`].filter(Boolean).join(" · "))],
    [`${t("handover_unack")} · ${bySeverity}`, open.filter(book.isUnacknowledged).map(alert)],
    [t("handover_acked"), open.filter((a) => !book.isUnacknowledged(a) && !book.isAside(a)).map(alert)],
    [t("handover_aside"), [...open.filter((a) => book.stateOf(a) === "shelved").map(alert), ...service.out_of_service.map(out)]],
    [t("desk.cases"), cases.cases.map((c) => [`#${c.id} ${zh ? c.name_zh : c.name_en}`, c.place, w("case", c.state), t("case_handler", { name: c.handler }), c.due_at && t(c.overdue ? "case_overdue" : "case_due", { at: dateTime(c.due_at) })].filter(Boolean).join(" · "))],
    [t("handover_steps"), steps.steps.map(step)],
    [t("handover_silent"), silent.map((d) => `${d.code} · ${w("device", d.state)} · ${t("fresh_points")} ${d.n_fresh}/${d.n_points}${d.last_answer ? ` · ${t("last_answer")} ${dateTime(d.last_answer)}` : ""}`)],
  ];
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("copied"));
  } catch {
    toast(t("not_copied"), true);
  }
}
