"""The steps from an ONNX file to a network that TensorRT builds, in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from scrfd_trt.engine import dims, loading, precision, reshapes, resizes, shapes, wiring
from scrfd_trt.engine.graph import Ends, Precision, PreparedNetwork, Request, Sizes, profiles
from scrfd_trt.errors import ModelFormatError, OptionError, one_line
from scrfd_trt.heads import HeadLayout, recognize
from scrfd_trt.options import FREE_SCALES
from scrfd_trt.tensors import ShapeRange, TensorSpec

Batch = tuple[int, int, int]


def rewrite(path: Path, request: Request) -> PreparedNetwork:
    """Do what :func:`scrfd_trt.engine.graph.prepare` tells."""
    model = loading.load(path)
    try:
        return _rewrite(model, request)
    except ModelFormatError as error:
        raise error.within(path) from error


def _rewrite(model: onnx.ModelProto, request: Request) -> PreparedNetwork:
    before, outputs = loading.tensors(model)
    layout = recognize(outputs)
    sizes = request.sizes or _own_sizes(before)
    notes = [f"the file: {before}; {layout}"]
    notes += _free_inside(model, before, sizes)
    stuck = reshapes.split_heads(model.graph, layout)
    if layout.kind == "flat" and not stuck:
        layout = replace(layout, kind="batched")
        notes.append("heads given a batch axis")
    notes += _write_sides(model.graph, layout, request.batch, sizes)
    if gone := wiring.prune(model.graph):
        notes.append(f"{gone} nodes that computed shapes left out")
    notes += _set_types(model, request.precision, request.io)
    ranges = profiles(sizes, request.batch, request.batch_one)
    for shape in sorted({end for item in ranges for end in (item.least, item.most)}):
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
    scaled = resizes.scale_resizes(model.graph, [shapes.infer(model, probe) for probe in sorted(probes)])
    norms = reshapes.free_norms(model.graph)
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
    if any(node.op_type in loading.QUANTIZED for node in model.graph.node):
        notes.append("it is quantized to INT8 (QuantizeLinear, DequantizeLinear); types left as they are")
    elif precision.is_half(model):
        if wanted in {"fp32", "tf32"}:
            raise OptionError(
                f"precision {wanted}: this network's weights are FP16 already; choose fp16, or take its FP32 file",
                fields=["precision"],
                value=wanted,
                choices=["fp16"],
            )
        notes.append("it is FP16 already")
    elif wanted == "fp16":
        notes.append(str(precision.HalfCaster(model).run()))
    if casts := precision.set_ends(model, io):
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
    given, outputs = loading.tensors(model)
    return PreparedNetwork(model.SerializeToString(), wanted or "fp32", given, outputs, ranges, tuple(notes))
