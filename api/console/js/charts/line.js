// A line over time with its gaps, an envelope of minimum and maximum, limits, and the span of an alert.

import { s } from "../dom.js";
import { linear, ticks } from "./scale.js";
import { watchColumns } from "./columns.js";

const MARGIN = { top: 12, right: 8, bottom: 20, left: 52 };

/** Runs of neighbouring known values: a null, or a hole of more than `gapMs`, ends a run. */
export function runsOf(points, gapMs) {
  const runs = [];
  let run = [];
  for (const point of points) {
    const hole = run.length && point.t - run.at(-1).t > gapMs;
    if ((point.v === null || hole) && run.length) {
      runs.push(run);
      run = [];
    }
    if (point.v !== null) run.push(point);
  }
  if (run.length) runs.push(run);
  return runs;
}

/** points: [{t (ms), v or null, low?, high?}]; limits: [{value, text}]; spans: [{from, to}] in ms. */
export function lineChart({ points, width, height, gapMs, from, to, limits = [], spans = [], title, label, number, describe }) {
  const inner = { x: MARGIN.left, y: MARGIN.top, w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  const known = points.flatMap((p) => [p.v, p.low ?? null, p.high ?? null]).filter((v) => v !== null);
  const every = [...known, ...limits.map((l) => l.value)];
  let [low, high] = every.length ? [Math.min(...every), Math.max(...every)] : [0, 1];
  if (low > 0 && low < 0.6 * high) low = 0;
  if (low === high) [low, high] = [low - 1, high + 1];
  const steps = ticks(low, high, 5);
  const y = linear(steps[0], steps.at(-1), inner.y + inner.h, inner.y);
  const x = linear(from, to, inner.x, inner.x + inner.w);
  const svg = s("svg.chart", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title, tabindex: 0 });

  for (const span of spans) {
    const [a, b] = [Math.max(x(span.from), inner.x), Math.min(x(span.to), inner.x + inner.w)];
    if (b > a) svg.append(s("rect.span-alert", { x: a, width: b - a, y: inner.y, height: inner.h }));
  }
  for (const step of steps) {
    svg.append(s("line.rule", { x1: inner.x, x2: inner.x + inner.w, y1: y(step), y2: y(step) }),
      s("text", { x: inner.x - 6, y: y(step) + 4, "text-anchor": "end" }, number(step)));
  }
  const runs = runsOf(points, gapMs);
  drawGaps(svg, runs, { from, to, gapMs, x, inner });
  for (const run of runs) {
    if (run.every((p) => p.low != null && p.high != null)) svg.append(s("path.envelope", { d: envelope(run, x, y) }));
    if (run.length === 1) svg.append(s("circle.dot", { cx: x(run[0].t), cy: y(run[0].v), r: 2 }));
    else svg.append(s("path.line", { d: `M${run.map((p) => `${x(p.t).toFixed(1)} ${y(p.v).toFixed(1)}`).join("L")}` }));
  }
  for (const limit of limits) {
    svg.append(s("line.limit", { x1: inner.x, x2: inner.x + inner.w, y1: y(limit.value), y2: y(limit.value) }),
      s("text.limit-text", { x: inner.x + inner.w, y: y(limit.value) - 3, "text-anchor": "end" }, limit.text));
  }
  svg.append(s("line.axis", { x1: inner.x, x2: inner.x + inner.w, y1: inner.y + inner.h, y2: inner.y + inner.h }));
  for (let i = 0; i <= 6; i += 1) {
    const at = from + ((to - from) * i) / 6;
    svg.append(s("text", { x: x(at), y: height - 5, "text-anchor": i === 0 ? "start" : i === 6 ? "end" : "middle" }, label(at)));
  }
  if (points.length) {
    const n = Math.max(1, Math.min(points.length, Math.floor(inner.w / 4)));
    const width1 = inner.w / n;
    const near = (i) => nearest(points, from + ((i + 0.5) / n) * (to - from), gapMs);
    watchColumns(svg, { n, x: (i) => inner.x + i * width1, width: width1, top: inner.y, height: inner.h,
      describe: (i) => describe(near(i)) });
  }
  return svg;
}

function drawGaps(svg, runs, { from, to, gapMs, x, inner }) {
  const edges = [{ t: from }, ...runs.flatMap((run) => [run[0], run.at(-1)]), { t: to }];
  for (let i = 0; i < edges.length; i += 2) {
    const [a, b] = [edges[i].t, edges[i + 1].t];
    if (b - a > gapMs) svg.append(s("rect.gap", { x: x(a), width: x(b) - x(a), y: inner.y, height: inner.h, "data-gap": new Date(a).toISOString() }));
  }
}

function envelope(run, x, y) {
  const over = run.map((p) => `${x(p.t).toFixed(1)} ${y(p.high).toFixed(1)}`);
  const under = run.map((p) => `${x(p.t).toFixed(1)} ${y(p.low).toFixed(1)}`).reverse();
  return `M${[...over, ...under].join("L")}Z`;
}

function nearest(points, at, gapMs) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle].t < at) low = middle;
    else high = middle;
  }
  const best = Math.abs(points[low].t - at) < Math.abs(points[high].t - at) ? points[low] : points[high];
  return Math.abs(best.t - at) > gapMs ? null : best;
}
