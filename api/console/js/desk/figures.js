// How the alert system does, after EEMUA 191 and ISA-18.2: rate, floods, time to acknowledge, chatter, stale, the ten busiest.

import { h, s } from "../dom.js";
import { nameOf, t, w } from "../i18n.js";
import { get } from "../api.js";
import { dateTime, duration, number, percentOf } from "../format.js";
import { SEVERITIES } from "../shapes.js";
import { table } from "./forms.js";

let days = 7;

export async function figures({ base, again }) {
  const k = await get("/alerts/kpi", { base: base.code, days });
  const sum = (field) => k.days.reduce((n, d) => n + d[field], 0);
  const tile = (word, value, below, bad) => h(bad ? "div.kpi.bad" : "div.kpi", {}, h("span.muted", {}, t(word)), h("strong", {}, value), h("small.muted", {}, below ?? ""));
  return [
    h("div.desk-tools", {}, h("span.segmented", {}, [1, 7, 30].map((d) => h("button", { "aria-pressed": String(d === days), onclick: () => { days = d; again(); } }, w("kpi_days", d))))),
    h("div.kpis", {},
      tile("kpi_rate", k.rate.per_10min === null ? "–" : number(k.rate.per_10min, 2), k.rate.grade && w("grade", k.rate.grade), ["over_demanding", "unacceptable"].includes(k.rate.grade)),
      tile("kpi_peak", number(k.rate.peak_10min, 0), k.rate.peak_at && dateTime(k.rate.peak_at), k.rate.peak_10min > 10),
      tile("kpi_flood", percentOf(k.rate.flood_share, 2), t("kpi_floods", { n: k.floods }), k.rate.flood_share > 0.01),
      tile("kpi_ack", k.acknowledging.median_s === null ? "–" : duration(k.acknowledging.median_s), k.acknowledging.slow_s === null ? "" : t("kpi_slow", { time: duration(k.acknowledging.slow_s) })),
      tile("kpi_chatter", number(sum("chattering"), 0), t("kpi_fleeting", { n: k.acknowledging.fleeting })),
      tile("kpi_stale", number(k.open.reduce((n, o) => n + o.stale_24h, 0), 0), t("kpi_stale_about")),
      tile("kpi_raised", number(k.raised, 0), t("kpi_a_day", { n: number(k.raised_a_day, 1) })),
      tile("kpi_mix", SEVERITIES.map((x) => number(k.severities[x] ?? 0, 0)).join(" / "), SEVERITIES.map((x) => w("severity", x)).join(" / "))),
    bars(k.days),
    h("h3", {}, `${t("kpi_top")} · ${percentOf(k.top_share, 0)}`),
    table(["rule", "point", "raised"], k.top.map((row) => h("tr", {}, h("th", { scope: "row" }, nameOf(row) || row.rule),
      h("td", {}, row.point ?? row.unit_code ?? row.device ?? base.code), h("td.number", {}, number(row.raised, 0))))),
    h("p.muted.small", {}, t("kpi_about")),
  ];
}

function bars(rows) {
  const most = Math.max(1, ...rows.map((d) => d.raised));
  const width = 600 / Math.max(7, rows.length);
  return h("div.chart-holder", {}, s("svg.chart", { viewBox: "0 0 600 110", role: "img", "aria-label": t("kpi_by_day") },
    rows.map((d, i) => [s(d.floods ? "rect.bar-flood" : "rect.bar-day", { x: i * width + 1, width: Math.max(1, width - 2), y: 90 - (80 * d.raised) / most, height: (80 * d.raised) / most },
      s("title", {}, `${d.day}: ${d.raised}`)), (rows.length <= 10 || i % 5 === 0) && s("text", { x: (i + 0.5) * width, y: 104, "text-anchor": "middle" }, d.day.slice(5))])));
}
