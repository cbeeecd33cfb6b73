/** Results: downloads, and the export of several files as a zip or into a folder. */
import { announce, toast } from "./ui.js";
import { count, exportText, freeName, nameOf } from "./files.js";

const byId = (id) => document.getElementById(id);

export class Exports {
  #waiting = new Map(); // by job: what to do with its events
  #latest = null; // the last event, which may come before its job is known
  #running = null;

  constructor(api, items) {
    Object.assign(this, { api, items });
    byId("export").addEventListener("click", () => this.open());
    byId("export-zip").addEventListener("click", () => this.#run(() => this.#zip()));
    byId("export-folder").addEventListener("click", () => this.#run(() => this.#folder()));
    byId("export-folder").hidden = !window.showDirectoryPicker;
    byId("export-cancel").addEventListener("click", () => this.#running?.cancel());
    this.saved = true; // whether all changes are in a download
  }

  open() {
    byId("toasts").replaceChildren(); // they would lie under the dialog
    const usable = this.items().filter((item) => item.state !== "failed");
    byId("export-text").textContent = exportText(this.items());
    byId("export-zip").querySelector(".label").textContent = usable.length > 1 ? "Download a zip" : "Download";
    byId("export-list").replaceChildren(...usable.map((item) => {
      const row = document.createElement("li");
      row.textContent = `${item.name}${item.reviewed ? "" : " (not reviewed)"}`;
      return row;
    }));
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

  /** Download the result of one file. */
  async one(item, button) {
    button.disabled = true;
    const label = button.querySelector(".label");
    const before = label.textContent;
    try {
      const job = await this.#start([item.id], false, ({ done, total }) => { label.textContent = `${Math.round((100 * done) / total)} %`; });
      this.#fetch(job);
    } catch (error) { toast(error.message, { error: true }); }
    label.textContent = before;
    button.disabled = false;
  }

  /** Begin an export; return the job once it is done. */
  async #start(items, faces, step) {
    const { job: id } = await this.api.post("/api/exports", { items, faces_files: faces });
    this.#running = { cancel: () => this.api.delete(`/api/exports/${id}`) };
    const job = await new Promise((end) => {
      this.#waiting.set(id, { step, end });
      if (this.#latest?.id === id) this.job(this.#latest);
    });
    this.#running = null;
    if (job.state !== "done") throw new Error(job.text || "The export failed.");
    if (job.text) toast(job.text, { error: true });
    return job;
  }

  #fetch(job) {
    const link = document.createElement("a");
    link.href = job.download;
    link.download = "";
    link.click();
    this.saved = true;
  }

  async #run(task) {
    const busy = (on) => {
      byId("export-progress").hidden = byId("export-cancel").hidden = !on;
      byId("export-zip").hidden = on;
      byId("export-folder").hidden = on || !window.showDirectoryPicker;
      byId("export-faces").disabled = on;
    };
    busy(true);
    this.#show(0, 1, "Preparing");
    try {
      const text = await task();
      if (text) { byId("export-dialog").close(); toast(text); announce(text); }
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, { error: true });
    }
    busy(false);
  }

  #show(done, total, text) {
    Object.assign(byId("export-progress").querySelector("progress"), { max: total, value: done });
    byId("export-step").textContent = text;
  }

  async #zip() {
    const ids = this.items().filter((item) => item.state !== "failed" && item.id).map((item) => item.id);
    const job = await this.#start(ids, byId("export-faces").checked, ({ done, total, text }) => this.#show(done, total, text));
    this.#fetch(job);
    return `${count(ids.length, "file")} exported.`;
  }

  /** Write one result after the other into a folder that the person chooses. */
  async #folder() {
    const folder = await window.showDirectoryPicker({ id: "studio", mode: "readwrite" });
    const items = this.items().filter((item) => item.state !== "failed");
    const faces = byId("export-faces").checked;
    for (const [number, item] of items.entries()) {
      const job = await this.#start([item.id], false, ({ done, text }) => this.#show(number + done, items.length, text));
      await this.#save(folder, job.download);
      if (faces) await this.#save(folder, this.api.url(`/api/items/${item.id}/faces_file`));
    }
    this.saved = true;
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
