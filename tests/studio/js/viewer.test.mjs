import assert from "node:assert/strict";
import test from "node:test";
import { Queue, boxAround, boxBetween, changes, expected, faceAt, fit, handleAt, handlesOf, moved, neighbour, resized, settle, toPicture, toWindow, zoomed } from "../../../scrfd_trt/_studio/static/viewer.js";

const picture = { width: 400, height: 200 };
const view = { scale: 2, x: 10, y: 20 };
const face = (id, box, more = {}) => ({ id, box, score: 0.9, origin: "detector", covered: true, doubtful: false, ...more });

test("points of the window and of the picture are each other's inverse", () => {
  assert.deepEqual(toPicture(view, 110, 60), [50, 20]);
  assert.deepEqual(toWindow(view, [50, 20, 60, 30]), [110, 60, 130, 80]);
});

test("a picture is fitted into its window, centred", () => {
  const { scale, x, y } = fit(424, 424, picture);
  assert.deepEqual([scale, x, y], [1, 12, 112]);
  assert.deepEqual(settle({ scale: 1, x: -900, y: 5 }, 424, 424, picture), { scale: 1, x: 12, y: 112 });
  assert.equal(settle({ scale: 4, x: 5000, y: 0 }, 400, 400, picture).x, 100);
  assert.equal(settle({ scale: 4, x: -5000, y: 0 }, 400, 400, picture).x, 400 - 1600 - 100);
});

test("a zoom keeps the point under the pointer and its limits", () => {
  const near = zoomed(view, 3, 110, 60, 0.5, 8);
  assert.equal(near.scale, 6);
  assert.deepEqual(toPicture(near, 110, 60), toPicture(view, 110, 60));
  assert.equal(zoomed(view, 100, 0, 0, 0.5, 8).scale, 8);
  assert.equal(zoomed(view, 0.001, 0, 0, 0.5, 8).scale, 0.5);
});

test("of the faces at a point, the one with the nearest centre is hit, and small ones are as large as a finger", () => {
  const faces = [face("large", [0, 0, 100, 100]), face("inner", [40, 40, 60, 60]), face("tiny", [200, 100, 204, 104])];
  const at = (x, y, target) => faceAt(faces, { scale: 1, x: 0, y: 0 }, x, y, target)?.id;
  assert.equal(at(52, 52), "inner");
  assert.equal(at(10, 10), "large");
  assert.equal(at(215, 102, 24), undefined);
  assert.equal(at(215, 102, 44), "tiny");
});

test("handles are corners, and sides where there is room; small boxes have none", () => {
  assert.equal(handlesOf([0, 0, 100, 100]).length, 8);
  assert.deepEqual(handlesOf([0, 0, 100, 40]).map(([name]) => name).sort(), ["n", "ne", "nw", "s", "se", "sw"]);
  assert.equal(handlesOf([0, 0, 20, 100]).length, 0);
  assert.equal(handleAt([0, 0, 100, 100], 98, 103, 10), "se");
  assert.equal(handleAt([0, 0, 100, 100], 50, 50, 10), null);
  assert.equal(handleAt([0, 0, 30, 30], 10, 10, 22), null, "the middle of a small box moves it");
});

test("boxes stay in the picture when they are drawn, moved and resized", () => {
  assert.deepEqual(boxBetween([50, 300], [-20, 10], picture), [0, 10, 50, 200]);
  assert.deepEqual(boxAround([5, 5], 20, 30, picture), [0, 0, 20, 30]);
  assert.deepEqual(boxAround([399, 199], 20, 30, picture), [380, 170, 400, 200]);
  assert.deepEqual(moved([10, 10, 30, 30], -50, 500, picture), [0, 180, 20, 200]);
  assert.deepEqual(resized([10, 10, 30, 30], "se", 5, 500, picture), [10, 10, 35, 200]);
  assert.deepEqual(resized([10, 10, 30, 30], "nw", 500, -500, picture), [26, 0, 30, 30]);
  assert.deepEqual(resized([10, 10, 30, 30], "w", 5, 99, picture), [15, 10, 30, 30]);
});

test("faces follow each other around the ends", () => {
  const faces = ["a", "b", "c"].map((id) => face(id, [0, 0, 1, 1]));
  const next = (id, step) => neighbour(faces, id, step).id;
  assert.deepEqual([next(null, 1), next(null, -1), next("a", 1), next("c", 1), next("a", -1)], ["a", "c", "b", "a", "c"]);
  assert.equal(neighbour([], null, 1), null);
});

test("what an operation does is shown before the answer, and said in words", () => {
  const faces = [face("a", [0, 0, 1, 1]), face("d1", [5, 5, 9, 9], { origin: "drawn" })];
  const after = (operation) => expected(faces, operation);
  const say = (operation) => changes(faces, after(operation), ({ id }) => `face ${id}`);
  assert.equal(say({ op: "uncover", faces: ["a"] }), "face a stays visible");
  assert.equal(say({ op: "move", face: "d1", box: [6, 5, 10, 9] }), "the box of face d1 is changed");
  assert.equal(say({ op: "remove", face: "d1" }), "a box is deleted");
  assert.equal(say({ op: "add", box: [1, 1, 2, 2] }), "face new is added");
  assert.equal(changes(faces, faces, String), "nothing is changed");
  assert.deepEqual(faces.map(({ covered }) => covered), [true, true], "the faces themselves are not changed");
});

test("operations run one after the other, also after one that failed", async () => {
  const queue = new Queue();
  const seen = [];
  const task = (name, fails) => queue.run(async () => {
    seen.push(`${name} starts`);
    await new Promise((done) => setTimeout(done, 5));
    seen.push(`${name} ends`);
    if (fails) throw new Error(name);
  });
  const first = task("a", true);
  const second = task("b", false);
  assert.equal(queue.pending, 2);
  await assert.rejects(first, /a/);
  await second;
  await queue.idle();
  assert.deepEqual(seen, ["a starts", "a ends", "b starts", "b ends"]);
  assert.equal(queue.pending, 0);
});
