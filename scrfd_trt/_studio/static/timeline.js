/** The timeline of a clip: a lane a person, gaps and doubtful moments, zoom, and what edits of it mean. */
import { icon, make } from "./ui.js";

const NEAR = 0.0015; // seconds within which two times are of one frame
const FRAME_PIXELS = 24; // width of a frame at the largest zoom
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** Return the index of the last frame up to a time, 0 if there is none. */
export function frameAt(times, t) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= t + NEAR) low = middle + 1;
    else high = middle;
  }
  return Math.max(low - 1, 0);
}

/** Return the time of the frame a number of frames away, within the clip. */
export const stepped = (times, t, frames) => times[clamp(frameAt(times, t) + frames, 0, times.length - 1)] ?? 0;

/** Return the index of the next or previous doubtful moment; -1 if there is none. `current` is the one shown last. */
export function nextMoment(moments, t, direction, current = -1) {
  if (current >= 0 && Math.abs((moments[current]?.t ?? Infinity) - t) < NEAR) {
    const next = current + direction;
    return next >= 0 && next < moments.length ? next : -1;
  }
  if (direction > 0) return moments.findIndex((moment) => moment.t > t - NEAR);
  return moments.findLastIndex((moment) => moment.t < t - NEAR);
}

/** Return moments in the order of the times that are shown, with the same times in a fixed order. */
export const inOrder = (moments) => [...moments].sort((a, b) => a.t - b.t || a.t0 - b.t0 || (a.track ?? 0) - (b.track ?? 0));

/** Return a time as 1:02.50. */
export function clock(t) {
  const hundredths = Math.round(t * 100);
  const minutes = Math.floor(hundredths / 6000);
  return `${minutes}:${String((hundredths % 6000) / 100 | 0).padStart(2, "0")}.${String(hundredths % 100).padStart(2, "0")}`;
}

/** Return the seconds between two labels of the ruler, so that they are at least `least` pixels apart. */
export function tick(pixelsPerSecond, least = 72) {
  return [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((seconds) => seconds * pixelsPerSecond >= least) ?? 1800;
}

/** Return the largest zoom: a frame is then some pixels wide. */
export const maxZoom = (frames, width) => Math.max(4, (frames * FRAME_PIXELS) / Math.max(width, 1));

/** Return the places of a drawn face with one more, which replaces that of the same frame; in order of time. */
export function withPlace(places, t, box) {
  return [...places.filter((place) => Math.abs(place.t - t) > 2 * NEAR), { t, box }].sort((a, b) => a.t - b.t);
}

/** Return the edit of the clip that an edit of the viewer means at a time; `active` is the drawn face that is continued. */
export function clipEdit(operation, t, covers, active) {
  const { op } = operation;
  const find = (id) => covers.find((cover) => `c${cover.id}` === id);
  if (op === "cover" || op === "uncover") {
    return { op: "visible", tracks: operation.faces.map((id) => Number(id.slice(1))), visible: op === "uncover" };
  }
  if (op === "add") {
    const cover = covers.find(({ id }) => id === active);
    return cover ? { op: "move", cover: active, places: withPlace(cover.places, t, operation.box) } : { op, places: [{ t, box: operation.box }] };
  }
  if (op === "fill") return { op: "add", places: operation.places };
  if (op !== "move" && op !== "remove") return operation;
  if (operation.cover) return operation; // of the timeline
  const cover = find(operation.face);
  if (!cover) throw new Error("The box of a found face cannot be moved. Draw a box (D) where the face is missed.");
  return op === "move" ? { op, cover: cover.id, places: withPlace(cover.places, t, operation.box) } : { op, cover: cover.id };
}

/** Return the faces of a frame as the viewer shows them. */
export function viewerFaces(faces, doubtful) {
  return faces.map(({ track, cover, box, score, visible }) => ({
    id: cover === null ? `t${track}` : `c${cover}`,
    box,
    score,
    origin: cover === null ? "detector" : "drawn",
    fixed: cover === null,
    always: cover !== null,
    covered: !visible,
    doubtful: doubtful.has(track),
    label: cover === null ? `person ${track}` : `drawn face ${cover}`,
  }));
}

/** Return in words when something is in the picture. */
export const during = (spans) => spans.map(([start, end]) => (start === end ? `at ${clock(start)}` : `${clock(start)} to ${clock(end)}`)).join(", ");

/** Return the state of a lane in words. */
export const stateOf = ({ visible, dropped }) => (dropped ? "not covered: no face in a second look" : visible ? "stays visible" : "covered");

export class Timeline {
  /** `on` has seek(t), toggle(lane), select(tracks), moment(index), cover(id), remove(id); `faceUrl(track)`. */
  constructor(root, { on, faceUrl }) {
    Object.assign(this, { on, faceUrl, zoom: 1, t: 0, data: { times: [0], duration: 1, tracks: [], moments: [], covers: [] }, selected: new Set(), active: null });
    this.ruler = make("div", { class: "ruler", role: "slider", tabindex: 0, "aria-label": "Position in the clip", "aria-valuemin": 0, on: { keydown: (event) => this.#key(event) } });
    this.list = make("ul", { class: "lanes", "aria-label": "People in the clip" });
    this.playhead = make("div", { class: "playhead", "aria-hidden": "true" });
    this.content = make("div", { class: "timeline-content" }, make("div", { class: "ruler-row" }, make("div", { class: "lane-head" }), this.ruler), this.list, this.playhead);
    this.scroller = make("div", { class: "timeline" }, this.content);
    root.append(this.scroller);
    this.lanes = new Map();
    this.scroller.addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); this.setZoom(this.zoom * Math.exp(-event.deltaY * 0.01)); } }, { passive: false });
    this.ruler.addEventListener("pointerdown", (event) => { this.ruler.setPointerCapture(event.pointerId); this.#scrub(event); });
    this.ruler.addEventListener("pointermove", (event) => { if (this.ruler.hasPointerCapture(event.pointerId)) this.#scrub(event); });
    this.observer = new ResizeObserver(() => this.#layout());
    this.observer.observe(this.scroller);
  }

  destroy() { this.observer.disconnect(); this.scroller.remove(); }

  get #head() { return this.content.querySelector(".lane-head").offsetWidth; }
  get #room() { return Math.max(this.scroller.clientWidth - this.#head, 50); }
  get #width() { return this.#room * this.zoom; }
  #share(t) { return clamp(t / this.data.duration, 0, 1); }

  /** Show what the server says of the clip. */
  set(data) {
    this.data = { ...data, moments: inOrder(data.moments) };
    this.ruler.setAttribute("aria-valuemax", data.times.length - 1);
    for (const id of this.selected) if (!data.tracks.some((lane) => lane.id === id)) this.selected.delete(id);
    if (!data.covers.some(({ id }) => id === this.active)) this.active = null;
    const rows = new Map();
    for (const lane of data.tracks) rows.set(`t${lane.id}`, this.#track(this.lanes.get(`t${lane.id}`) ?? this.#newTrack(lane.id), lane));
    for (const cover of data.covers) rows.set(`c${cover.id}`, this.#cover(this.lanes.get(`c${cover.id}`) ?? this.#newCover(cover.id), cover));
    for (const [key, row] of this.lanes) if (!rows.has(key)) row.item.remove();
    this.lanes = rows;
    [...rows.values()].forEach((row, index) => { if (this.list.children[index] !== row.item) this.list.insertBefore(row.item, this.list.children[index] ?? null); });
    this.#layout();
  }

  /** Move the playhead; `follow` scrolls to it. */
  at(t, follow = true) {
    this.t = t;
    const share = this.#share(t);
    this.content.style.setProperty("--at", share);
    this.ruler.setAttribute("aria-valuenow", frameAt(this.data.times, t));
    this.ruler.setAttribute("aria-valuetext", `${clock(t)}, frame ${frameAt(this.data.times, t) + 1} of ${this.data.times.length}`);
    const [x, left] = [share * this.#width, this.scroller.scrollLeft];
    if (follow && (x < left + 8 || x > left + this.#room - 8)) this.scroller.scrollLeft = x - this.#room / 4;
  }

  setZoom(zoom) {
    this.zoom = clamp(zoom, 1, maxZoom(this.data.times.length, this.#room));
    this.#layout();
    this.scroller.scrollLeft = this.#share(this.t) * this.#width - this.#room / 2;
  }

  /** Bring a lane into view, and mark it: `t3` is that of person 3, `c1` that of drawn face 1. */
  show(key) {
    const item = this.lanes.get(key)?.item;
    for (const row of this.lanes.values()) row.item.toggleAttribute("data-current", row.item === item);
    if (item) this.scroller.scrollTop = clamp(this.scroller.scrollTop, item.offsetTop + item.offsetHeight - this.scroller.clientHeight + 4, item.offsetTop - 34);
  }

  clearSelection() { this.selected.clear(); this.#marks(); }

  setActive(id) { this.active = id; this.#marks(); }

  #marks() {
    for (const [key, row] of this.lanes) {
      if (row.pick) row.pick.checked = this.selected.has(Number(key.slice(1)));
      row.item.toggleAttribute("data-selected", key[0] === "t" ? this.selected.has(Number(key.slice(1))) : this.active === Number(key.slice(1)));
    }
  }

  #layout() {
    this.content.style.width = `${this.#head + this.#width}px`;
    const seconds = tick(this.#width / this.data.duration);
    const labels = [];
    for (let t = 0; t < this.data.duration; t += seconds) labels.push([t, seconds < 1 ? clock(t) : clock(t).slice(0, -3)]);
    this.ruler.replaceChildren(...labels.slice(0, 2000).map(([t, text]) => { const mark = make("span", { class: "tick", "aria-hidden": "true" }, text); mark.style.left = `${this.#share(t) * 100}%`; return mark; }));
    this.#marks();
    this.at(this.t, false);
  }

  #part(kind, [start, end], title) {
    const part = make("span", { class: kind, title });
    const frame = this.data.duration / Math.max(this.data.times.length, 1);
    part.style.left = `${this.#share(start) * 100}%`;
    part.style.width = `${Math.max(this.#share(Math.min(end + frame, this.data.duration)) - this.#share(start), 0) * 100}%`;
    return part;
  }

  #newTrack(id) {
    const lane = () => this.data.tracks.find((other) => other.id === id);
    const pick = make("input", { type: "checkbox", "aria-label": `Select person ${id}`, on: { change: () => { this.selected[pick.checked ? "add" : "delete"](id); this.#marks(); this.on.select(this.selected); } } });
    const image = make("img", { alt: "", width: 40, height: 40, loading: "lazy" });
    const words = make("span", { class: "lane-words" }, make("strong", {}, `Person ${id}`), make("span", { class: "muted small lane-state" }));
    const face = make("button", { type: "button", class: "lane-face", title: "Go to the best picture of this person", on: { click: () => { this.on.seek(lane().best.t); this.show(`t${id}`); } } }, image, words);
    const toggle = make("button", { type: "button", class: "icon-button lane-toggle", on: { click: () => this.on.toggle(lane()) } });
    const time = make("div", { class: "lane-time", on: { click: (event) => { if (event.target.classList.contains("span")) this.on.toggle(lane()); else if (event.target.dataset.moment) this.on.moment(Number(event.target.dataset.moment)); else this.on.seek(this.#timeAt(event, time)); } } });
    const item = make("li", { class: "lane" }, make("div", { class: "lane-head" }, make("label", { class: "pick" }, pick), face, toggle), time);
    return { item, pick, image, state: words.lastChild, toggle, time, face };
  }

  #track(row, lane) {
    const name = `Person ${lane.id}`;
    const doubts = this.data.moments.flatMap((moment, index) => (moment.track === lane.id ? [[moment, index]] : []));
    row.item.dataset.visible = lane.visible;
    row.item.toggleAttribute("data-dropped", lane.dropped);
    row.state.textContent = `${lane.dropped ? "no face?" : lane.visible ? "visible" : "covered"}${doubts.length ? ` · ${doubts.length} to check` : ""}`;
    row.face.setAttribute("aria-label", `${name}, ${stateOf(lane)}, ${during(lane.spans)}${doubts.length ? `, ${doubts.length} to check` : ""}: go to the best picture`);
    row.toggle.replaceChildren(icon(lane.visible ? "eye" : "covered"));
    row.toggle.setAttribute("aria-pressed", lane.visible);
    row.toggle.setAttribute("aria-label", `${name} stays visible`);
    row.toggle.title = lane.visible ? "Cover again" : "Leave visible";
    const source = this.faceUrl(lane);
    if (row.image.getAttribute("src") !== source) row.image.src = source;
    const parts = [
      ...lane.spans.map((span) => this.#part("span", span, `${name}: ${lane.visible ? "cover again" : "leave visible"}`)),
      ...lane.gaps.map((gap) => this.#part("gap", gap, "Not in the picture, or not found")),
      ...lane.filled.map((span) => this.#part("filled", span, "Filled in between two detections")),
      ...doubts.map(([moment, index]) => { const part = this.#part(`doubt ${moment.kind}`, [moment.t0, moment.t1], `${clock(moment.t)}: ${moment.text}`); part.dataset.moment = index; return part; }),
    ];
    row.time.replaceChildren(...parts);
    return row;
  }

  #newCover(id) {
    const button = (name, label, run) => make("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: run } }, icon(name));
    const words = make("span", { class: "lane-words" }, make("strong", {}, `Drawn ${id}`), make("span", { class: "muted small" }));
    const face = make("button", { type: "button", class: "lane-face", on: { click: () => this.on.cover(id) } }, make("span", { class: "drawn-sign" }, icon("box")), words);
    const time = make("div", { class: "lane-time", on: { click: (event) => this.on.seek(this.#timeAt(event, time)) } });
    const item = make("li", { class: "lane", "data-drawn": true }, make("div", { class: "lane-head" }, face, button("delete", `Delete drawn face ${id}`, () => this.on.remove(id))), time);
    return { item, time, face, state: words.lastChild };
  }

  #cover(row, { id, places }) {
    const span = [places[0].t, places.at(-1).t];
    const isOne = span[1] - span[0] < 4 * NEAR;
    row.state.textContent = isOne ? "one frame" : "filled in";
    row.face.setAttribute("aria-label", `Drawn face ${id}, ${during([span])}: go there`);
    row.time.replaceChildren(this.#part("span drawn", isOne ? [span[0], span[0]] : span, ""), ...(isOne ? [] : places.map(({ t }) => this.#part("place", [t, t], `Drawn at ${clock(t)}`))));
    return row;
  }

  #timeAt(event, element) {
    const { left, width } = element.getBoundingClientRect();
    return clamp((event.clientX - left) / width, 0, 1) * this.data.duration;
  }

  #scrub(event) { this.on.seek(this.#timeAt(event, this.ruler), true); }

  #key(event) {
    const second = Math.max(1, Math.round(this.data.times.length / this.data.duration));
    const frames = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -second, PageUp: second, Home: -Infinity, End: Infinity }[event.key];
    if (!frames || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.on.seek(stepped(this.data.times, this.t, event.shiftKey ? frames * 10 : frames));
  }
}
