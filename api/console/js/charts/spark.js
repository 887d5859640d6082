// The last hours of a pollutant in a table cell: its limit, its gaps, its stops.

import { s } from "../dom.js";

/** slots: [{value or null, state, exceeded}] one an hour, oldest first; `limit` draws the line. */
export function spark(slots, limit, title) {
  const [width, height] = [120, 26];
  const svg = s("svg.spark", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  const values = slots.map((p) => p.value).filter((v) => v !== null);
  const top = Math.max(limit ?? 0, ...values, 1e-9) * 1.12;
  const y = (v) => height - 2 - (v / top) * (height - 4);
  const step = width / slots.length;
  let run = [];
  const finish = () => {
    if (run.length === 1) svg.append(s("circle.dot", { cx: run[0][0], cy: run[0][1], r: 1.3 }));
    else if (run.length) svg.append(s("path.line", { d: `M${run.map((p) => p.join(" ")).join("L")}`, "vector-effect": "non-scaling-stroke" }));
    run = [];
  };
  slots.forEach((slot, i) => {
    if (slot.value === null) {
      finish();
      const idle = slot.state === "stopped" || slot.state === "exempt";
      svg.append(s(idle ? "rect.stopped" : "rect.gap", { x: i * step, width: step, y: 0, height, "data-state": slot.state }));
      return;
    }
    run.push([(i + 0.5) * step, y(slot.value)]);
    if (slot.exceeded) svg.append(s("circle.over", { cx: (i + 0.5) * step, cy: y(slot.value), r: 2.2 }));
  });
  finish();
  if (limit) svg.append(s("line.limit", { x1: 0, x2: width, y1: y(limit), y2: y(limit), "vector-effect": "non-scaling-stroke" }));
  return svg;
}
