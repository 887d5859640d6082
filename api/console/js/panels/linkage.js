// Treatment linkage: each production facility, the treatment that serves it, the outlet behind; on, off or unknown.

import { ofScope } from "../me.js";
import { h, show } from "../dom.js";
import { t, w, nameOf } from "../i18n.js";
import { amount, dateTime, hourMinute } from "../format.js";
import { runningShape } from "../shapes.js";
import { asOf, makePanel } from "../panel.js";

export function makeLinkage(element, { base }) {
  return makePanel(element, {
    title: "linkage", path: "/overview/linkage", every_s: 15, parameters: () => base() && { base: base().code },
    draw: ({ data, body, meta }) => {
      meta.replaceChildren(asOf(data.now));
      const chains = chainsOf(data.units);
      if (!chains.length) return show(body, h("p.empty", {}, t(ofScope("no_linkage"))));
      return show(body, h("div.chains", {},
        h("div.chain.heads", { "aria-hidden": "true" }, ["production", "treatment", "outlet"].map((r) => h("span", {}, w("role", r)))),
        chains.map((chain) => draw(chain, data.events))));
    },
  });
}

/** One row a treatment facility, with what it treats and where it discharges; production without treatment by itself. */
export function chainsOf(units) {
  const of = (role) => units.filter((u) => u.role === role);
  const treated = new Set();
  const used = new Set();
  const chains = of("treatment").map((treatment) => {
    const production = of("production").filter((u) => treatment.treats.includes(u.code));
    const outlets = of("outlet").filter((u) => u.outlet_of.includes(treatment.code));
    production.forEach((u) => treated.add(u.code));
    outlets.forEach((u) => used.add(u.code));
    return { production, treatment: [treatment], outlets };
  });
  const alone = of("outlet").filter((u) => !used.has(u.code)).map((u) => ({ production: [], treatment: [], outlets: [u] }));
  return [...chains, ...alone].sort((a, b) => rank(judge(a)) - rank(judge(b)));
}

const rank = (verdict) => ["bad", "conflict", "unknown", "fine"].indexOf(verdict);

/** bad: production runs while the treatment is off; conflict: a run signal and the power disagree; unknown: nobody can tell; fine otherwise. */
export function judge({ production, treatment }) {
  if (!production.length || !treatment.length) return "fine";
  const states = (units) => units.map((u) => u.state);
  if ([...production, ...treatment].some((u) => u.conflict)) return "conflict";
  if (states(production).includes("on") && states(treatment).every((s) => s === "off")) return "bad";
  const unknown = [...states(production), ...states(treatment)].includes("unknown");
  return unknown && !states(treatment).includes("on") ? "unknown" : "fine";
}

function draw(chain, events) {
  const verdict = judge(chain);
  const ids = chain.treatment.map((u) => u.unit_id);
  const event = events.find((e) => ids.includes(e.treatment_id));
  const cell = (units, role) => h(`div.cell.${role}${units.length ? "" : ".none"}`, {}, units.map(unit));
  return h(`div.chain.${verdict}`, {},
    cell(chain.production, "production"), cell(chain.treatment, "treatment"), cell(chain.outlets, "outlet"),
    verdict !== "fine" && h("p.verdict", {}, `${{ bad: "◆", conflict: "▲", unknown: "?" }[verdict]} ${w("chain", verdict)}${event ? ` · ${t("event_since", { at: dateTime(event.started_at) })}` : ""}`));
}

function unit(u) {
  const told = u.points.filter((p) => p.value !== null && p.value !== undefined && p.kind !== "state")[0];
  const newest = u.points.map((p) => p.ts).filter(Boolean).sort().at(-1);
  return h(`div.unit-box.${u.state}`, {
    title: [nameOf(u, "enterprise_zh", "enterprise_en"), ...u.points.map((p) => `${p.point}: ${p.value === null ? "–" : amount(p.value, p.unit)}${p.ts ? ` (${hourMinute(p.ts)})` : ""}`)].join("\n"),
  },
  runningShape(u.state),
  h("span.name", {}, nameOf(u)),
  h("span.what", {}, u.conflict ? t("conflict") : w("running", u.state), (u.state !== "unknown" || u.conflict) && told ? ` ${amount(told.value, told.unit)}` : u.state === "unknown" && newest ? ` ${hourMinute(newest)}` : ""));
}
