/**
 * A picture with its faces: zoom, pan, cover and uncover, draw, move and resize boxes, compare with the original.
 *
 *   const viewer = new Viewer(element, { tools, list, onEdit, onNavigate, onSelect, onKey })
 *   await viewer.setPicture({ id, version, width, height, name, url: ({ covered, side, box }) => string | null })
 *   viewer.setFaces([{ id, box: [x1, y1, x2, y2], score, origin, covered, doubtful, label, fixed, always }])
 *
 * All boxes are in pixels of the picture; one that is `fixed` cannot be moved, one that is `always` covered
 * cannot be left visible. `onEdit(operation)` returns a function that sends the operation to the server,
 * for what is shown now, and returns the answer `{ version, faces, patches, redraw, can_undo, can_redo }`, which the viewer
 * applies; null: nothing is applied. Operations are sent one after the other.
 */
import { reason } from "./api.js";
import { announce, icon, make, toast } from "./ui.js";

const HANDLES = { nw: [0, 0], n: [0.5, 0], ne: [1, 0], e: [1, 0.5], se: [1, 1], s: [0.5, 1], sw: [0, 1], w: [0, 0.5] };
const CURSORS = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", n: "ns-resize", s: "ns-resize", e: "ew-resize", w: "ew-resize" };
const SMALLEST = 4; // pixels of the picture: the least side of a box
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** Return the view (scale, and where the picture's corner is) that shows all of a picture. */
export function fit(width, height, picture, margin = 12) {
  const scale = Math.max(Math.min((width - 2 * margin) / picture.width, (height - 2 * margin) / picture.height), 0.001);
  return { scale, x: (width - picture.width * scale) / 2, y: (height - picture.height * scale) / 2 };
}

/** Return a view in which the picture fills the window, or is centred where it is smaller. */
export function settle(view, width, height, picture) {
  const along = (at, length, room) => (length <= room ? (room - length) / 2 : clamp(at, room - length - room / 4, room / 4));
  return { scale: view.scale, x: along(view.x, picture.width * view.scale, width), y: along(view.y, picture.height * view.scale, height) };
}

/** Return the view after a zoom around a point of the window. */
export function zoomed(view, factor, x, y, low, high) {
  const scale = clamp(view.scale * factor, low, high);
  return { scale, x: x - (x - view.x) * (scale / view.scale), y: y - (y - view.y) * (scale / view.scale) };
}

export const toPicture = (view, x, y) => [(x - view.x) / view.scale, (y - view.y) / view.scale];
export const toWindow = (view, [x1, y1, x2, y2]) => [x1 * view.scale + view.x, y1 * view.scale + view.y, x2 * view.scale + view.x, y2 * view.scale + view.y];

/** Return the box between two points, within the picture. */
export function boxBetween([ax, ay], [bx, by], picture) {
  const x = [ax, bx].map((value) => clamp(value, 0, picture.width)).sort((a, b) => a - b);
  const y = [ay, by].map((value) => clamp(value, 0, picture.height)).sort((a, b) => a - b);
  return [x[0], y[0], x[1], y[1]];
}

/** Return a box of a size around a point, moved into the picture. */
export function boxAround([x, y], width, height, picture) {
  const left = clamp(x - width / 2, 0, picture.width - width);
  const top = clamp(y - height / 2, 0, picture.height - height);
  return [left, top, Math.min(left + width, picture.width), Math.min(top + height, picture.height)];
}

/** Return a box moved by a distance, within the picture. */
export function moved([x1, y1, x2, y2], dx, dy, picture) {
  const [x, y] = [clamp(dx, -x1, picture.width - x2), clamp(dy, -y1, picture.height - y2)];
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}

/** Return a box of which a side or corner was dragged; it keeps its smallest side and stays in the picture. */
export function resized([x1, y1, x2, y2], handle, dx, dy, picture) {
  if (handle.includes("w")) x1 = clamp(x1 + dx, 0, x2 - SMALLEST);
  if (handle.includes("e")) x2 = clamp(x2 + dx, x1 + SMALLEST, picture.width);
  if (handle.includes("n")) y1 = clamp(y1 + dy, 0, y2 - SMALLEST);
  if (handle.includes("s")) y2 = clamp(y2 + dy, y1 + SMALLEST, picture.height);
  return [x1, y1, x2, y2];
}

/** Return the face at a point of the window: the smallest that contains it, or the nearest of those with its finger-sized surroundings. */
export function faceAt(faces, view, x, y, target = 24) {
  let found = null, best = Infinity;
  for (const face of faces) {
    const [x1, y1, x2, y2] = toWindow(view, face.box);
    const [dx, dy] = [Math.abs(x - (x1 + x2) / 2), Math.abs(y - (y1 + y2) / 2)];
    const [width, height] = [x2 - x1, y2 - y1];
    if (2 * dx > Math.max(width, target) || 2 * dy > Math.max(height, target)) continue;
    const rank = 2 * dx <= width && 2 * dy <= height ? width * height - 1e12 : Math.hypot(dx, dy);
    if (rank < best) [found, best] = [face, rank];
  }
  return found;
}

/** Return the handles that a box of the window offers, and where: corners, and sides if there is room. */
export function handlesOf([x1, y1, x2, y2]) {
  const [width, height] = [x2 - x1, y2 - y1];
  if (Math.min(width, height) < 24) return []; // they would hide the face: zoom in first
  return Object.entries(HANDLES)
    .filter(([name]) => name.length === 2 || ("ns".includes(name) ? width : height) >= 72)
    .map(([name, [fx, fy]]) => [name, x1 + fx * width, y1 + fy * height]);
}

/** Return the name of the handle at a point; inside a small box only its outer half counts, so that it can be moved. */
export function handleAt(box, x, y, radius) {
  const [x1, y1, x2, y2] = box;
  const inside = Math.min(x - x1, x2 - x, y - y1, y2 - y);
  const near = Math.min(radius, Math.min(x2 - x1, y2 - y1) / 4);
  let found = null, nearest = inside > 0 ? near : radius;
  for (const [name, hx, hy] of handlesOf(box)) {
    const away = Math.hypot(x - hx, y - hy);
    if (away <= nearest) [found, nearest] = [name, away];
  }
  return found;
}

/** Return the face after or before one in reading order, around the ends. */
export function neighbour(faces, id, step) {
  if (!faces.length) return null;
  const at = faces.findIndex((face) => face.id === id);
  return faces[at < 0 ? (step > 0 ? 0 : faces.length - 1) : (at + step + faces.length) % faces.length];
}

/** Return the faces as they will be after an operation, to show before the server has answered. */
export function expected(faces, operation) {
  const { op, box } = operation;
  if (op === "cover" || op === "uncover") return faces.map((face) => (operation.faces.includes(face.id) ? { ...face, covered: op === "cover" } : face));
  if (op === "move") return faces.map((face) => (face.id === operation.face ? { ...face, box } : face));
  if (op === "remove") return faces.filter((face) => face.id !== operation.face);
  if (op === "add") return [...faces, { id: "new", box, score: null, origin: "drawn", covered: true, doubtful: false }];
  return faces;
}

/** Return in words what differs between two lists of faces. */
export function changes(before, after, nameOf) {
  const old = new Map(before.map((face) => [face.id, face]));
  const words = [];
  for (const face of after) {
    const was = old.get(face.id);
    if (!was) words.push(`${nameOf(face)} is added`);
    else if (was.covered !== face.covered) words.push(face.covered ? `${nameOf(face)} is covered` : `${nameOf(face)} stays visible`);
    else if (was.box.some((value, index) => value !== face.box[index])) words.push(`the box of ${nameOf(face)} is changed`);
    old.delete(face.id);
  }
  if (old.size) words.push(old.size === 1 ? "a box is deleted" : `${old.size} boxes are deleted`);
  return words.length > 3 ? `${words.length} faces are changed` : words.join(", ") || "nothing is changed";
}

/** Runs operations one after the other; `pending` is how many have no answer yet. */
export class Queue {
  pending = 0;
  #last = Promise.resolve();

  run(task) {
    this.pending += 1;
    const result = this.#last.then(task).finally(() => { this.pending -= 1; });
    this.#last = result.catch(() => {});
    return result;
  }

  idle() { return this.#last; }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode().catch(async () => {
    const answer = await fetch(url).catch(() => null); // says why
    throw new Error(answer && !answer.ok ? reason(await answer.text(), answer.status) : "The picture cannot be loaded.");
  });
  return image;
}

function canvasOf(image) {
  const canvas = make("canvas", { width: image.naturalWidth || image.width, height: image.naturalHeight || image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas;
}

export class Viewer {
  constructor(element, { tools = null, list = null, onEdit, onNavigate = null, onSelect = null, onKey = null }) {
    Object.assign(this, { element, tools, list, onEdit, onNavigate, onSelect, onKey });
    this.picture = this.after = this.before = this.detail = this.selected = this.hover = this.drag = null;
    this.faces = this.truth = [];
    this.rows = new Map();
    this.pointers = new Map();
    this.queue = new Queue();
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.split = null;
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "Picture", "aria-describedby": "viewer-help" });
    this.chip = make("div", { class: "chip", hidden: true });
    this.hint = make("p", { class: "hint", "aria-hidden": "true", hidden: true }); // the canvas is described below
    const help = make("p", { class: "visually-hidden", id: "viewer-help" }, "Arrow keys go from face to face. Space covers a face or leaves it visible. D adds a box, Alt and arrows move it, Shift and arrows resize it, Delete deletes it.");
    this.wipe = make("input", { type: "range", class: "wipe", min: 0, max: 100, value: 50, "aria-label": "Before and after", hidden: true, on: { input: () => { this.compare = this.wipe.value / 100; } } });
    this.wipeHandle = make("div", { class: "wipe-handle", hidden: true });
    this.wipeWords = [make("span", { class: "wipe-label before", hidden: true }, "Before"), make("span", { class: "wipe-label after", hidden: true }, "After")];
    element.append(this.canvas, help, this.wipe, this.wipeHandle, ...this.wipeWords, this.hint, this.chip);
    this.#listen();
    new ResizeObserver(() => this.#resized()).observe(element);
  }

  // What the page shows

  /** Show a picture; ends when it is drawn. The zoom and the selection stay if `id` is the same. */
  async setPicture(picture) {
    const same = this.picture?.id === picture.id;
    if (same) {
      await this.queue.idle();
      if (this.picture?.id !== picture.id || (this.after && this.picture.version >= picture.version)) return;
    }
    const replaced = !same || this.picture.width !== picture.width || this.picture.height !== picture.height;
    this.picture = picture;
    if (replaced) {
      this.after = this.before = this.detail = this.drag = null;
      this.draw = false;
      this.setFaces([]);
      this.select(null);
      this.#fit();
    }
    this.#name();
    if (!(await this.#loadAfter())) return;
    if (document.activeElement === document.body) this.canvas.focus({ preventScroll: true }); // for the keyboard
    if (!this.before) this.#loadBefore();
  }

  /** Load the covered picture, again if an edit changes it meanwhile; return whether it is still the one to show. */
  async #loadAfter() {
    const { picture } = this;
    let image, version;
    do {
      version = picture.version;
      image = await loaded(picture.url({ covered: true, side: this.#side })).catch((error) => { picture.version = -1; throw error; });
      if (this.picture !== picture) return false;
    } while (picture.version !== version);
    this.after = canvasOf(image);
    this.detail = null;
    this.#refine();
    this.#paint();
    return true;
  }

  async #loadBefore() {
    const { picture } = this;
    const url = picture.url({ covered: false, side: this.#side });
    const image = url && (await loaded(url).catch(() => null));
    if (!image || this.picture !== picture) return;
    this.before = image;
    this.#fillList();
    this.#paint();
  }

  /** Show any image source for the same picture at once, such as a frame that is played; the one before is closed. */
  setFrame(source, { covered = true } = {}) {
    const which = covered ? "after" : "before";
    if (this[which] !== source) this[which]?.close?.();
    this[which] = source;
    this.detail = null;
    this.#paint();
  }

  setFaces(faces) {
    this.truth = this.faces = faces;
    if (this.selected && !faces.some((face) => face.id === this.selected)) this.select(null);
    this.#name();
    this.#fillList();
    this.#placeChip();
    this.#paint();
  }

  /** Draw the parts of the covered picture that an edit changed. */
  async #patch(patches) {
    const { picture } = this;
    const images = await Promise.all(patches.map((patch) => loaded(patch.image)));
    if (this.picture !== picture) return;
    patches.forEach(({ box: [x1, y1, x2, y2] }, index) => {
      for (const [canvas, [left, top, right]] of [[this.after, [0, 0, this.picture.width]], [this.detail?.after, this.detail?.box ?? []]]) {
        if (!canvas?.getContext) continue;
        const scale = canvas.width / (right - left);
        canvas.getContext("2d").drawImage(images[index], (x1 - left) * scale, (y1 - top) * scale, (x2 - x1) * scale, (y2 - y1) * scale);
      }
    });
    this.#paint();
  }

  setHistory({ can_undo, can_redo }) {
    this.#tool("undo", { disabled: !can_undo });
    this.#tool("redo", { disabled: !can_redo });
    this.#tool("reset", { disabled: !can_undo });
  }

  /** Forget the picture. */
  clear() {
    for (const image of [this.after, this.before]) image?.close?.();
    this.picture = this.after = this.before = this.detail = null;
    this.compare = null;
    this.draw = false;
    this.setFaces([]);
    this.setHistory({});
  }

  get draw() { return this.element.classList.contains("drawing"); }
  set draw(on) {
    this.element.classList.toggle("drawing", on);
    this.#tool("draw", { "aria-pressed": on });
    this.#placeChip();
    this.#paint();
  }

  /** Where the before/after slider is, 0 to 1; null if it is off. */
  get compare() { return this.split; }
  set compare(at) {
    this.split = at;
    for (const part of [this.wipe, this.wipeHandle, ...this.wipeWords]) part.hidden = at === null;
    this.#tool("compare", { "aria-pressed": at !== null });
    if (at !== null) {
      this.wipe.value = Math.round(at * 100);
      this.wipeHandle.style.left = `${at * 100}%`;
      this.#refine();
    }
    this.#paint();
  }

  /** Show a box large, with its surroundings. */
  zoomTo([x1, y1, x2, y2], share = 0.3) {
    const { clientWidth: width, clientHeight: height } = this.element;
    const scale = clamp((share * Math.min(width, height)) / Math.max(x2 - x1, y2 - y1, 1), this.#limits[0], this.#limits[1]);
    this.#look({ scale, x: width / 2 - ((x1 + x2) / 2) * scale, y: height / 2 - ((y1 + y2) / 2) * scale });
  }

  zoom(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) { this.#look(zoomed(this.view, factor, x, y, ...this.#limits)); }

  // Edits

  /** Send an operation; its effect on the boxes is shown at once. */
  async edit(operation) {
    if (!this.picture || operation.face === "new") return;
    const { picture: { id }, faces: before } = this;
    const send = this.onEdit(operation);
    this.faces = expected(before, operation);
    this.#fillList();
    this.#placeChip();
    this.#paint();
    try {
      const answer = await this.queue.run(async () => {
        const found = await send();
        if (!found || this.picture?.id !== id) return null;
        this.picture.version = found.version;
        this.truth = found.faces;
        this.setHistory(found);
        if (found.redraw) await this.#loadAfter();
        else await this.#patch(found.patches);
        return found;
      });
      if (!answer || this.picture?.id !== id) return;
      if (!this.queue.pending) this.setFaces(answer.faces);
      const added = answer.faces.find((face) => !before.some((other) => other.id === face.id));
      if (operation.op === "add" && added) this.select(added.id);
      announce(sentence(`${{ undo: "undone: ", redo: "redone: ", reset: "reset: " }[operation.op] ?? ""}${changes(before, answer.faces, (face) => this.nameOf(face))}`));
    } catch (error) {
      if (this.picture?.id === id) this.setFaces(this.truth);
      toast(error.message, { error: true });
    }
  }

  toggle(face) {
    if (face.id === "new") return;
    if (face.always) { announce("A drawn face is always covered. Delete it if nothing is to be covered here."); return; }
    this.taught = true;
    this.edit({ op: face.covered ? "uncover" : "cover", faces: [face.id] });
  }

  remove(face) {
    if (face.origin === "drawn") this.edit({ op: "remove", face: face.id });
    else announce("Only boxes that you drew can be deleted. Space leaves this face visible.");
  }

  nameOf(face) { return face.label ?? `face ${this.faces.indexOf(face) + 1 || this.faces.findIndex((other) => other.id === face.id) + 1}`; }

  #place(box) {
    this.draw = false;
    this.edit({ op: "add", box: box.map((value) => Math.round(value * 10) / 10) });
  }

  /** Draw a box of the faces' usual size around a point: for clicks and the keyboard. */
  #placeAround(point) {
    const usual = this.faces.length ? median(this.faces.map(({ box }) => box[2] - box[0])) : Math.min(this.picture.width, this.picture.height) / 8;
    this.#place(boxAround(point, usual, usual * 1.25, this.picture));
  }

  #change(face, box) { this.edit({ op: "move", face: face.id, box: box.map((value) => Math.round(value * 10) / 10) }); }

  // The view

  /** The longest side in pixels in which the picture is loaded. */
  get #side() {
    const { width, height } = this.element.getBoundingClientRect();
    return Math.min(Math.max(this.picture.width, this.picture.height), 4096, Math.ceil(Math.max(width, height, 640) * this.#ratio / 128) * 128);
  }
  get #ratio() { return window.devicePixelRatio || 1; }
  get #limits() {
    const whole = fit(this.element.clientWidth, this.element.clientHeight, this.picture).scale;
    return [whole, Math.max(8, whole * 4)];
  }

  #fit() {
    if (this.picture) this.#look(fit(this.element.clientWidth, this.element.clientHeight, this.picture));
  }

  #look(view) {
    if (!this.picture) return;
    const { clientWidth: width, clientHeight: height } = this.element;
    this.view = settle(view, width, height, this.picture);
    this.fitted = this.view.scale <= this.#limits[0] * 1.001;
    const zoom = this.tools?.querySelector(".zoom");
    if (zoom) zoom.textContent = `${Math.round(this.view.scale * 100)} %`;
    this.#placeChip();
    this.#refine();
    this.#paint();
  }

  #resized() {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.canvas.width = width * this.#ratio;
    this.canvas.height = height * this.#ratio;
    if (this.fitted) this.#fit();
    else this.#look(this.view);
    this.#paint();
  }

  /** Load the part that is shown, sharper, when the picture is enlarged beyond the size it was loaded in. */
  #refine() {
    clearTimeout(this.refining);
    const picture = this.picture;
    if (!picture || !this.after || this.after.width >= Math.min(picture.width, picture.width * this.view.scale * this.#ratio) / 1.15) return;
    this.refining = setTimeout(async () => {
      const { clientWidth: width, clientHeight: height } = this.element;
      const box = boxBetween(toPicture(this.view, 0, 0), toPicture(this.view, width, height), picture).map(Math.round);
      const side = Math.min(Math.ceil(Math.max(box[2] - box[0], box[3] - box[1]) * Math.min(1, this.view.scale * this.#ratio)), 4096);
      const [after, before] = [true, this.split === null ? null : false].map((covered) => (covered === null ? null : picture.url({ covered, side, box })));
      if (!after) return;
      const { version } = picture;
      const images = await Promise.all([loaded(after), before && loaded(before)]).catch(() => null);
      if (!images || this.picture !== picture) return;
      if (picture.version !== version) return this.#refine(); // an edit has changed it meanwhile
      this.detail = { box, after: canvasOf(images[0]), before: images[1] };
      this.#paint();
    }, 140);
  }

  #paint() { this.painting ??= requestAnimationFrame(() => { this.painting = null; this.#draw(); }); }

  #draw() {
    const context = this.canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = this.element;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.picture || !this.after) { this.hint.textContent = ""; this.hint.hidden = true; return; }
    context.imageSmoothingEnabled = this.view.scale < 3;
    context.imageSmoothingQuality = "high";
    this.#layer(context, "after");
    if (this.split !== null && this.before) {
      context.save();
      context.beginPath();
      context.rect(0, 0, width * this.split, height);
      context.clip();
      this.#layer(context, "before");
      context.restore();
    }
    const hint = this.draw ? "Drag a box around the face, or click on it." : !this.taught && this.faces.length ? `Click a face to leave it visible.${this.faces.some((face) => face.doubtful && !face.covered) ? " Dashed yellow places are not covered: click one that is a face." : ""}` : "";
    if (this.hint.textContent !== hint) { this.hint.textContent = hint; this.hint.hidden = !hint; }
    const all = this.hovering || !this.taught || this.canvas.matches(":focus-visible") || matchMedia("(pointer: coarse)").matches;
    for (const face of this.faces) if (all || !face.covered || face.id === this.selected) this.#outline(context, face);
    if (this.drag?.box && this.drag.mode === "draw") this.#rectangle(context, this.drag.box, "#fff", 2, [6, 4]);
  }

  #layer(context, which) {
    const put = (image, box) => { const [x1, y1, x2, y2] = toWindow(this.view, box); context.drawImage(image, x1, y1, x2 - x1, y2 - y1); };
    put(this[which], [0, 0, this.picture.width, this.picture.height]);
    if (this.detail?.[which]) put(this.detail[which], this.detail.box);
  }

  #outline(context, face) {
    const chosen = face.id === this.selected;
    const box = this.drag?.face === face.id && this.drag.box ? this.drag.box : face.box;
    const colour = !face.covered ? "#ffbf5c" : chosen ? "#7fe0d8" : "#ffffff";
    this.#rectangle(context, box, colour, chosen || face === this.hover ? 2.5 : 1.25, face.doubtful && !chosen ? [5, 4] : []);
    if (!chosen || this.draw || face.fixed) return;
    for (const [, x, y] of handlesOf(toWindow(this.view, box))) {
      context.beginPath();
      context.arc(x, y, 5.5, 0, 7);
      context.fillStyle = "#fff";
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = "#14403f";
      context.stroke();
    }
  }

  #rectangle(context, box, colour, width, dashes) {
    const [x1, y1, x2, y2] = toWindow(this.view, box);
    context.beginPath();
    context.roundRect(x1, y1, x2 - x1, y2 - y1, Math.min(6, (x2 - x1) / 5));
    context.strokeStyle = "rgb(0 0 0 / 55%)";
    context.lineWidth = width + 1.5;
    context.setLineDash([]);
    context.stroke();
    context.setLineDash(dashes);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
    context.setLineDash([]);
  }

  // Selection, list and words

  select(id, { say = false } = {}) {
    this.selected = id;
    const face = this.faces.find((other) => other.id === id) ?? null;
    for (const [key, row] of this.rows) row.item.toggleAttribute("data-selected", key === id);
    if (face && say) {
      announce(sentence(`${this.nameOf(face)} of ${this.faces.length}, ${this.#words(face)}`));
      this.rows.get(id)?.item.scrollIntoView({ block: "nearest" });
    }
    if (face && !this.fitted) this.#reveal(face);
    this.#placeChip();
    this.#paint();
    this.onSelect?.(face);
  }

  #reveal(face) {
    const [x1, y1, x2, y2] = toWindow(this.view, face.box);
    if (x1 < 0 || y1 < 0 || x2 > this.element.clientWidth || y2 > this.element.clientHeight) this.zoomTo(face.box, (Math.max(x2 - x1, y2 - y1)) / Math.min(this.element.clientWidth, this.element.clientHeight));
  }

  #words(face) {
    const origin = face.origin === "drawn" ? "drawn" : face.score == null ? "" : `${Math.round(face.score * 100)} %`;
    return [face.covered ? "covered" : "visible", origin, face.doubtful ? "doubtful" : ""].filter(Boolean).join(" · ");
  }

  #name() {
    const count = this.faces.length;
    const visible = this.faces.filter((face) => !face.covered).length;
    this.canvas.setAttribute("aria-label", `${this.picture?.name ?? "Picture"}: ${count === 1 ? "1 face" : `${count} faces`}, ${visible} visible`);
  }

  #placeChip() {
    const face = this.faces.find((other) => other.id === this.selected);
    this.chip.hidden = !face || this.drag?.moved || this.draw;
    if (this.chip.hidden) return;
    const button = (name, label, run) => make("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: run } }, icon(name));
    const scaled = (factor) => () => { const [x1, y1, x2, y2] = face.box; this.#change(face, boxAround([(x1 + x2) / 2, (y1 + y2) / 2], (x2 - x1) * factor, (y2 - y1) * factor, this.picture)); };
    const key = `${face.id} ${this.#words(face)} ${face.box}`;
    if (key !== this.chip.dataset.key) {
      const held = this.chip.contains(document.activeElement) ? [...this.chip.children].indexOf(document.activeElement) : -1;
      this.chip.dataset.key = key;
      this.chip.replaceChildren(
        make("span", {}, sentence(this.nameOf(face)).slice(0, -1)),
        ...(face.always ? [] : [make("button", { type: "button", class: "button quiet", on: { click: () => this.toggle(face) } }, face.covered ? "Leave visible" : "Cover again")]),
        ...(face.origin === "drawn" ? [button("minus", "Smaller box", scaled(0.85)), button("add", "Larger box", scaled(1.18)), button("delete", "Delete the box", () => this.remove(face))] : []),
      );
      this.chip.children[held]?.focus();
    }
    const [x1, y1, x2, y2] = toWindow(this.view, face.box);
    const { offsetWidth: width, offsetHeight: height } = this.chip;
    const top = y2 + 14 + height <= this.element.clientHeight ? y2 + 14 : y1 - 14 - height;
    this.chip.style.left = `${clamp((x1 + x2 - width) / 2, 4, this.element.clientWidth - width - 4)}px`;
    this.chip.style.top = `${clamp(top, 4, this.element.clientHeight - height - 4)}px`;
  }

  #fillList() {
    if (!this.list) return;
    if (!this.list.firstChild) {
      const all = (op, label) => make("button", { type: "button", class: "button", on: { click: () => this.edit({ op, faces: this.faces.filter((face) => face.covered !== (op === "cover")).map((face) => face.id) }) } }, label);
      this.buttons = { cover: all("cover", "Cover all"), uncover: all("uncover", "Leave all visible") };
      this.summary = make("h2", {});
      this.faceRows = make("ul", { class: "faces", "aria-label": "Faces in reading order" });
      this.list.append(make("div", { class: "stack" }, this.summary, make("div", { class: "row" }, this.buttons.cover, this.buttons.uncover)), this.faceRows);
    }
    const visible = this.faces.filter((face) => !face.covered).length;
    const count = this.faces.length;
    this.summary.textContent = count ? `${count === 1 ? "1 face" : `${count} faces`}, ${visible ? `${visible} visible` : count === 1 ? "covered" : "all covered"}` : "No faces";
    this.buttons.cover.disabled = !visible;
    this.buttons.uncover.disabled = visible === count;
    const rows = new Map(this.faces.map((face) => [face.id, this.rows.get(face.id) ?? this.#row(face.id)]));
    for (const [id, row] of this.rows) if (!rows.has(id)) row.item.remove();
    this.rows = rows;
    this.faces.forEach((face, index) => {
      const row = rows.get(face.id);
      const name = sentence(this.nameOf(face)).slice(0, -1);
      if (this.faceRows.children[index] !== row.item) this.faceRows.insertBefore(row.item, this.faceRows.children[index] ?? null);
      row.title.textContent = name;
      row.words.textContent = this.#words(face);
      row.covered.checked = face.covered;
      row.covered.setAttribute("aria-label", `${name} covered`);
      row.item.toggleAttribute("data-selected", face.id === this.selected);
      const drawn = `${face.box} ${this.before?.width}`;
      if (this.before && row.drawn !== drawn) { row.drawn = drawn; this.#portrait(row.portrait, face.box); }
    });
  }

  #row(id) {
    const face = () => this.faces.find((other) => other.id === id);
    const [portrait, title, words] = [make("canvas", { width: 88, height: 88, "aria-hidden": "true" }), make("strong"), make("span", { class: "muted small" })];
    const covered = make("input", { type: "checkbox", on: { change: () => this.toggle(face()) } });
    const show = make("button", { type: "button", class: "face", title: "Show in the picture", on: { click: () => { this.select(id, { say: true }); this.zoomTo(face().box); } } }, portrait, make("span", { class: "what" }, title, words));
    return { item: make("li", {}, show, make("label", { class: "switch", title: "Covered" }, covered)), portrait, title, words, covered, drawn: "" };
  }

  #portrait(canvas, [x1, y1, x2, y2]) {
    const scale = this.before.width / this.picture.width;
    const side = Math.max(x2 - x1, y2 - y1) * 1.3;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, 88, 88);
    context.drawImage(this.before, ((x1 + x2 - side) / 2) * scale, ((y1 + y2 - side) / 2) * scale, side * scale, side * scale, 0, 0, 88, 88);
  }

  #tool(action, attributes) {
    const button = this.tools?.querySelector(`[data-action="${action}"]`);
    for (const [name, value] of Object.entries(button ? attributes : {})) name === "disabled" ? (button.disabled = value) : button.setAttribute(name, value);
  }

  // Mouse, touch and keyboard

  #listen() {
    const { canvas } = this;
    const at = (event) => { const frame = canvas.getBoundingClientRect(); return [event.clientX - frame.left, event.clientY - frame.top]; };
    canvas.addEventListener("pointerdown", (event) => { if (this.picture) { canvas.setPointerCapture(event.pointerId); this.pointers.set(event.pointerId, at(event)); this.#down(event, ...at(event)); } });
    canvas.addEventListener("pointermove", (event) => { if (this.picture) this.#move(event, ...at(event)); });
    canvas.addEventListener("pointerup", (event) => { this.pointers.delete(event.pointerId); this.#up(event, ...at(event)); });
    canvas.addEventListener("pointercancel", (event) => { this.pointers.delete(event.pointerId); this.drag = null; this.#paint(); });
    canvas.addEventListener("pointerenter", () => { this.hovering = true; this.#paint(); });
    canvas.addEventListener("pointerleave", () => { this.hovering = false; this.hover = null; this.#paint(); });
    canvas.addEventListener("focus", () => this.#paint());
    canvas.addEventListener("blur", () => this.#paint());
    canvas.addEventListener("dblclick", (event) => {
      const [x, y] = at(event);
      if (this.draw || faceAt(this.faces, this.view, x, y)) return;
      if (this.fitted) this.zoom(2.5, x, y);
      else this.#fit();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (this.picture) this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 16 : 1) * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event));
    }, { passive: false });
    const slide = (event) => { const frame = canvas.getBoundingClientRect(); this.compare = clamp((event.clientX - frame.left) / frame.width, 0, 1); };
    this.wipeHandle.addEventListener("mousedown", (event) => event.preventDefault()); // the slider keeps the focus
    this.wipeHandle.addEventListener("pointerdown", (event) => { this.wipeHandle.setPointerCapture(event.pointerId); this.wipe.focus({ preventScroll: true }); });
    this.wipeHandle.addEventListener("pointermove", (event) => { if (this.wipeHandle.hasPointerCapture(event.pointerId)) slide(event); });
    this.tools?.addEventListener("click", (event) => this.#act(event.target.closest("[data-action]")?.dataset.action));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #act(action) {
    if (!action || !this.picture) return;
    if (action === "undo" || action === "redo" || action === "reset") this.edit({ op: action });
    else if (action === "draw") {
      this.draw = !this.draw;
      if (this.draw) announce("Drag a box around the face, click on it, or press Enter for a box in the middle.");
    } else if (action === "compare") {
      this.compare = this.split === null ? 0.5 : null;
      if (this.split !== null) this.wipe.focus({ preventScroll: true });
    } else if (action === "fit") this.#fit();
    else this.zoom(action === "zoom-in" ? 1.5 : 1 / 1.5);
  }

  #down(event, x, y) {
    if (event.button === 2 || (event.ctrlKey && event.pointerType === "mouse")) return; // a context menu
    if (this.pointers.size === 2) {
      const [[ax, ay], [bx, by]] = this.pointers.values();
      this.drag = { mode: "pinch", moved: true, distance: Math.hypot(ax - bx, ay - by), centre: [(ax + bx) / 2, (ay + by) / 2] };
      return;
    }
    const touch = event.pointerType === "touch";
    const face = this.faces.find((other) => other.id === this.selected);
    const box = face && !face.fixed && toWindow(this.view, face.box);
    const handle = box && handleAt(box, x, y, touch ? 22 : 10);
    const inside = box && x > box[0] && x < box[2] && y > box[1] && y < box[3];
    const mode = event.button === 1 ? "pan" : this.draw ? "draw" : handle ? "resize" : inside ? "move" : "pan";
    this.drag = { mode, handle, button: event.button, face: mode === "resize" || mode === "move" ? face.id : null, from: [x, y], view: this.view, box: null, moved: false, slack: touch ? 8 : 4, target: touch ? 44 : 24 };
  }

  #move(event, x, y) {
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, [x, y]);
    const { drag } = this;
    if (!drag) return this.#point(event, x, y);
    if (drag.mode === "pinch") {
      if (this.pointers.size < 2) return undefined;
      const [[ax, ay], [bx, by]] = this.pointers.values();
      const [distance, centre] = [Math.hypot(ax - bx, ay - by), [(ax + bx) / 2, (ay + by) / 2]];
      const view = zoomed(this.view, distance / drag.distance, ...drag.centre, ...this.#limits);
      this.#look({ scale: view.scale, x: view.x + centre[0] - drag.centre[0], y: view.y + centre[1] - drag.centre[1] });
      return Object.assign(drag, { distance, centre });
    }
    const [dx, dy] = [x - drag.from[0], y - drag.from[1]];
    if (!drag.moved && Math.hypot(dx, dy) < drag.slack) return undefined;
    drag.moved = true;
    if (drag.mode === "pan") return this.#look({ ...drag.view, x: drag.view.x + dx, y: drag.view.y + dy });
    const face = this.faces.find((other) => other.id === drag.face);
    const { scale } = this.view;
    if (drag.mode === "draw") drag.box = boxBetween(toPicture(this.view, ...drag.from), toPicture(this.view, x, y), this.picture);
    else if (drag.mode === "move") drag.box = moved(face.box, dx / scale, dy / scale, this.picture);
    else drag.box = resized(face.box, drag.handle, dx / scale, dy / scale, this.picture);
    this.#placeChip();
    return this.#paint();
  }

  /** Show what is under the mouse. */
  #point(event, x, y) {
    if (event.pointerType === "touch") return;
    const chosen = this.faces.find((face) => face.id === this.selected);
    const handle = chosen && !chosen.fixed && !this.draw && handleAt(toWindow(this.view, chosen.box), x, y, 10);
    const hover = this.draw ? null : faceAt(this.faces, this.view, x, y);
    this.canvas.style.cursor = this.draw ? "crosshair" : handle ? CURSORS[handle] : hover ? "pointer" : this.fitted ? "default" : "grab";
    this.canvas.title = hover ? `${this.nameOf(hover)}: ${this.#words(hover)}` : "";
    if (hover !== this.hover) { this.hover = hover; this.#paint(); }
  }

  #up(event, x, y) {
    const { drag } = this;
    if (!drag) return;
    if (drag.mode === "pinch") { if (!this.pointers.size) this.drag = null; return; }
    this.drag = null;
    const face = this.faces.find((other) => other.id === drag.face);
    if (!drag.moved && drag.button === 0) this.#click(drag, x, y);
    else if (drag.mode === "draw") {
      const [x1, y1, x2, y2] = drag.box ?? [0, 0, 0, 0];
      if (Math.min(x2 - x1, y2 - y1) >= SMALLEST) this.#place(drag.box);
    } else if (face && drag.box) this.#change(face, drag.box);
    this.#placeChip();
    this.#paint();
  }

  #click(drag, x, y) {
    if (drag.mode === "draw") return this.#placeAround(toPicture(this.view, x, y));
    const face = faceAt(this.faces, this.view, x, y, drag.target);
    if (!face) return this.select(null);
    this.select(face.id);
    return this.toggle(face);
  }

  #key(event) {
    const { target, key } = event;
    if (document.querySelector("dialog[open]") || !this.element.offsetParent || event.defaultPrevented) return;
    if (target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=radio])")) return;
    const here = target === this.canvas || target === document.body;
    const near = Boolean(target.closest("#stage, .strip")); // single letters elsewhere may be dictated words
    if ((here && this.onKey?.(event)) || this.#shortcut(event, key, here, near)) event.preventDefault();
  }

  #shortcut(event, key, here, near) {
    const face = this.faces.find((other) => other.id === this.selected);
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") return this.edit({ op: event.shiftKey ? "redo" : "undo" });
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "y") return this.edit({ op: "redo" });
    if (event.ctrlKey || event.metaKey || !this.picture) return null;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (here && arrow && face && (event.altKey || event.shiftKey)) {
      const step = Math.max(1, Math.round(4 / this.view.scale));
      this.#change(face, event.altKey ? moved(face.box, arrow[0] * step, arrow[1] * step, this.picture) : resized(face.box, "se", arrow[0] * step, arrow[1] * step, this.picture));
      return true;
    }
    if (event.altKey) return null;
    if (here && arrow) { const next = neighbour(this.faces, this.selected, arrow[0] + arrow[1]); if (next) this.select(next.id, { say: true }); return true; }
    if (here && this.draw && key === "Enter") { this.#placeAround(toPicture(this.view, this.element.clientWidth / 2, this.element.clientHeight / 2)); return true; }
    if (here && (key === " " || key === "Enter") && face) { this.toggle(face); return true; }
    if (here && (key === "Delete" || key === "Backspace") && face) { this.remove(face); return true; }
    if (key === "Escape") { if (this.draw) this.draw = false; else this.select(null); return true; }
    if (!near) return null;
    const action = { "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", "−": "zoom-out", 0: "fit", d: "draw", b: "compare" }[key.toLowerCase()];
    if (action) { this.#act(action); return true; }
    const step = { n: 1, p: -1 }[key.toLowerCase()];
    if (step) { this.onNavigate?.(step); return true; }
    return null;
  }
}
