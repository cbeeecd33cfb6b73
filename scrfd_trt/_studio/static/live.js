/** The live camera: frames go to the studio on this machine one by one, and come back with the overlays. */
import { announce, icon, make } from "./ui.js";

const SIDE = 960; // longest side in pixels of the frames that are sent
const QUALITY = 0.8;

/** Return in plain words why the camera cannot be used. */
export function cameraProblem(error, { secure = true } = {}) {
  if (!secure) return "Browsers allow the camera only on this machine or over HTTPS. Open the studio as http://localhost or through an SSH tunnel.";
  return {
    NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, and start again.",
    NotFoundError: "No camera was found. Connect one, and start again.",
    NotReadableError: "The camera is in use by another program. Close it there, and start again.",
    OverconstrainedError: "This camera is not available any more. Choose another one.",
  }[error.name] ?? `The camera cannot be used: ${error.message || error.name}`;
}

/** Return the size in which a frame is sent. */
export function frameSize(width, height, side = SIDE) {
  const scale = Math.min(1, side / Math.max(width, height, 1));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

export class LiveView {
  constructor({ root, api, settings, onClose }) {
    Object.assign(this, { root, api, settings, stream: null, socket: null, frames: 0 });
    this.video = make("video", { muted: true, playsinline: true, hidden: true });
    this.video.muted = true;
    this.source = make("canvas");
    this.canvas = make("canvas", { class: "live-picture", role: "img", "aria-label": "The camera's picture with the overlay", hidden: true });
    this.message = make("p", { class: "live-message", role: "status" }, "The camera's picture is sent to the studio on this machine only. Nothing is stored.");
    this.start = make("button", { type: "button", class: "button primary large with-icon", on: { click: () => (this.stream ? this.stop() : this.begin()) } }, icon("camera"), make("span", {}, "Start the camera"));
    this.choice = make("select", { "aria-label": "Camera", on: { change: () => this.begin(this.choice.value) } });
    this.field = make("label", { class: "field live-choice", hidden: true }, make("span", { class: "name" }, "Camera"), this.choice);
    this.rate = make("output", { class: "small muted", "aria-label": "Frames a second" });
    const close = make("button", { type: "button", class: "button with-icon", on: { click: () => { this.destroy(); onClose(); } } }, icon("previous"), "Back");
    root.replaceChildren(make("h1", { class: "visually-hidden" }, "Live camera"), make("div", { class: "live-stage" }, this.canvas, this.message), make("div", { class: "live-bar" }, close, this.start, this.field, this.rate), this.video);
    this.counting = setInterval(() => { this.rate.textContent = this.stream ? `${this.frames} frames/s` : ""; this.frames = 0; }, 1000);
  }

  /** Use other settings from the next frame on. */
  setSettings(settings) {
    this.settings = settings;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ settings }));
  }

  /** Start a camera, by its id, or the browser's usual one. */
  async begin(id = "") {
    this.stop();
    const secure = window.isSecureContext && Boolean(navigator.mediaDevices);
    try {
      if (!secure) throw new Error();
      this.start.disabled = true;
      const video = { width: { ideal: 1280 }, height: { ideal: 720 }, ...(id ? { deviceId: { exact: id } } : { facingMode: "user" }) };
      const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      if (this.gone) { stream.getTracks().forEach((track) => track.stop()); return; }
      this.stream = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => { this.stop(); this.#say("The camera was disconnected."); });
      this.video.srcObject = stream;
      await this.video.play();
      await this.#cameras();
      this.#connect();
    } catch (error) {
      this.stop();
      this.#say(cameraProblem(error, { secure }), true);
    } finally {
      this.start.disabled = false;
      this.#label();
    }
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    const { socket } = this;
    this.socket = null;
    socket?.close();
    this.video.srcObject = null;
    this.canvas.hidden = true;
    this.message.hidden = false;
    this.message.textContent = "The camera is off.";
    this.message.classList.remove("problem");
    this.#label();
  }

  destroy() {
    this.gone = true;
    this.stop();
    clearInterval(this.counting);
    clearTimeout(this.next);
    this.root.replaceChildren();
  }

  #label() { this.start.lastChild.textContent = this.stream ? "Stop the camera" : "Start the camera"; }

  #say(text, problem = false) {
    this.message.textContent = text;
    this.message.hidden = false;
    this.message.classList.toggle("problem", problem);
    announce(text);
  }

  async #cameras() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const current = this.stream.getVideoTracks()[0].getSettings().deviceId;
    this.choice.replaceChildren(...cameras.map(({ deviceId, label }, index) => make("option", { value: deviceId, selected: deviceId === current }, label || `Camera ${index + 1}`)));
    this.field.hidden = cameras.length < 2;
  }

  #connect() {
    const socket = new WebSocket(this.api.socket("/api/live"));
    this.socket = socket;
    socket.binaryType = "blob";
    socket.addEventListener("open", () => { this.setSettings(this.settings); this.#send(); });
    socket.addEventListener("message", (event) => this.socket === socket && this.#show(event.data));
    socket.addEventListener("close", () => { if (this.socket === socket) { this.stop(); this.#say("The connection to the studio is lost. Start the camera again.", true); } });
  }

  /** Send the newest frame; the next one follows when the answer has come. */
  async #send() {
    const { socket, video, source } = this;
    if (!socket || this.gone) return;
    [source.width, source.height] = frameSize(video.videoWidth, video.videoHeight);
    source.getContext("2d").drawImage(video, 0, 0, source.width, source.height);
    const blob = await new Promise((done) => { source.toBlob(done, "image/jpeg", QUALITY); });
    if (blob && this.socket === socket && socket.readyState === WebSocket.OPEN) socket.send(blob);
  }

  async #show(data) {
    if (typeof data === "string") { // why the frame or the settings are refused
      this.canvas.hidden = true; // a covered picture must not seem to go on
      this.#say(JSON.parse(data).error, true);
      this.#again(500);
      return;
    }
    const frame = await createImageBitmap(data);
    if (!this.stream) return;
    Object.assign(this.canvas, { width: frame.width, height: frame.height });
    this.canvas.getContext("2d").drawImage(frame, 0, 0);
    frame.close();
    if (this.canvas.hidden) announce("The camera runs.");
    this.canvas.hidden = false;
    this.message.hidden = true;
    this.frames += 1;
    this.#again(0);
  }

  /** Send another frame after some milliseconds; one frame is on its way at a time. */
  #again(delay) {
    clearTimeout(this.next);
    this.next = setTimeout(() => this.#send(), delay);
  }
}
