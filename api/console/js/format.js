// Numbers with units, instants in the base's zone, durations. A value that is not known is a dash, never a zero.

import { language, t } from "./i18n.js";

const DASH = "–";
const UNITS = { m3: "m³", Nm3: "Nm³", "m3/h": "m³/h", "Nm3/h": "Nm³/h", "mg/m3": "mg/m³", "mg/Nm3": "mg/Nm³", "ug/m3": "µg/m³", degC: "°C", 1: "", state: "" };
const LARGER = { kWh: ["MWh", 1000], kW: ["MW", 1000] };

const formats = new Map();
function numberFormat(digits, minimum) {
  const key = `${language()}/${digits}/${minimum}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.NumberFormat(language() === "zh" ? "zh-CN" : "en-GB",
      { maximumFractionDigits: digits, minimumFractionDigits: minimum }));
  }
  return formats.get(key);
}

/** Digits that three to four significant figures need. */
function digitsOf(value) {
  const size = Math.abs(value);
  if (size >= 100 || size === 0) return 0;
  if (size >= 10) return 1;
  if (size >= 1) return 2;
  return Math.min(9, 2 - Math.floor(Math.log10(size))); // 0.000292, never 0.000
}

/** A number with thousands separators; `digits` fixes the decimals. */
export function number(value, digits) {
  if (value === null || value === undefined || Number.isNaN(value)) return DASH;
  const d = digits ?? digitsOf(value);
  return numberFormat(d, digits === undefined ? 0 : d).format(value);
}

/** The unit as people write it. */
export const unitText = (unit) => {
  const written = UNITS[unit] ?? unit?.replace(/^m3(?=\/)/, "m³").replace("km2", "km²") ?? "";
  return language() === "zh" ? written : written.replace("万元", "10⁴ CNY").replace("亿元", "10⁸ CNY");
};

/** {value, unit} scaled so that large amounts stay short: 182,340 kWh reads 182 MWh, 9,300 kWh stays. */
export function scaled(value, unit) {
  if (value === null || value === undefined) return { value, unit: unitText(unit), factor: 1 };
  const larger = LARGER[unit];
  if (larger && Math.abs(value) >= 100 * larger[1]) {
    return { value: value / larger[1], unit: larger[0], factor: larger[1] };
  }
  return { value, unit: unitText(unit), factor: 1 };
}

/** `12,345 kWh` as one text. */
export function amount(value, unit, digits) {
  if (value === null || value === undefined) return DASH;
  const short = scaled(value, unit);
  return `${number(short.value, digits)} ${short.unit}`.trim();
}

/** +3.7 % */
export function percentOf(ratio, digits = 1, signed = false) {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return DASH;
  const text = number(ratio * 100, digits);
  return `${signed && ratio > 0 ? "+" : ""}${text} %`;
}

/** Coverage as a text when it is below 100 %, else null. A figure that lacks data never shows 100 %. */
export function lacking(known, expected) {
  if (!expected || known >= expected) return null;
  return `${number(Math.min(99.9, (100 * known) / expected), known === 0 ? 0 : 1)} %`;
}

let zone = "Asia/Shanghai";
export const setZone = (name) => { zone = name; };

const clocks = new Map();
function clock(options) {
  const key = JSON.stringify([language(), zone, options]);
  if (!clocks.has(key)) {
    clocks.set(key, new Intl.DateTimeFormat(language() === "zh" ? "zh-CN" : "en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  }
  return clocks.get(key);
}

const instantOf = (at) => (at instanceof Date ? at : new Date(at));
export const hourMinute = (at) => clock({ hour: "2-digit", minute: "2-digit" }).format(instantOf(at));
export const hourOf = (at) => Number(clock({ hour: "2-digit" }).formatToParts(instantOf(at)).find((p) => p.type === "hour").value);
export const clockText = (at) => clock({ hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(instantOf(at));
export const dayText = (at) => clock({ year: "numeric", month: "2-digit", day: "2-digit", weekday: "short" }).format(instantOf(at));
const yearOf = (at) => clock({ year: "numeric" }).format(instantOf(at));
/** The parts of a date: with its year where that is not this one. */
const DAY = { month: "2-digit", day: "2-digit" };
const dayParts = (at) => (yearOf(at) === yearOf(new Date()) ? DAY : { year: "numeric", ...DAY });
export const dateTime = (at) => (at ? clock({ ...dayParts(at), hour: "2-digit", minute: "2-digit" }).format(instantOf(at)) : DASH);
/** Today the time alone, on another day with its date. */
export const moment = (at) => (at && isoDay(at) !== isoDay(new Date()) ? dateTime(at) : hourMinute(at));
export const dateTimeSeconds = (at) =>
  (at ? clock({ ...dayParts(at), hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(instantOf(at)) : DASH);
// browsers differ in what they call no offset
export const zoneText = () =>
  new Intl.DateTimeFormat("en-GB", { timeZone: zone, timeZoneName: "shortOffset" }).formatToParts(new Date())
    .find((p) => p.type === "timeZoneName").value.replace(/^(GMT|UTC)[+-]?0?$/, "GMT");

/** The local calendar day of an instant as 2026-11-23, for periods of the API. */
export function isoDay(at) {
  const part = Object.fromEntries(new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" })
    .formatToParts(instantOf(at)).map((p) => [p.type, p.value]));
  return `${part.year}-${part.month}-${part.day}`;
}

/** 4 s, 12 min, 3 h 05, 2 d */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return DASH;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${seconds < 10 && seconds % 1 ? number(seconds, 1) : whole} ${t("second")}`;
  if (whole < 5400) return `${Math.round(whole / 60)} ${t("minute")}`;
  if (whole < 172800) return t("hours_minutes", { h: Math.floor(whole / 3600), m: String(Math.floor((whole % 3600) / 60)).padStart(2, "0") });
  return `${Math.floor(whole / 86400)} ${t("day")}`;
}

export const since = (at, now = Date.now()) => duration((now - instantOf(at).getTime()) / 1000);
