/** A clip: its player, timeline and moments to review. The picture is that of the page's viewer. */
import { Timeline, clipEdit, clock, frameAt, nextMoment, stepped, viewerFaces } from "./timeline.js";
import { announce, icon, make, toast } from "./ui.js";

const SIDE = 960; // longest side in pixels of the stored pictures
const REST = 120; // milliseconds after which the faces of a frame are asked for

export class ClipView {
  constructor({ root, people, viewer, api, item, seen }) {
    Object.assign(this, { root, people, viewer, api, item, t: 0, version: -1, data: null, faces: [], seen, moment: -1, playing: false, wanted: null, loading: null, shown: false, gone: false });
    this.path = `/api/items/${item.id}`;
    this.#build();
    document.body.toggleAttribute("data-clip", true);
    this.#show(false);
    this.update(item);
  }

  /** Take the newest state of the clip. */
  async update(item) {
    this.item = item;
    if (item.state === "ready" && item.version !== this.version) {
      const { version } = item;
      this.version = version;
      const data = await this.api.get(`${this.path}/timeline`).catch((error) => { this.version = -1; toast(error.message, { error: true }); });
      if (!data || this.gone || data.version < this.version) return;
      this.#take(data, item);
      this.#show(true);
      await this.#picture();
    } else if (item.state === "looking") {
      if (this.data) { this.data = null; this.#pause(); this.#show(false); this.viewer.setFaces([]); }
      this.version = -1;
      if (!this.shown && item.progress !== null) await this.#picture(); // the first frame is stored
    }
  }

  destroy() {
    this.gone = true;
    this.#pause();
    clearTimeout(this.resting);
    this.timeline.destroy();
    this.#show(false);
    document.body.toggleAttribute("data-clip", false);
    for (const place of [this.root, this.people]) place.replaceChildren();
  }

  /** Return a function that applies an edit of the viewer or the timeline to this moment, and returns what the viewer shows then. */
  edit(operation) {
    const { t } = this;
    return () => this.#edit(operation, t);
  }

  async #edit(operation, t) {
    if (!this.data) throw new Error("The faces of this clip are not known yet.");
    const before = new Set(this.data.covers.map(({ id }) => id));
    const edit = clipEdit(operation, t, this.data.covers, this.timeline.active);
    const answer = await this.api.post(`${this.path}/edits`, edit);
    if (this.gone) return null;
    this.version = answer.version;
    this.#take(answer.timeline, answer);
    if (operation.op === "add" && edit.op === "add") this.timeline.setActive(answer.timeline.covers.find(({ id }) => !before.has(id))?.id ?? null);
    else if (operation.op === "add") { this.timeline.setActive(null); announce("The face is covered in between."); }
    if (edit.op === "add") this.timeline.show(`c${answer.timeline.covers.at(-1)?.id}`);
    if (edit.op === "merge" || edit.op === "split") this.timeline.clearSelection();
    this.#actions();
    await Promise.all([this.#load(this.t), this.#rest()]);
    return { version: answer.version, faces: this.faces, patches: [], can_undo: answer.can_undo, can_redo: answer.can_redo };
  }

  /** Act on a key; return whether it is one of the clip's. */
  key(event) {
    if (!this.data || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === " " && this.viewer.selected) return false; // leaves the selected face visible
    const run = {
      " ": () => this.#toggle(), k: () => this.#toggle(), ",": () => this.#step(-1), ".": () => this.#step(1),
      j: () => this.#doubt(-1), l: () => this.#doubt(1), s: () => this.#split(), m: () => this.#merge(),
    }[event.key.toLowerCase()];
    run?.();
    return Boolean(run);
  }

  // Building

  #build() {
    const button = (name, label, keys, run) => make("button", { type: "button", class: "icon-button", "aria-label": label, title: `${label}${keys ? ` (${keys})` : ""}`, on: { click: run } }, icon(name));
    this.playButton = button("play", "Play", "K", () => this.#toggle());
    this.time = make("output", { class: "clip-time", "aria-label": "Time" });
    this.doubt = make("p", { class: "clip-doubt small" });
    const doubts = [button("previous", "Previous doubt", "J", () => this.#doubt(-1)), make("span", { class: "clip-count small" }), button("next", "Next doubt", "L", () => this.#doubt(1))];
    this.count = doubts[1];
    const stepper = (label, keys, frames, text) => make("button", { type: "button", class: "icon-button", "aria-label": label, title: `${label} (${keys})`, on: { click: () => this.#step(frames) } }, make("span", { class: "step", "aria-hidden": "true" }, text));
    this.bar = make("div", { class: "clip-bar", role: "toolbar", "aria-label": "Player" },
      stepper("Previous frame", ",", -1, "‹|"), this.playButton, stepper("Next frame", ".", 1, "|›"), this.time,
      make("div", { class: "clip-doubts" }, ...doubts), this.doubt, make("span", { class: "spacer" }),
      button("minus", "Shrink the timeline", "", () => this.timeline.setZoom(this.timeline.zoom / 1.6)), button("add", "Enlarge the timeline", "", () => this.timeline.setZoom(this.timeline.zoom * 1.6)));
    this.root.append(this.bar);
    this.timeline = new Timeline(this.root, {
      faceUrl: ({ id, best }) => this.api.url(`${this.path}/tracks/${id}/face`, { side: 80, version: `${best.t}` }),
      on: {
        seek: (t, scrubbing = false) => this.seek(t, { scrubbing }),
        toggle: ({ id, visible }) => this.viewer.edit({ op: "visible", tracks: [id], visible: !visible }),
        select: () => this.#actions(),
        moment: (index) => this.#goTo(index),
        cover: (id) => { this.timeline.setActive(id); this.seek(this.data.covers.find((cover) => cover.id === id).places[0].t); this.#actions(); },
        remove: (id) => this.viewer.edit({ op: "remove", cover: id }),
      },
    });
    const action = (label, run) => make("button", { type: "button", class: "button", on: { click: run } }, label);
    this.buttons = {
      visible: action("Leave visible", () => this.#visible(true)), cover: action("Cover", () => this.#visible(false)),
      merge: action("Merge", () => this.#merge()), split: action("Split here", () => this.#split()),
      fill: action("Cover the gaps", () => this.#fill()), clear: action("Clear", () => { this.timeline.clearSelection(); this.#actions(); }),
      only: action("Done", () => { this.timeline.setActive(null); this.#actions(); }),
    };
    this.hint = make("p", { class: "small clip-hint" });
    this.actions = make("div", { class: "clip-actions", role: "group", "aria-label": "Selected people" }, this.hint, ...Object.values(this.buttons));
    this.root.append(this.actions);
    this.root.onkeydown = (event) => {
      if (event.defaultPrevented || event.target.matches("input:not([type=checkbox])") || (event.key === " " && event.target.matches("button, input"))) return;
      if (this.key(event)) { event.preventDefault(); event.stopPropagation(); }
    };
    this.list = make("ol", { class: "faces", "aria-label": "Moments to check" });
    this.title = make("h2", {});
    this.people.append(this.title, make("p", { class: "small muted" }, "The same moments are in the report of scrfd-trt anonymize."), this.list);
  }

  #show(on) {
    this.root.hidden = !on;
    this.people.hidden = !on;
    const faces = document.getElementById("face-list");
    if (faces) faces.hidden = !this.gone;
  }

  /** Show a timeline of the server. */
  #take(data, history) {
    this.data = data;
    this.doubtful = new Set(data.tracks.filter((lane) => lane.doubtful).map((lane) => lane.id));
    this.timeline.set(data);
    this.viewer.setHistory(history);
    const { moments } = this.timeline.data;
    const left = moments.length;
    this.title.textContent = left ? `${left === 1 ? "1 moment" : `${left} moments`} to check` : "No doubtful moment";
    this.list.replaceChildren(...moments.map((moment, index) => this.#row(moment, index)));
    this.moment = -1;
    this.t = stepped(data.times, this.t, 0);
    this.#words();
    this.#actions();
  }

  #row(moment, index) {
    const what = moment.track === null ? "" : moment.track > 1_000_000 ? "Drawn face: " : `Person ${moment.track}: `;
    const hasFace = this.data.tracks.some((lane) => lane.id === moment.track);
    const image = hasFace ? make("img", { alt: "", width: 40, height: 40, loading: "lazy", src: this.api.url(`${this.path}/tracks/${moment.track}/face`, { side: 80 }) }) : make("span", { class: "drawn-sign" }, icon("warning"));
    const row = make("button", { type: "button", class: "face moment", on: { click: () => { this.#goTo(index); this.viewer.element.scrollIntoView({ block: "nearest" }); } } }, image, make("span", { class: "what" }, make("strong", {}, clock(moment.t)), make("span", { class: "small" }, `${what}${moment.text}`)));
    row.toggleAttribute("data-seen", this.seen.has(this.#name(moment)));
    return make("li", {}, row);
  }

  #name(moment) { return `${moment.kind} ${moment.track} ${moment.t}`; }

  #words() {
    this.time.textContent = `${clock(this.t)} / ${clock(this.data?.duration ?? 0)}`;
    this.timeline.at(this.t);
    const moments = this.timeline.data.moments;
    const moment = moments[this.moment];
    [...this.list.children].forEach((row, index) => row.toggleAttribute("data-selected", index === this.moment));
    this.count.textContent = moments.length ? `${moment ? `${this.moment + 1} of ` : ""}${moments.length} to check` : "nothing to check";
    this.doubt.title = this.doubt.textContent = moment ? `${moment.track === null ? "" : `Person ${moment.track}: `}${moment.text}` : "";
  }

  #actions() {
    const { selected, active } = this.timeline;
    const lanes = this.data?.tracks.filter((lane) => selected.has(lane.id)) ?? [];
    const cover = this.data?.covers.find(({ id }) => id === active);
    const show = { visible: lanes.some((lane) => !lane.visible), cover: lanes.some((lane) => lane.visible), merge: lanes.length > 1, split: lanes.length === 1, fill: lanes.length === 1 && lanes[0].gaps.length > 0, clear: lanes.length > 0, only: Boolean(cover) };
    for (const [name, button] of Object.entries(this.buttons)) button.hidden = !show[name];
    this.buttons.merge.textContent = `Merge ${lanes.length} people`;
    this.buttons.split.textContent = `Split at ${clock(this.t)}`;
    this.hint.textContent = cover
      ? `Drawn face ${cover.id}: go to another moment and draw it there, too. In between, it is filled in.`
      : lanes.length ? `${lanes.map((lane) => `Person ${lane.id}`).join(", ")}${lanes.length === 1 ? ". Select another one to merge both." : ""}` : "";
    this.actions.hidden = !cover && !lanes.length;
  }

  // Frames

  #url(t, covered) { return this.api.url(`${this.path}/frame`, { t: t.toFixed(4), covered: covered && this.data ? 1 : 0, side: SIDE, version: this.version }); }

  /** Give the viewer the picture that it zooms and draws in. */
  async #picture() {
    const { name, width, height, version } = this.item;
    const picture = { id: this.item.id, version: this.shown ? version : -1, width, height, name, url: ({ covered, box }) => (box ? null : this.#url(this.t, covered)) };
    if (!this.shown) await this.viewer.setPicture(picture).then(() => { this.shown = true; }, () => {}); // the first frame may not be stored yet
    if (this.shown && this.data && !this.gone) await Promise.all([this.#load(this.t), this.#rest()]);
  }

  /** Load the frame of a time, unless a later one is asked for meanwhile. */
  #load(t) {
    this.wanted = t;
    this.loading ??= (async () => {
      while (this.wanted !== null && !this.gone) {
        const now = this.wanted;
        this.wanted = null;
        const both = this.viewer.compare !== null;
        const frames = await Promise.all([true, ...(both ? [false] : [])].map((covered) => this.#bitmap(now, covered))).catch(() => []);
        if (this.gone) return;
        frames.forEach((frame, index) => this.viewer.setFrame(frame, { covered: index === 0 }));
        this.frames = (this.frames ?? 0) + 1;
      }
    })().finally(() => { this.loading = null; });
    return this.loading;
  }

  async #bitmap(t, covered) {
    const answer = await fetch(this.#url(t, covered));
    if (!answer.ok) throw new Error(await answer.text());
    return createImageBitmap(await answer.blob());
  }

  /** Show the faces of the frame that is shown, and the picture below the covers. */
  async #rest() {
    const { t, version } = this;
    const [faces, before] = await Promise.all([this.api.get(this.api.url(`${this.path}/frame_faces`, { t: t.toFixed(4) })), this.#bitmap(t, false)]).catch(() => []);
    if (!faces || this.gone || this.t !== t || this.version !== version || this.playing || !this.data) return;
    this.faces = viewerFaces(faces, this.doubtful);
    this.viewer.setFaces(this.faces);
    this.viewer.setFrame(before, { covered: false });
  }

  /** Go to the frame of a time. */
  seek(t, { scrubbing = false, moment = -1 } = {}) {
    if (!this.data) return;
    const { times } = this.data;
    this.t = times[frameAt(times, t)] ?? 0;
    this.moment = moment;
    this.#words();
    if (!this.actions.hidden) this.#actions();
    if (this.playing) return this.#begin();
    if (scrubbing || this.faces.length) { this.faces = []; this.viewer.setFaces([]); }
    this.#load(this.t);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.#rest(), REST);
  }

  // Playing

  #toggle() {
    if (this.playing) { this.#pause(); this.seek(this.t); return; }
    const { times } = this.data;
    if (this.t >= (times.at(-1) ?? 0) - 1e-3) this.t = 0;
    this.playing = true;
    this.#face("pause", "Pause");
    this.faces = [];
    this.viewer.setFaces([]);
    this.#begin();
    this.#run();
  }

  #begin() { this.origin = performance.now() - this.t * 1000; }

  async #run() {
    const { times, duration } = this.data;
    const run = this.run = {}; // ends the one before
    let last = null;
    while (this.playing && !this.gone && this.run === run) {
      const t = (performance.now() - this.origin) / 1000;
      const now = times[frameAt(times, t)];
      if (now !== last) { this.t = last = now; this.moment = -1; this.#words(); await this.#load(now); }
      if (t >= duration) { this.#pause(); this.seek(times.at(-1)); return; }
      await new Promise((next) => setTimeout(next, 8));
    }
  }

  #pause() {
    this.playing = false;
    this.#face("play", "Play");
  }

  #face(name, label) {
    this.playButton.replaceChildren(icon(name));
    this.playButton.setAttribute("aria-label", label);
    this.playButton.title = `${label} (K)`;
  }

  #step(frames) {
    if (!this.data) return;
    this.#pause();
    this.seek(stepped(this.data.times, this.t, frames));
    announce(`Frame ${frameAt(this.data.times, this.t) + 1}, ${clock(this.t)}`);
  }

  // Doubts

  #doubt(direction) {
    if (!this.data) return;
    const index = nextMoment(this.timeline.data.moments, this.t, direction, this.moment);
    if (index < 0) announce(this.timeline.data.moments.length ? `There is no doubtful moment ${direction > 0 ? "after" : "before"} this one.` : "There is no doubtful moment.");
    else this.#goTo(index);
  }

  async #goTo(index) {
    this.#pause();
    const moment = this.timeline.data.moments[index];
    this.seen.add(this.#name(moment));
    this.list.children[index]?.firstChild.toggleAttribute("data-seen", true);
    this.seek(moment.t, { moment: index });
    this.timeline.show(`t${moment.track}`);
    announce(`Doubt ${index + 1} of ${this.timeline.data.moments.length}, ${clock(moment.t)}. ${this.doubt.textContent}`);
    clearTimeout(this.resting);
    await this.#rest();
    if (this.moment === index && moment.track !== null && this.faces.some((face) => face.id === `t${moment.track}`)) this.viewer.select(`t${moment.track}`);
  }

  // Edits of selected people

  #visible(visible) { return this.viewer.edit({ op: "visible", tracks: [...this.timeline.selected], visible }); }

  #merge() {
    if (this.timeline.selected.size > 1) return this.viewer.edit({ op: "merge", tracks: [...this.timeline.selected] });
    return announce("Select two people or more to merge them.");
  }

  #split() {
    const [track] = this.timeline.selected.size === 1 ? this.timeline.selected : [Number(this.viewer.selected?.match(/^t(\d+)/)?.[1])];
    if (track) return this.viewer.edit({ op: "split", track, t: this.t });
    return announce("Select one person to split it here.");
  }

  /** Cover a person where it is missing between two parts, along a straight line. */
  async #fill() {
    const [track] = this.timeline.selected;
    const { gaps } = this.data.tracks.find((lane) => lane.id === track);
    for (const ends of gaps) {
      const faces = await Promise.all(ends.map((t) => this.api.get(this.api.url(`${this.path}/frame_faces`, { t: t.toFixed(4) }))));
      const places = faces.map((all, index) => ({ t: ends[index], box: all.find((face) => face.track === track)?.box }));
      if (places.every(({ box }) => box)) await this.viewer.edit({ op: "fill", places });
    }
  }
}
