// Elements without markup in strings: text from the park can never become code.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("div.name", {onclick, hidden, "aria-label"}, children...)`; null and false children are left out. */
export function h(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElement(tag || "div"), classes, attributes, children);
}

/** The same for SVG. */
export function s(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElementNS(SVG, tag), classes, attributes, children);
}

function fill(element, classes, attributes, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what an element shows and keep the focus and the scroll where they were (by `data-key`). */
export function show(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const scrolled = [...element.querySelectorAll("[data-scroll]")].map((e) => [e.dataset.scroll, e.scrollTop]);
  element.replaceChildren(...children.flat(3).filter(Boolean));
  for (const [name, top] of scrolled) {
    const again = element.querySelector(`[data-scroll="${name}"]`);
    if (again) again.scrollTop = top;
  }
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export const byId = (id) => document.getElementById(id);

const tip = () => byId("tooltip");

/** A text beside the pointer or beside a focused element. */
export function showTip(text, x, y) {
  const box = tip();
  box.textContent = text;
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 6))}px`;
  box.style.top = `${y + 16 + height > innerHeight ? y - height - 8 : y + 16}px`;
}

export function hideTip() {
  tip().hidden = true;
}

/** What stands in `title` for a mouse is told to fingers and to the keyboard too: by a tap, or by the focus. */
export function watchTitles() {
  const textOf = (element) => {
    for (let e = element; e && e !== document.body; e = e.parentElement) {
      const text = e.getAttribute("title") || [...e.children].find((c) => c.tagName === "title")?.textContent;
      if (text) return text;
    }
    return null;
  };
  document.addEventListener("pointerup", (event) => {
    if (event.pointerType === "mouse" || event.target.closest("svg.watched")) return;
    const text = event.target.closest("button, a, input, select, textarea, label") ? null : textOf(event.target);
    if (text) showTip(text, event.clientX, event.clientY);
    else hideTip();
  });
  document.addEventListener("focusin", (event) => {
    const text = event.target.matches(":focus-visible") && textOf(event.target);
    const box = event.target.getBoundingClientRect();
    if (text) showTip(text, box.left - 10, box.bottom - 10);
  });
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", hideTip, { capture: true, passive: true });
}

/** Say it to someone who looks elsewhere. */
export function toast(text, bad = false, for_ms = bad ? 8000 : 3500) {
  const box = h(bad ? "div.toast.bad" : "div.toast", {}, text);
  byId("toasts").append(box);
  setTimeout(() => box.remove(), for_ms);
}
