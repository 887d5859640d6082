// One place where parts of the page tell each other that something changed.

const target = new EventTarget();

export const changed = (what, detail) => target.dispatchEvent(new CustomEvent(what, { detail }));
export const whenChanged = (what, listener) => target.addEventListener(what, (event) => listener(event.detail));
