// What the base is measured by this year: value, target or threshold, and where the year will end.

import { h, show } from "../dom.js";
import { language, nameOf, t, w } from "../i18n.js";
import { amount, isoDay, lacking, number, percentOf } from "../format.js";
import { makePanel } from "../panel.js";
import { reasonText } from "../reasons.js";

const LIKELY = 0.9;
const UNLIKELY = 0.1;
const LEAST_SPAN = 0.05; // the bar shows at least 5 % to both sides of the bound
let year = 0;           // years before the present one
let chosen = "plan";

const bound = (i) => (i.target && i.target.unit === i.unit ? { value: i.target.value, sense: i.target.sense }
  : i.threshold !== null ? { value: i.threshold, sense: i.sense } : null);
const forecastOf = (i) => (i.forecast?.value === null || i.forecast?.value === undefined ? null : i.forecast);

/** A rate tells how things stand before the year is over; a sum does not. */
const isRate = (i) => i.unit === "%" || (i.unit === "1" && /(_rate|_share)$/.test(i.code));

/** good, risk, bad or null when nothing can be said: by the forecast while the year runs, by the value when it is over. */
export function outlook(i, over) {
  const limit = bound(i);
  if (!limit || (i.value === null && i.withheld)) return null; // what is not known enough to be told is not enough to judge by
  const likely = i.target ? i.forecast?.target_likely : i.forecast?.threshold_likely;
  if (!over && likely !== null && likely !== undefined) return likely >= LIKELY ? "good" : likely > UNLIKELY ? "risk" : "bad";
  if (i.value === null || !(over || isRate(i))) return null;
  return (limit.sense === "at_most" ? i.value <= limit.value : i.value >= limit.value) ? "good" : "bad";
}

export function makeIndicators(element, { base }) {
  const now = () => Number(isoDay(new Date()).slice(0, 4));
  const press = (pressed, key, text, onclick) => h("button", { "aria-pressed": String(pressed), "data-key": key, onclick }, text);
  let sets = [];
  const panel = makePanel(element, {
    title: "indicators", path: "/indicators", every_s: 300,
    parameters: () => base() && { base: base().code, period: String(now() - year) },
    tools: () => [
      h("span.segmented", {}, [1, 0].map((back) => press(back === year, `year-${back}`, String(now() - back), () => { year = back; panel.redraw(); panel.again(); }))),
      sets.length > 1 && h("span.segmented", {}, sets.map((code) => press(code === chosen, `set-${code}`, w("set", code), () => { chosen = code; panel.redraw(); })))],
    draw: ({ data, body, meta }) => {
      const found = [...new Set(data.indicators.filter((i) => i.set !== "computed").map((i) => i.set))];
      if (found.join() !== sets.join()) {
        sets = found;
        if (!sets.includes(chosen)) chosen = sets[0] ?? "plan";
        queueMicrotask(() => panel.redraw());
      }
      const rows = data.indicators.filter((i) => i.set === chosen);
      const over = data.elapsed >= 1;
      meta.replaceChildren(h("span", {}, t("year_over", { percent: percentOf(data.elapsed, 0) })));
      if (!rows.length) return show(body, h("p.empty", {}, t("no_indicators")));
      return show(body, h("table.figures.indicators", {},
        h("thead", {}, h("tr", {}, ["indicator", "so_far", "bound", "year_end", "outlook"].map((c) => h(`th.${c}`, { scope: "col" }, t(c))))),
        h("tbody", {}, rows.map((i) => row(i, over)))),
      chosen === "plan" ? null : h("p.note.muted", {}, data.notice));
    },
  });
  return panel;
}

function row(i, over) {
  const limit = bound(i);
  const stands = outlook(i, over);
  const why = i.value === null ? reasonText(i.withheld) || t("not_known") : null;
  return h("tr", { title: about(i) },
    h("th.name", { scope: "row" }, i.figure ? h("a", { href: `figures.html?${new URLSearchParams({ figure: i.figure })}` }, nameOf(i) || i.code) : nameOf(i) || i.code, i.verified === false && h("sup.faint", { title: t("unverified") }, "?"),
      i.target?.responsible && h("small.who.muted", {}, i.target.responsible)),
    h("td.number.strong", {}, shown(i.value, i), coverage(i), why && h("small.why", {}, why),
      i.until && i.value !== null && h("small.muted", {}, t("until_day", { day: i.until }))),
    h("td.number.bound", { "data-label": t("bound") }, limit ? `${limit.sense === "at_most" ? "≤" : "≥"} ${shown(limit.value, i)}` : "–"),
    h("td.year_end", { "data-label": t("year_end") }, over || !forecastOf(i) ? h("span.faint", {}, over ? "" : "–") : forecastBar(i, limit, stands)),
    h("td.outlook", {}, stands ? h(`span.chip-state.${{ good: "ok", risk: "near", bad: "over" }[stands]}`, {},
      { good: "", risk: "▲ ", bad: "◆ " }[stands], t(`outlook_${over ? "over_" : forecastOf(i) ? "" : "now_"}${stands}`)) : h("span.faint", {}, "–")));
}

/** Rates as percent, amounts short enough for a column; each with its unit. */
function shown(value, i) {
  if (value === null || value === undefined) return "–";
  if (isRate(i)) return percentOf(i.unit === "%" ? value / 100 : value, 2);
  return i.unit === "1" ? number(value, 3) : amount(value, i.unit);
}

function coverage(i) {
  const lacks = i.value === null || i.coverage === null ? null : lacking(i.coverage, 1);
  const grade = i.value !== null && i.grade && i.grade !== "A" ? h("span.grade.muted", { title: w("grade_of", i.grade) }, i.grade) : null;
  return [grade, lacks && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: lacks }))];
}

/** The year's end with its 90 % interval, seen from the bound in the middle of the bar. */
function forecastBar(i, limit, stands) {
  const f = forecastOf(i);
  const text = h("span.amount", {}, shown(f.value, i));
  if (!limit) return h("span.meter.forecast", {}, text);
  const low = f.low ?? f.value;
  const high = f.high ?? f.value;
  const half = Math.max(LEAST_SPAN * Math.abs(limit.value), 1.15 * Math.abs(low - limit.value), 1.15 * Math.abs(high - limit.value)) || 1;
  const at = (v) => 50 + (50 * (v - limit.value)) / half;
  const span = h("i.span");
  span.style.insetInlineStart = `${at(low)}%`;
  span.style.width = `max(3px, ${at(high) - at(low)}%)`;
  const mark = h(`i.here${stands === "bad" ? ".over" : stands === "risk" ? ".near" : ""}`);
  mark.style.insetInlineStart = `${at(f.value)}%`;
  const told = `${t("year_end")} ${shown(f.value, i)}, ${t("bound")} ${shown(limit.value, i)}`;
  return h("span.meter.forecast", { role: "img", "aria-label": told }, h("span.track", {}, span, h("i.tick.bound"), mark), text);
}

function about(i) {
  const f = forecastOf(i);
  return [
    i.formula && `${i.code} = ${i.formula}`, i.source ?? i.target?.source,
    i.target?.baseline !== null && i.target?.baseline !== undefined && t("baseline_of", { year: i.target.baseline_year ?? "", amount: shown(i.target.baseline, i) }),
    f && t("interval_90", { low: shown(f.low, i), high: shown(f.high, i), day: f.until }),
    f && i.forecast.target_likely !== null && i.target && t("likely", { percent: percentOf(i.forecast.target_likely, 0) }),
    language() === "en" && f?.method,
  ].filter(Boolean).join("\n");
}
