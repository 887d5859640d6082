// The language of the page: ?lang=, else the last choice, else the browser's, else Chinese.

import { words as pageWords } from "./words.js";
import { deskWords } from "./desk/words.js";
import { recall, remember } from "./session.js";

const words = { ...pageWords, ...deskWords };
const LANGUAGES = ["zh", "en"];
let now = null;

function first() {
  const browser = navigator.languages.map((l) => l.slice(0, 2).toLowerCase()).find((l) => LANGUAGES.includes(l));
  const asked = [new URLSearchParams(location.search).get("lang"), recall("language"), browser];
  return asked.find((l) => LANGUAGES.includes(l)) ?? "zh";
}

export function language() {
  now ??= first();
  return now;
}

export function setLanguage(name) {
  now = name;
  remember("language", name);
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
}

/** The word of a key in the page's language; `{name}` places are filled. A key without a word shows itself. */
export function t(key, places = {}) {
  const text = words[key]?.[language() === "zh" ? 0 : 1] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => places[name] ?? "");
}

/** A word of a group, e.g. w("state", "missing"); an unknown one shows its code. */
export const w = (group, code) => (words[`${group}.${code}`] ? t(`${group}.${code}`) : code);

/** The name of a row that carries name_zh and name_en (or the fields given). */
export const nameOf = (row, zh = "name_zh", en = "name_en") => (language() === "zh" ? row[zh] : row[en]) ?? "";
