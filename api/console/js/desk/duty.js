// Who is on duty, and who hears of what nobody has acknowledged.

import { h, toast } from "../dom.js";
import { t, w } from "../i18n.js";
import { get, post, remove } from "../api.js";
import { dateTime, duration } from "../format.js";
import { may } from "../me.js";
import { ask } from "../steps.js";
import { empty, field, hoursFromNow, instantOf, openForm, severityBoxes, table, timeField, valuesOf } from "./forms.js";

export async function duty({ base, again }) {
  const answer = await get("/duty", { base: base.code });
  const now = answer.duty.filter((d) => d.now);
  return [
    h("div.desk-tools", {}, now.length ? h("p", {}, t("on_duty_now"), " ", now.map((d, i) => [i > 0 && "、", h("strong", {}, d.person),
      d.after_s > 0 && h("span.muted", {}, ` ${t("after", { time: duration(d.after_s) })}`)]))
      : h("p.text-high", {}, t("nobody_on_duty")),
    may("duty") && h("button.primary", { "data-do": "add-duty", onclick: () => add(base, again) }, t("add_duty"))),
    answer.duty.length ? table(["person", "time_span", "told_when", "severities", ""], answer.duty.map((d) => h(d.now ? "tr.now" : "tr", {},
      h("th", { scope: "row" }, d.person, d.phone && h("small.muted", {}, ` ${d.phone}`), d.reachable === false && h("span.chip-state.missing", { title: t("no_route_about") }, t("no_route"))),
      h("td.nowrap", {}, `${dateTime(d.starts_at)} – ${dateTime(d.ends_at)}`),
      h("td.nowrap", {}, d.after_s ? t("after", { time: duration(d.after_s) }) : t("at_once")),
      h("td", {}, d.severities.map((s) => w("severity", s)).join(" ")),
      h("td", {}, may("duty") && h("button.quiet", { onclick: () => drop(d, base, again) }, t("remove")))))) : empty("duty_none"),
    h("p.muted.small", {}, t("duty_about")),
  ];
}

function add(base, again) {
  ask({
    title: t("add_duty"),
    fields: [field("person", "person", { required: true, autofocus: true }), field("phone", "phone", { maxlength: 40 }),
      timeField("start", "starts", { required: true, value: hoursFromNow(0) }), timeField("end", "ends", { required: true, value: hoursFromNow(8) }),
      field("after", "after_minutes", { type: "number", min: 0, max: 10080, value: 0 }), severityBoxes(["critical", "high"]),
      h("div.two", {}, field("every_days", "every_days", { type: "number", min: 1, max: 366, value: 7 }), field("times", "times", { type: "number", min: 1, max: 366, value: 1 }))],
    send: async () => {
      const said = valuesOf(openForm());
      await post("/duty", { person: said.person, phone: said.phone, start: instantOf(said.start), end: instantOf(said.end),
        after_s: 60 * Number(said.after), severities: said.severities, every_days: Number(said.every_days), times: Number(said.times) }, { base: base.code });
      toast(t("stepped"));
      again();
    },
  });
}

function drop(d, base, again) {
  ask({ title: t("remove_duty"), about: `${d.person} · ${dateTime(d.starts_at)} – ${dateTime(d.ends_at)}`, fields: null, send: async () => {
    await remove(`/duty/${d.id}`, { base: base.code });
    again();
  } });
}
