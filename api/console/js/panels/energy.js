// Energy today against expected: one carrier large by hour, all carriers as rows of figures.

import { h, show } from "../dom.js";
import { t, w } from "../i18n.js";
import { amount, hourMinute, hourOf, lacking, number, percentOf, scaled, unitText } from "../format.js";
import { hoursChart, isEstimated, standsOut } from "../charts/hours.js";
import { onResize } from "../charts/scale.js";
import { asOf, makePanel } from "../panel.js";

let chosen = "electricity";

/** The day so far against expected, as a ratio; null when it cannot be said. */
export function deviation(carrier) {
  const d = carrier.to_date;
  return d.expected ? d.compared_amount / d.expected - 1 : null;
}

export function makeEnergy(element, { base, onData }) {
  const panel = makePanel(element, {
    title: "energy", path: "/overview/energy", every_s: 60, parameters: () => base() && { base: base().code }, onData,
    draw: ({ data, body, meta }) => {
      meta.replaceChildren(asOf(data.now));
      if (!data.carriers.length) return show(body, h("p.empty", {}, t("nothing_counted")));
      const carrier = data.carriers.find((c) => c.carrier === chosen) ?? data.carriers[0];
      const holder = h("div.chart-holder.fill");
      show(body, legend(), holder, table(data.carriers, carrier, (code) => { chosen = code; panel.redraw(); }));
      const draw = () => holder.replaceChildren(chart(carrier, Math.max(300, holder.clientWidth), Math.max(200, holder.clientHeight), data.now));
      onResize(holder, draw);
      draw();
      return null;
    },
  });
  return panel;
}

function legend() {
  const item = (kind, word) => h("span.key", {}, h(`i.swatch.${kind}`), t(word));
  return h("div.legend", { title: t("energy_about") }, item("actual", "legend_actual"), item("partial", "legend_partial"), item("estimated", "legend_estimated"), item("gap", "legend_gap"),
    item("band", "legend_band"), item("median", "legend_median"), item("attention", "legend_attention"));
}

function chart(carrier, width, height, now) {
  const most = Math.max(...carrier.hours.flatMap((x) => [x.amount ?? 0, x.high ?? 0]));
  const unit = scaled(most, carrier.unit);
  return hoursChart({
    hours: carrier.hours, width, height, now: Date.parse(now), gapText: t("gap"),
    title: `${w("carrier", carrier.carrier)} ${t("energy")}`,
    label: (ts) => String(hourOf(ts)).padStart(2, "0"),
    number: (v) => (v === 0 ? `0 ${unit.unit}` : number(v / unit.factor)),
    describe: (hour) => describe(hour, carrier),
  });
}

function describe(hour, carrier) {
  const until = new Date(Date.parse(hour.ts) + 3600e3);
  const lines = [`${hourMinute(hour.ts)}–${hourMinute(until)}`];
  if (hour.n_expected > 0 || hour.amount !== null) {
    lines.push(`${t("actual")} ${hour.amount === null ? t("not_known") : amount(hour.amount, carrier.unit)}`);
    if (hour.n_known < hour.n_slots) lines.push(t("slots_known", { known: hour.n_known, expected: hour.n_slots }));
    if (hour.estimated) lines.push(t("estimated_part", { amount: amount(hour.estimated, carrier.unit) }));
    if (isEstimated(hour)) lines.push(t("estimated_hour"));
  }
  if (hour.expected === null) lines.push(t("no_comparison"));
  else {
    lines.push(`${t("expected")} ${amount(hour.expected, carrier.unit)}`,
      `${t("quartiles")} ${number(hour.low)}–${number(hour.high)} ${unitText(carrier.unit)} · ${t("like_days", { n: hour.n_days })}`);
  }
  return lines.join("\n");
}

function table(carriers, chosenCarrier, choose) {
  return h("table.figures.carriers", {}, h("tbody", {}, carriers.map((carrier) => {
    const d = carrier.to_date;
    const ratio = deviation(carrier);
    const lacks = lacking(d.n_known, d.n_expected);
    const odd = carrier.hours.filter(standsOut).length;
    return h("tr", { "aria-selected": String(carrier === chosenCarrier), onclick: () => choose(carrier.carrier) },
      h("th", { scope: "row" }, h("button.quiet", { "data-key": `carrier-${carrier.carrier}`, "aria-pressed": String(carrier === chosenCarrier) }, w("carrier", carrier.carrier))),
      h("td.number.strong", {}, amount(d.amount, carrier.unit)),
      h("td", {}, lacks && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: lacks }))),
      h("td.number.expected-cell", {}, d.expected === null ? h("span.faint", {}, t("no_comparison")) : `${t("expected_short")} ${amount(d.expected, carrier.unit)}`),
      h("td.number", { title: d.expected === null ? "" : t("hours_compared", { n: d.compared_hours }) }, ratio === null ? "" : percentOf(ratio, 1, true)),
      h("td.mini", {}, h("span.text-high", {}, odd ? `▲ ${odd}` : "")));
  })));
}
