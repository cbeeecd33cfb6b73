"""Load ONNX files, and refuse those that TensorRT has no equivalent for."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import external_data_helper, inliner

from scrfd_trt._engine.onnx.graph import format_errors, lift_constants, shape_of
from scrfd_trt._files import check_readable
from scrfd_trt._tensors import TensorSpec, listing
from scrfd_trt.errors import ModelFormatError, shown

CONTROL_FLOW = {"If", "Loop", "Scan"}
QUANTIZED = {"QuantizeLinear", "DequantizeLinear"}
STANDARD_DOMAINS = {"", "ai.onnx"}


def load(path: Path) -> onnx.ModelProto:
    """Load a model with its external weights, functions inlined, ``Constant`` nodes lifted, weights not among inputs.

    Raise ModelNotFoundError if the file is missing, ModelFormatError if it is invalid or cannot be built.
    """
    model = _parse(path)
    with format_errors(f"{path}: this is not a valid ONNX model"):
        onnx.checker.check_model(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
    _check_operators(path, model)
    lift_constants(model.graph)
    computed = {name for node in model.graph.node for name in node.output}
    if not all(value.name in computed for value in model.graph.output):
        raise ModelFormatError(f"{path}: this is not a SCRFD model: one of its outputs is never computed")
    inputs = _runtime_inputs(model.graph)
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.extend(inputs)
    # IR version 4 is the first in which weights need not be inputs.
    model.ir_version = max(model.ir_version, 4)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    check_readable(path)
    model = _read(path, f"{path}: ")
    _external_paths(path, model)
    with format_errors(f"{path}: its weights are in other files, which must be in the same folder"):
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    return model


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    operators = sorted({node.op_type for node in model.graph.node})
    if control_flow := CONTROL_FLOW.intersection(operators):
        raise ModelFormatError(
            f"{path}: control flow ({', '.join(sorted(control_flow))}) is not supported; simplify the model first, "
            "for example with onnxsim"
        )
    custom = {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in STANDARD_DOMAINS}
    unsupported = sorted(custom) + [name for name in operators if name.endswith("Integer")]
    unsupported += [name for name in operators if name.startswith("QLinear")]
    if unsupported:
        raise ModelFormatError(
            f"{path}: TensorRT does not support {', '.join(unsupported)}; export with ONNX's own operators, and "
            "INT8 as QuantizeLinear and DequantizeLinear"
        )


def external_files(path: Path) -> tuple[Path, ...]:
    """List the files that hold weights of a model; empty if it is not an ONNX file."""
    try:
        model = _read(path)
    except ModelFormatError:
        return ()
    return _external_paths(path, model)


def _read(path: Path, subject: str = "") -> onnx.ModelProto:
    with format_errors(f"{subject}this is not an ONNX model, or it is damaged"):
        return onnx.load(path, format="protobuf", load_external_data=False)


def _external_paths(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """List the files of external weights; raise ModelFormatError for one outside of the model's folder."""
    names = {
        _text(entry.value)
        for tensor in external_data_helper._get_all_tensors(model)
        if external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    found = []
    for name in sorted(names):
        # Links are left to onnx: model caches keep the files of a folder as links.
        inside = Path(os.path.normpath(name))
        if "\0" in name or inside.is_absolute() or inside.parts[:1] in {(), (os.pardir,)}:
            raise ModelFormatError(
                f"{path}: its weights are in {shown(name)}, which is not in its folder; put all files into one folder"
            )
        found.append(path.parent / name)
    for file in found:
        if file.exists():
            check_readable(file)
    return tuple(found)


def read_io(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read the inputs and outputs of any ONNX model, without its weights; raise ModelFormatError for other files."""
    graph = _read(path).graph
    if not graph.node:
        raise ModelFormatError("this is not an ONNX model, or it is damaged: it has no nodes")
    return tuple(map(_spec, _runtime_inputs(graph))), tuple(map(_spec, graph.output))


def tensors(model: onnx.ModelProto) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
    """Return the one image input and the outputs; raise ModelFormatError if there is no single float (B, 3, H, W)."""
    inputs = [_spec(value) for value in model.graph.input]
    image = [tensor for tensor in inputs if len(tensor.shape) == 4 and tensor.shape[1] in {3, None}]
    if len(inputs) != 1 or not image or image[0].dtype not in {"float32", "float16"}:
        raise ModelFormatError(
            f"one input (B, 3, H, W) of floats is required, but this model's inputs are: {listing(inputs)}"
        )
    return inputs[0], tuple(map(_spec, model.graph.output))


def _runtime_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    except KeyError:  # not a tensor, or a type unknown to this onnx
        dtype = "unknown"
    return TensorSpec(_text(value.name), shape_of(value), dtype)


def _text(value: str | bytes) -> str:
    """Return a text of the file; protobuf returns bytes for one that is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")
