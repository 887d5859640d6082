// Data health: are points and devices alive, how late do readings come, and what could not be stored.

import { h, show } from "../dom.js";
import { t, w } from "../i18n.js";
import { dateTime, duration, hourMinute, number, percentOf, since } from "../format.js";
import { openDevice } from "../drawer.js";
import { asOf, makePanel } from "../panel.js";

export function makeHealth(element, { base, onData }) {
  return makePanel(element, {
    title: "health", path: "/overview/health", every_s: 15, parameters: () => base() && { base: base().code }, onData,
    draw: ({ data, body, meta }) => {
      meta.replaceChildren(asOf(data.now));
      show(body, h("div.systems", {}, data.systems.map(system)), h("dl.facts", {}, facts(data)),
        devices(data));
    },
  });
}

function system(s) {
  const part = (state) => {
    const i = h(`i.${state}`);
    i.style.flexGrow = s[state];
    return s[state] > 0 && i;
  };
  const quiet = [s.stale && h("span.text-medium", {}, `${t("stale")} ${s.stale}`), s.offline && h("span.text-high", {}, `${t("offline")} ${s.offline}`)].filter(Boolean);
  return h("div.system", {},
    h("span.name", {}, w("system", s.system)),
    h("span.percent", {}, s.total ? percentOf(s.online / s.total, s.online === s.total ? 0 : 1) : "–"),
    h("span.states", { role: "img", "aria-label": `${t("online")} ${s.online}, ${t("stale")} ${s.stale}, ${t("offline")} ${s.offline}` }, part("online"), part("stale"), part("offline")),
    h("span.counts", {}, h("span", {}, `${t("online")} ${s.online}/${s.total}`), quiet));
}

function facts(data) {
  const dead = data.dead_letters.reduce((n, d) => n + d.n, 0);
  const day = data.dead_letters.reduce((n, d) => n + d.n_day, 0);
  const { lag } = data;
  const spool = data.spools.length ? data.spools.reduce((n, s) => n + (s.batches ?? 0), 0) : null;
  const alarms = data.spools.filter((s) => s.alarm);
  const { rollup, account } = data.backlog;
  const oldest = [data.backlog.rollup_since, data.backlog.account_since].filter(Boolean).sort()[0];
  return [
    fact(t("newest"), lag.newest ? t("last_arrival", { age: since(lag.newest) }) : "–", lag.newest && Date.now() - Date.parse(lag.newest) > 300e3),
    fact(t("lag"), lag.p50_s === null ? "–" : t("lag_about", { p50: duration(lag.p50_s), p95: duration(lag.p95_s) }), lag.p95_s > 120),
    fact(t("backlog"), rollup + account ? t("backlog_of", { rollup: number(rollup, 0), account: number(account, 0) }) : t("backlog_none"),
      oldest && Date.now() - Date.parse(oldest) > 300e3),
    fact(t("dead_letters"), dead ? h("span", {}, `${number(dead, 0)} · ${t("dead_day", { n: number(day, 0) })}`,
      h("span.reasons", {}, data.dead_letters.map((d) => h("span.reason", {}, `${w("dead", d.reason)} ${number(d.n, 0)}`)))) : t("dead_none"), day > 0),
    alarms.length > 0 && fact(t("spool_alarm"), h("span.text-critical", { role: "alert" }, alarms.map((s) => h("span.reason", {}, t(`spool_alarm.${s.alarm}`, {
      source: s.source, percent: percentOf(s.max_bytes ? s.bytes / s.max_bytes : null, 0), n: number(s.dropped_readings, 0) })))), true),
    ...data.links.map(linkFact),
    spool !== null && fact(t("spool"), spool === 0 ? t("spool_empty") : t("spool_waiting", { n: number(spool, 0) }), spool > 0),
    fact(t("today_outcomes"), outcomes(data.outcomes)),
  ];
}

/** Ingest without a word, a broker that is away, and what was away within a day; nothing where all is well. */
function linkFact({ ingest, at, broker, database }) {
  if (Date.now() - Date.parse(at) > 60e3) return fact(t("ingest_silent"), t("last_arrival", { age: since(at) }), true);
  if (broker.up === false) return fact(t("broker"), h("span.text-critical", { role: "alert" }, t("away_since", { at: dateTime(broker.since) })), true);
  const away = [["broker", broker.last], ["database", database.last]].filter(([, last]) => last && Date.now() - Date.parse(last[1]) < 86400e3);
  return away.length > 0 && fact(t("was_away"), away.map(([name, [lost, back]]) => h("span.reason", { title: ingest },
    `${t(name)} ${dateTime(lost)} – ${hourMinute(new Date(back))}`)), false);
}

const fact = (name, value, attention) => [h("dt", {}, name), h(attention ? "dd.text-medium" : "dd", {}, value)];

/** What became of the day's readings; the reasons of dead letters stand by themselves. */
function outcomes(counts) {
  const entries = Object.entries(counts).filter(([code]) => !code.startsWith("dead:"));
  const dead = Object.entries(counts).reduce((sum, [code, n]) => (code.startsWith("dead:") ? sum + n : sum), 0);
  if (dead) entries.push(["dead", dead]);
  return entries.map(([code, n]) => `${w("outcome", code)} ${number(n, 0)}`).join(" · ") || "–";
}

const isWell = (d, data) => ["online", "unknown"].includes(d.state) && d.n_fresh === d.n_points && !clockOff(d, data);

/** Whether a device's own clock is so far off that its readings stand at wrong times; one that tells no time is not. */
const clockOff = (d, data) => d.clock_offset_s !== null && Math.abs(d.clock_offset_s) > data.clock_tolerance_s;

function devices(data) {
  const ill = data.devices.filter((d) => !isWell(d, data)).length;
  return h("div.devices", { "data-scroll": "devices", tabindex: 0, "aria-label": t("device") },
    h("p.summary", {}, !data.devices.length ? t("devices_none") : ill ? t("devices_ill", { n: data.devices.length, ill }) : t("devices_all_well", { n: data.devices.length })),
    data.devices.length > 0 && h("table.figures", {},
      h("thead", {}, h("tr", {}, ["device", "fresh_points", "last_answer", "state"].map((c) => h("th", { scope: "col" }, t(c))))),
      h("tbody", {}, data.devices.map((d) => h("tr", {},
        h("th", { scope: "row", title: [d.code, d.protocol, d.template].filter(Boolean).join(" · ") },
          h("button.quiet", { "data-key": `device-${d.code}`, onclick: () => openDevice(d, data.base, data.clock_tolerance_s) }, d.code)),
        h("td.number", {}, h(d.n_fresh < d.n_points ? "span.text-medium" : "span", {}, `${d.n_fresh}/${d.n_points}`)),
        h("td.number", { title: d.latency_ms === null ? "" : `${number(d.latency_ms)} ms` }, answered(d)),
        h("td", {}, h(`span.chip-state.${d.state}`, {}, w("device", d.state)), clockOff(d, data) && h("div.text-medium", {},
          t(d.clock_offset_s > 0 ? "clock_ahead" : "clock_behind", { time: duration(Math.abs(d.clock_offset_s)) }))))))));
}

function answered(d) {
  const at = d.last_answer ?? d.newest;
  return at ? t("last_arrival", { age: since(at) }) : "–";
}
