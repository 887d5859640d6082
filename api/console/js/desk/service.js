// What is out of service (ISA-18.2): what, until when, who, why. Its alerts are kept underneath and told to nobody.

import { h, toast } from "../dom.js";
import { language, t } from "../i18n.js";
import { get, post } from "../api.js";
import { dateTime } from "../format.js";
import { may } from "../me.js";
import { ask } from "../steps.js";
import { area, empty, field, hoursFromNow, instantOf, openForm, table, timeField, valuesOf } from "./forms.js";

let every = false;

export async function service({ base, again }) {
  const answer = await get("/out-of-service", { base: base.code, every });
  const name = (row, what) => (language() === "zh" ? row[`${what}_zh`] : row[`${what}_en`]);
  const about = (o) => [o.rule && (name(o, "rule") || o.rule), o.point, o.unit_code && (name(o, "unit") || o.unit_code), o.device].filter(Boolean).join(" · ");
  return [
    h("div.desk-tools", {}, h("p.muted", {}, t("held_back", { n: answer.alerts })),
      h("span.segmented", {}, [false, true].map((all) => h("button", { "aria-pressed": String(every === all), onclick: () => { every = all; again(); } }, t(all ? "service_all" : "service_now")))),
      may("out_of_service") && h("button.primary", { "data-do": "take-out", onclick: () => takeOut({}, base, again) }, t("take_out"))),
    answer.out_of_service.length ? table(["what", "until", "reason", "who", ""], answer.out_of_service.map((o) => h("tr", {},
      h("th", { scope: "row" }, about(o)),
      h("td.nowrap", {}, o.ended_at ? t("ended", { at: dateTime(o.ended_at), name: o.ended_by }) : dateTime(o.until)),
      h("td", {}, o.reason), h("td", {}, `${o.actor} · ${dateTime(o.since)}`),
      h("td", {}, o.in_force && may("out_of_service") && h("button.quiet", { onclick: () => putBack(o, base, again) }, t("put_back")))))) : empty("service_none"),
  ];
}

/** Take a thing out of service; `what` may name rule, point, unit or device already. */
export function takeOut(what, base, done) {
  ask({
    title: t("take_out"), about: t("take_out_about"),
    fields: [h("div.two", {}, field("rule", "rule", { value: what.rule ?? "" }), field("point", "point", { value: what.point ?? "" })),
      h("div.two", {}, field("unit", "unit_code", { value: what.unit ?? "" }), field("device", "device", { value: what.device ?? "" })),
      timeField("until", "until", { required: true, value: hoursFromNow(24) }), area("reason", "shelve_reason", { required: true })],
    send: async () => {
      const said = valuesOf(openForm());
      const codes = Object.fromEntries(["rule", "point", "unit", "device"].map((k) => [k, said[k] || null]));
      await post("/out-of-service", { ...codes, until: instantOf(said.until), reason: said.reason }, { base: base.code });
      toast(t("stepped"));
      done();
    },
  });
}

async function putBack(o, base, again) {
  try {
    await post(`/out-of-service/${o.id}/end`, undefined, { base: base.code });
  } catch (refusal) {
    toast(refusal.status ? refusal.message : t("no_answer"), true);
  }
  again();
}
