// Reading values off a chart: the pointer, a tap, or the arrow keys when the chart has the focus.

import { s, showTip, hideTip } from "../dom.js";

/** Watch `n` columns of a chart; `describe(i)` is the text shown, null for nothing. */
export function watchColumns(svg, { n, x, width, top, height, describe }) {
  const cursor = s("line.cursor", { y1: top, y2: top + height, visibility: "hidden" });
  svg.append(cursor);
  svg.classList.add("watched");
  let at = -1;

  function tell(i, clientX, clientY) {
    at = Math.max(0, Math.min(n - 1, i));
    const text = describe(at);
    const middle = x(at) + width / 2;
    cursor.setAttribute("x1", middle);
    cursor.setAttribute("x2", middle);
    cursor.setAttribute("visibility", text ? "visible" : "hidden");
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    if (text) showTip(text, clientX ?? box.left + middle * scale, clientY ?? box.top + top * scale);
    else hideTip();
  }
  function leave() {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  }
  function follow(event) {
    const box = svg.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const i = Math.floor((px - x(0)) / (x(n - 1) - x(0) + width) * n);
    if (i < 0 || i >= n) leave();
    else tell(i, event.clientX, event.clientY);
  }
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") leave(); }); // a finger that was lifted has not read yet
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    tell(at + move);
  });
}
