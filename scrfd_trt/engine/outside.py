"""The outside of an engine: what TensorRT says of its tensors and optimization profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from scrfd_trt.errors import ModelFormatError
from scrfd_trt.heads import HeadLayout, recognize
from scrfd_trt.tensors import ShapeRange, TensorSpec, listing

if TYPE_CHECKING:
    import tensorrt

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
    "BF16": "bfloat16",
    "FP8": "float8",
    "INT4": "int4",
    "FP4": "float4",
}
"""TensorRT's names of element types, and NumPy's where it has them."""

FLOATS = {"float32", "float16"}
RANK = 4


@dataclass(frozen=True)
class Outside:
    """Tensors and profiles of an engine.

    Attributes
    ----------
    inputs, outputs
        In the engine's own order; None where a side is free.
    ranges
        Shapes of the first input, one for each optimization profile.
    unusual
        Tensors that are not plain arrays on the GPU, and how they lie instead.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]
    unusual: tuple[str, ...]


def read_outside(engine: tensorrt.ICudaEngine, module: ModuleType) -> Outside:
    """Read an engine's tensors and profiles, by the calls that all releases from 8.6 have.

    Parameters
    ----------
    engine
        Open.
    module
        The TensorRT that opened it.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    groups: dict[str, list[TensorSpec]] = {"INPUT": [], "OUTPUT": []}
    for name in names:
        groups[engine.get_tensor_mode(name).name].append(_spec(engine, name))
    inputs, outputs = tuple(groups["INPUT"]), tuple(groups["OUTPUT"])
    ranges = tuple(_range(engine, inputs[0], index) for index in range(engine.num_optimization_profiles) if inputs)
    return Outside(inputs, outputs, ranges, tuple(filter(None, (_unusual(engine, module, name) for name in names))))


def recognize_network(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> HeadLayout:
    """Find out whether tensors are those of a SCRFD network.

    Parameters
    ----------
    inputs, outputs
        Of a network.

    Raises
    ------
    ModelFormatError
        If they are not; the message lists them.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != RANK or inputs[0].shape[1] not in {3, None}:
        raise ModelFormatError(f"one input (B, 3, H, W) is wanted, but the inputs are: {listing(inputs)}")
    layout = recognize(outputs)
    odd = [tensor for tensor in (*inputs, *outputs) if tensor.dtype not in FLOATS]
    if odd:
        raise ModelFormatError(f"float32 or float16 is wanted, but there are: {listing(odd)}")
    return layout


def _spec(engine: tensorrt.ICudaEngine, name: str) -> TensorSpec:
    shape = tuple(None if side < 0 else side for side in tuple(engine.get_tensor_shape(name)))
    kind = engine.get_tensor_dtype(name).name
    return TensorSpec(name, shape, DTYPES.get(kind, kind.lower()))


def _range(engine: tensorrt.ICudaEngine, tensor: TensorSpec, index: int) -> ShapeRange:
    fixed = tuple(side for side in tensor.shape if side is not None)
    if len(fixed) == len(tensor.shape):
        return ShapeRange(fixed, fixed, fixed)
    least, best, most = (tuple(shape) for shape in engine.get_tensor_profile_shape(tensor.name, index))
    return ShapeRange(least, best, most)


def _unusual(engine: tensorrt.ICudaEngine, module: ModuleType, name: str) -> str:
    # The lean and dispatch runtimes have the calls, but not all of the types that they return.
    if hasattr(module, "TensorLocation"):
        location = engine.get_tensor_location(name).name
        if location != "DEVICE":
            return f"{name} lies in the memory of the {location.lower()}"
    if hasattr(module, "TensorFormat"):
        form = engine.get_tensor_format(name).name
        if form != "LINEAR":
            return f"{name} is laid out as {form}"
    return ""
