// Routes of notifications: who is told by e-mail or group robot, of what, when; a test message shows whether it arrives.

import { h, toast } from "../dom.js";
import { t, w } from "../i18n.js";
import { get, post, put, remove } from "../api.js";
import { dateTime, duration, number } from "../format.js";
import { myName } from "../me.js";
import { ask } from "../steps.js";
import { check, choice, empty, field, openForm, severityBoxes, timeField, valuesOf } from "./forms.js";

const KINDS = ["dingtalk", "wecom", "feishu", "email"];
const NEW = { name: "", kind: "dingtalk", person: "", on_duty: false, language: "zh", severities: ["critical", "high"], quiet_from: "", quiet_to: "", digest_s: 0, after_s: 0, enabled: true };

export async function routes({ base, again }) {
  const answer = await get("/routes", { base: base.code });
  return [
    h("div.desk-tools", {}, h("p.muted", {}, t("routes_about")), h("button.primary", { "data-do": "add-route", onclick: () => edit(NEW, base, again) }, t("add_route"))),
    answer.routes.length ? h("div.cases", {}, answer.routes.map((r) => card(r, base, again))) : empty("routes_none"),
  ];
}

function card(r, base, again) {
  const words = [w("route_kind", r.kind), r.person && t("of_person", { name: r.person }), r.on_duty && t("only_on_duty"), w("lang", r.language),
    r.severities.map((s) => w("severity", s)).join(" "), r.quiet_from && t("quiet", { from: r.quiet_from, to: r.quiet_to }),
    r.digest_s > 0 && t("digest", { time: duration(r.digest_s) }), r.after_s > 0 && t("after", { time: duration(r.after_s) })];
  return h(r.enabled ? "article.case" : "article.case.disabled", { "data-route": r.id },
    h("header", {}, h("strong", {}, r.name), !r.enabled && h("span.chip-state.stopped", {}, t("disabled"))),
    h("p.muted", {}, words.filter(Boolean).join(" · ")),
    h("p", {}, t("route_counts", { sent: number(r.sent, 0), due: number(r.due, 0), dead: number(r.dead, 0) }),
      r.dead > 0 && h("span.text-high", {}, ` ${r.last_error ?? ""}`)),
    testResult(r),
    h("div.actions", {}, h("button", { "data-do": "test", onclick: () => test(r, base, again) }, t("send_test")),
      h("button.quiet", { onclick: () => edit(r, base, again) }, t("change")),
      h("button.quiet", { onclick: () => drop(r, base, again) }, t("remove"))));
}

function testResult(r) {
  if (!r.test_asked_at) return null;
  if (!r.tested_at || r.tested_at < r.test_asked_at) return h("p.muted", { role: "status" }, t("test_waiting"));
  return r.test_error ? h("p.text-critical", { role: "status" }, t("test_failed", { at: dateTime(r.tested_at), detail: r.test_error }))
    : h("p", { role: "status" }, t("test_sent", { at: dateTime(r.tested_at) }));
}

async function test(r, base, again) {
  try {
    await post(`/routes/${r.id}/test`, undefined, { base: base.code });
  } catch (refusal) {
    toast(refusal.status ? refusal.message : t("no_answer"), true);
    return;
  }
  again();
  for (const wait of [1500, 2500, 4000, 6000]) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    again();
  }
}

function edit(r, base, again) {
  const known = r.id !== undefined;
  ask({
    title: t(known ? "change_route" : "add_route"), about: t("target_about"),
    fields: [h("div.two", {}, field("name", "route_name", { required: true, maxlength: 64, value: r.name, autofocus: true }), choice("kind", "route_kind_label", "route_kind", KINDS, r.kind)),
      field("target", known ? "target_known" : "target", { required: !known, maxlength: 1000, autocomplete: "off" }),
      field("secret", "secret", { type: "password", maxlength: 500, autocomplete: "new-password" }),
      h("div.two", {}, field("person", "person_of_route", { value: r.person || (known ? "" : myName()) }), choice("language", "route_language", "lang", ["zh", "en"], r.language)),
      check("on_duty", "only_on_duty", r.on_duty), severityBoxes(r.severities),
      h("div.two", {}, timeField("quiet_from", "quiet_from", { type: "time", value: r.quiet_from ?? "" }), timeField("quiet_to", "quiet_to", { type: "time", value: r.quiet_to ?? "" })),
      h("div.two", {}, field("digest", "digest_minutes", { type: "number", min: 0, max: 1440, value: r.digest_s / 60 }), field("after", "after_minutes", { type: "number", min: 0, max: 10080, value: r.after_s / 60 })),
      check("enabled", "in_use", r.enabled)],
    send: async () => {
      const { digest, after, ...said } = valuesOf(openForm());
      const body = { ...said, digest_s: 60 * Number(digest), after_s: 60 * Number(after), quiet_from: said.quiet_from || null, quiet_to: said.quiet_to || null, target: said.target || null };
      await (known ? put(`/routes/${r.id}`, body, { base: base.code }) : post("/routes", body, { base: base.code }));
      toast(t("stepped"));
      again();
    },
  });
}

function drop(r, base, again) {
  ask({ title: t("remove_route"), about: r.name, fields: null, send: async () => {
    await remove(`/routes/${r.id}`, { base: base.code });
    again();
  } });
}
