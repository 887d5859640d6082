// The steps of an operator: at once, or after a dialog that asks for what the step needs.

import { byId, h, toast } from "./dom.js";
import { t, w } from "./i18n.js";
import { step, titleOf, placeOf } from "./alertbook.js";
import { changed } from "./bus.js";

const TIMES = [30, 60, 240, 480, 1440, 10080];
const REASONS = ["maintenance", "instrument", "known"];

async function take(alert, change, said, done = "stepped") {
  let after;
  try {
    after = await step(alert.id, change, said);
  } catch (refusal) {
    if (refusal.status === 403) changed("forbidden");
    throw refusal;
  }
  changed("alerts", after);
  toast(t(done));
  return after;
}

async function atOnce(alert, change, done) {
  try {
    await take(alert, change, {}, done);
  } catch (refusal) {
    toast(refusal.status ? refusal.message : t("no_answer"), true);
    changed("alerts");
  }
}

const AT_A_TIME = 6;

/** Acknowledge alerts one by one after a question; each is a step of its own. */
export function acknowledgeAll(alerts, flood = false) {
  ask({ title: t("ack_all_title", { n: alerts.length }), about: `${titleOf(alerts[0])} — ${t(flood ? "ack_flood_about" : "ack_all_about", { n: alerts.length })}`,
    fields: null, send: async () => {
      const due = [...alerts];
      let done = 0;
      const work = async () => {
        for (let alert = due.pop(); alert; alert = due.pop()) {
          try {
            await step(alert.id, "ack", {});
            done += 1;
          } catch (refusal) {
            if (refusal.status !== 409) throw refusal; // 409: a colleague was faster
          }
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, work)).finally(() => changed("alerts"));
      toast(t("acked_of", { done, n: alerts.length }));
    } });
}

export const acknowledge = (alert) => atOnce(alert, "ack", "acked");
export const unshelve = (alert) => atOnce(alert, "unshelve");

/** Ask in a dialog; `send()` throws the server's refusal, which is shown there. */
export function ask({ title, about, fields, send }) {
  const dialog = byId("dialog");
  const error = h("p.error", { role: "alert", hidden: true });
  const confirm = h("button.primary", { type: "submit" }, t("confirm"));
  const form = h("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      confirm.disabled = true;
      try {
        await send();
        dialog.close();
      } catch (refusal) {
        error.textContent = refusal.status ? refusal.message : t("no_answer");
        error.hidden = false;
      } finally {
        confirm.disabled = false;
      }
    },
  },
  h("h2", { id: "dialog-title" }, title), about && h("p.about", {}, about), fields, error,
  h("div.actions", {}, h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")), confirm));
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.replaceChildren(form);
  dialog.showModal();
}

const about = (alert) => [titleOf(alert), placeOf(alert)].filter(Boolean).join(" · ");

export function shelve(alert) {
  let minutes = 60;
  const note = h("textarea", { name: "reason", required: true, maxlength: 2000 });
  const times = h("div.choices", { role: "group", "aria-label": t("shelve_time") });
  const drawTimes = () => times.replaceChildren(...TIMES.map((m) => h("button", {
    type: "button", "data-minutes": m, "aria-pressed": String(m === minutes), onclick: () => { minutes = m; drawTimes(); },
  }, w("minutes", m))));
  drawTimes();
  const reasons = h("div.choices", {}, REASONS.map((r) => h("button", { type: "button", onclick: () => { note.value = w("reason", r); } }, w("reason", r))));
  ask({
    title: t("shelve_title"), about: `${about(alert)} — ${t("shelve_about")}`,
    fields: [h("label", {}, t("shelve_time"), times), h("label", {}, t("shelve_reason"), reasons, note)],
    send: () => take(alert, "shelve", { minutes, note: note.value.trim() }),
  });
}

export function comment(alert) {
  const note = h("textarea", { name: "note", required: true, maxlength: 2000, autofocus: true });
  ask({ title: t("comment_title"), about: about(alert), fields: h("label", {}, t("comment_text"), note),
    send: () => take(alert, "comment", { note: note.value.trim() }) });
}

export function assign(alert) {
  const to = h("input", { name: "to", required: true, maxlength: 200, value: alert.assigned_to ?? "", autofocus: true });
  const note = h("textarea", { name: "note", maxlength: 2000 });
  ask({ title: t("assign_title"), about: about(alert), fields: [h("label", {}, t("assign_to"), to), h("label", {}, t("assign_note"), note)],
    send: () => take(alert, "assign", { to: to.value.trim(), note: note.value.trim() }) });
}

export function closeAlert(alert) {
  const note = h("textarea", { name: "note", maxlength: 2000, autofocus: true });
  ask({ title: t("close_title"), about: about(alert), fields: h("label", {}, t("close_note"), note),
    send: () => take(alert, "close", { note: note.value.trim() }) });
}
