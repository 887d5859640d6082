// Pollutants against limits: the present value in the statistic of its limit, how much of the limit it uses, 24 hours.

import { ofScope } from "../me.js";
import { h, show } from "../dom.js";
import { t, w, nameOf } from "../i18n.js";
import { amount, hourMinute, number, percentOf, unitText } from "../format.js";
import { spark } from "../charts/spark.js";
import { asOf, makePanel } from "../panel.js";
import { openPoint } from "../drawer.js";

const NEAR = 0.8;
const BAR_END = 1.25; // the bar runs to 125 % of the limit

/** over, near or ok; null without a share. */
export function standing(pollutant) {
  if (pollutant.share === null || pollutant.state !== "valid") return null;
  if (pollutant.share > 1) return "over";
  return pollutant.share >= NEAR ? "near" : "ok";
}

export function makePollutants(element, { base, onData }) {
  return makePanel(element, {
    title: "pollutants", path: "/overview/pollutants", every_s: 20, parameters: () => base() && { base: base().code }, onData,
    draw: ({ data, body, meta }) => {
      meta.replaceChildren(asOf(data.now));
      if (!data.outlets.length) return show(body, h("p.empty", {}, t(ofScope("no_outlets"))));
      return show(body, h("table.figures.pollutants", {},
        h("thead", {}, h("tr", {}, ["outlet", "present", "share", "limit", "valid_minutes", "state", "last_day"].map((c) => h(`th.${c}`, { scope: "col" }, t(c))))),
        data.outlets.map((outlet) => h("tbody", {},
          h("tr.group", {}, h("th", { colspan: 7, scope: "colgroup" }, nameOf(outlet), h("span.muted", {}, ` ${nameOf(outlet, "enterprise_zh", "enterprise_en")}`),
            outlet.o2_reference !== null && h("span.faint", {}, ` · O₂ ${number(outlet.o2_reference)} %`))),
          outlet.pollutants.map((p) => row(p, outlet, data))))));
    },
  });
}

function row(p, outlet, data) {
  const stands = standing(p);
  const idle = ["stopped", "maintenance", "calibration"].includes(p.state);
  const lost = ["missing", "unmeasured", "fault", "over_range", "link_fault", "bad"].includes(p.state);
  const show_ = () => openPoint({
    code: p.point, base: data.base, about: `${nameOf(outlet)} · ${nameOf(p)} · ${w("point", p.state)}`,
    limits: p.limit?.statistic === "instant" ? limitLines(p) : [], hourLimits: p.limit?.statistic === "instant" ? [] : limitLines(p),
    hours: p.hours, unit: p.unit });
  return h(`tr${stands === "over" ? ".is-over" : ""}${idle ? ".is-idle" : ""}`, { onclick: p.point ? show_ : null },
    h("th.name", { scope: "row" }, p.point ? h("button.quiet", { "data-key": `pollutant-${outlet.code}-${p.quantity}` }, nameOf(p)) : h("span", {}, nameOf(p))),
    h("td.number.strong", { title: w("basis", p.basis) }, idle || lost ? "–" : number(p.value), h("span.unit", {}, unitText(p.unit))),
    h("td.share", {}, p.limit ? shareBar(p, stands, idle || lost) : h("span.faint", {}, t("no_limit"))),
    h("td.number.limit", { title: limitTitle(p.limit) }, p.limit && [limitText(p.limit), h("span.unit", {}, w("statistic", p.limit.statistic)), !p.limit.verified && h("sup.faint", { title: t("unverified") }, "?")]),
    h("td.number.valid_minutes", { title: t("minutes_valid", { valid: p.minutes, due: p.minutes_due }) }, p.point ? minutes(p) : ""),
    h("td.state", {}, stateChip(p, stands)),
    h("td.last_day", {}, lastDay(p, data)));
}

/** The limit as lines of a chart, each saying of which mean it is. */
function limitLines(p) {
  if (!p.limit) return [];
  const text = (v) => `${w("statistic", p.limit.statistic)} ${t("limit_short")} ${amount(v, p.unit)}`;
  return [p.limit.high, p.limit.low].filter((v) => v !== null).map((v) => ({ value: v, text: text(v) }));
}

function limitText(limit) {
  if (limit.low !== null && limit.high !== null) return `${number(limit.low)}–${number(limit.high)}`;
  return limit.high !== null ? `≤ ${number(limit.high)}` : `≥ ${number(limit.low)}`;
}

const limitTitle = (limit) => (limit ? [w("rank", limit.rank), limit.source, limit.verified ? null : t("unverified")].filter(Boolean).join(" · ") : "");

function minutes(p) {
  if (p.basis === "last_hour" && p.state === "valid") return h("span.muted", {}, t("last_hour"));
  const short = p.minutes < p.minutes_due - 2 && p.state !== "stopped";
  return h(short ? "span.short" : "span", {}, `${p.minutes}/${p.minutes_due}`);
}

function shareBar(p, stands, unknown) {
  if (p.limit.low !== null && p.limit.high !== null) return rangeBar(p, stands, unknown);
  const share = unknown ? null : p.share;
  const fill = h(`i.fill${stands === "over" ? ".over" : stands === "near" ? ".near" : ""}`);
  if (share !== null) fill.style.width = `${(Math.min(share, BAR_END) / BAR_END) * 100}%`;
  return h("span.meter", { role: "img", "aria-label": `${t("share")} ${percentOf(share, 0)}` },
    h(`span.track${share === null ? ".unknown" : ""}`, {}, share !== null && fill, h("i.tick.near"), h("i.tick.full")),
    h("span.percent", {}, share === null ? "–" : percentOf(share, 0)));
}

/** Between two bounds a share says little: where the value stands between them does. */
function rangeBar(p, stands, unknown) {
  const { low, high } = p.limit;
  const mark = h(`i.here${stands === "over" ? ".over" : stands === "near" ? ".near" : ""}`);
  const place = unknown || p.value === null ? null : (p.value - low) / (high - low);
  if (place !== null) mark.style.insetInlineStart = `${Math.max(2, Math.min(98, 10 + 80 * place))}%`;
  return h("span.meter", { role: "img", "aria-label": `${t("limit")} ${limitText(p.limit)}` },
    h(`span.track${place === null ? ".unknown" : ""}`, {}, h("i.tick.lower"), h("i.tick.upper"), place !== null && mark), h("span.percent"));
}

function stateChip(p, stands) {
  if (stands === "over") return h("span.chip-state.over", {}, "◆ ", t("over_limit"));
  if (stands === "near") return h("span.chip-state.near", {}, "▲ ", t("near_limit"));
  return h(`span.chip-state.${p.state}`, {}, w("point", p.state));
}

function lastDay(p, data) {
  const known = new Map(p.hours.map((hour) => [Date.parse(hour.ts), hour]));
  const end = Date.parse(data.hour);
  const slots = Array.from({ length: 24 }, (_, i) => known.get(end - (24 - i) * 3600e3) ?? { value: null, state: "missing" });
  const title = `${t("last_day")}: ${p.hours.filter((x) => x.state === "valid").length}/24 ${w("hour", "valid")}; ${hourMinute(new Date(end - 24 * 3600e3))}–${hourMinute(new Date(end))}`;
  const limit = p.limit && p.limit.statistic !== "year" ? p.limit.high : null;
  return spark(slots, limit, title);
}
