/** Small things that every part of the page uses: elements, icons, messages, tabs and dialogs. */

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

/** Return an element; `on` maps events to handlers, children are nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (typeof value === "boolean" && name.startsWith("aria-")) element.setAttribute(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** Return one of the icons of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = svg.appendChild(document.createElementNS(SVG, "use"));
  use.setAttribute("href", `#i-${name}`);
  return svg;
}

/** Say something to screen readers. */
export function announce(text) {
  const region = byId("live-region");
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

/** Show a message for some seconds; errors stay until they are closed. */
export function toast(text, { error = false, action = null } = {}) {
  const close = () => message.remove();
  const message = make("div", { class: error ? "toast error" : "toast", role: error && "alert" }, make("span", {}, text));
  if (action) message.append(make("button", { class: "button quiet", type: "button", on: { click: () => { close(); action.run(); } } }, action.label));
  message.append(make("button", { class: "icon-button", type: "button", "aria-label": "Close", on: { click: close } }, icon("close")));
  (document.querySelector("dialog[open]") ?? document.body).append(byId("toasts")); // what is beside an open dialog cannot be reached
  const same = [...byId("toasts").children].find((other) => other.firstChild.textContent === text);
  if (same) same.remove();
  if (!error) announce(text);
  byId("toasts").append(message);
  if (!error) setTimeout(close, action ? 8000 : 4000);
  return close;
}

/** Show a state over the picture (`opening`, `looking`, `failed`, `none`), or nothing (null). */
export function state(shown) {
  const place = byId("state");
  place.hidden = !shown;
  if (!shown) return place.replaceChildren();
  const { kind, title, text = "", progress, action } = shown;
  const key = [kind, title, text, progress === undefined].join("\n");
  const bar = place.querySelector("progress");
  if (place.firstChild && place.dataset.key === key) { if (bar) bar.value = progress; return undefined; } // not said twice
  place.dataset.key = key;
  const words = make("div", {}, make("strong", {}, title), make("span", { class: "muted" }, text));
  if (progress !== undefined && kind !== "failed") words.append(make("progress", { class: "progress", max: 1, value: progress, "aria-label": title }));
  const button = action && make("button", { class: "button", type: "button", on: { click: action.run } }, action.label);
  const sign = kind === "failed" ? icon("warning") : kind === "none" ? icon("box") : make("span", { class: "spinner" });
  place.dataset.kind = kind;
  place.setAttribute("role", kind === "failed" ? "alert" : "status");
  return place.replaceChildren(sign, words, ...(button ? [button] : []));
}

/** Make the tabs of a panel work, by mouse and by arrow keys. */
export function tabs(panel) {
  const all = [...panel.querySelectorAll('[role="tab"]')];
  const select = (id, focus = false) => {
    for (const tab of all) {
      const chosen = tab.id === id;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !chosen;
      if (chosen && focus) tab.focus();
    }
    panel.dispatchEvent(new CustomEvent("tab", { detail: id }));
  };
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tab.id));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { event.preventDefault(); select(all[(index + step + all.length) % all.length].id, true); }
    });
  });
  return { select };
}

/** Buttons with `data-close` and clicks beside a dialog close it. */
export function dialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => document.body.append(byId("toasts")));
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("[data-close]")) dialog.close(); });
  }
}
