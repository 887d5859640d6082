// Files that need the token: a document is sent to the platform, a file is fetched and saved under its name.

import { h, toast } from "./dom.js";
import { headers, read, refusalOf } from "./api.js";

const KEPT = /\.(pdf|png|jpe?g|xlsx|docx|csv)$/i;       // as POST /evidence takes them
const MOST = 10 * 1024 * 1024;

/** Whether the platform keeps a document like this one. */
export const isKept = (file) => KEPT.test(file.name) && file.size <= MOST;

/** The document as the platform keeps it: {id, sha256, ...}; a Refusal says why it is not taken. */
export async function upload(base, file) {
  return read(await fetch(`/api/v1/evidence?${new URLSearchParams({ base, name: file.name })}`, {
    method: "POST", body: file, headers: headers({ "Content-Type": "application/octet-stream" }), credentials: "omit" }));
}

/** Save what an address answers; `silent` is said where no answer comes. */
export async function save(address, name, silent, accept = "*/*") {
  const answer = await fetch(address, { headers: headers({ Accept: accept }), cache: "no-store", credentials: "omit" }).catch(() => null);
  if (!answer?.ok) return toast(answer ? (await refusalOf(answer)).message : silent, true);
  const link = h("a", { href: URL.createObjectURL(await answer.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return null;
}
