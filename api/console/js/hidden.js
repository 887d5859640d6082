// An address may name a base that the token does not reach: what is shown instead must not pass for it.

import { toast } from "./dom.js";
import { t } from "./i18n.js";

let told = false;

/** Say once that the base of the address is not among these. */
export function tellHidden(bases, asked = new URLSearchParams(location.search).get("base")) {
  if (!told && asked && !bases.some((b) => b.code === asked)) toast(t("base_hidden", { code: asked }), true, 20_000);
  told = true;
}
