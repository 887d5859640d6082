// What every panel has: a heading, its data read again and again, and a mark when they are old.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { get, Refusal } from "./api.js";
import { duration, hourMinute } from "./format.js";

/**
 * A panel over one address. `draw(data)` fills the body; `tools()` gives the heading's controls. Call `again()` to read
 * now, `redraw()` when the language or the width changes. Failures leave the last data standing, marked as stale.
 */
const RETRY_S = 15; // after a failure: sooner than a panel that is read every ten minutes

export function makePanel(element, { title, tools = () => [], path, parameters, every_s, draw, onData = () => {} }) {
  const body = h("div.body", {}, h("p.empty", {}, t("loading")));
  const heading = h("h2");
  const toolbox = h("span.tools");
  const meta = h("span.meta");
  const staleText = h("span");
  element.replaceChildren(
    h("header", {}, heading, toolbox, meta, h("span.stale-mark", {}, staleText)), body);
  element.setAttribute("aria-busy", "true");
  let data = null;
  let readAt = null;
  let timer = null;
  let asked = 0;
  let failed = false;

  function redraw() {
    heading.textContent = t(title);
    element.setAttribute("aria-label", t(title));
    toolbox.replaceChildren(...[tools()].flat().filter(Boolean));
    if (data) draw({ data, body, meta });
    mark();
  }

  function mark() {
    const age = readAt ? (Date.now() - readAt) / 1000 : null;
    const old = age !== null && age > Math.max(2.5 * every_s, 30);
    element.classList.toggle("is-stale", old);
    if (old) staleText.textContent = `${t("stale_mark")} · ${t("stale_for", { age: duration(age) })}`;
  }

  async function again() {
    clearTimeout(timer);
    const mine = ++asked;
    const wanted = parameters();
    try {
      if (wanted) {
        const answer = await get(path, wanted);
        if (mine !== asked) return; // another base was chosen meanwhile
        data = answer;
        readAt = Date.now();
        failed = false;
        element.setAttribute("aria-busy", "false");
        redraw();
        onData(data);
      }
    } catch (refusal) {
      if (mine !== asked) return;
      failed = true;
      element.setAttribute("aria-busy", "false");
      const fault = !(refusal instanceof Refusal); // of this page: never in silence, or old figures would pass for new ones
      if (fault) console.error(refusal);
      if (fault || !data) body.replaceChildren(h("p.empty", {}, refusal.status === 403 ? refusal.message : t("failed", { detail: refusal.status || fault ? refusal.message : t("no_answer") })));
    } finally {
      if (mine === asked) timer = setTimeout(again, (failed ? Math.min(every_s, RETRY_S) : every_s) * 1000);
    }
  }

  function clear() {
    data = null;
    readAt = null;
    failed = false;
    element.setAttribute("aria-busy", "true");
    body.replaceChildren(h("p.empty", {}, t("loading")));
    meta.replaceChildren();
  }

  setInterval(mark, 5000);
  heading.textContent = t(title);
  return { again, redraw, clear, data: () => data, failed: () => failed };
}

/** "as of 10:42" */
export const asOf = (at) => h("span", {}, t("as_of", { at: hourMinute(at) }));
