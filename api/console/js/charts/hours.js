// A day by hour: bars of what was used over the band of what like days used. An hour that lacks data is hatched over its
// whole height and labelled, never an empty place and never zero; what is known of it stands in it as a hatched bar. An hour
// that is only an estimate has a pale bar with a broken edge, and nobody judges it.

import { s } from "../dom.js";
import { linear, ticks } from "./scale.js";
import { watchColumns } from "./columns.js";

const MARGIN = { top: 14, right: 6, bottom: 20, left: 46 };

/** Whether an hour is an estimate, such as its share of a gap whose total is exact: no slot measured, or more than 5 % estimated. */
export function isEstimated(hour) {
  return hour.amount !== null && (hour.n_good === 0 || Math.abs(hour.estimated) > 0.05 * Math.abs(hour.amount));
}

/** Whether a measured hour stands out of its band: beyond the quartiles by 1.5 times their distance. */
export function standsOut(hour) {
  if (hour.amount === null || hour.expected === null || hour.n_known < hour.n_slots || isEstimated(hour)) return false;
  const slack = Math.max(1.5 * (hour.high - hour.low), 0.05 * Math.abs(hour.expected));
  return hour.amount > hour.high + slack || hour.amount < hour.low - slack;
}

/** hours: [{ts, amount, estimated, low, expected, high, n_known, n_good, n_expected, n_slots}]; label(ts), number(v), describe(hour) give texts. */
export function hoursChart({ hours, width, height, label, number, describe, title, gapText, now }) {
  const inner = { x: MARGIN.left, y: MARGIN.top, w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  const values = hours.flatMap((h) => [h.amount, h.high]).filter((v) => v !== null);
  const steps = values.some((v) => v) ? ticks(Math.min(0, ...values), Math.max(0, ...values), height > 180 ? 5 : 3) : [0];
  const y = linear(steps[0], steps.at(-1), inner.y + inner.h, inner.y);
  const slot = inner.w / hours.length;
  const x = (i) => inner.x + i * slot;
  const svg = s("svg.chart", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title, tabindex: 0 });

  for (const step of steps) {
    svg.append(s("line.rule", { x1: inner.x, x2: inner.x + inner.w, y1: y(step), y2: y(step) }),
      s("text", { x: inner.x - 6, y: y(step) + 4, "text-anchor": "end" }, number(step)));
  }
  hours.forEach((h, i) => {
    if (h.low !== null) svg.append(s("rect.band", { x: x(i), width: slot + 0.5, y: y(h.high), height: Math.max(1, y(h.low) - y(h.high)) }));
  });
  hours.forEach((h, i) => drawHour(svg, h, { x: x(i), slot, y, inner, gapText }));
  svg.append(s("path.expected", { d: expectedPath(hours, x, slot, y) }));
  svg.append(s("line.axis", { x1: inner.x, x2: inner.x + inner.w, y1: y(0), y2: y(0) }));
  const every = slot < 17 ? 6 : slot < 26 ? 3 : 2;
  hours.forEach((h, i) => {
    if (i % every === 0) svg.append(s("text", { x: x(i), y: height - 5, "text-anchor": i ? "middle" : "start" }, label(h.ts)));
  });
  const first = Date.parse(hours[0].ts);
  const at = inner.x + ((now - first) / 3600e3) * slot;
  if (at > inner.x && at < inner.x + inner.w) svg.append(s("line.now", { x1: at, x2: at, y1: inner.y - 6, y2: inner.y + inner.h }));
  watchColumns(svg, { n: hours.length, x, width: slot, top: inner.y, height: inner.h, describe: (i) => describe(hours[i]) });
  return svg;
}

function drawHour(svg, h, { x, slot, y, inner, gapText }) {
  const bar = { x: x + slot * 0.16, width: slot * 0.68 };
  if (h.n_known < h.n_expected) {
    svg.append(s("rect.gap", { x: x + 1, width: slot - 2, y: inner.y, height: inner.h, "data-gap": h.ts }),
      s("rect.gap-edge", { x: x + 1, width: slot - 2, y: inner.y, height: inner.h }));
    if (slot > 24) svg.append(s("text.gap-text", { x: x + slot / 2, y: inner.y - 3 }, gapText));
  }
  if (h.amount === null) return;
  const classes = ["bar", isEstimated(h) ? "estimated" : h.n_known < h.n_slots && "partial", standsOut(h) && "attention"].filter(Boolean).join(".");
  const [top, foot] = [Math.min(y(h.amount), y(0)), Math.max(y(h.amount), y(0))];
  svg.append(s(`rect.${classes}`, { ...bar, y: top, height: Math.max(1, foot - top) }));
  if (standsOut(h)) {
    const cx = x + slot / 2;
    svg.append(s("path.mark", { d: `M${cx} ${top - 10}l4.5 7h-9z` }));
  }
}

function expectedPath(hours, x, slot, y) {
  let path = "";
  let drawing = false;
  hours.forEach((h, i) => {
    if (h.expected === null) {
      drawing = false;
      return;
    }
    path += `${drawing ? "L" : "M"}${x(i)} ${y(h.expected)}H${x(i) + slot}`;
    drawing = true;
  });
  return path || "M0 0";
}
