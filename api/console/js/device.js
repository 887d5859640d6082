// One device in the drawer: whether it answers, what went wrong with it, what to look at, and the state of each of its points.

import { h } from "./dom.js";
import { nameOf, t, w } from "./i18n.js";
import { get } from "./api.js";
import { amount, dateTimeSeconds, duration, number, since } from "./format.js";

// what a kind of error says about where to look
const CAUSES = { connect: "connect", timeout: "timeout", garbled: "garbled", bad_crc: "garbled", grammar: "garbled", refused: "refused", bad_register: "refused", command_refused: "refused",
  bad_password: "password", not_encrypted: "password", lost: "connect", overrun: "overrun" };
const isFresh = (p) => p.latest && Date.now() - Date.parse(p.latest.at) <= Math.max(3 * (p.expected_s ?? 60), 120) * 1000;

/** The cause worth a look: that of the commonest error while something is wrong, else that nothing was heard. */
function causeOf(d, silent) {
  const [kind] = Object.entries(d.errors ?? {}).filter(([name, n]) => n > 0 && CAUSES[name]).sort((a, b) => b[1] - a[1])[0] ?? [];
  if (["online", "unknown"].includes(d.state) && !silent) return null;
  if (kind) return CAUSES[kind];
  return d.state === "online" ? "points" : d.last_answer || d.newest ? "gone" : "never";
}

export async function deviceContent({ device: d, base, tolerance_s }, head, pair, openPoint) {
  const { points } = await get("/points", { base, device: d.code, limit: 1000 });
  const silent = points.filter((p) => !isFresh(p));
  const cause = causeOf(d, silent.length);
  const errors = Object.entries(d.errors ?? {}).filter(([, n]) => n > 0);
  const heard = d.last_answer ?? d.newest;
  const clock = d.clock_offset_s !== null && d.clock_offset_s !== undefined && Math.abs(d.clock_offset_s) > tolerance_s;
  return [
    head(d.code, null, [w("device", d.state), d.protocol, d.template].filter(Boolean).join(" · ")),
    h("div.body", {},
      cause && h("p.explanation", {}, t(`device_cause.${cause}`)),
      h("dl", {},
        pair(t("last_answer"), heard ? `${dateTimeSeconds(heard)} (${t("last_arrival", { age: since(heard) })})` : t("never_heard")),
        pair(t("latency"), d.latency_ms !== null && `${number(d.latency_ms)} ms`),
        pair(t("fresh_points"), `${points.length - silent.length}/${points.length}`),
        clock && pair(t("clock"), t(d.clock_offset_s > 0 ? "clock_ahead" : "clock_behind", { time: duration(Math.abs(d.clock_offset_s)) })),
        pair(t("errors"), errors.map(([name, n]) => `${w("error", name)} ${number(n, 0)}`).join(" · "))),
      points.length ? h("div.scroller", {}, h("table.figures", {}, h("thead", {}, h("tr", {}, ["point", "newest", "quality", "state"].map((c) => h("th", { scope: "col" }, t(c))))),
        h("tbody", {}, [...silent, ...points.filter(isFresh)].map((p) => row(p, base, openPoint))))) : h("p.empty", {}, t("device_no_points"))),
  ];
}

function row(p, base, openPoint) {
  const fresh = isFresh(p);
  return h("tr", {}, h("th", { scope: "row" }, h("button.quiet", { "data-key": `device-${p.code}`, onclick: () => openPoint({ code: p.code, base }) }, nameOf(p) || p.code), h("small.muted", {}, ` ${p.code}`)),
    h("td", {}, p.latest ? `${amount(p.latest.value, p.unit)} · ${dateTimeSeconds(p.latest.at)}` : t("never_heard")),
    h("td", {}, p.latest ? w("point", p.latest.quality === "good" ? "valid" : p.latest.quality) : "–"),
    h("td", {}, h(`span.chip-state${fresh ? "" : ".missing"}`, {}, t(fresh ? "online" : p.latest ? "stale" : "offline"))));
}
