// Who the token is and what it may do: the page shows no button beyond that. The server decides all the same.

import { get } from "./api.js";

let me = { name: "", role: "", rights: [] };

/** Ask the server; until it has answered nothing is allowed. */
export async function readMe() {
  me = await get("/me");
  return me;
}

export const may = (right) => me.rights.includes(right);
export const myName = () => me.name;
export const isRole = (role) => me.role === role;
/** The word for "this base has none", of the enterprise where the token sees no more than that. */
export const ofScope = (word) => (isRole("enterprise") ? `${word}_own` : word);
/** What the server refused is not offered again. */
export const forbid = (right) => { me = { ...me, rights: me.rights.filter((r) => r !== right) }; };
