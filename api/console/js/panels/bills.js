// Electricity bills of a month: what each customer owes, and the lines of the one that is looked at.

import { h, show } from "../dom.js";
import { nameOf, t } from "../i18n.js";
import { amount, dateTime, isoDay, lacking, number, unitText } from "../format.js";
import { makePanel } from "../panel.js";
import { reasonText } from "../reasons.js";

const MONTHS = 3;
let back = 1; // months before the present one: the newest bill that can be whole
let chosen = null;

const monthOf = (n) => {
  const [year, month] = isoDay(new Date()).split("-").map(Number);
  const at = new Date(Date.UTC(year, month - 1 - n, 1));
  return at.toISOString().slice(0, 7);
};
const money = (value) => (value === null || value === undefined ? "–" : number(value, 2));

export function makeBills(element, { base }) {
  const panel = makePanel(element, {
    title: "bills", path: "/bills", every_s: 300,
    parameters: () => base() && { base: base().code, period: monthOf(back) },
    tools: () => h("span.segmented", {}, Array.from({ length: MONTHS }, (_, i) => MONTHS - 1 - i).map((n) => h("button", {
      "aria-pressed": String(n === back), "data-key": `month-${n}`, onclick: () => { back = n; panel.redraw(); panel.again(); } }, monthOf(n)))),
    draw: ({ data, body, meta }) => {
      meta.replaceChildren(h("span", {}, data.currency));
      if (!data.bills.length) return show(body, data.missing?.length ? causes(data.missing) : h("p.empty", {}, t("no_bills")));
      const bill = data.bills.find((b) => b.customer === chosen) ?? data.bills[0];
      return show(body, customers(data.bills, bill, (code) => { chosen = code; panel.redraw(); }), facts(bill), lines(bill), notes(bill));
    },
  });
  return panel;
}

// Why there is no bill, a line a customer: the cause, what it is about, what to do.
function causes(missing) {
  return h("ul.notes", {}, missing.map((m) => h("li", {}, h("span.strong", {}, `${nameOf(m)} `), m.text, about(m), h("br"), m.remedy)));
}

function about(m) {
  const said = [...m.points.map((p) => `${p.point}${p.first ? ` (${p.first} – ${p.last})` : ""}`),
    ...(m.tariff ? [`#${m.tariff.tariff_id} (${m.tariff.from}): ${m.tariff.reason}`] : [])];
  return said.length ? `: ${said.join(", ")}` : "";
}

function customers(bills, bill, choose) {
  return h("table.figures.customers", {},
    h("thead", {}, h("tr", {}, ["customer", "energy_used", "mean_price", "bill_total"].map((c) => h("th", { scope: "col" }, t(c))))),
    h("tbody", {}, bills.map((b) => h("tr", { "aria-selected": String(b === bill), onclick: () => choose(b.customer) },
      h("th", { scope: "row" }, h("button.quiet", { "data-key": `bill-${b.customer}` }, nameOf(b)), !b.complete && h("span.coverage", {}, t("bill_open"))),
      h("td.number", {}, amount(b.energy_kwh, "kWh"), lacks(b)),
      h("td.number", {}, b.energy_kwh ? number(b.total / b.energy_kwh, 4) : "–"),
      h("td.number.strong", {}, money(b.total))))));
}

function lacks(b) {
  const least = b.coverage === null ? null : lacking(b.coverage, 1);
  return least && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: least }));
}

function facts(b) {
  const fact = (name, value) => value && [h("dt", {}, t(name)), h("dd", {}, value)];
  return h("dl.facts", {},
    fact("power_factor", b.power_factor !== null && number(b.power_factor, 2)),
    fact("max_demand", b.demand_kw !== null && `${b.demand_is_lower_bound ? "≥ " : ""}${number(b.demand_kw, 0)} kW · ${dateTime(b.demand_at)}`),
    fact("kwh_per_kva", b.kwh_per_kva !== null && number(b.kwh_per_kva, 1)));
}

function lines(b) {
  return h("table.figures.lines", {},
    h("thead", {}, h("tr", {}, ["bill_item", "quantity", "price", "bill_amount"].map((c) => h("th", { scope: "col" }, t(c))))),
    h("tbody", {}, b.lines.map((line) => h("tr", { title: [line.source, line.verified ? null : t("unverified")].filter(Boolean).join(" · ") },
      h("th", { scope: "row" }, nameOf(line), !line.verified && h("sup.faint", { title: t("unverified") }, "?")),
      h("td.number", {}, number(line.quantity, line.unit === "CNY" ? 2 : 0), h("span.unit", {}, line.unit === "CNY" ? "¥" : unitText(line.unit))),
      h("td.number", {}, line.item === "power_factor" ? `${number(line.price * 100, 2)} %` : number(line.price, 4), line.factor !== 1 && h("span.factor", {}, ` × ${number(line.factor, 2)}`)),
      h("td.number", {}, money(line.amount))))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colspan: 3 }, t("bill_total")), h("td.number.strong", {}, money(b.total)))));
}

const notes = (b) => b.notes.length > 0 && h("ul.notes", {}, b.notes.map((note) => h("li", {}, reasonText(note))));
