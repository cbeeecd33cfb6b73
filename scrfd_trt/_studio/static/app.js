/** The page: start, files and their strip, the file that is shown, settings and results. */
import { Api } from "./api.js";
import { Exports } from "./exports.js";
import { dropped, facts, isMedia, mebibytes, nextToReview, count, refusal, sign, summary, words } from "./files.js";
import { Settings } from "./settings.js";
import { announce, dialogs, state, tabs, toast } from "./ui.js";
import { Queue, Viewer } from "./viewer.js";

const UPLOADS = 2; // at the same time
const byId = (id) => document.getElementById(id);

class App {
  constructor(api) {
    Object.assign(this, { api, current: null, queue: [], removed: new Set(), seen: new Map(), uploading: 0, uploads: 0, clip: null, live: null, facesOf: null });
    this.entries = new Map(); // by id: items of the server, and uploads that have none yet
    this.rows = new Map();
    this.applying = new Queue(); // settings: a later change must not arrive first
    this.exports = new Exports(api, { items: () => this.items, unseen: (item) => this.#unseen(item), settled: () => this.#settled() });
    this.viewer = new Viewer(byId("viewport"), {
      tools: byId("tools"),
      list: byId("face-list"),
      onEdit: (operation) => this.#edit(operation),
      onNavigate: (step) => this.step(step),
      onKey: (event) => this.clip?.key(event) ?? false,
    });
    this.settings = new Settings(byId("panel-look"), byId("modes"), {
      overlays: api.overlays,
      thumbnail: (overlay) => (this.item && !this.item.local && this.item.version > 0 ? api.url(`/api/items/${this.current}/thumbnail`, { overlay, side: 160, version: this.item.faces }) : null),
      check: (name, options) => api.post("/api/options/check", { name, options }),
      uploadSticker: async (file) => (await api.upload("/api/stickers", file)).sticker,
      onChange: (settings, id) => this.#apply(settings, id ? [id] : []),
      onApplyAll: (settings) => this.#apply(settings, "all"),
    });
    this.tabs = tabs(byId("panel"));
    byId("panel").addEventListener("tab", () => this.#result());
    this.#start();
    this.#listen();
  }

  get item() { return this.entries.get(this.current); }
  get items() { return [...this.entries.values()]; }

  #start() {
    const { upload, pixels } = this.api.limits;
    byId("limits").textContent = `You can also paste a picture. Up to ${mebibytes(upload)} a file, and ${pixels / 1e6} million pixels a picture.`;
    byId("samples").replaceChildren(...this.api.samples.map(({ name, label, thumbnail }) => {
      const row = byId("sample").content.cloneNode(true);
      row.querySelector("img").src = thumbnail;
      row.querySelector(".label").textContent = label;
      row.querySelector("button").addEventListener("click", () => this.#sample(name));
      return row;
    }));
  }

  #listen() {
    const on = (id, handler) => byId(id).addEventListener("click", handler);
    for (const id of ["choose-files", "add"]) on(id, () => byId("file-input").click());
    on("choose-folder", () => byId("folder-input").click());
    for (const id of ["camera", "start-camera"]) on(id, () => this.#camera());
    on("home", () => this.#view(this.entries.size && document.body.dataset.view !== "review" ? "review" : "start"));
    on("show-keys", () => byId("keys").showModal());
    on("previous-item", () => this.step(-1));
    on("next-item", () => this.step(1));
    on("reviewed", () => this.#review());
    on("download", () => this.item && this.exports.one(this.item, byId("download")));
    for (const id of ["file-input", "folder-input"]) {
      byId(id).addEventListener("change", ({ target }) => {
        const all = [...target.files];
        const files = id === "folder-input" ? all.filter((file) => isMedia(file.name)) : all;
        this.add(files, all.length - files.length);
        target.value = "";
      });
    }
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", async () => {
        const text = byId(button.dataset.copy);
        getSelection().selectAllChildren(text);
        if (await navigator.clipboard?.writeText(text.textContent).then(() => true, () => false) || document.execCommand("copy")) toast("Copied."); // no clipboard without HTTPS
      });
    }
    const veil = (shown) => { byId("veil").hidden = !shown; };
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => { if (hasFiles(event)) { event.preventDefault(); veil(!document.querySelector("dialog[open]")); } });
    addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    byId("veil").addEventListener("dragleave", () => veil(false)); // it covers the page
    addEventListener("drop", async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      veil(false);
      try {
        const { files, others } = await dropped(event.dataTransfer);
        this.add(files, others);
      } catch (error) { toast(`What was dropped cannot be read: ${error.message}`, { error: true }); }
    });
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) { event.preventDefault(); this.add(files); }
    });
    addEventListener("keydown", (event) => {
      if (event.target.closest?.("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?" && event.target.closest("#stage, .strip")) byId("keys").showModal();
    });
    addEventListener("beforeunload", (event) => { if (this.exports.unsaved.size || this.exports.busy || this.uploading) event.preventDefault(); });
    addEventListener("pagehide", () => this.api.end());
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    this.api.listen({
      item: (item) => this.#take(item),
      job: (job) => this.exports.job(job),
      connection: (what) => this.#connection(what),
    });
  }

  #connection(what) {
    if (this.over) return;
    byId("lost").hidden = what === "open";
    this.over = what === "ended";
    if (!this.over) return;
    const lost = this.exports.unsaved.size ? ` What you changed in ${count(this.exports.unsaved.size, "file")} is lost.` : "";
    this.exports.end();
    byId("lost").textContent = `The studio has ended, or has closed this page.${lost} Load the page again to begin anew. `;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: "Load again" });
    button.addEventListener("click", () => location.reload());
    byId("lost").append(button);
  }

  #view(name) {
    if (name !== "live") { this.live?.destroy(); this.live = null; }
    if (document.body.dataset.view !== name) scrollTo(0, 0);
    document.body.dataset.view = name;
  }

  async #camera() {
    if (this.live) return;
    this.#view("live");
    try {
      const { LiveView } = await import("./live.js");
      if (this.live || document.body.dataset.view !== "live") return;
      this.live = new LiveView({ root: byId("live"), api: this.api, settings: this.settings.settings, onClose: () => this.#view(this.entries.size ? "review" : "start") });
    } catch (error) {
      this.#view(this.entries.size ? "review" : "start");
      toast(error.message, { error: true });
    }
  }

  // Files

  /** Upload files; `others` of a folder are none. */
  add(files, others = 0) {
    if (others) toast(`${count(others, "other file")} of the folder ${others === 1 ? "is" : "are"} neither a picture nor a clip.`);
    if (!files.length) return;
    for (const file of files) {
      const refused = refusal(file, this.api.limits, this.entries.size);
      const id = `upload-${(this.uploads += 1)}`;
      const entry = { id, local: true, name: file.name, file, kind: "photo", state: refused ? "failed" : "opening", step: "Waiting", progress: 0, error: refused, version: 0, faces: 0, doubts: 0, notes: [] };
      this.entries.set(id, entry);
      if (!refused) this.queue.push(entry);
      this.#row(entry);
    }
    this.#view("review");
    if (!this.item) this.show([...this.entries.keys()][this.entries.size - files.length]);
    announce(`${count(files.length, "file")} added.`);
    this.#upload();
  }

  async #upload() {
    if (this.uploading >= UPLOADS || !this.queue.length) return;
    const entry = this.queue.shift();
    this.uploading += 1;
    entry.step = "Uploading";
    entry.stop = new AbortController();
    try {
      const item = await this.api.upload("/api/items", entry.file, { signal: entry.stop.signal, onProgress: (part) => { entry.progress = part; this.#row(entry); } });
      if (this.entries.has(entry.id)) this.#replace(entry, item);
      else this.api.delete(`/api/items/${item.id}`).catch(() => {});
    } catch (error) {
      if (error.name !== "AbortError") this.#row(Object.assign(entry, { state: "failed", error: error.message, file: null }));
    }
    this.uploading -= 1;
    this.#upload();
    this.#upload();
  }

  async #sample(name) {
    try {
      const item = await this.api.post(`/api/samples/${name}`);
      this.#take(item);
      this.#view("review");
      this.show(item.id);
    } catch (error) { toast(error.message, { error: true }); }
  }

  /** Put an item in the place of its upload. */
  #replace(entry, item) {
    const known = this.entries.get(item.id); // its first event may come before the answer
    this.rows.get(item.id)?.remove();
    this.rows.delete(item.id);
    this.entries = new Map(this.items.filter((other) => other.id !== item.id).map((other) => (other === entry ? [item.id, known ?? item] : [other.id, other])));
    this.rows.set(item.id, this.rows.get(entry.id));
    this.rows.delete(entry.id);
    const shown = this.current === entry.id;
    if (shown) this.current = null;
    this.#row(this.entries.get(item.id));
    if (shown) this.show(item.id);
  }

  /** Take the state of an item. */
  #take(item) {
    if (this.removed.has(item.id)) return; // the event was on its way
    const before = this.entries.get(item.id);
    this.entries.set(item.id, item);
    if ((item.can_undo || item.reviewed) && (before?.version !== item.version || before?.reviewed !== item.reviewed)) this.exports.unsaved.add(item.id);
    this.#row(item);
  }

  async remove(id) {
    const item = this.entries.get(id);
    const next = this.neighbour(1, id) ?? this.neighbour(-1, id);
    if (this.exports.unsaved.has(id) && !confirm(`Remove ${item.name}? What you changed in it is in no download.`)) return;
    const focused = this.rows.get(id)?.contains(document.activeElement);
    this.removed.add(id);
    this.exports.unsaved.delete(id);
    this.entries.delete(id);
    this.rows.get(id)?.remove();
    this.rows.delete(id);
    if (focused) this.rows.get(next?.id)?.querySelector(".thumb-open").focus();
    this.queue = this.queue.filter((entry) => entry.id !== id);
    item.stop?.abort();
    this.#summary();
    if (!this.entries.size) { this.current = null; this.viewer.clear(); this.#view("start"); }
    else if (this.current === id) this.show(next.id);
    if (!item.local) await this.api.delete(`/api/items/${id}`).catch((error) => toast(error.message, { error: true }));
  }

  /** Show an item in the strip, and what is shown of it elsewhere. */
  #row(item) {
    let row = this.rows.get(item.id);
    if (!row) {
      row = byId("strip-item").content.cloneNode(true).firstElementChild;
      byId("strip").append(row);
      this.rows.set(item.id, row);
    }
    const open = row.querySelector(".thumb-open");
    const image = row.querySelector("img");
    open.onclick = () => this.show(item.id);
    row.querySelector(".thumb-remove").onclick = () => this.remove(item.id);
    row.querySelector(".thumb-remove").setAttribute("aria-label", `Remove ${item.name}`);
    row.dataset.state = item.state;
    row.dataset.reviewed = Boolean(item.reviewed);
    row.querySelector(".thumb-state").textContent = sign(item);
    row.querySelector(".thumb-name").textContent = item.name;
    row.querySelector(".thumb-words").textContent = words(item);
    open.title = item.name;
    const source = !item.local && item.version > 0 ? this.api.url(`/api/items/${item.id}/thumbnail`, { side: 160, version: item.version }) : "";
    if (source && image.getAttribute("src") !== source) { image.src = source; image.hidden = false; }
    this.#summary();
    if (this.current === item.id) this.#update();
  }

  #summary() {
    byId("strip-summary").textContent = summary(this.items);
    this.settings.showApplyAll(this.entries.size > 1);
  }

  neighbour(step, id = this.current) {
    const all = this.items;
    return all[all.findIndex((item) => item.id === id) + step] ?? null;
  }

  step(step) {
    const item = this.neighbour(step);
    if (item) this.show(item.id);
  }

  // The file that is shown

  show(id) {
    if (id === this.current && document.body.dataset.view === "review") return;
    this.current = id;
    this.clip?.destroy();
    this.clip = null;
    this.facesOf = null;
    this.viewer.clear();
    state(null);
    for (const [key, row] of this.rows) row.querySelector(".thumb-open").toggleAttribute("aria-current", key === id);
    this.rows.get(id)?.querySelector(".thumb-open").setAttribute("aria-current", "true");
    this.#reveal(this.rows.get(id));
    this.settings.set(this.item.settings ?? this.settings.settings, this.item.settings ? id : null);
    this.thumbnailsOf = null;
    this.#update();
  }

  /** Scroll the strip, but not the page, to a file. */
  #reveal(row) {
    const [strip, part] = [byId("strip"), row].map((element) => element.getBoundingClientRect());
    byId("strip").scrollLeft += Math.min(part.left - strip.left - 8, 0) + Math.max(part.right - strip.right + 8, 0);
  }

  /** Show the state of the current item. */
  #update() {
    const { item } = this;
    const isClip = item.kind === "clip" && !item.local;
    byId("item-name").textContent = item.name;
    byId("item-facts").textContent = facts(item);
    byId("faces-count").textContent = item.version > 0 ? item.faces : "";
    byId("reviewed").disabled = item.state !== "ready";
    byId("reviewed").title = item.state === "ready" || item.state === "failed" ? "" : "Faces are still searched";
    byId("reviewed").setAttribute("aria-pressed", Boolean(item.reviewed));
    byId("reviewed").querySelector(".label").textContent = item.reviewed ? "Reviewed" : "Looks right";
    byId("download").disabled = item.state !== "ready" || this.exports.busy;
    byId("previous-item").disabled = !this.neighbour(-1);
    byId("next-item").disabled = !this.neighbour(1);
    byId("notes").hidden = !item.notes.length;
    byId("notes").replaceChildren(...item.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    if (!isClip) for (const [name, hidden] of [["clip", true], ["people", true], ["face-list", false]]) byId(name).hidden = hidden;
    state(this.#state(item));
    if (item.settings) this.settings.set(item.settings, item.id);
    if (isClip) this.#clip(item);
    else if (!item.local && item.version > 0) this.#picture(item);
    if (!item.local && item.version > 0 && this.thumbnailsOf !== `${item.id} ${item.faces > 0}`) {
      this.thumbnailsOf = `${item.id} ${item.faces > 0}`;
      this.settings.refresh();
    }
    this.#result();
  }

  #state(item) {
    if (item.state === "failed") return { kind: "failed", title: "This file cannot be used", text: item.error, action: { label: "Remove it", run: () => this.remove(item.id) } };
    if (item.local) return { kind: "opening", title: item.step, text: item.name, progress: item.progress };
    if (item.state === "opening" || (item.state === "looking" && !item.version)) return { kind: "opening", title: item.step, text: item.name, progress: item.progress ?? undefined };
    if (this.loading === item.id) return { kind: "opening", title: "Loading the picture", text: item.name };
    if (item.state === "looking") return { kind: "looking", title: item.step, text: "You can begin to review.", progress: item.progress ?? undefined };
    if (item.faces || item.kind === "clip") return null;
    return { kind: "none", title: "No face found", text: "Draw a box if there is one.", action: { label: "Draw a box", run: () => { this.viewer.draw = true; } } };
  }

  async #picture(item) {
    const { id, version, width, height, name } = item;
    this.loading = this.viewer.after ? null : id;
    state(this.#state(item));
    const picture = { id, version, width, height, name };
    picture.url = ({ covered, side, box }) => this.api.url(`/api/items/${id}/picture`, { covered: covered ? 1 : 0, side, box: box?.join(","), version: covered ? picture.version : 0 });
    this.viewer.setHistory(item);
    try {
      await this.viewer.setPicture(picture).finally(() => {
        if (this.loading === id) this.loading = null;
        if (this.current === id) state(this.#state(this.item));
      });
      await this.viewer.queue.idle(); // edits of the file that was shown before
      if (this.current !== id || this.facesOf === version) return;
      const { version: known, faces } = await this.api.get(`/api/items/${id}/faces`);
      if (this.current !== id || this.viewer.queue.pending || known < this.facesOf) return;
      this.facesOf = known;
      this.viewer.setFaces(faces);
    } catch (error) {
      if (this.current === id && this.entries.get(id)?.version === version) toast(error.message || "The picture cannot be shown.", { error: true });
    }
  }

  /** Return the doubtful moments of a clip that were looked at. */
  #seen(item) {
    if (!this.seen.has(item.id)) this.seen.set(item.id, new Set());
    return this.seen.get(item.id);
  }

  #unseen(item) { return item.kind === "clip" ? Math.max(item.doubts - this.#seen(item).size, 0) : 0; }

  async #clip(item) {
    if (this.clip) return this.clip.update(item);
    const { ClipView } = await import("./clip.js");
    if (this.current === item.id && !this.clip) this.clip = new ClipView({ root: byId("clip"), people: byId("people"), viewer: this.viewer, api: this.api, item: this.item, seen: this.#seen(item) });
  }

  #edit(operation) {
    if (this.clip) return this.clip.edit(operation);
    const { current } = this;
    return async () => {
      const answer = await this.api.post(`/api/items/${current}/edits`, operation);
      if (this.current === current) this.facesOf = answer.version;
      return answer;
    };
  }

  async #review() {
    const { item } = this;
    const reviewed = !item.reviewed;
    const next = reviewed ? nextToReview(this.items, item.id) : null;
    try {
      await this.api.patch(`/api/items/${item.id}`, { reviewed });
      announce(reviewed ? `${item.name} is reviewed.` : `${item.name} is to be reviewed again.`);
      const unseen = reviewed ? this.#unseen(item) : 0;
      if (unseen) toast(`${unseen} of ${item.doubts} moments to check in ${item.name} were not looked at.`, { action: { label: "Go back", run: () => this.show(item.id) } });
      if (next) this.show(next.id);
      else if (reviewed && !unseen && this.entries.size > 1) toast("All files are reviewed.", { action: { label: "Export", run: () => this.exports.open() } });
    } catch (error) { toast(error.message, { error: true }); }
  }

  async #apply(settings, items) {
    this.live?.setSettings(settings);
    if (this.#incomplete(settings)) return; // the panel says which file to choose
    try {
      await this.applying.run(() => this.api.put("/api/settings", { items, settings }));
      for (const id of items === "all" ? this.entries.keys() : items) this.exports.unsaved.add(id);
      if (items === "all") toast("All files use these settings.");
    } catch (error) { toast(error.message, { error: true }); }
  }

  /** Wait until the server has all that was changed. */
  async #settled() {
    this.settings.flush();
    await Promise.all([this.applying.idle(), this.viewer.queue.idle()]);
  }

  #incomplete({ overlays }) {
    const missing = ({ name, options }) => this.api.overlays.find((overlay) => overlay.name === name)?.options.some((option) => option.required && options[option.name] == null);
    return overlays.some(missing);
  }

  /** Show the code of the current item, while its tab is shown. */
  async #result() {
    const { item } = this;
    if (byId("panel-result").hidden || !item || item.local || !item.version) return;
    byId("faces-file").href = this.api.url(`/api/items/${item.id}/faces_file`);
    const code = await this.api.get(`/api/items/${item.id}/code`).catch((error) => ({ command: error.message, python: "" }));
    if (this.current !== item.id) return;
    byId("code-command").textContent = code.command;
    byId("code-python").textContent = code.python;
  }
}

dialogs();
Api.open().then((api) => { window.studio = new App(api); }, (error) => {
  byId("lost").textContent = error.message;
  byId("lost").hidden = false;
});
