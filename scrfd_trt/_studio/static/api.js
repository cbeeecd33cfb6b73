/** Talks to the studio: one session a page, requests, uploads and events. Paths are whole: "/api/items/3/faces". */

/** Return what an answer says, or throw an Error with its plain line. */
async function read(answer) {
  const text = await answer.text();
  if (answer.ok) return text && answer.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text || null;
  const error = new Error(reason(text, answer.status));
  error.status = answer.status;
  throw error;
}

/** Return the plain line of a refusal; the guard's refusals are plain text. */
export function reason(text, status) {
  try { return JSON.parse(text).error ?? text; } catch { return text?.length < 300 && !text.startsWith("<") && text ? text : `The studio answers with ${status}.`; }
}

const request = (path, options) => fetch(path, options).catch(() => { throw new Error("The studio does not answer. Is it still running?"); });

export class Api {
  /** Open a session. */
  static async open() {
    return new Api(await read(await request("/api/session", { method: "POST" })));
  }

  constructor({ session, limits, samples, overlays }) { Object.assign(this, { session, limits, samples, overlays }); }

  /** Return the address of a picture or file, which the browser loads itself. */
  url(path, params = {}) {
    const query = new URLSearchParams({ session: this.session });
    for (const [name, value] of Object.entries(params)) if (value != null) query.set(name, value);
    return `${path}?${query}`;
  }

  /** Return the address of a WebSocket. */
  socket(path) { return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${this.url(path)}`; }

  async #send(method, path, body) {
    const headers = { "x-session": this.session, ...(body === undefined ? {} : { "content-type": "application/json" }) };
    return read(await request(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
  }

  get(path) { return this.#send("GET", path); }
  post(path, body = {}) { return this.#send("POST", path, body); }
  put(path, body) { return this.#send("PUT", path, body); }
  patch(path, body) { return this.#send("PATCH", path, body); }
  delete(path) { return this.#send("DELETE", path); }

  /** Upload a file; `onProgress` gets 0 to 1, `signal` stops it. */
  upload(path, file, { onProgress = () => {}, signal = null } = {}) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const form = new FormData();
      form.append("file", file, file.name);
      request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
      request.addEventListener("load", () => {
        if (request.status < 300) resolve(JSON.parse(request.responseText));
        else reject(new Error(reason(request.responseText, request.status)));
      });
      request.addEventListener("error", () => reject(new Error("The upload broke off: the file is too large, or the studio does not answer.")));
      request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
      signal?.addEventListener("abort", () => request.abort());
      request.open("POST", path);
      request.setRequestHeader("x-session", this.session);
      request.send(form);
    });
  }

  /** Call `on.item`, `on.job`, and `on.connection` with `open`, `lost` or `ended`; the browser connects again by itself. */
  listen(on) {
    const events = new EventSource(this.url("/api/events"));
    for (const name of ["item", "job"]) events.addEventListener(name, (event) => on[name](JSON.parse(event.data)));
    events.addEventListener("bye", () => { events.close(); on.connection("ended"); });
    events.addEventListener("open", () => on.connection("open"));
    events.addEventListener("error", () => {
      if (events.readyState !== EventSource.CLOSED) return on.connection("lost");
      const again = () => setTimeout(() => this.listen(on), 1000);
      this.get("/api/items").then(again, (error) => { on.connection(error.status === 404 ? "ended" : "lost"); if (error.status !== 404) again(); });
    });
    return events;
  }

  /** End the session while the page is being closed. */
  end() { navigator.sendBeacon(this.url("/api/session/end")); }
}
