/** Results: downloads, and the export of several files as a zip or into a folder. */
import { make, toast } from "./ui.js";
import { count, exportText, exportable, freeName, nameOf } from "./files.js";

const byId = (id) => document.getElementById(id);

export class Exports {
  #waiting = new Map(); // by job: what to do with its events
  #latest = null; // the last event, which may come before its job is known
  #running = null; // the job that can be cancelled
  #cancelled = false;

  constructor(api, { items, unseen, settled }) {
    Object.assign(this, { api, items, unseen, settled, busy: false, unsaved: new Set() }); // unsaved: files with changes that are in no download
    byId("export").addEventListener("click", () => this.open());
    byId("export-zip").addEventListener("click", () => this.#run(() => this.#zip()));
    byId("export-folder").addEventListener("click", () => this.#run(() => this.#folder()));
    byId("export-cancel").addEventListener("click", () => this.#cancel());
    this.#buttons();
  }

  open() {
    byId("toasts").replaceChildren(); // of what was done before
    const items = exportable(this.items());
    byId("export-text").textContent = exportText(this.items());
    byId("export-zip").querySelector(".label").textContent = items.length > 1 ? "Download a zip" : "Download";
    const note = (item) => {
      if (item.state === "failed") return " (left out: cannot be used)";
      const unseen = this.unseen(item);
      const parts = [item.reviewed ? "" : "not reviewed", unseen ? `${unseen} of ${item.doubts} moments not looked at` : ""].filter(Boolean);
      return parts.length ? ` (${parts.join(", ")})` : "";
    };
    byId("export-list").replaceChildren(...this.items().filter((item) => items.includes(item) || item.state === "failed").map((item) => make("li", {}, `${item.name}${note(item)}`)));
    this.#buttons();
    byId("export-dialog").showModal();
  }

  /** Take a `job` event. */
  job(job) {
    this.#latest = job;
    const waiting = this.#waiting.get(job.id);
    if (job.state === "running") return waiting?.step(job);
    waiting?.end(job);
    this.#waiting.delete(job.id);
  }

  /** The session has ended: nothing follows, and nothing can be saved. */
  end() {
    for (const id of this.#waiting.keys()) this.job({ id, state: "failed", text: "The studio has ended." });
    this.unsaved.clear();
    this.busy = false;
  }

  /** Download the result of one file. */
  async one(item, button) {
    const label = button.querySelector(".label");
    const before = label.textContent;
    this.busy = button.disabled = true;
    this.#cancelled = false;
    try {
      this.#fetch(await this.#start([item], false, ({ done, total }) => { label.textContent = `${Math.round((100 * done) / total)} %`; }));
    } catch (error) { toast(error.message, { error: true }); }
    label.textContent = before;
    this.busy = button.disabled = false;
  }

  /** Begin an export; return the job once it is done. What is changed meanwhile counts as unsaved. */
  async #start(items, faces, step) {
    await this.settled();
    const changed = items.filter(({ id }) => this.unsaved.delete(id));
    const keep = () => changed.forEach(({ id }) => this.unsaved.add(id));
    const job = await this.#write(items, faces, step).catch((error) => { keep(); throw error; });
    if (job.text) { keep(); toast(job.text, { error: true }); } // some are missing
    return job;
  }

  async #write(items, faces, step) {
    if (this.#cancelled) throw new DOMException("Cancelled.", "AbortError");
    const { job: id } = await this.api.post("/api/exports", { items: items.map((item) => item.id), faces_files: faces });
    this.#running = id;
    if (this.#cancelled) this.#cancel();
    const job = await new Promise((end) => {
      this.#waiting.set(id, { step, end });
      if (this.#latest?.id === id) this.job(this.#latest);
    });
    this.#running = null;
    if (job.state === "cancelled") throw new DOMException(job.text, "AbortError");
    if (job.state !== "done") throw new Error(job.text || "The export failed.");
    return job;
  }

  #cancel() {
    this.#cancelled = true;
    if (this.#running) this.api.delete(`/api/exports/${this.#running}`).catch(() => {}); // lost connections are shown above
  }

  #fetch(job) { make("a", { href: job.download, download: "" }).click(); }

  #buttons() {
    const some = exportable(this.items()).length > 0;
    byId("export-progress").hidden = byId("export-cancel").hidden = !this.busy;
    byId("export-zip").hidden = this.busy;
    byId("export-folder").hidden = this.busy || !window.showDirectoryPicker;
    byId("export-zip").disabled = byId("export-folder").disabled = !some;
    byId("export-faces").disabled = this.busy;
  }

  async #run(task) {
    this.busy = true;
    this.#cancelled = false;
    this.#buttons();
    this.#show(0, 1, "Preparing");
    try {
      const text = await task();
      byId("export-dialog").close();
      toast(text);
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, { error: true });
      else if (this.#cancelled) toast(error.message);
    }
    this.busy = false;
    this.#buttons();
  }

  #show(done, total, text) {
    Object.assign(byId("export-progress").querySelector("progress"), { max: total, value: done });
    byId("export-step").textContent = text;
  }

  async #zip() {
    const items = exportable(this.items());
    this.#fetch(await this.#start(items, byId("export-faces").checked, ({ done, total, text }) => this.#show(done, total, text)));
    const failed = this.items().filter((item) => item.state === "failed").length;
    return `${count(items.length, "file")} exported${failed ? `, ${failed} left out` : ""}.`;
  }

  /** Write one result after the other into a folder that the person chooses. */
  async #folder() {
    const folder = await window.showDirectoryPicker({ id: "studio", mode: "readwrite" });
    const items = exportable(this.items());
    const faces = byId("export-faces").checked;
    const failed = [];
    for (const [number, item] of items.entries()) {
      try {
        const job = await this.#start([item], false, ({ done, text }) => this.#show(number + done, items.length, text));
        await this.#save(folder, job.download);
        if (faces) await this.#save(folder, this.api.url(`/api/items/${item.id}/faces_file`));
      } catch (error) {
        if (error.name === "AbortError") throw new DOMException(`Cancelled; ${number - failed.length} of ${count(items.length, "file")} are in ${folder.name}.`, "AbortError");
        failed.push(error.message);
        if (failed.length > 4) break;
      }
    }
    if (failed.length) throw new Error(`${count(failed.length, "file")} ${failed.length === 1 ? "is" : "are"} missing in ${folder.name}: ${failed.join("; ")}`);
    return `${count(items.length, "file")} saved into ${folder.name}.`;
  }

  async #save(folder, address) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error("A result could not be fetched from the studio.");
    const name = await freeName(folder, nameOf(answer.headers.get("content-disposition")));
    const handle = await folder.getFileHandle(name, { create: true });
    await answer.body.pipeTo(await handle.createWritable());
  }
}
