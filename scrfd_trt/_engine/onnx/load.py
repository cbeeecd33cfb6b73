"""Read ONNX files."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, inliner

from scrfd_trt._engine.onnx.graph import fold_constant_nodes, sides
from scrfd_trt._tensors import TensorSpec, listing
from scrfd_trt.errors import ModelFormatError, ModelNotFoundError, one_line

CONTROL_FLOW = {"If", "Loop", "Scan"}
QUANTIZED = {"QuantizeLinear", "DequantizeLinear"}
RANK_OF_INPUT = 4
OWN_DOMAINS = {"", "ai.onnx"}


def load(path: Path) -> onnx.ModelProto:
    """Read a network, weights in files of their own included.

    Functions are written out, ``Constant`` nodes are initializers, and the inputs are those that a caller feeds.

    Parameters
    ----------
    path
        The ONNX file.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If it cannot be read, is not valid, or is made of what TensorRT has no equal for.
    """
    model = _parse(path)
    try:
        onnx.checker.check_model(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise ModelFormatError(f"{path}: this is no valid ONNX network: {one_line(error)}") from error
    _refuse_foreign(path, model)
    fold_constant_nodes(model.graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    made = {name for node in model.graph.node for name in node.output}
    if not all(value.name in made for value in model.graph.output):
        raise ModelFormatError(f"{path}: this is not a SCRFD model: one of its outputs is never computed")
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.extend(inputs)
    # The first IR in which weights need not be inputs.
    model.ir_version = max(model.ir_version, 4)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: there is no such file")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelFormatError(f"{path}: this is no ONNX file, or it is damaged: {one_line(error)}") from error
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelFormatError(
            f"{path}: its weights are in other files, which must lie beside it: {one_line(error)}"
        ) from error
    return model


def external_files(path: Path) -> tuple[Path, ...]:
    """List the files beside a network that hold weights of it; none for what is no ONNX file."""
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError):
        return ()
    places = {
        entry.value
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / place for place in sorted(places))


def _refuse_foreign(path: Path, model: onnx.ModelProto) -> None:
    found = sorted({node.op_type for node in model.graph.node} & CONTROL_FLOW)
    if found:
        raise ModelFormatError(
            f"{path}: it has control flow ({', '.join(found)}), which no SCRFD network needs; simplify it first, with "
            "onnxsim say"
        )
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in OWN_DOMAINS})
    integer = sorted({node.op_type for node in model.graph.node if node.op_type.endswith("Integer")})
    integer += sorted({node.op_type for node in model.graph.node if node.op_type.startswith("QLinear")})
    if foreign or integer:
        raise ModelFormatError(
            f"{path}: TensorRT does not know {', '.join(foreign + integer)}; export with operators of ONNX itself, and "
            "INT8 as QuantizeLinear and DequantizeLinear"
        )


def tensors(model: onnx.ModelProto) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
    """Return a network's one input and its outputs.

    Raises
    ------
    ModelFormatError
        If it has not one image input ``(B, 3, H, W)`` of floating-point numbers.
    """
    inputs = [_spec(value) for value in model.graph.input]
    if (
        len(inputs) != 1
        or len(inputs[0].shape) != RANK_OF_INPUT
        or inputs[0].shape[1] not in {3, None}
        or inputs[0].dtype not in {"float32", "float16"}
    ):
        raise ModelFormatError(f"one input (B, 3, H, W) is wanted, but this network's inputs are: {listing(inputs)}")
    return inputs[0], tuple(_spec(value) for value in model.graph.output)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    try:
        name = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    except KeyError:  # no tensor, or of a type that this onnx does not know
        name = "unknown"
    return TensorSpec(value.name, sides(value), name)


def read_io(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read the inputs and outputs of any ONNX network; files with its weights are left alone.

    Raises
    ------
    ModelFormatError
        If it is no ONNX file, or a damaged one.
    """
    try:
        graph = onnx.load(path, format="protobuf", load_external_data=False).graph
    except (DecodeError, ValueError) as error:
        raise ModelFormatError(f"this is no ONNX network, or a damaged one: {one_line(error)}") from error
    if not graph.node:
        raise ModelFormatError("this is no ONNX network, or a damaged one: it has no nodes")
    constants = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value) for value in graph.input if value.name not in constants)
    return inputs, tuple(map(_spec, graph.output))
