"""Rewrite SCRFD's ONNX exports into models that every TensorRT builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scrfd_trt._engine.build_options import IoType, Precision
from scrfd_trt._engine.onnx import fp16
from scrfd_trt._engine.onnx.graph import GraphIndex, format_errors, infer_outputs, prune, set_nodes
from scrfd_trt._engine.onnx.load import QUANTIZED, load, tensors
from scrfd_trt._heads import WIDTHS, HeadLayout, check, recognize
from scrfd_trt._letterbox import own_scales
from scrfd_trt._tensors import ShapeRange, TensorSpec, listing
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import BackendError, ModelFormatError, OptionError, one_line

Sizes = tuple[tuple[int, int], ...]  # widths and heights in pixels
Batch = tuple[int, int, int]  # minimum, optimum and maximum number of images per run


@dataclass(frozen=True)
class PreparedModel:
    """An ONNX model that is ready to be built."""

    model: bytes  # serialized ONNX with its weights
    precision: Precision  # as requested; FP32 and TF32 have the same ONNX
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]  # one per optimization profile
    notes: tuple[str, ...]  # what was changed
    untyped: bytes | None = None  # in FP32, for a TensorRT that chooses the types of FP16 and INT8 itself

    @property
    def sizes(self) -> Sizes:
        """Width and height of each input size, in the requested order."""
        return tuple(dict.fromkeys((shape.opt[3], shape.opt[2]) for shape in self.ranges))


def prepare(
    path: Path,
    *,
    sizes: Sizes | None = None,
    batch: Batch = (1, 8, 32),
    batch_one: bool = True,
    precision: Precision | None = "fp16",
    io: IoType = "float32",
) -> PreparedModel:
    """Rewrite a SCRFD model for TensorRT: sides as requested, a batch axis for heads, names, FP16."""
    # One size is fixed in the model, which TensorRT optimizes better; several leave width and height free.
    # A file may be valid ONNX and yet have nodes without inputs, or attributes of another type.
    with format_errors(f"{path}: this model cannot be rewritten for TensorRT"):
        return _prepare(path, sizes=sizes, batch=batch, batch_one=batch_one, precision=precision, io=io)


def _prepare(
    path: Path, *, sizes: Sizes | None, batch: Batch, batch_one: bool, precision: Precision | None, io: IoType
) -> PreparedModel:
    model = load(path)
    try:
        source, outputs = tensors(model)
        layout = recognize(outputs)
        sizes = sizes or own_scales(*source.shape[2:])
        notes = [f"the file: {source}; {layout}"]
        notes += _free_inner_shapes(model, source, sizes)
        stuck = split_heads(model.graph, layout)
        if layout.kind == "flat" and not stuck:
            layout = replace(layout, kind="batched")
            notes.append("heads given a batch axis")
        notes += _set_io_shapes(model.graph, layout, batch, sizes)
        if removed := prune(model.graph):
            notes.append(f"{removed} nodes that computed shapes left out")
        untyped = _untyped(model, precision, io)
        notes += _set_types(model, precision, io)
        ranges = profile_ranges(sizes, batch, batch_one)
        for shape in sorted({end for item in ranges for end in (item.min, item.max)}):
            _check_supported(model, layout, shape, stuck, source)
        return replace(_finish(model, precision, ranges, notes), untyped=untyped)
    except ModelFormatError as error:
        raise error.within(path) from error


def profile_ranges(sizes: Sizes, batch: Batch, batch_one: bool) -> tuple[ShapeRange, ...]:
    """List the optimization profiles: per size batch 1, if requested, then the range."""
    batches = [batch]
    if batch_one and batch[0] != batch[2]:
        batches.insert(0, (1, 1, 1))
    return tuple(
        ShapeRange(*((count, 3, height, width) for count in counts)) for width, height in sizes for counts in batches
    )


# Free inner shapes: Resize to a fixed size, and Reshape around group norms.


def _free_inner_shapes(model: onnx.ModelProto, source: TensorSpec, sizes: Sizes) -> list[str]:
    batch, _, height, width = source.shape
    probes = sorted({(batch or 1, 3, height or down, width or across) for across, down in sizes})
    notes = []
    if resizes := scale_resizes(model, probes):
        notes.append(f"{resizes} Resize given a factor instead of a size")
    if norms := free_group_norms(model.graph):
        notes.append(f"{norms} reshapes around norms freed")
    return notes


RESIZE_ROI, RESIZE_SIZES = 1, 3

FULL_ROI = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
"""Only one mode uses the region, but it is required before opset 13, and TensorRT warns of an empty one."""


def scale_resizes(model: onnx.ModelProto, probes: Sequence[tuple[int, ...]]) -> int:
    """Replace the size of each ``Resize`` by its factor, measured with the probes' shapes; return the changes."""
    # Exporters trace the size of the finer map, which is twice the coarser one's for inputs of multiples of 32 pixels.
    index = GraphIndex(model.graph)
    resizes = [node for node in model.graph.node if node.op_type == "Resize" and _has_size(node)]
    changed = 0
    for node, factors in zip(resizes, _measure_factors(model, resizes, probes), strict=True):
        if len(factors) != 1 or None in factors:
            continue
        scales = index.add_constant("resize_scales", np.array([1, 1, *factors.pop()], np.float32))  # type: ignore[misc]
        roi = node.input[RESIZE_ROI] and index.add_constant("resize_roi", FULL_ROI)
        data = node.input[0]
        del node.input[:]
        node.input.extend([data, roi, scales])
        kept = [item for item in node.attribute if item.name not in {"axes", "keep_aspect_ratio_policy"}]
        del node.attribute[:]
        node.attribute.extend(kept)
        changed += 1
    return changed


def _has_size(resize: Any) -> bool:
    crops = any(item.s == b"tf_crop_and_resize" for item in resize.attribute)
    return len(resize.input) > RESIZE_SIZES and bool(resize.input[RESIZE_SIZES]) and not crops


def _measure_factors(
    model: onnx.ModelProto, resizes: Sequence[Any], probes: Sequence[tuple[int, ...]]
) -> list[set[tuple[int, int] | None]]:
    """Return the factors of each node over all probes; None stands for a fractional one."""
    if not resizes:
        return []
    names = list(dict.fromkeys(name for node in resizes for name in (node.input[0], node.output[0])))
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    del measured.graph.output[:]
    measured.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    shapes = []
    with closing(OnnxBackend(measured.SerializeToString())) as backend:
        for probe in probes:
            try:
                outputs = backend.run(np.zeros(probe, np.float32))
            except BackendError as error:
                text = "×".join(map(str, probe))
                raise ModelFormatError(f"the model does not accept an input of {text}: {error}") from error
            shapes.append({name: output.shape for name, output in zip(names, outputs, strict=True)})
    return [{_factor(found[node.input[0]], found[node.output[0]]) for found in shapes} for node in resizes]


def _factor(coarse: tuple[int, ...], fine: tuple[int, ...]) -> tuple[int, int] | None:
    if len(coarse) != 4 or coarse[:2] != fine[:2] or fine[2] % coarse[2] or fine[3] % coarse[3]:
        return None
    return fine[2] // coarse[2], fine[3] // coarse[3]


def free_group_norms(graph: onnx.GraphProto) -> int:
    """Let group norms, exported as Reshape, InstanceNormalization, Reshape, take any batch and size; return changes."""
    index = GraphIndex(graph)
    nodes, changed = [], 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "InstanceNormalization":
            continue
        before = index.producers.get(node.input[0])
        after = [consumer for consumer, _ in index.consumers.get(node.output[0], [])]
        if before is None or before.op_type != "Reshape" or [consumer.op_type for consumer in after] != ["Reshape"]:
            continue
        groups, shape = index.constant(before.input[1]), index.constant(after[0].input[1])
        if groups is not None and groups.shape == (3,) and (groups[0], groups[2]) != (0, -1):
            before.input[1] = index.add_constant("groups", np.array([0, groups[1], -1], np.int64))
            changed += 1
        if shape is not None:
            after[0].input[1] = index.new_name("shape_of_norm")
            nodes.append(onnx.helper.make_node("Shape", [before.input[0]], [after[0].input[1]]))
            changed += 1
    set_nodes(graph, nodes)
    return changed


# Heads: (B, rows, C) for any batch and any number of rows.

POINTWISE = {
    "Add", "Cast", "Clip", "DequantizeLinear", "Div", "Exp", "Identity", "Mul", "QuantizeLinear", "Relu", "Sigmoid",
    "Sub",
}  # fmt: skip
FOLDS_BATCH = (2, 3, 0, 1)
KEEPS_BATCH = (0, 2, 3, 1)


def split_heads(graph: onnx.GraphProto, layout: HeadLayout) -> str:
    """Reshape heads to ``(B, rows, C)``, all or none; return the first one that is built differently, if any."""
    if layout.kind == "grid":
        return ""
    index = GraphIndex(graph)
    found = []
    for name, _, position in _heads(layout):
        output = graph.output[position].name
        reshape = _skip_pointwise(index, output)
        transpose = _transpose_of(index, reshape)
        if reshape is None or transpose is None:
            return f"{output} ({'an input' if reshape is None else reshape.op_type})"
        found.append((transpose, reshape, WIDTHS[name]))
    for transpose, reshape, width in found:
        del transpose.attribute[:], reshape.attribute[:]
        transpose.attribute.append(onnx.helper.make_attribute("perm", KEEPS_BATCH))
        shape = index.add_constant("rows_of_image", np.array([0, -1, width], np.int64))
        del reshape.input[:]
        reshape.input.extend([transpose.output[0], shape])
    return ""


def _heads(layout: HeadLayout) -> Iterator[tuple[str, int, int]]:
    """Yield name, stride and output position of each head."""
    groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
    for name, group in groups.items():
        for stride, position in zip(layout.strides, group, strict=False):
            yield name, stride, position


def _skip_pointwise(index: GraphIndex, output: str) -> Any:
    """Return the last node before an output that may change its shape."""
    node = index.producers.get(output)
    while node is not None and node.op_type in POINTWISE:
        data = [name for name in node.input if name and name not in index.constants]
        if len(data) != 1:
            break
        node = index.producers.get(data[0])
    return node


def _transpose_of(index: GraphIndex, reshape: Any) -> Any:
    if reshape is None or reshape.op_type != "Reshape":
        return None
    node = index.producers.get(reshape.input[0])
    while node is not None and node.op_type in {"Reshape", "Identity"}:
        node = index.producers.get(node.input[0])
    if node is None or node.op_type != "Transpose":
        return None
    order = next((tuple(item.ints) for item in node.attribute if item.name == "perm"), ())
    single = len(index.consumers.get(node.output[0], [])) == 1
    return node if order == KEEPS_BATCH or (order == FOLDS_BATCH and single) else None


# Names and shapes of the input and outputs.


def _set_io_shapes(graph: onnx.GraphProto, layout: HeadLayout, batch: Batch, sizes: Sizes) -> list[str]:
    """Declare the requested sides; free ones get a name each, for batch, height, width and the rows of each output."""
    fixed_batch = batch[0] if batch[0] == batch[2] else None
    size = sizes[0] if len(set(sizes)) == 1 else None
    renamed = name_outputs(graph, layout)
    width, height = size or ("width", "height")
    count = fixed_batch or "batch"
    _declare(graph.input[0], [count, 3, height, width])
    for name, stride, position in _heads(layout):
        value = graph.output[position]
        rows = layout.rows(stride, size) if size else f"rows_{value.name}"
        across, down = (-(-side // stride) for side in size) if size else (f"width_{stride}", f"height_{stride}")
        _declare(value, {
            "flat": [rows, WIDTHS[name]],
            "batched": [count, rows, WIDTHS[name]],
            "grid": [count, layout.anchors * WIDTHS[name], down, across],
        }[layout.kind])  # fmt: skip
    sides = f"batch {fixed_batch or 'free'}, size {'{}×{}'.format(*size) if size else 'free'}"
    return [sides, *(["outputs named after their strides"] if renamed else [])]


def _declare(value: onnx.ValueInfoProto, sides: Sequence[int | str]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for side in sides:
        shape.dim.add(**{"dim_value" if isinstance(side, int) else "dim_param": side})


def name_outputs(graph: onnx.GraphProto, layout: HeadLayout) -> bool:
    """Name outputs by their strides unless they are; engines may list them in another order. Return the change."""
    names = {position: f"{name}_{stride}" for name, stride, position in _heads(layout)}
    strides = {position: f"_{stride}" for _, stride, position in _heads(layout)}
    if all(graph.output[position].name.endswith(suffix) for position, suffix in strides.items()):
        return False
    index = GraphIndex(graph)
    # Through temporary names: an output may already have the name of another.
    for value in graph.output:
        temporary = index.new_name(f"{value.name}_made")
        index.rename(value.name, temporary)
        value.name = temporary
    for position, name in names.items():
        if name in index.producers:
            index.rename(name, index.new_name(f"{name}_inner"))
        index.rename(graph.output[position].name, name)
        graph.output[position].name = name
    return True


# Types, and the final checks.


def _untyped(model: onnx.ModelProto, precision: Precision | None, io: IoType) -> bytes | None:
    """Return the model before its cast to FP16; None if it is not cast, or needs both types inside."""
    operators = {node.op_type for node in model.graph.node}
    if precision != "fp16" or io != "float32" or fp16.is_fp16(model) or operators & (QUANTIZED | fp16.SUMS):
        return None
    return bytes(model.SerializeToString())


def _set_types(model: onnx.ModelProto, precision: Precision | None, io: IoType) -> list[str]:
    notes = []
    if any(node.op_type in QUANTIZED for node in model.graph.node):
        notes.append("it is quantized to INT8 (QuantizeLinear, DequantizeLinear); types left as they are")
    elif fp16.is_fp16(model):
        if precision in {"fp32", "tf32", "int8"}:
            raise OptionError(
                f"precision {precision}: this model's weights are FP16 already; choose fp16, or use its FP32 file",
                fields=["precision"],
                value=precision,
                choices=["fp16"],
            )
        notes.append("it is FP16 already")
    elif precision == "fp16":
        notes.append(str(fp16.Fp16Caster(model).run()))
    if casts := fp16.set_io_type(model, io):
        notes.append(f"{casts} casts at the input and outputs, which are {io}")
    return notes


def _check_supported(
    model: onnx.ModelProto, layout: HeadLayout, shape: tuple[int, ...], stuck: str, source: TensorSpec
) -> None:
    try:
        _check_rows(model, layout, shape)
    except ModelFormatError as error:
        why = f"its output {stuck} does not come from Transpose and Reshape" if stuck else str(error)
        raise ModelFormatError(
            f"this model ({source}) does not support batch {shape[0]} at {shape[3]}×{shape[2]} pixels: {why}; "
            "use the file's own batch and size, or export it with free ones"
        ) from error


def _check_rows(model: onnx.ModelProto, layout: HeadLayout, shape: tuple[int, ...]) -> None:
    """Check by shape inference that a model gives SCRFD's rows for an input shape."""
    known = []
    for sides in infer_outputs(model, shape):
        if sides is None or None in sides:  # only a run can tell; compare() does one
            return
        known.append(np.broadcast_to(np.float32(0), [side for side in sides if side is not None]))
    batches = {array.shape[0] for array in known} if layout.has_batch_axis else {1}
    if batches != {shape[0]}:
        outputs = [TensorSpec(value.name, array.shape) for value, array in zip(model.graph.output, known, strict=True)]
        raise ModelFormatError(f"the outputs do not separate the {shape[0]} images: {listing(outputs)}")
    check(layout, known, (shape[3], shape[2]))


def _finish(
    model: onnx.ModelProto, precision: Precision | None, ranges: tuple[ShapeRange, ...], notes: list[str]
) -> PreparedModel:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelFormatError(f"the rewritten model is not valid ONNX: {one_line(error)}") from error
    given, outputs = tensors(model)
    return PreparedModel(model.SerializeToString(), precision or "fp32", given, outputs, ranges, tuple(notes))
