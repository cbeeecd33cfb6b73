import assert from "node:assert/strict";
import test from "node:test";
import { control, defaults, ordered, position, valueAt, withOption } from "../../../scrfd_trt/_studio/static/settings.js";

const option = (more) => ({ name: "x", type: "number", default: 1, min: 0, max: 1, choices: [], ...more });

test("each option has the control that fits", () => {
  const kind = (more) => control(option(more)).kind;
  assert.equal(kind({}), "slider");
  assert.equal(kind({ max: null }), "number");
  assert.equal(kind({ type: "integer", default: null }), "number");
  assert.equal(kind({ choices: ["a", "b", "c"] }), "segmented");
  assert.equal(kind({ choices: ["a", "b", "c", "d"] }), "select");
  assert.equal(kind({ type: "true or false" }), "switch");
  assert.equal(kind({ type: "path" }), "file");
  assert.equal(kind({ type: "colour" }), "colour");
  assert.equal(kind({ type: "list" }), "text");
});

test("a factor's slider is logarithmic, with its default in the middle", () => {
  const how = control(option({ min: 0, max: 10 }));
  assert.equal(position(1, how), 500);
  assert.deepEqual([0, 500, 1000].map((at) => valueAt(at, how)), [0.25, 1, 4]);
  const whole = control(option({ type: "integer", default: 24, min: 1, max: 1000 }));
  assert.equal(valueAt(position(24, whole), whole), 24);
});

test("options that have their default are left out", () => {
  const scale = { name: "scale", default: 1 };
  assert.deepEqual(withOption({ kind: "cat" }, scale, 2), { kind: "cat", scale: 2 });
  assert.deepEqual(withOption({ kind: "cat", scale: 2 }, scale, 1), { kind: "cat" });
  assert.deepEqual(withOption({ scale: 2 }, scale, ""), {});
});

test("hiding looks for more faces than fun does, and offers only overlays that cover", () => {
  assert.deepEqual([defaults("hide").small_faces, defaults("fun").small_faces], [true, false]);
  const overlays = [["skull", false], ["blur", true], ["other", true]].map(([name, covers]) => ({ name, covers }));
  const names = (mode) => ordered(overlays, mode).map((group) => group.map(({ name }) => name));
  assert.deepEqual(names("hide"), [["blur"], ["other"]]);
  assert.deepEqual(names("fun"), [["skull"], ["blur", "other"]]);
});
