// The alert desk in the drawer: cases, note of the shift, duty roster, routes of notifications, what is out of service, figures of the alert system.

import { h } from "../dom.js";
import { t, w } from "../i18n.js";
import { isRole, may } from "../me.js";
import { cases } from "./cases.js";
import { duty } from "./duty.js";
import { figures } from "./figures.js";
import { handover } from "./handover.js";
import { routes } from "./routes.js";
import { service } from "./service.js";

const TABS = { cases, handover, duty, routes, service, figures };

/** The tabs that this token may open; an enterprise sees its cases, the rest is the base's. */
export const tabs = () => (isRole("enterprise") ? ["cases"] : Object.keys(TABS).filter((name) => name !== "routes" || may("routes")));

/** What the drawer shows: the row of tabs and the chosen one. `again()` reads it once more. */
export async function deskContent({ tab, base, choose, again }) {
  const shown = tabs().includes(tab) ? tab : tabs()[0];
  const bar = h("span.segmented", { role: "tablist", "aria-label": t("desk") }, tabs().map((name) => h("button", {
    role: "tab", "aria-selected": String(name === shown), "aria-pressed": String(name === shown), "data-key": `tab-${name}`,
    onclick: () => choose(name) }, w("desk", name))));
  return [bar, ...(await TABS[shown]({ base, again }))];
}
