// The strip on top: what a shift leader asks first.

import { h, show } from "../dom.js";
import { t, w } from "../i18n.js";
import { amount, lacking, number, percentOf } from "../format.js";
import { SEVERITIES, severityShape } from "../shapes.js";
import * as book from "../alertbook.js";
import { deviation } from "./energy.js";
import { standing } from "./pollutants.js";

/** data: {energy, pollutants, health} as far as known; base() is the base shown. */
export function drawStrip(element, data, base) {
  show(element, alertTile(base), electricityTile(data.energy),
    totalTile(data.energy, "tile_tce", "tce_equivalent", "tce"), totalTile(data.energy, "tile_co2", "co2_kg", "kg"),
    totalTile(data.energy, "tile_cost", "cost", "CNY"), outletTile(data.pollutants), pointTile(data.health));
}

function tile(title, figure, below, coverage) {
  return h("div.tile", {}, h("h2", {}, title), h("div.figure", {}, figure),
    h("div.below", {}, coverage && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: coverage })), coverage && " ", below));
}

function alertTile(base) {
  const open = book.openAlerts().filter((a) => a.base === base?.code);
  const waiting = open.filter(book.isUnacknowledged);
  const counts = SEVERITIES.map((s) => [s, waiting.filter((a) => a.severity === s).length]);
  return h("div.tile", {}, h("h2", {}, t("tile_alerts")),
    h("div.figure.counts", {}, counts.map(([s, n]) => h(n ? "span" : "span.none", {}, severityShape(s), book.isRead() ? number(n, 0) : "–"))),
    h("div.below", {}, book.isRead() && t("tile_open", { open: open.length, shelved: open.filter(book.isAside).length })));
}

function split(text) {
  const at = text.lastIndexOf(" ");
  return at < 0 ? text : [text.slice(0, at), h("span.unit", {}, text.slice(at + 1))];
}

function electricityTile(energy) {
  const carrier = energy?.carriers.find((c) => c.carrier === "electricity") ?? energy?.carriers[0];
  if (!carrier) return tile(t("tile_electricity"), "–", "");
  const d = carrier.to_date;
  const ratio = deviation(carrier);
  return tile(carrier.carrier === "electricity" ? t("tile_electricity") : w("carrier", carrier.carrier), split(amount(d.amount, carrier.unit)),
    ratio === null ? t("no_comparison") : t("against_expected", { percent: percentOf(ratio, 1, true) }), lacking(d.n_known, d.n_expected));
}

function totalTile(energy, title, figure, unit) {
  const total = energy?.totals[figure];
  if (!total) return tile(t(title), "–", "");
  const text = figure === "cost" ? amount(total.value, "", 0) : figure === "co2_kg" && total.value !== null ? `${number(total.value / 1000)} t` : amount(total.value, unit);
  const names = total.lacking.map((c) => w("carrier", c)).join(", ");
  const calorific = energy.totals.tce_calorific.value;
  let below = "";
  if (names) below = t(figure === "cost" ? "lacks_tariff" : "lacks_factor", { names });
  else if (figure === "tce_equivalent" && calorific !== null) below = t("calorific", { amount: amount(calorific, "tce") });
  const shown = figure === "cost" && total.value !== null ? [h("span.unit.before", {}, "¥"), text] : split(text);
  return tile(t(title), shown, below, total.value === null ? null : lacking(energy.totals.n_known, energy.totals.n_expected));
}

function outletTile(pollutants) {
  if (!pollutants) return tile(t("tile_outlets"), "–", "");
  const lines = pollutants.outlets.flatMap((o) => o.pollutants).filter((p) => p.limit);
  const count = (s) => lines.filter((p) => standing(p) === s).length;
  if (!lines.length) return tile(t("tile_outlets"), "–", t("no_limits"));
  const [over, near] = [count("over"), count("near")];
  const dark = lines.filter((p) => standing(p) === null && !["stopped", "maintenance", "calibration"].includes(p.state)).length;
  return tile(t("tile_outlets"), [h(over ? "span.text-critical" : "span", {}, number(over, 0)), h("span.faint", {}, " / "), h(near ? "span.text-high" : "span", {}, number(near, 0))],
    [t("outlets_of", { n: lines.length }), dark > 0 && h("span.text-medium", {}, ` · ${t("limits_unknown", { n: dark })}`)]);
}

function pointTile(health) {
  if (!health) return tile(t("tile_points"), "–", "");
  const sum = (field) => health.systems.reduce((n, s) => n + s[field], 0);
  const [total, online, stale, offline] = ["total", "online", "stale", "offline"].map(sum);
  if (!total) return tile(t("tile_points"), "–", t("no_points"));
  return tile(t("tile_points"), [number(online, 0), h("span.unit", {}, `/ ${number(total, 0)}`)],
    stale + offline ? t("silent_points", { stale: number(stale, 0), offline: number(offline, 0) }) : t("all_online"));
}
