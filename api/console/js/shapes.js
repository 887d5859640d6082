// Severity by shape, colour and number, so that it reads without colour too.

import { s } from "./dom.js";
import { w } from "./i18n.js";

export const SEVERITIES = ["critical", "high", "medium", "low"];

const PATHS = {
  critical: "M8 .8L15.2 8L8 15.2L.8 8Z",
  high: "M8 1L15.4 14.6H.6Z",
  medium: "M1.2 2.2H14.8V13.8H1.2Z",
  low: "M8 1.2A6.8 6.8 0 1 1 8 14.8A6.8 6.8 0 1 1 8 1.2Z",
};
const BASELINE = { critical: 11.2, high: 12.6, medium: 11.2, low: 11.2 };

/** Filled while the condition lasts, hollow once it has returned. */
export function severityShape(severity, hollow = false) {
  const number = SEVERITIES.indexOf(severity) + 1;
  return s(hollow ? `svg.shape.shape-hollow.shape-${severity}` : `svg.shape.shape-${severity}`,
    { viewBox: "0 0 16 16", role: "img", "aria-label": w("severity", severity) },
    s("path", { d: PATHS[severity] ?? PATHS.low }), s("text", { x: 8, y: BASELINE[severity] ?? 11 }, String(number || "?")));
}

const RUNNING = { on: "M2 2H14V14H2Z", off: "M2.8 2.8H13.2V13.2H2.8Z", unknown: "M2.8 2.8H13.2V13.2H2.8Z" };

/** A facility: filled when it runs, hollow when it stands, dashed with a question mark when nobody knows. */
export function runningShape(state) {
  return s(`svg.shape.running-${state}`, { viewBox: "0 0 16 16", role: "img", "aria-label": w("running", state) },
    s("path", { d: RUNNING[state] ?? RUNNING.unknown }), state === "unknown" && s("text", { x: 8, y: 11.4 }, "?"));
}
