// Light or dark: what was chosen, else what the browser asks for. The colours of both stand once, in base.css.

import { recall, remember } from "./session.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const dark = matchMedia("(prefers-color-scheme: dark)");

export const theme = () => (recall("theme") in NEXT ? recall("theme") : "auto");

export function applyTheme() {
  const chosen = theme();
  document.documentElement.dataset.theme = chosen !== "auto" ? chosen : dark.matches ? "dark" : "light";
}

export function nextTheme() {
  remember("theme", NEXT[theme()]);
  applyTheme();
}

dark.addEventListener("change", applyTheme);
// paper is light
addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; });
addEventListener("afterprint", applyTheme);
