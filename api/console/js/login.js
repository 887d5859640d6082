// Asking for the token, on every page alike: where there is none, and where the server refuses the one there is.

import { byId, h } from "./dom.js";
import { t } from "./i18n.js";
import { forgetToken, keepToken, token } from "./session.js";

/** Ask for a token and call `done()` with it kept; `why` says what was wrong with the one before. */
export function askToken(done, why = null) {
  const dialog = byId("dialog");
  if (dialog.open && dialog.querySelector("#token")) return;
  forgetToken();
  const field = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", {
    method: "dialog",
    onsubmit: (event) => {
      event.preventDefault();
      keepToken(field.value);
      dialog.close();
      done();
    },
  },
  h("h2", { id: "dialog-title" }, t("login")), h("p.about", {}, t("login_about")), why && h("p.error", { role: "alert" }, why),
  h("label", {}, t("token"), field), h("div.actions", {}, h("button.primary", { type: "submit" }, t("login"))));
  if (dialog.open) dialog.close();
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => { if (!token()) event.preventDefault(); };
  dialog.showModal();
  field.focus();
}
