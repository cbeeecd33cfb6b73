"""Small models with SCRFD's heads, in the forms of the real exports."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from scrfd_trt._heads import ANCHORS, STRIDES, WIDTHS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

CHANNELS = 8


@dataclass(frozen=True)
class Form:
    """How a model was exported; models of one seed, levels and landmarks have the same weights.

    head: flat, flat_rows, batched, batched_rows, traced, grid, or squeezed, which no real export has.
    resize: traced, sizes, scales.
    shape: of the input; a string names a free side.
    norm: group norm; traced, as in networks named gnkps and 34g, whose export has free sides.
    """

    head: str = "flat"
    resize: str = "traced"
    shape: tuple = (1, 3, 64, 64)
    levels: int = 3
    landmarks: bool = True
    norm: bool | str = False
    opset: int = 11
    named: bool = False
    seed: int = 0


class Exporter:
    def __init__(self, form):
        self.form = form
        self.nodes, self.constants = [], []
        self.rng = np.random.default_rng(form.seed)
        self.size = [side if isinstance(side, int) else 64 for side in form.shape[2:]]

    def op(self, kind, inputs, **settings):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **settings))
        return name

    def constant(self, values, kind=np.int64):
        return self.op("Constant", [], value=numpy_helper.from_array(np.array(values, kind)))

    def weight(self, values):
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, data, into, out, stride=1, scale=1.0, bias=0.0):
        weight = self.rng.normal(0, scale / np.sqrt(9 * into), (out, into, 3, 3))
        names = [self.weight(weight), self.weight(self.rng.normal(bias, 0.1, out))]
        return self.op("Conv", [data, *names], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride])

    def unsqueeze(self, data):
        if self.form.opset < 13:
            return self.op("Unsqueeze", [data], axes=[0])
        return self.op("Unsqueeze", [data, self.constant([0])])

    def side(self, data, axis):
        return self.unsqueeze(self.op("Gather", [self.op("Shape", [data]), self.constant(axis)], axis=0))

    def upsample(self, coarse, fine, stride):
        roi = self.constant([], np.float32) if self.form.opset < 13 else ""
        asymmetric = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if self.form.resize == "scales":
            return self.op("Resize", [coarse, roi, self.constant([1, 1, 2, 2], np.float32)], **asymmetric)
        if self.form.resize == "sizes":
            sizes = self.constant([1, CHANNELS, *(-(-side // stride) for side in self.size)])
        else:
            first = self.op("Slice", [self.op("Shape", [coarse]), *(self.constant([end]) for end in (0, 2, 0))])
            last = self.op("Concat", [self.side(fine, 2), self.side(fine, 3)], axis=0)
            sizes = self.op("Concat", [first, self.op("Cast", [last], to=onnx.TensorProto.INT64)], axis=0)
        scales = self.constant([], np.float32) if self.form.opset < 13 else ""
        return self.op("Resize", [coarse, roi, scales, sizes], **asymmetric)

    def group_norm(self, data, stride):
        if self.form.norm == "traced":
            flat = self.op("Reshape", [data, self.constant([0, 2, -1])])
            normed = self.op("InstanceNormalization", [flat, self.weight(np.ones(2)), self.weight(np.zeros(2))])
            normed = self.op("Reshape", [normed, self.op("Shape", [data])])
            normed = self.op("Mul", [normed, self.weight(self.rng.normal(1, 0.1, (CHANNELS, 1, 1)))])
            return self.op("Add", [normed, self.weight(self.rng.normal(0, 0.1, (CHANNELS, 1, 1)))])
        flat = self.op("Reshape", [data, self.constant([1, 2, -1])])
        normed = self.op("InstanceNormalization", [flat, self.weight(np.ones(2)), self.weight(np.zeros(2))])
        sides = [1, CHANNELS, *(-(-side // stride) for side in self.size)]
        return self.op("Reshape", [normed, self.constant(sides)])

    def head(self, data, width, stride):
        form, anchors = self.form, ANCHORS[self.form.levels]
        boxes = width == WIDTHS["bbox"]
        data = self.conv(data, CHANNELS, anchors * width, scale=0.5 if boxes else 2.0, bias=2.0 if boxes else 0.0)
        rows = anchors * int(np.prod([-(-side // stride) for side in self.size]))
        if form.head in {"flat", "flat_rows"}:
            turned = self.op("Transpose", [data], perm=[2, 3, 0, 1])
            data = self.op("Reshape", [turned, self.constant([-1 if form.head == "flat" else rows, width])])
        elif form.head != "grid":
            turned = self.op("Transpose", [data], perm=[0, 2, 3, 1])
            parts = [self.side(data, 0), self.constant([-1]), self.constant([width])]
            shapes = {
                "batched": lambda: self.constant([0, -1, width]),
                "batched_rows": lambda: self.constant([1, rows, width]),
                "squeezed": lambda: self.constant([1, -1, width]),
                "traced": lambda: self.op("Concat", parts, axis=0),
            }
            data = self.op("Reshape", [turned, shapes[form.head]()])
            if form.head == "squeezed":
                data = self.op("Squeeze", [data], axes=[0])
        return self.op("Sigmoid", [data]) if width == 1 else data

    def trunk(self):
        data = "images"
        for into in (3, CHANNELS):
            data = self.op("Relu", [self.conv(data, into, CHANNELS, 2)])
        maps = []
        for _ in range(self.form.levels):
            data = self.op("Relu", [self.conv(data, CHANNELS, CHANNELS, 2)])
            maps.append(data)
        for level in (1, 0):
            up = self.upsample(maps[level + 1], maps[level], 8 << level)
            maps[level] = self.op("Add", [maps[level], up])
        return maps

    def model(self):
        form = self.form
        strides, widths = STRIDES[form.levels], {**WIDTHS}
        if not form.landmarks:
            del widths["kps"]
        maps = self.trunk()
        if form.norm:
            maps = [self.group_norm(data, stride) for data, stride in zip(maps, strides, strict=True)]
        outputs = []
        for name, width in widths.items():
            for data, stride in zip(maps, strides, strict=True):
                made = self.head(data, width, stride)
                if form.named:
                    self.nodes[-1].output[0] = made = f"{name}_{stride}"
                outputs.append((made, self.sides(width, stride)))
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("images", 1, form.shape)],
            [helper.make_tensor_value_info(name, 1, sides) for name, sides in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", form.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def sides(self, width, stride):
        """Return the shape that exports declare; it is outdated for a free input."""
        anchors = ANCHORS[self.form.levels]
        cells = [-(-side // stride) for side in self.size]
        if self.form.head == "grid":
            return [self.form.shape[0], anchors * width, *cells]
        if self.form.head in {"flat", "flat_rows", "squeezed"}:
            return [anchors * cells[0] * cells[1], width]
        free = not all(isinstance(side, int) for side in self.form.shape)
        return ["?", "?", width] if free else [self.form.shape[0], anchors * cells[0] * cells[1], width]


FREE = Form("traced", shape=("?", 3, "?", "?"), named=True)


@pytest.fixture
def export(tmp_path):
    """Export a model: ``export(head=…, resize=…, …) -> Path``; ``change(model)`` may modify it first."""

    def write(form=None, *, change=None, **settings):
        model = Exporter(replace(form or Form(), **settings)).model()
        if change:
            model = change(model) or model
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def free_twin(export):
    """Export a model with the same weights for any batch and size."""

    def write(**settings):
        return export(FREE, **settings)

    return write


@pytest.fixture
def run():
    """Run a model (path or bytes): ``run(model, blob) -> dict`` of scores, boxes and landmarks ``(B, rows, C)``."""

    def go(model, blob):
        from scrfd_trt._heads import recognize
        from scrfd_trt.backends import OnnxBackend

        network = OnnxBackend(model)
        outputs = [np.asarray(output, np.float32) for output in network.run(blob)]
        layout = recognize(network.outputs)
        groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
        found = {}
        for name, group in groups.items():
            for stride, index in zip(layout.strides, group, strict=False):
                rows = [
                    layout.read_rows(outputs[index], image, np.arange(layout.rows(stride, blob.shape[:1:-1])))
                    for image in range(len(blob))
                ]
                found[name, stride] = np.stack(rows)
        return found

    return go


@pytest.fixture
def blob():
    def make(batch, width, height):
        return np.random.default_rng(batch * width + height).uniform(-1, 1, (batch, 3, height, width)).astype("f4")

    return make
