// Energy flow: a tree of meters from left to right, ribbons as wide as what flowed, what no child accounts for at its side.

import { s } from "../dom.js";

const NODE = 9;
const PAD = 12;
const UNDER = 38; // room for the two lines of text under a node whose ribbon is too short to write on

/**
 * nodes: [{id, name, value, kind}] kind: meter, generation, lost; links: [{from, to, value, kind}].
 * Columns come from the links; a node stands beside its parent, largest first, what is lost last.
 */
export function layout(nodes, links, width, height, margin) {
  const by = new Map(nodes.map((n) => [n.id, { ...n, out: [], into: [], depth: 0 }]));
  for (const link of links) {
    const edge = { ...link, source: by.get(link.from), target: by.get(link.to) };
    edge.source.out.push(edge);
    edge.target.into.push(edge);
  }
  const all = [...by.values()];
  const roots = all.filter((n) => !n.into.length);
  const order = [];
  const visit = (node, depth, seen) => {
    if (seen.has(node)) return; // a ring in the catalogue must not hang the page
    node.depth = Math.max(node.depth, depth);
    if (!order.includes(node)) order.push(node);
    node.out.sort((a, b) => (a.kind === "lost") - (b.kind === "lost") || b.value - a.value);
    for (const edge of node.out) visit(edge.target, depth + 1, new Set([...seen, node]));
  };
  roots.sort((a, b) => b.value - a.value).forEach((root) => visit(root, 0, new Set()));
  const depths = Math.max(1, ...order.map((n) => n.depth));
  const columns = Array.from({ length: depths + 1 }, (_, d) => order.filter((n) => n.depth === d));
  const scale = Math.min(...columns.filter((c) => c.length).map((c) => {
    const sum = c.reduce((total, n) => total + sizeOf(n), 0);
    return sum > 0 ? (height - margin.top - margin.bottom - PAD * (c.length - 1)) / sum : Infinity;
  }));
  const k = Number.isFinite(scale) && scale > 0 ? scale : 0;
  columns.forEach((column, d) => place(column, d, { k, depths, width, column0: columns[0], margin }));
  for (const node of order) {
    let at = node.y;
    for (const edge of node.out) {
      edge.width = Math.max(1, edge.value * k);
      edge.y0 = at + edge.width / 2;
      at += edge.width;
    }
    at = node.y;
    for (const edge of node.into) {
      const w = Math.max(1, edge.value * k);
      edge.y1 = at + w / 2;
      at += w;
    }
  }
  return { nodes: order, edges: order.flatMap((n) => n.out), depths };
}

/** As tall as the larger of what comes in and what goes out, so that no ribbon leaves its node. */
function sizeOf(node) {
  const sum = (edges) => edges.reduce((total, e) => total + e.value, 0);
  return Math.max(node.value ?? 0, sum(node.out), sum(node.into));
}

/** Own generation stands close to what it feeds; the other columns share the width. */
function columnAt(depth, column0, { depths, width, margin }) {
  const room = width - margin.left - margin.right - NODE;
  const even = room / depths;
  const first = depths > 1 && column0.every((n) => n.kind === "generation") ? Math.min(even, 190) : even;
  if (depth === 0) return margin.left;
  return depths === 1 ? margin.left + room : margin.left + first + ((room - first) * (depth - 1)) / (depths - 1);
}

function place(column, depth, { k, depths, width, column0, margin }) {
  const x = columnAt(depth, column0, { depths, width, margin });
  const heights = column.map((n) => Math.max(2, sizeOf(n) * k));
  let y = margin.top;
  column.forEach((node, i) => {
    Object.assign(node, { x, y, h: heights[i] });
    y += heights[i] + (node.kind === "generation" ? UNDER : PAD);
  });
}

/** name(node), amount(node), describe(edge) give texts. */
export function sankeyChart({ nodes, links, width, height, title, name, amount, describe }) {
  const margin = { top: 8, bottom: 8, left: 2, right: Math.min(270, Math.max(240, width * 0.24)) };
  const drawn = layout(nodes, links, width, height, margin);
  const svg = s("svg.chart.sankey", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
  for (const e of drawn.edges) {
    const [x0, x1] = [e.source.x + NODE, e.target.x];
    const middle = (x0 + x1) / 2;
    const half = e.width / 2;
    const d = `M${x0} ${e.y0 - half}C${middle} ${e.y0 - half} ${middle} ${e.y1 - half} ${x1} ${e.y1 - half}`
      + `V${e.y1 + half}C${middle} ${e.y1 + half} ${middle} ${e.y0 + half} ${x0} ${e.y0 + half}Z`;
    svg.append(s(e.kind === "lost" ? "path.link.lost" : "path.link", { d }, s("title", {}, describe(e))));
  }
  for (const n of drawn.nodes) {
    const classes = ["node", n.kind, n.attention && "attention"].filter(Boolean).join(".");
    svg.append(s(`rect.${classes}`, { x: n.x, y: n.y, width: NODE, height: n.h, rx: 1 }));
    const under = n.kind === "generation" && n.depth === 0;
    const text = under ? { x: n.x, y: n.y + n.h + 15 } : { x: n.x + NODE + 6, y: n.y + n.h / 2 };
    const room = n.h > 25 || under;
    svg.append(s("text.name", { ...text, y: text.y + (room ? -2 : 4) }, name(n)));
    const figure = s(n.attention ? "text.amount.attention" : "text.amount", { ...text, y: text.y + 12 }, amount(n));
    if (room) svg.append(figure);
    else svg.lastChild.append(s(n.attention ? "tspan.amount.attention" : "tspan.amount", { dx: 6 }, amount(n)));
  }
  return svg;
}
