import assert from "node:assert/strict";
import test from "node:test";
import { reason } from "../../../scrfd_trt/_studio/static/api.js";
import { dropped, exportText, facts, freeName, isMedia, nameOf, nextToReview, refusal, sign, summary, words } from "../../../scrfd_trt/_studio/static/files.js";

const photo = (more) => ({ id: "1", name: "a.jpg", kind: "photo", state: "ready", reviewed: false, width: 40, height: 30, faces: 2, doubts: 0, version: 3, ...more });

test("only pictures and clips of a folder are taken", () => {
  assert.deepEqual(["a.JPG", "b.mkv", "c.txt", ".d.jpg", "jpg"].map(isMedia), [true, true, false, false, true]);
});

test("folders are read whole, in the order of their names", async () => {
  const file = (name) => ({ isFile: true, name, file: (take) => take({ name }) });
  const folder = (name, ...parts) => ({ name, createReader: () => { const left = [parts, []]; return { readEntries: (take) => take(left.shift() ?? []) }; } });
  const entries = [folder("trip", file("b10.jpg"), file("b9.jpg"), file("notes.txt"), folder("x", file("c.png"))), file("single.doc")];
  const { files, others } = await dropped({ items: entries.map((entry) => ({ webkitGetAsEntry: () => entry })), files: [] });
  assert.deepEqual(files.map(({ name }) => name), ["b9.jpg", "b10.jpg", "c.png", "single.doc"]);
  assert.equal(others, 1);
});

test("files beyond the limits are refused before they are sent", () => {
  const limits = { upload: 2 ** 20, files: 3 };
  assert.equal(refusal({ name: "a.jpg", size: 5 }, limits, 0), null);
  assert.match(refusal({ name: "a.jpg", size: 2 ** 21 }, limits, 0), /^a\.jpg has 2\.0 MiB, and the studio takes 1\.0 MiB/);
  assert.match(refusal({ name: "a.jpg", size: 5 }, limits, 3), /at most 3 files/);
  assert.equal(refusal({ name: "a.jpg", size: 0 }, limits, 0), "a.jpg is empty.");
});

test("states are said in words and signs", () => {
  assert.equal(words(photo({ doubts: 2 })), "a.jpg, picture, to review, 2 to check");
  assert.equal(words(photo({ kind: "clip", state: "looking" })), "a.jpg, clip, looking for faces");
  assert.deepEqual([photo(), photo({ doubts: 2 }), photo({ reviewed: true }), photo({ state: "failed" }), photo({ state: "opening" })].map(sign), ["", "2?", "✓", "!", "…"]);
  assert.equal(facts(photo({ faces: 1 })), "1 face, 40 × 30");
  assert.equal(facts(photo({ kind: "clip", doubts: 3 })), "2 people, 3 to check, 40 × 30");
  assert.equal(facts(photo({ version: 0, state: "opening", width: 0 })), "");
});

test("the strip and the export count what is to review", () => {
  const items = [photo({ id: "1", reviewed: true }), photo({ id: "2" }), photo({ id: "3", state: "failed" }), photo({ id: "4", state: "looking" })];
  assert.equal(summary(items), "1 of 3 reviewed");
  assert.equal(exportText(items), "2 of 3 files are not reviewed. The export waits for 1 file in which faces are still searched. 1 file cannot be used, and is left out.");
  assert.equal(exportText([photo({ reviewed: true }), photo({ local: true, state: "opening" })]), "The file is reviewed. 1 file is still being uploaded, and not in this export.");
  assert.equal(exportText([photo({ state: "failed" })]), "There is no file to export.");
  assert.equal(exportText([photo({ reviewed: true })]), "The file is reviewed.");
  assert.equal(nextToReview(items, "2").id, "4");
  assert.equal(nextToReview(items, "4").id, "2");
  assert.equal(nextToReview(items.slice(0, 2), "2"), null);
});

test("a folder's files are not replaced", async () => {
  const folder = { getFileHandle: async (name) => { if (!["a.jpg", "a_2.jpg"].includes(name)) throw Object.assign(new Error(), { name: "NotFoundError" }); } };
  assert.equal(await freeName(folder, "a.jpg"), "a_3.jpg");
  assert.equal(await freeName(folder, "b"), "b");
});

test("names and reasons of answers are read", () => {
  assert.equal(nameOf("attachment; filename*=utf-8''caf%C3%A9%20%231.jpg"), "café #1.jpg");
  assert.equal(reason('{"error": "no"}', 422), "no");
  assert.equal(reason("the file is too large", 413), "the file is too large");
  assert.equal(reason("<!doctype html>", 502), "The studio answers with 502.");
});
