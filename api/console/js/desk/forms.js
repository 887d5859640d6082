// Small parts that the forms of the desk share.

import { h } from "../dom.js";
import { t, w } from "../i18n.js";
import { hourMinute, isoDay, zoneText } from "../format.js";
import { SEVERITIES } from "../shapes.js";

export const field = (name, label, more = {}) => h("label", {}, t(label), h("input", { name, maxlength: 200, ...more }));
export const area = (name, label, more = {}) => h("label", {}, t(label), h("textarea", { name, maxlength: 2000, ...more }));

export function choice(name, label, group, options, chosen) {
  return h("label", {}, t(label), h("select", { name }, options.map((o) => h("option", { value: o, selected: o === chosen }, w(group, o)))));
}

export function severityBoxes(chosen) {
  return h("fieldset.severities", {}, h("legend", {}, t("severities")), SEVERITIES.map((s) => h("label", {},
    h("input", { type: "checkbox", name: "severities", value: s, checked: chosen.includes(s) }), w("severity", s))));
}

export const check = (name, label, on) => h("label.check", {}, h("input", { type: "checkbox", name, checked: on }), t(label));

/** What a form holds: texts, lists of boxes with one name, and whether a single box is ticked. */
export function valuesOf(form) {
  const said = Object.fromEntries([...form.elements].filter((e) => e.name && e.type !== "checkbox").map((e) => [e.name, e.value.trim()]));
  said.severities = [...form.querySelectorAll("input[name=severities]:checked")].map((e) => e.value);
  for (const box of form.querySelectorAll("input[type=checkbox]:not([name=severities])")) said[box.name] = box.checked;
  return said;
}

/** The form that the open dialog shows. */
export const openForm = () => document.querySelector("#dialog form");

/** A field for a date and time by the base's clock, which it names: whoever sits elsewhere writes the base's time all the same. */
export const timeField = (name, label, more = {}) => h("label", {}, h("span", {}, t(label), " ", h("small.muted", { "data-zone": "" }, zoneText())),
  h("input", { name, type: "datetime-local", ...more }));

/** An instant by the base's clock as `datetime-local` wants it. */
const baseTime = (at) => `${isoDay(at)}T${hourMinute(at)}`;

/** The base's date and time some hours from now. */
export const hoursFromNow = (hours) => baseTime(new Date(Date.now() + hours * 3600e3));

/** The instant at which the base's clock shows a date and time; nothing is null. */
export function instantOf(text) {
  if (!text) return null;
  const wall = Date.parse(`${text.slice(0, 16)}Z`);
  let at = wall;
  for (let tries = 0; tries < 2; tries += 1) at -= Date.parse(`${baseTime(new Date(at))}Z`) - wall;     // once more where the offset changes
  return new Date(at).toISOString();
}

export const empty = (word) => h("p.empty", {}, t(word));
export const table = (heads, rows) => h("table.figures", {},
  h("thead", {}, h("tr", {}, heads.map((c) => h("th", { scope: "col" }, c && t(c))))), h("tbody", {}, rows));
