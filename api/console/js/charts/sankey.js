// Energy flow: a tree of meters from left to right, ribbons as wide as what flowed, what no child accounts for at its side.

import { s } from "../dom.js";

const NODE = 9;
const ROW = 15; // a line of text
const PAD = 6;
const UNDER = 38; // room for the two lines of text under a node whose ribbon is too short to write on
const RIBBONS = 300; // height of everything that flows

/**
 * nodes: [{id, name, value, kind}] kind: meter, generation, other, lost; links: [{from, to, value, kind}].
 * Columns come from the links; children stand in a block beside their parent, largest first, what is lost last.
 */
export function layout(nodes, links, width, margin) {
  const by = new Map(nodes.map((n) => [n.id, { ...n, out: [], into: [], depth: 0, y: null }]));
  for (const link of links) {
    const edge = { ...link, source: by.get(link.from), target: by.get(link.to) };
    edge.source.out.push(edge);
    edge.target.into.push(edge);
  }
  const roots = [...by.values()].filter((n) => !n.into.length).sort((a, b) => b.value - a.value);
  const order = [];
  const visit = (node, depth, seen) => {
    if (seen.has(node)) return; // a ring in the catalogue must not hang the page
    node.depth = Math.max(node.depth, depth);
    if (!order.includes(node)) order.push(node);
    const last = (edge) => ["meter", "other", "lost"].indexOf(edge.target.kind);
    node.out.sort((a, b) => last(a) - last(b) || b.value - a.value);
    for (const edge of node.out) visit(edge.target, depth + 1, new Set([...seen, node]));
  };
  roots.forEach((root) => visit(root, 0, new Set()));
  const depths = Math.max(1, ...order.map((n) => n.depth));
  const columns = Array.from({ length: depths + 1 }, (_, d) => order.filter((n) => n.depth === d));
  const most = Math.max(...columns.map((column) => column.reduce((total, n) => total + sizeOf(n), 0)));
  const k = most > 0 ? RIBBONS / most : 0;
  const height = placeAll(roots, { k, top: margin.top }) + margin.bottom;
  for (const node of order) node.x = columnAt(node.depth, columns[0], { depths, width, margin });
  order.forEach((node) => stack(node, k));
  return { nodes: order, edges: order.flatMap((n) => n.out), height };
}

/** Top to bottom: a node without children takes the next row, one with children stands in the middle of theirs. */
function placeAll(roots, { k, top }) {
  let cursor = top;
  const place = (node) => {
    if (node.y !== null) return;
    node.h = Math.max(2, sizeOf(node) * k);
    node.y = cursor;
    const mine = node.out.map((e) => e.target).filter((n) => n.y === null);
    if (!mine.length) {
      const row = Math.max(node.h, ROW);
      node.y += (row - node.h) / 2;
      cursor += row + PAD;
      return;
    }
    const start = cursor;
    mine.forEach(place);
    const end = Math.max(...mine.map((n) => n.y + n.h));
    node.y = Math.max(start, (mine[0].y + end - node.h) / 2);
    cursor = Math.max(cursor, node.y + node.h + PAD);
  };
  roots.forEach(place);
  const given = new Map();
  for (const node of roots.filter((n) => n.kind === "generation" && n.out.length)) {
    const { target } = node.out[0];
    const before = given.get(target) ?? 0; // own generation stands level with what it feeds
    node.y = target.y + before * UNDER;
    given.set(target, before + 1);
  }
  return cursor;
}

/** Where the ribbons of a node begin and end. */
function stack(node, k) {
  for (const [edges, width, middle] of [[node.out, "width", "y0"], [node.into, "width1", "y1"]]) {
    let at = node.y;
    for (const edge of edges) {
      edge[width] = Math.max(1, edge.value * k);
      edge[middle] = at + edge[width] / 2;
      at += edge[width];
    }
  }
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

/** About so many pixels of 12 px text: Chinese letters are square, others half as wide. */
const wide = (text) => [...text].reduce((sum, c) => sum + (c > "\u2e7f" ? 12 : 6.8), 0);

/** name(node), amount(node), about(node), describe(edge) give texts. */
export function sankeyChart({ nodes, links, width, title, name, amount, describe, about }) {
  const longest = Math.max(...nodes.map((n) => wide(`${name(n)}  ${amount(n)}`)));
  const margin = { top: 8, bottom: 8, left: 2, right: Math.min(width * 0.45, Math.max(240, longest + NODE + 12)) };
  const drawn = layout(nodes, links, width, margin);
  const { height } = drawn;
  const svg = s("svg.chart.sankey", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
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
    svg.append(s(`rect.${classes}`, { x: n.x, y: n.y, width: NODE, height: n.h, rx: 1 }, s("title", {}, about(n))));
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
