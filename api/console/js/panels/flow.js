// Energy flow of a carrier: parent meters to their children, and what no child accounts for.

import { h, show } from "../dom.js";
import { t, w, nameOf } from "../i18n.js";
import { amount, isoDay, lacking, number, percentOf } from "../format.js";
import { sankeyChart } from "../charts/sankey.js";
import { onResize } from "../charts/scale.js";
import { makePanel } from "../panel.js";

const PERIODS = ["today", "yesterday", "month"];
const LOSS_WORTH_A_LOOK = 0.1; // of the parent: more than metering classes and line losses explain
const SMALL = 0.025; // of all that flows: smaller ends of one parent are drawn together
let period = "today";
let carrier = "electricity";

const periodText = () => {
  const today = isoDay(new Date());
  if (period === "month") return today.slice(0, 7);
  return period === "today" ? today : isoDay(new Date(Date.now() - 86400e3));
};

export function makeFlow(element, { base, carriers }) {
  const choice = (list, now, group, choose) => h("span.segmented", {}, list.map((x) => h("button", {
    "aria-pressed": String(x === now), "data-key": `${group}-${x}`, onclick: () => choose(x) }, w(group, x))));
  const panel = makePanel(element, {
    title: "flow", path: "/balance", every_s: 120,
    parameters: () => base() && { base: base().code, period: periodText(), carrier },
    tools: () => [choice(PERIODS, period, "period", (x) => { period = x; panel.again(); panel.redraw(); }),
      choice(carriers(), carrier, "carrier", (x) => { carrier = x; panel.again(); panel.redraw(); })],
    draw: ({ data, body, meta }) => {
      const { nodes, links, silent, lost } = known(data);
      const known_ = data.balances.filter((b) => b.coverage !== null && b.coverage < 1).map((b) => b.coverage);
      const least = known_.length ? lacking(Math.min(...known_), 1) : null;
      meta.replaceChildren(...[least && h("span.coverage", { title: t("coverage") }, t("coverage_mark", { percent: least }))].filter(Boolean));
      if (!links.length) return show(body, h("p.empty", {}, t("no_flow")));
      const holder = h("div.chart-holder");
      const notes = data.balances.filter((b) => b.unaccounted < 0).map((b) => exceeded(b, nodes));
      const unknown = silent.length ? h("p.note.muted", {}, `${t("not_known")}: ${silent.map((n) => nameOf(n)).join(", ")}`) : null;
      const sum = lost.value > 0 && h("p.note.muted", {}, t("unaccounted_sum", { amount: amount(lost.value, lost.unit), percent: percentOf(lost.share) }));
      show(body, holder, sum, notes, unknown);
      const draw = () => {
        const width = Math.max(640, holder.clientWidth);
        holder.replaceChildren(sankeyChart({
          nodes, links, width, title: `${t("flow")} ${w("carrier", data.carrier)}`,
          name: nodeName,
          amount: (n) => [amount(n.value, n.unit) + (n.margin ? ` ± ${amount(n.margin, n.unit)}` : ""), n.share !== undefined && `${number(n.share * 100, 1)} %`, n.lacks && t("coverage_mark", { percent: n.lacks })].filter(Boolean).join(" · "),
          about: (n) => [nodeName(n), amount(n.value, n.unit), ...(n.members ?? []).map((m) => `${nodeName(m)}: ${amount(m.value, m.unit)}`)].join("\n"),
          describe: (e) => `${nameOf(e.source)} → ${nodeName(e.target)}\n${amount(e.value, e.unit)}`,
        }));
      };
      onResize(holder, draw);
      draw();
      return null;
    },
  });
  return panel;
}

function nodeName(n) {
  if (n.kind === "lost") return n.rest === "unaccounted" ? t("unaccounted") : nameOf(n);
  if (n.kind === "other") return t("other_meters", { n: n.members.length });
  return n.kind === "generation" ? `${nameOf(n)} · ${t("generation")}` : nameOf(n);
}

/** More below a meter than through it: worth a look, unless data are missing, which alone can explain it. */
function exceeded(b, nodes) {
  const lacks = b.coverage === null ? null : lacking(b.coverage, 1);
  const parent = nodes.find((n) => n.id === b.parent);
  return h(lacks ? "p.note.muted" : "p.note.text-high", {}, lacks ? "" : "▲ ", `${parent ? nodeName(parent) : nameOf(b)}: `,
    t("children_exceed", { amount: amount(-b.unaccounted, b.unit) }), " ", lacks && h("span.coverage", {}, t("coverage_mark", { percent: lacks })));
}

const LOST = ["unaccounted", "loss", "not_known"];

/** Nodes and links with known amounts; `silent` are meters whose amount nobody knows. */
function known(data) {
  const about = new Map(data.balances.map((b) => [b.parent, b]));
  const links = data.links.filter((l) => l.value !== null && l.value > 0 && l.kind !== "surplus")
    .map((l) => ({ from: l.source, to: l.target, value: l.value, unit: l.unit, kind: LOST.includes(l.kind) ? "lost" : "meter" }))
    .filter((l) => !l.from.startsWith("not_known:"));
  const used = new Set(links.flatMap((l) => [l.from, l.to]));
  const nodes = data.nodes.filter((n) => used.has(n.id)).map((n) => {
    const lost = LOST.includes(n.kind);
    const parent = lost ? about.get(n.id.slice(n.id.indexOf(":") + 1)) : undefined;
    const share = lost && parent?.parent_amount ? n.value / parent.parent_amount : undefined;
    return { ...n, kind: lost ? "lost" : n.direction === "generation" ? "generation" : "meter", rest: n.kind, value: n.value ?? 0, share,
      margin: n.kind === "unaccounted" ? parent?.uncertainty : undefined, attention: n.kind === "unaccounted" && share > LOSS_WORTH_A_LOOK,
      lacks: !lost && n.coverage !== null && n.coverage !== undefined ? lacking(n.coverage, 1) : null };
  });
  const total = throughput(nodes, links);
  const rests = nodes.filter((n) => n.rest === "unaccounted" || n.rest === "loss");
  const lost = { value: rests.reduce((sum, n) => sum + n.value, 0), unit: rests[0]?.unit };
  return { ...together(nodes, links, SMALL * total), silent: data.nodes.filter((n) => n.value === null), lost: { ...lost, share: lost.value / total } };
}

/** What enters the tree: own generation, and every meter that no other meter feeds. */
function throughput(nodes, links) {
  const generation = new Set(nodes.filter((n) => n.kind === "generation").map((n) => n.id));
  const fed = new Set(links.filter((l) => !generation.has(l.from)).map((l) => l.to));
  return nodes.filter((n) => !fed.has(n.id)).reduce((sum, n) => sum + n.value, 0);
}

/** The small ends of each parent as one node, so that what matters can be read; its tooltip lists them. */
function together(nodes, links, small) {
  const by = new Map(nodes.map((n) => [n.id, n]));
  const parents = new Set(links.map((l) => l.from));
  const added = [];
  const gone = new Set();
  for (const parent of parents) {
    const ends = links.filter((l) => l.from === parent && !parents.has(l.to) && l.value < small && !by.get(l.to).attention);
    if (ends.length < 2) continue;
    ends.forEach((l) => gone.add(l.to));
    const value = ends.reduce((sum, l) => sum + l.value, 0);
    const members = ends.map((l) => by.get(l.to));
    const kind = members.every((m) => m.kind === "lost") ? "lost" : "other";
    added.push({ id: `other:${parent}`, parent, kind, rest: "unaccounted", value, unit: ends[0].unit, members });
  }
  return { nodes: [...nodes.filter((n) => !gone.has(n.id)), ...added],
    links: [...links.filter((l) => !gone.has(l.to)), ...added.map((n) => ({ from: n.parent, to: n.id, value: n.value, unit: n.unit, kind: n.kind === "lost" ? "lost" : "meter" }))] };
}
