/** The files of a page: which are taken, how they are named, and what is said about them. No DOM. */

const PICTURES = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jp2", "gif", "avif", "heic", "heif", "hif"];
const CLIPS = ["mp4", "mov", "m4v", "webm", "mkv", "avi"];
const SUFFIXES = new Set([...PICTURES, ...CLIPS]);

/** Return whether a file of a folder is a picture or a clip, by its name; hidden files are not. */
export function isMedia(name) { return !name.startsWith(".") && SUFFIXES.has(name.split(".").pop().toLowerCase()); }

/** Return all files of what was dropped, and how many other files its folders hold. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return { files: [...transfer.files], others: 0 };
  const files = [];
  let others = 0;
  for (const entry of entries) {
    if (entry.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else for (const file of await inFolder(entry)) isMedia(file.name) ? files.push(file) : (others += 1);
  }
  return { files, others };
}

async function inFolder(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const more = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!more.length) break;
    entries.push(...more);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  const parts = await Promise.all(entries.map((entry) => (entry.isFile ? new Promise((resolve, reject) => entry.file((file) => resolve([file]), reject)) : inFolder(entry))));
  return parts.flat();
}

/** Return why a file is not uploaded, or null. */
export function refusal({ name, size }, { upload, files }, count) {
  if (size > upload) return `${name} has ${mebibytes(size)}, and the studio takes ${mebibytes(upload)}. Start it with a larger --max-upload.`;
  if (count >= files) return `${name} is left out: a page holds at most ${files} files.`;
  return size ? null : `${name} is empty.`;
}

export const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Return what a file's entry in the strip says to screen readers. */
export function words({ name, state, reviewed, doubts, kind }) {
  const said = { opening: "opening", looking: "looking for faces", failed: "failed", ready: reviewed ? "reviewed" : "to review" }[state];
  return `${name}, ${kind === "clip" ? "clip" : "picture"}, ${said}${state === "ready" && doubts && !reviewed ? `, ${doubts} to check` : ""}`;
}

/** Return the sign of a file in the strip. */
export function sign({ state, reviewed, doubts }) {
  if (state === "failed") return "!";
  if (state !== "ready") return "…";
  return reviewed ? "✓" : doubts ? `${doubts}?` : "";
}

/** Return faces and size of a file. */
export function facts({ width, height, faces, doubts, state, version, kind }) {
  const parts = [];
  if (version > 0 || state === "ready") parts.push(kind === "clip" ? `${faces} ${faces === 1 ? "person" : "people"}` : count(faces, "face"));
  if (doubts) parts.push(`${doubts} to check`);
  if (width) parts.push(`${width} × ${height}`);
  return parts.join(", ");
}

/** Return what the strip says about all files. */
export function summary(items) {
  const usable = items.filter((item) => item.state !== "failed");
  return usable.length ? `${usable.filter((item) => item.reviewed).length} of ${usable.length} reviewed` : "";
}

/** Return the file to review next after one: the next that is not reviewed, around the end; null if there is none. */
export function nextToReview(items, id) {
  const at = items.findIndex((item) => item.id === id);
  const order = [...items.slice(at + 1), ...items.slice(0, at + 1)];
  return order.find((item) => !item.reviewed && item.state !== "failed" && item.id !== id) ?? null;
}

/** Return what to know before an export. */
export function exportText(all) {
  const uploading = all.filter((item) => item.local && item.state !== "failed").length;
  const usable = exportable(all);
  const failed = all.filter((item) => item.state === "failed").length;
  if (!usable.length) return "There is no file to export.";
  const [waiting, open] = [usable.filter((item) => item.state !== "ready").length, usable.filter((item) => !item.reviewed).length];
  const parts = [open ? `${open} of ${count(usable.length, "file")} ${open === 1 ? "is" : "are"} not reviewed.` : `${usable.length === 1 ? "The file is" : "All files are"} reviewed.`];
  if (waiting) parts.push(`The export waits for ${count(waiting, "file")} in which faces are still searched.`);
  if (failed) parts.push(`${count(failed, "file")} cannot be used, and ${failed === 1 ? "is" : "are"} left out.`);
  if (uploading) parts.push(`${count(uploading, "file")} ${uploading === 1 ? "is" : "are"} still being uploaded, and not in this export.`);
  return parts.join(" ");
}

/** Return the files that an export writes. */
export const exportable = (items) => items.filter((item) => !item.local && item.state !== "failed");

/** Return a name that a folder does not hold: photo.jpg, photo_2.jpg, … */
export async function freeName(folder, name) {
  const at = name.lastIndexOf(".");
  const [stem, suffix] = at > 0 ? [name.slice(0, at), name.slice(at)] : [name, ""];
  for (let number = 1; ; number += 1) {
    const tried = number === 1 ? name : `${stem}_${number}${suffix}`;
    try { await folder.getFileHandle(tried); } catch (error) {
      if (error.name === "NotFoundError") return tried;
      throw error;
    }
  }
}

/** Return the file name of a Content-Disposition header. */
export const nameOf = (header) => decodeURIComponent(/filename\*=utf-8''([^;]+)/i.exec(header ?? "")?.[1] ?? "result");
