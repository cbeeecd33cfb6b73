"""The outside of an ONNX network, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrfd_trt.backends.onnxruntime import read_tensors
from scrfd_trt.errors import MissingDependencyError, ModelFormatError, one_line
from scrfd_trt.tensors import TensorSpec


@dataclass(frozen=True)
class OnnxOutside:
    """Tensors of an ONNX network.

    Attributes
    ----------
    inputs, outputs
        In the network's own order; None where a side is free.
    reader
        The package that read it, and its version.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reader: str


def read_onnx(path: Path) -> OnnxOutside:
    """Read a network's tensors, with the onnx package or, where that is not installed, with ONNX Runtime.

    Raises
    ------
    ModelFormatError
        If it is no ONNX file, or a damaged one.
    MissingDependencyError
        If neither is installed.
    """
    try:
        import onnx  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return _with_runtime(path)
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with onnx

    try:
        graph = onnx.load(path, format="protobuf", load_external_data=False).graph
    except (DecodeError, ValueError) as error:
        raise ModelFormatError(f"this is no ONNX network, or a damaged one: {one_line(error)}") from error
    if not graph.node:
        raise ModelFormatError("this is no ONNX network, or a damaged one: it has no nodes")
    constants = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value) for value in graph.input if value.name not in constants)
    return OnnxOutside(inputs, tuple(map(_spec, graph.output)), f"onnx {onnx.__version__}")


def _spec(value: Any) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype  # noqa: PLC0415 - as above

    tensor = value.type.tensor_type
    shape = tuple(side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim)
    try:
        dtype = tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:  # no tensor, or of a type that this onnx does not know
        dtype = "unknown"
    return TensorSpec(value.name, shape, dtype)


def _with_runtime(path: Path) -> OnnxOutside:
    try:
        inputs, outputs, version = read_tensors(path)
    except MissingDependencyError as error:
        raise MissingDependencyError(
            'reading ONNX networks needs onnx or ONNX Runtime: pip install "scrfd-trt[cpu]"'
        ) from error
    return OnnxOutside(inputs, outputs, f"onnxruntime {version}")
