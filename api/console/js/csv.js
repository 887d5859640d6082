// Tables as files: CSV that spreadsheets open as it is, with a mark of its encoding.

import { h } from "./dom.js";

/** One cell: quoted where needed; a text that a spreadsheet would take for a formula is kept a text. */
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "number" ? String(value) : String(value).replace(/^(?=[=+\-@\t\r])/, "'");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Save rows of texts and numbers under a name. */
export function saveCsv(name, rows) {
  saveBlob(name, new Blob(["\ufeff", rows.map((row) => row.map(cell).join(",")).join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" }));
}

/** Save what was fetched or made under a name. */
export function saveBlob(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
