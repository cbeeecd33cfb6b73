"""Rewrite ONNX networks of any SCRFD export into networks that every TensorRT release builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scrfd_trt._engine.build_options import Precision
from scrfd_trt._engine.onnx import fp16, load
from scrfd_trt._engine.onnx import graph as dims
from scrfd_trt._engine.onnx import graph as shapes
from scrfd_trt._engine.onnx import graph as wiring
from scrfd_trt._engine.onnx.graph import Shapes, Wiring, whole
from scrfd_trt._engine.onnx.prepared import Ends, PreparedNetwork, Request, Sizes, profiles
from scrfd_trt._heads import WIDTHS, HeadLayout, recognize
from scrfd_trt._letterbox import FREE_SCALES
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.errors import ModelFormatError, OptionError, one_line

POINTWISE = {
    "Add", "Cast", "Clip", "DequantizeLinear", "Div", "Exp", "Identity", "Mul", "QuantizeLinear", "Relu", "Sigmoid",
    "Sub",
}  # fmt: skip
FOLDING = (2, 3, 0, 1)
KEEPING = (0, 2, 3, 1)


def split_heads(graph: onnx.GraphProto, layout: HeadLayout) -> str:
    """Bring flat and batched heads to ``(B, rows, C)`` for any B and any number of rows.

    Parameters
    ----------
    graph
        Changed in place, all heads of it or none.
    layout
        Of its outputs.

    Returns
    -------
    str
        Empty where all heads are so now, else the first one that is made in another way and by what.
    """
    if layout.kind == "grid":
        return ""
    wiring = Wiring(graph)
    groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
    found = []
    for name, group in groups.items():
        for index in group:
            output = graph.output[index].name
            shaped = _before_pointwise(wiring, output)
            transpose = _transpose_of(wiring, shaped)
            if shaped is None or transpose is None:
                return f"{output} ({'an input' if shaped is None else shaped.op_type})"
            found.append((transpose, shaped, WIDTHS[name]))
    for transpose, reshape, width in found:
        del transpose.attribute[:], reshape.attribute[:]
        transpose.attribute.append(onnx.helper.make_attribute("perm", KEEPING))
        shape = wiring.add_constant("rows_of_image", np.array([0, -1, width], np.int64))
        del reshape.input[:]
        reshape.input.extend([transpose.output[0], shape])
    return ""


def _before_pointwise(wiring: Wiring, output: str) -> Any:
    """Return the node that gave a head its shape; what follows keeps it."""
    node = wiring.producers.get(output)
    while node is not None and node.op_type in POINTWISE:
        data = [name for name in node.input if name and name not in wiring.constants]
        if len(data) != 1:
            break
        node = wiring.producers.get(data[0])
    return node


def _transpose_of(wiring: Wiring, reshape: Any) -> Any:
    if reshape is None or reshape.op_type != "Reshape":
        return None
    node = wiring.producers.get(reshape.input[0])
    while node is not None and node.op_type in {"Reshape", "Identity"}:
        node = wiring.producers.get(node.input[0])
    if node is None or node.op_type != "Transpose":
        return None
    order = next((tuple(item.ints) for item in node.attribute if item.name == "perm"), ())
    alone = len(wiring.consumers.get(node.output[0], [])) == 1
    return node if order == KEEPING or (order == FOLDING and alone) else None


def free_norms(graph: onnx.GraphProto) -> int:
    """Let group norms, exported as ``Reshape``, ``InstanceNormalization``, ``Reshape``, take any batch and size.

    Returns
    -------
    int
        How many were changed.
    """
    wiring = Wiring(graph)
    nodes, changed = [], 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "InstanceNormalization":
            continue
        before = wiring.producers.get(node.input[0])
        after = [consumer for consumer, _ in wiring.consumers.get(node.output[0], [])]
        if before is None or before.op_type != "Reshape" or [consumer.op_type for consumer in after] != ["Reshape"]:
            continue
        groups, shape = wiring.constant(before.input[1]), wiring.constant(after[0].input[1])
        if groups is not None and groups.shape == (3,) and (groups[0], groups[2]) != (0, -1):
            before.input[1] = wiring.add_constant("groups", np.array([0, groups[1], -1], np.int64))
            changed += 1
        if shape is not None:
            after[0].input[1] = wiring.new_name("shape_of_norm")
            nodes.append(onnx.helper.make_node("Shape", [before.input[0]], [after[0].input[1]]))
            changed += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


ROI, SIZES = 1, 3

WHOLE = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
"""The region is looked at in one mode only, but has to be there before opset 13; TensorRT warns of an empty one."""


def scale_resizes(graph: onnx.GraphProto, measured: Sequence[Shapes]) -> int:
    """Let each ``Resize`` that is told a size multiply by the factor that this comes to.

    Exporters trace the size of the finer feature map, as a constant or through ``Shape``, ``Gather`` and ``Concat``.
    For inputs of whole multiples of 32 pixels it is always twice the coarser one's.

    Parameters
    ----------
    graph
        Changed in place.
    measured
        Shapes of all tensors for each of the inputs that the network as it is can take; a ``Resize`` whose factor is
        not whole, or not the same for all of them, stays as it is.

    Returns
    -------
    int
        How many were changed.
    """
    wiring = Wiring(graph)
    changed = 0
    for node in graph.node:
        if node.op_type != "Resize" or len(node.input) <= SIZES or not node.input[SIZES] or _crops(node):
            continue
        factors = {_factor(node, shapes) for shapes in measured}
        factor = factors.pop() if len(factors) == 1 else None
        if factor is None:
            continue
        scales = wiring.add_constant("resize_scales", np.array([1, 1, *factor], np.float32))
        roi = node.input[ROI] and wiring.add_constant("resize_roi", WHOLE)
        data = node.input[0]
        del node.input[:]
        node.input.extend([data, roi, scales])
        _drop_attributes(node, {"axes", "keep_aspect_ratio_policy"})
        changed += 1
    return changed


def _crops(node: Any) -> bool:
    return any(item.s == b"tf_crop_and_resize" for item in node.attribute)


def _factor(node: Any, shapes: Shapes) -> tuple[int, int] | None:
    coarse, fine = whole(shapes.get(node.input[0])), whole(shapes.get(node.output[0]))
    if coarse is None or fine is None or len(coarse) != len(fine) or len(coarse) != 4 or coarse[:2] != fine[:2]:
        return None
    if fine[2] % coarse[2] or fine[3] % coarse[3]:
        return None
    return fine[2] // coarse[2], fine[3] // coarse[3]


def _drop_attributes(node: Any, names: set[str]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


Batch = tuple[int, int, int]


def rewrite(path: Path, request: Request) -> PreparedNetwork:
    """Do what :func:`scrfd_trt._engine.onnx.prepare.prepare` tells."""
    model = load.load(path)
    try:
        return _rewrite(model, request)
    except ModelFormatError as error:
        raise error.within(path) from error


def _rewrite(model: onnx.ModelProto, request: Request) -> PreparedNetwork:
    before, outputs = load.tensors(model)
    layout = recognize(outputs)
    sizes = request.sizes or _own_sizes(before)
    notes = [f"the file: {before}; {layout}"]
    notes += _free_inside(model, before, sizes)
    stuck = split_heads(model.graph, layout)
    if layout.kind == "flat" and not stuck:
        layout = replace(layout, kind="batched")
        notes.append("heads given a batch axis")
    notes += _write_sides(model.graph, layout, request.batch, sizes)
    if gone := wiring.prune(model.graph):
        notes.append(f"{gone} nodes that computed shapes left out")
    notes += _set_types(model, request.precision, request.io)
    ranges = profiles(sizes, request.batch, request.batch_one)
    for shape in sorted({end for item in ranges for end in (item.min, item.max)}):
        _check(model, layout, shape, stuck, before)
    return _finish(model, request.precision, ranges, notes)


def _own_sizes(before: TensorSpec) -> Sizes:
    height, width = before.shape[2:]
    if height is None and width is None:
        return FREE_SCALES
    return ((width or FREE_SCALES[-1][0], height or FREE_SCALES[-1][1]),)


def _free_inside(model: onnx.ModelProto, before: TensorSpec, sizes: Sizes) -> list[str]:
    batch, _, height, width = before.shape
    probes = {(batch or 1, 3, height or down, width or across) for across, down in sizes}
    scaled = scale_resizes(model.graph, [shapes.infer(model, probe) for probe in sorted(probes)])
    norms = free_norms(model.graph)
    notes = []
    if scaled:
        notes.append(f"{scaled} Resize given a factor instead of a size")
    if norms:
        notes.append(f"{norms} reshapes around norms freed")
    return notes


def _write_sides(graph: onnx.GraphProto, layout: HeadLayout, batch: Batch, sizes: Sizes) -> list[str]:
    count = batch[0] if batch[0] == batch[2] else None
    size = sizes[0] if len(set(sizes)) == 1 else None
    renamed = dims.name_outputs(graph, layout)
    dims.set_input(graph, count, size)
    dims.set_outputs(graph, layout, count, size)
    free = f"batch {count or 'free'}, size {'{}×{}'.format(*size) if size else 'free'}"
    return [free, *(["outputs named after their strides"] if renamed else [])]


def _set_types(model: onnx.ModelProto, wanted: Precision | None, io: Ends) -> list[str]:
    notes = []
    if any(node.op_type in load.QUANTIZED for node in model.graph.node):
        notes.append("it is quantized to INT8 (QuantizeLinear, DequantizeLinear); types left as they are")
    elif fp16.is_half(model):
        if wanted in {"fp32", "tf32"}:
            raise OptionError(
                f"precision {wanted}: this network's weights are FP16 already; choose fp16, or take its FP32 file",
                fields=["precision"],
                value=wanted,
                choices=["fp16"],
            )
        notes.append("it is FP16 already")
    elif wanted == "fp16":
        notes.append(str(fp16.HalfCaster(model).run()))
    if casts := fp16.set_ends(model, io):
        notes.append(f"{casts} casts at the input and outputs, which are {io}")
    return notes


def _check(model: onnx.ModelProto, layout: HeadLayout, shape: tuple[int, ...], stuck: str, before: TensorSpec) -> None:
    try:
        dims.check_shapes(model, layout, shape)
    except ModelFormatError as error:
        asked = f"batch {shape[0]} at {shape[3]}×{shape[2]} pixels cannot be had of this network ({before})"
        why = f"its output {stuck} does not come from Transpose and Reshape" if stuck else str(error)
        raise ModelFormatError(
            f"{asked}: {why}; ask for the file's own batch and size, or export it with free ones"
        ) from error


def _finish(
    model: onnx.ModelProto, wanted: Precision | None, ranges: tuple[ShapeRange, ...], notes: list[str]
) -> PreparedNetwork:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelFormatError(
            f"made ready for TensorRT it is no valid ONNX network any more: {one_line(error)}"
        ) from error
    given, outputs = load.tensors(model)
    return PreparedNetwork(model.SerializeToString(), wanted or "fp32", given, outputs, ranges, tuple(notes))
