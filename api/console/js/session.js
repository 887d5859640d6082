// The token of this tab. It lives in sessionStorage, never in the address bar, never in a log.

const KEY = "park.token";

/** Take `#token=...` out of the address at once, before anything else can copy it. */
export function takeTokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  history.replaceState(null, "", location.pathname + location.search);
  keepToken(given);
}

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const keepToken = (text) => sessionStorage.setItem(KEY, text.trim());
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** A choice that outlives the tab: theme, sound, base, language. */
export const recall = (name) => localStorage.getItem(`park.${name}`);
export const remember = (name, value) => localStorage.setItem(`park.${name}`, value);
