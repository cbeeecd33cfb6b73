import assert from "node:assert/strict";
import { test } from "node:test";
import { cameraProblem, frameSize } from "../../../scrfd_trt/_studio/static/live.js";
import { clipEdit, clock, during, frameAt, inOrder, maxZoom, nextMoment, stateOf, stepped, tick, viewerFaces, withPlace } from "../../../scrfd_trt/_studio/static/timeline.js";

const TIMES = [0, 0.04, 0.08, 0.12];

test("the frame of a time is the last one up to it", () => {
  assert.deepEqual([-1, 0, 0.039, 0.0799, 0.1, 9].map((t) => frameAt(TIMES, t)), [0, 0, 1, 2, 2, 3]);
  assert.deepEqual([1, -1, -9, Infinity].map((frames) => stepped(TIMES, 0.041, frames)), [0.08, 0, 0, 0.12]);
  assert.equal(frameAt([], 1), 0);
});

test("doubts are passed in order, also where several are at one time", () => {
  const moments = inOrder([{ t: 2, t0: 1, track: 4 }, { t: 1, t0: 1, track: 2 }, { t: 2, t0: 0, track: 3 }]);
  assert.deepEqual(moments.map(({ track }) => track), [2, 3, 4]);
  assert.equal(nextMoment(moments, 0, 1), 0);
  assert.equal(nextMoment(moments, 1, 1), 0, "one at the time that is shown, but was not gone to");
  assert.equal(nextMoment(moments, 2, 1, 1), 2);
  assert.equal(nextMoment(moments, 2, 1, 2), -1);
  assert.equal(nextMoment(moments, 1.5, -1, 2), 0);
  assert.equal(nextMoment(moments, 0.5, -1), -1);
  assert.equal(nextMoment([], 0, 1), -1);
});

test("times and distances are in words that fit", () => {
  assert.deepEqual([0, 1.239, 59.999, 61.5].map(clock), ["0:00.00", "0:01.24", "1:00.00", "1:01.50"]);
  assert.equal(during([[0, 1], [2, 2]]), "0:00.00 to 0:01.00, at 0:02.00");
  assert.equal(stateOf({ visible: true, dropped: false }), "stays visible");
  assert.deepEqual([10, 100, 1000].map((pixels) => tick(pixels)), [10, 1, 0.1]);
  assert.equal(maxZoom(1500, 600), 60);
  assert.equal(maxZoom(5, 600), 4);
});

test("edits of the viewer become edits of the clip", () => {
  const box = [0, 0, 9, 9];
  const covers = [{ id: 2, places: [{ t: 1, box }] }];
  assert.deepEqual(clipEdit({ op: "uncover", faces: ["t7"] }, 0, covers, null), { op: "visible", tracks: [7], visible: true });
  assert.deepEqual(clipEdit({ op: "add", box }, 3, covers, null), { op: "add", places: [{ t: 3, box }] });
  assert.deepEqual(clipEdit({ op: "add", box }, 3, covers, 2).places.map(({ t }) => t), [1, 3]);
  assert.deepEqual(clipEdit({ op: "move", face: "c2", box }, 0.5, covers, null).places.map(({ t }) => t), [0.5, 1]);
  assert.throws(() => clipEdit({ op: "move", face: "t7", box }, 0, covers, null), /cannot be moved/);
  assert.deepEqual(clipEdit({ op: "remove", face: "c2" }, 0, covers, null), { op: "remove", cover: 2 });
  assert.deepEqual(clipEdit({ op: "remove", cover: 2 }, 0, covers, null), { op: "remove", cover: 2 });
  assert.deepEqual(clipEdit({ op: "fill", places: [] }, 0, covers, null), { op: "add", places: [] });
  assert.deepEqual(clipEdit({ op: "undo" }, 0, covers, null), { op: "undo" });
});

test("a place replaces that of the same frame", () => {
  const places = withPlace([{ t: 0.999 }, { t: 1.001 }, { t: 3 }], 1, [1]);
  assert.deepEqual(places, [{ t: 1, box: [1] }, { t: 3 }]);
});

test("faces have the names of the report", () => {
  const faces = viewerFaces([{ track: 3, cover: null, box: [], score: 0.9, visible: true }, { track: null, cover: 1, box: [], score: null, visible: false }], new Set([3]));
  assert.deepEqual(faces.map(({ id, label, covered, doubtful, origin, fixed, always }) => [id, label, covered, doubtful, origin, fixed, always]), [["t3", "person 3", false, true, "detector", true, false], ["c1", "drawn face 1", true, false, "drawn", false, true]]);
});

test("problems of the camera are plain, and frames keep their shape", () => {
  assert.match(cameraProblem({ name: "NotAllowedError" }), /Allow it in the address bar/);
  assert.match(cameraProblem({ name: "AbortError", message: "broken" }), /broken/);
  assert.match(cameraProblem({}, { secure: false }), /localhost/);
  assert.deepEqual(frameSize(1920, 1080), [960, 540]);
  assert.deepEqual(frameSize(320, 240), [320, 240]);
});
