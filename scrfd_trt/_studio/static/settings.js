/** What is drawn over the faces: the two modes, overlays as thumbnails on the person's own picture, and their options. */
import { icon, make, toast } from "./ui.js";

const FIRST = { hide: ["blur", "pixelate", "solid", "emoji", "skull"], fun: ["skull", "emoji", "image", "spotlight"] };
const EARLY = ["picture", "kind", "strength", "block", "fill", "effect", "amount"];
const RARE = new Set(["blending", "points", "fit", "block", "feather", "margin", "method", "left_color", "right_color", "nose_color"]);
const NAMES = { image: "picture instead", box_color: "colour of boxes", fill: "colour", max_faces: "most faces", picture: "your picture" };
const START = { hide: { name: "blur", options: { scale: 1.6, margin: 0 } }, fun: { name: "skull", options: {} } }; // as anonymize covers
const THRESHOLDS = { hide: 0.3, fun: 0.5 };

/** Return the settings that a mode starts with. */
export function defaults(mode) {
  const hide = mode === "hide";
  return { mode, overlays: [structuredClone(START[mode])], threshold: null, small_faces: hide, rotations: hide };
}

/** Return the overlays in a mode's order: [those at hand, the others]; hiding offers only those that cover faces. */
export function ordered(overlays, mode) {
  const first = FIRST[mode].map((name) => overlays.find((overlay) => overlay.name === name)).filter((overlay) => overlay && (mode === "fun" || overlay.covers));
  return [first, overlays.filter((overlay) => !first.includes(overlay) && (mode === "fun" || overlay.covers || overlay.error))];
}

/** Return the control that fits an option: its kind and, for sliders, its ends, step and whether it is logarithmic. */
export function control({ name, type, choices, min, max, default: value }) {
  if (choices?.length) return { kind: choices.length <= 3 ? "segmented" : "select" };
  if (type === "true or false") return { kind: "switch" };
  if (type === "path") return { kind: "file" };
  if (type === "colour") return { kind: "colour" };
  if (type !== "number" && type !== "integer") return { kind: "text" };
  if (min == null || max == null || value == null) return { kind: "number", step: type === "integer" ? 1 : "any" };
  const logarithmic = type === "number" && value > 0 && max >= 5 * value;
  const low = logarithmic ? Math.max(min, value / 4) : min;
  return { kind: "slider", low, high: logarithmic ? Math.min(max, value * 4) : max, step: type === "integer" ? 1 : 0.01, logarithmic };
}

/** Return where a value stands on a slider, 0 to 1000, and back. */
export const position = (value, { low, high, logarithmic }) => 1000 * (logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
export function valueAt(at, { low, high, step, logarithmic }) {
  const value = logarithmic ? low * (high / low) ** (at / 1000) : low + ((high - low) * at) / 1000;
  return Number((Math.round(value / step) * step).toFixed(4));
}

/** Return options without those that have their default. */
export function withOption(options, { name, default: usual }, value) {
  const { [name]: _, ...others } = options;
  return value === usual || value === null || value === "" ? others : { ...others, [name]: value };
}

const words = (name) => NAMES[name] ?? name.replaceAll("_", " ");
const capital = (text) => (text === "srgb" ? "sRGB" : text[0].toUpperCase() + text.slice(1));
const title = (name) => capital(name === "image" ? "sticker" : words(name));

export class Settings {
  constructor(panel, modes, hooks) {
    Object.assign(this, { panel, modes, hooks, layer: 0, settings: defaults("hide"), kept: {}, files: {} });
    modes.addEventListener("change", (event) => this.#mode(event.target.value));
    this.layers = make("ol", { class: "layers", "aria-label": "Overlays, drawn in this order" });
    this.gallery = make("div", { class: "gallery", role: "radiogroup", "aria-label": "Overlay" });
    this.others = make("div", { class: "gallery", role: "radiogroup", "aria-label": "More overlays" });
    this.otherBlock = make("details", { class: "more" }, make("summary", {}, "More overlays"), this.others);
    this.another = make("button", { type: "button", class: "button with-icon", on: { click: () => this.#add() } }, icon("add"), "Add another");
    this.options = make("div", { class: "options" });
    this.rare = make("div", { class: "options" });
    this.looking = make("div", { class: "options" });
    this.all = make("button", { type: "button", class: "button", hidden: true, on: { click: () => hooks.onApplyAll(this.settings) } }, "Use for all files");
    const more = make("details", { class: "more" }, make("summary", {}, "More"), this.rare, this.looking);
    panel.append(this.layers, this.gallery, this.otherBlock, this.another, this.options, more, this.all);
    this.#build();
  }

  /** Show the settings of another file; those of the same file are changed by this panel only. */
  set(settings, id = null) {
    if (this.id === id) return;
    this.flush();
    this.id = id;
    if (JSON.stringify(settings) === JSON.stringify(this.settings)) return;
    this.settings = structuredClone(settings);
    this.layer = Math.min(this.layer, Math.max(settings.overlays.length - 1, 0));
    this.#build();
  }

  /** Load the thumbnails again, for another item. */
  refresh() {
    for (const image of this.panel.querySelectorAll(".choice img")) this.#thumbnail(image);
  }

  showApplyAll(shown) { this.all.hidden = !shown; }

  #changed(delay = 0) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), delay);
  }

  /** Send a change that waits. */
  flush() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = null;
    this.hooks.onChange(structuredClone(this.settings), this.id);
  }

  #mode(mode) {
    this.kept[this.settings.mode] = this.settings;
    this.settings = this.kept[mode] ?? defaults(mode);
    this.layer = 0;
    this.panel.scrollTop = 0; // to the overlays
    this.#build();
    this.#changed();
  }

  #add() {
    const used = this.settings.overlays.map((layer) => layer.name);
    const [first, rest] = ordered(this.hooks.overlays, this.settings.mode);
    const free = [...first, ...rest].find((overlay) => !used.includes(overlay.name) && !overlay.error && !overlay.options.some((option) => option.required));
    if (!free) return;
    this.layer = this.settings.overlays.push({ name: free.name, options: {} }) - 1;
    this.#build();
    this.#changed();
  }

  #choose(name) {
    const layer = this.settings.overlays[this.layer];
    const before = this.kept[`options ${layer?.name}`] = layer?.options;
    this.settings.overlays[this.layer] = { name, options: layer?.name === name ? before : this.kept[`options ${name}`] ?? (START.hide.name === name ? START.hide.options : {}) };
    this.#layers();
    this.#fill();
    this.#changed();
    const missing = this.#overlay().options.some((option) => option.required && this.settings.overlays[this.layer].options[option.name] == null);
    if (missing && this.clicked) this.options.querySelector("input[type=file]")?.click(); // arrow keys only pass by
  }

  #overlay() { return this.hooks.overlays.find((overlay) => overlay.name === this.settings.overlays[this.layer]?.name); }

  #build() {
    const { mode } = this.settings;
    for (const input of this.modes.querySelectorAll("input")) input.checked = input.value === mode;
    const [first, others] = ordered(this.hooks.overlays, mode);
    this.gallery.replaceChildren(...first.map((overlay) => this.#card(overlay)));
    this.others.replaceChildren(...others.map((overlay) => this.#card(overlay)));
    this.otherBlock.hidden = !others.length;
    this.otherBlock.open = others.some((overlay) => overlay.name === this.settings.overlays[this.layer]?.name);
    this.#layers();
    this.#fill();
    this.#detection();
  }

  #card(overlay) {
    const chosen = overlay.name === this.settings.overlays[this.layer]?.name;
    const image = make("img", { alt: "", hidden: true, "data-overlay": overlay.name });
    image.addEventListener("load", () => { image.hidden = false; });
    this.#thumbnail(image);
    const tip = overlay.error ? `${overlay.name}: ${overlay.error}` : overlay.summary;
    const input = make("input", { type: "radio", name: "overlay", value: overlay.name, checked: chosen, disabled: Boolean(overlay.error), on: { click: (event) => { this.clicked = event.detail > 0; }, change: () => this.#choose(overlay.name) } });
    return make("label", { class: "choice", title: tip }, input, make("span", { class: "frame" }, overlay.options.some((option) => option.required) ? icon("add") : image), make("span", { class: "name" }, title(overlay.name)));
  }

  #thumbnail(image) {
    const url = this.hooks.thumbnail(image.dataset.overlay);
    if (url && image.getAttribute("src") !== url) image.src = url;
  }

  /** List the overlays, if there are several. */
  #layers() {
    const several = this.settings.overlays.length > 1;
    this.layers.hidden = !several;
    this.layers.replaceChildren(...this.settings.overlays.map((layer, index) => {
      const choose = make("button", { type: "button", class: "button quiet", "aria-pressed": index === this.layer, on: { click: () => { this.layer = index; this.#build(); } } }, `${index + 1}. ${title(layer.name)}`);
      const remove = make("button", { type: "button", class: "icon-button", "aria-label": `Remove ${title(layer.name).toLowerCase()}`, on: { click: () => this.#remove(index) } }, icon("close"));
      return make("li", {}, choose, remove);
    }));
  }

  #remove(index) {
    this.settings.overlays.splice(index, 1);
    this.layer = Math.min(this.layer, this.settings.overlays.length - 1);
    this.#build();
    this.#changed();
  }

  /** Show the options of the chosen overlay. */
  #fill() {
    const options = (this.#overlay()?.options ?? []).filter((option) => !(option.choices?.includes("bgr") && option.choices.length === 2));
    const rank = ({ name }) => (EARLY.includes(name) ? EARLY.indexOf(name) : EARLY.length);
    options.sort((a, b) => rank(a) - rank(b));
    const build = (rare) => options.filter((option) => RARE.has(option.name) === rare).map((option) => this.#field(option));
    this.options.replaceChildren(...build(false));
    this.rare.replaceChildren(...build(true));
  }

  #field(option) {
    const layer = this.settings.overlays[this.layer];
    const value = layer.options[option.name] ?? option.default;
    const how = control(option);
    const id = `option-${option.name}`;
    const problem = make("p", { class: "problem", role: "alert", hidden: true });
    const change = async (next, delay = 0) => {
      const options = withOption(layer.options, option, next);
      const asked = field.asked = {};
      let refused = null;
      if (how.kind !== "slider") refused = await this.hooks.check(layer.name, options).then((answer) => answer?.error ?? null, (error) => error.message);
      if (field.asked !== asked) return; // another value was chosen meanwhile
      problem.hidden = !refused;
      problem.textContent = refused ?? "";
      for (const input of field.querySelectorAll("input")) input.setAttribute("aria-invalid", Boolean(refused));
      if (refused) return;
      layer.options = withOption(layer.options, option, next);
      this.#changed(delay);
    };
    const parts = FIELDS[how.kind]({ id, option, value, how, change, settings: this });
    const help = option.help && make("p", { class: "help", id: `${id}-help` }, option.help);
    const field = make("div", { class: "field" }, ...(how.kind === "switch" ? [] : [make("label", { class: "name", for: id, id: `${id}-name` }, capital(words(option.name)))]), ...parts, help || null, problem);
    field.querySelector("input, select, .segmented")?.setAttribute("aria-describedby", `${id}-help`);
    return field;
  }

  /** Show how faces are looked for. */
  #detection() {
    const { settings } = this;
    const usual = THRESHOLDS[settings.mode];
    const how = { low: 0.05, high: 0.95, step: 0.01 };
    const score = FIELDS.slider({ id: "threshold", how, value: settings.threshold ?? usual, change: (value) => { settings.threshold = value === usual ? null : value; this.#changed(120); } });
    const toggle = (key, text) => make("label", { class: "switch" }, make("input", { type: "checkbox", checked: settings[key], on: { change: (event) => { settings[key] = event.target.checked; this.#changed(); } } }), make("span", {}, text));
    this.looking.replaceChildren(
      make("div", { class: "field" }, make("label", { class: "name", for: "threshold" }, "Lowest score"), ...score, make("p", { class: "help" }, "A lower score finds more faces, and more that are none.")),
      toggle("small_faces", "Look for small faces"), toggle("rotations", "Look for turned faces"),
    );
  }
}

function paint(input) { input.style.setProperty("--fill", `${(100 * (input.value - input.min)) / (input.max - input.min)}%`); }

/** By kind of control: the parts of a field. */
const FIELDS = {
  slider({ id, how, value, change }) {
    const shown = make("output", { class: "value", for: id }, String(value));
    const input = make("input", { type: "range", class: "wide", id, min: 0, max: 1000, value: position(value, how), "aria-valuetext": String(value), on: { input: () => {
      const now = valueAt(Number(input.value), how);
      shown.textContent = now;
      input.setAttribute("aria-valuetext", now);
      paint(input);
      change(now, 120);
    } } });
    paint(input);
    return [shown, input];
  },
  number: ({ id, value, how, option, change }) => [make("input", { type: "number", class: "wide", id, value, step: how.step, min: option.min, max: option.max, placeholder: "Automatic", on: { change: (event) => change(event.target.value === "" ? null : Number(event.target.value)) } })],
  text: ({ id, value, change }) => [make("input", { type: "text", class: "wide", id, value, placeholder: "Automatic", on: { change: (event) => change(event.target.value.trim()) } })],
  switch: ({ id, value, option, change }) => [make("label", { class: "switch wide" }, make("input", { type: "checkbox", id, checked: Boolean(value), on: { change: (event) => change(event.target.checked) } }), make("span", {}, capital(words(option.name))))],
  select: ({ id, value, option, change }) => [make("select", { class: "wide", id, on: { change: (event) => change(event.target.value) } }, option.choices.map((choice) => make("option", { value: choice, selected: choice === value }, capital(choice))))],
  segmented: ({ id, value, option, change }) => [make("div", { class: "segmented wide", id, role: "radiogroup", "aria-labelledby": `${id}-name` }, option.choices.map((choice) => make("label", {}, make("input", { type: "radio", name: id, value: choice, checked: choice === value, on: { change: () => change(choice) } }), make("span", {}, capital(choice)))))],
  colour({ id, value, change }) {
    const context = document.createElement("canvas").getContext("2d");
    context.fillStyle = value || "#000000";
    return [make("input", { type: "color", id, value: context.fillStyle, on: { change: (event) => change(event.target.value) } })];
  },
  file({ id, value, option, change, settings }) {
    const { files } = settings;
    const input = make("input", { type: "file", id, class: "visually-hidden", accept: "image/*", on: { change: async () => {
      const [file] = input.files;
      if (!file) return;
      try {
        const sticker = await settings.hooks.uploadSticker(file);
        files[sticker] = file.name;
        await change(sticker);
        show(sticker);
      } catch (error) { toast(error.message, { error: true }); }
    } } });
    const name = make("span", { class: "small muted" });
    const remove = make("button", { type: "button", class: "icon-button", "aria-label": `Remove ${words(option.name)}`, on: { click: () => { input.value = ""; change(null); show(null); } } }, icon("close"));
    const choose = make("button", { type: "button", class: "button with-icon wide", on: { click: () => input.click() } }, icon("image"), "Choose a picture");
    const show = (sticker) => {
      const missing = !sticker && option.required;
      name.textContent = sticker ? files[sticker] ?? "Uploaded" : missing ? "Choose a PNG or WebP with alpha. Until then, the picture keeps the overlay it has." : "";
      choose.classList.toggle("primary", missing);
      remove.hidden = !sticker || option.required;
    };
    show(value);
    return [make("div", { class: "row wide" }, name, remove), choose, input];
  },
};
