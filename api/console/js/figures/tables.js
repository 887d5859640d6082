// The tables of a period: totals, energy and water by carrier, enterprise or unit, and the mass of each outlet's pollutants.

import { byId, h, show } from "../dom.js";
import { nameOf, w as pageGroup } from "../i18n.js";
import { amount, dateTime, isoDay, lacking, number, percentOf, zoneText } from "../format.js";
import { saveCsv } from "../csv.js";
import { change, elapsed } from "./periods.js";
import { t, w } from "./words.js";

export const MEASURES = ["energy", "tce_equivalent", "tce_calorific", "co2", "cost"];
const TOTALS = ["tce_equivalent", "tce_calorific", "co2", "cost", "water"];

/** A cell as people read it; CO2 and mass above a tonne in tonnes, money to the cent with its sign. */
export function told(value, unit, cents = 2) {
  if (value === null || value === undefined) return "–";
  if (unit === "CNY") return `¥ ${number(value, cents)}`;
  return unit === "kg" && Math.abs(value) >= 1000 ? `${number(value / 1000)} t` : amount(value, unit);
}

/** The rows of one answer by a key that the others share. */
const byKey = (answer, rows) => new Map((answer ? rows(answer) : []).map((row) => [row.key, row]));

const energyRows = (state) => (answer) => answer.rows.filter((r) => r.cells[state.measure]).map((r) => ({
  made: r.carriers?.join() ?? r.carrier,
  key: [r.enterprise, r.unit, r.carrier].join("/"), cell: r.cells[state.measure],
  name: [r.unit ? nameOf(state.names.unit[r.unit] ?? { name_zh: r.unit, name_en: r.unit })
    : r.enterprise ? nameOf(state.names.enterprise[r.enterprise] ?? { name_zh: r.enterprise, name_en: r.enterprise }) : null,
  r.carrier && pageGroup("carrier", r.carrier)].filter(Boolean).join(" · ") || t("whole_base") }));

const massRows = (answer) => answer.emission.filter((r) => r.quantity !== "ph").map((r) => ({ made: r.days >= answer.days_due - 1, key: `${r.outlet}/${r.quantity}`, cell: r.mass, row: r, name: `${nameOf(r)} · ${pageGroup("quantity", r.quantity)}` }));
const carriersOf = (answer) => [...new Set(answer.rows.flatMap((r) => r.carriers ?? [r.carrier]))].sort().join();
const totalRows = (answer) => TOTALS.filter((m) => answer.totals[m]).map((m) => ({ made: m === "water" || carriersOf(answer), key: m, cell: answer.totals[m], name: w("total", m) }));

/** Each row with what it was before, what it was last year, and the changes. `made` must be the same on both sides: a sum that
 * lacks a carrier, and a mass that lacks days, is another thing. */
function compared(state, rows) {
  const { now, before, last } = state.answers;
  const at = Date.now();
  const [was, year] = [byKey(before, rows), byKey(last, rows)];
  const of = (row, former, answer) => ({ made: former?.made, cell: former?.cell ?? null, change: former && former.made === row.made ? change(row.cell, former?.cell, elapsed(now, at), elapsed(answer, at)) : null });
  return rows(now).map((row) => ({ ...row, before: of(row, was.get(row.key), before), last: of(row, year.get(row.key), last) }));
}

export function drawTables(state, trace) {
  const { answers } = state;
  if (!answers) {
    byId("about").textContent = t("loading");
    ["totals", "used", "mass"].forEach((id) => byId(id).replaceChildren());
    return;
  }
  byId("about").textContent = aboutText(answers.now);
  show(byId("totals"), compared(state, totalRows).map((row) => tile(row, trace)));
  const energy = compared(state, energyRows(state));
  show(byId("used"), h("header", {}, h("h2", {}, `${t("energy")} · ${w("measure", state.measure)}`)),
    energy.length ? h("div.scroller", {}, table(energy, trace)) : h("p.empty", {}, t("nothing")),
    state.by === "unit" && h("p.note.muted", {}, t("units_note")));
  const mass = compared(state, massRows);
  show(byId("mass"), h("header", {}, h("h2", {}, t("emission"))),
    mass.length ? h("div.scroller", {}, table(mass, trace, true)) : h("p.empty", {}, t("no_mass")));
}

/** Which days, by whose clock, accounted up to when, and how changes are meant. */
function aboutText(answer) {
  const { days, over } = elapsed(answer, Date.now());
  const done = answer.accounted.find((a) => a.pass === "close") ?? answer.accounted[0];
  return [`${answer.first_day} – ${answer.last_day} ${zoneText()}`, done?.at && t("as_of_accounting", { at: dateTime(done.at) }),
    !over && (days < 3 ? t("too_short") : t("running", { days: number(Math.floor(days), 0) })), t("traced")].filter(Boolean).join(" · ");
}

const figure = (cell, trace, classes = "", cents = 2) => (cell?.figure && cell.value !== null
  ? h(`button${classes}`, { "data-key": cell.figure, title: cell.figure, onclick: () => trace(cell.figure) }, told(cell.value, cell.unit, cents)) : h(`span${classes}`, {}, "–"));

/** What a reader must know beside the figure: coverage below 100 %, grade below A, a missing factor or price. */
function marks(cell) {
  const least = !cell || cell.coverage === null ? null : lacking(cell.coverage, 1);
  return [least && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: least })),
    cell?.grade && cell.grade !== "A" && h("span.grade.muted", { title: pageGroup("grade_of", cell.grade) }, cell.grade),
    cell?.lacking && h("span.coverage", {}, t(`lacking_${cell.lacking}`))];
}

const changed = (ratio) => (ratio === null ? h("span.muted", { title: t("short_of_data") }, "–") : percentOf(ratio, 1, true));

function tile(row, trace) {
  const line = (word, side) => side.cell && side.cell.value !== null && h("div", {}, [`${t(word)} ${told(side.cell.value, side.cell.unit, 0)}`, side.change !== null && percentOf(side.change, 1, true)].filter(Boolean).join(" · "), " ", marks(side.cell),
    side.made !== row.made && h("span.coverage", { title: t("other_carriers_about") }, t("other_carriers")));
  return h("div.tile", {}, h("h2", {}, row.name), figure(row.cell, trace, ".figure", 0), h("div.below", {}, marks(row.cell), line("before", row.before), line("year_before", row.last)));
}

function table(rows, trace, isMass = false) {
  const heads = ["scope", "this", "before", "change", "year_before", "change", ...(isMass ? ["valid_hours", "substituted", "exceeded_hours"] : [])];
  const side = (one) => [h("td.number.former", {}, one.cell ? [told(one.cell.value, one.cell.unit), marks(one.cell)] : "–"), h("td.number", {}, changed(one.change))];
  return h("table.figures", {}, h("thead", {}, h("tr", {}, heads.map((c) => h(["before", "year_before"].includes(c) ? "th.former" : "th", { scope: "col" }, t(c))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), h("td.number", {}, figure(row.cell, trace), marks(row.cell)), side(row.before), side(row.last),
      isMass && [row.row.hours_valid, row.row.hours_substituted, row.row.hours_exceeded].map((n) => h("td.number", {}, number(n, 0)))))));
}

/** The tables as one file: full figures, not rounded, each with its unit, coverage, grade and name for the trace. */
export function saveTables(state) {
  const { now, before, last } = state.answers;
  const rows = [totalRows, energyRows(state), massRows].flatMap((of) => compared(state, of)).map((r) => [r.name, r.cell.value, r.cell.unit, r.cell.coverage, r.cell.grade, r.cell.quality,
    r.before.cell?.value, r.before.cell?.coverage, r.before.change, r.last.cell?.value, r.last.cell?.coverage, r.last.change, r.cell.figure]);
  const heads = [t("scope"), now.period, t("unit"), t("coverage"), t("grade"), t("quality"), before?.period ?? "", `${before?.period ?? ""} ${t("coverage")}`, t("change"),
    last?.period ?? "", `${last?.period ?? ""} ${t("coverage")}`, t("change"), t("trace")];
  saveCsv(`${state.base.code}-${now.period}-${state.by}-${state.measure}.csv`, [
    [nameOf(state.base), now.first_day, now.last_day, zoneText(), `${isoDay(new Date())} ${dateTime(new Date())}`], heads, ...rows]);
}
