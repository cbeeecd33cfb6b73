"""What shape each tensor of a network has for an input of one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from scrfd_trt.engine.wiring import describe
from scrfd_trt.errors import ModelFormatError, one_line

Shapes = dict[str, tuple[int | None, ...]]
MOST_ROUNDS = 64
MOST_VALUES = 64

Values = list[NDArray[Any]]
Settings = dict[str, Any]


def infer(model: onnx.ModelProto, shape: tuple[int, ...]) -> Shapes:
    """Find the shapes of all tensors for an input of this shape.

    ONNX's own inference stops at a ``Resize`` or ``Reshape`` whose size the network computes from other shapes. So what
    is computed from shapes that are known is worked out and put in its place, until nothing new is known.

    Parameters
    ----------
    model
        It is left as it is.
    shape
        ``(B, 3, H, W)``.

    Returns
    -------
    dict of str to tuple
        None where a side is not known.

    Raises
    ------
    ModelFormatError
        If the network cannot take such an input.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, side in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = side
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    found: Shapes = {}
    for _ in range(MOST_ROUNDS):
        del fixed.graph.value_info[:]
        try:
            inferred = onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True)
        except (onnx.shape_inference.InferenceError, RuntimeError) as error:
            raise ModelFormatError(
                f"the network cannot take an input of {'×'.join(map(str, shape))}: {one_line(error)}"
            ) from error
        found = describe(inferred.graph)
        if not _work_out(fixed, found):
            break
    return found


def whole(shape: tuple[int | None, ...] | None) -> tuple[int, ...] | None:
    """Return a shape if all its sides are known, else None."""
    sides = tuple(side for side in shape or () if side is not None)
    return sides if shape is not None and len(sides) == len(shape) else None


def _work_out(model: onnx.ModelProto, shapes: Shapes) -> bool:
    """Replace nodes that only depend on known shapes by their value; tell whether there were any."""
    graph = model.graph
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) <= 1 and np.prod(tensor.dims) <= MOST_VALUES
    }
    kept = []
    for node in graph.node:
        values = _value(node, known, shapes)
        if values is None:
            kept.append(node)
        else:
            known[node.output[0]] = values
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    changed = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    return changed


def _value(node: onnx.NodeProto, known: dict[str, NDArray[Any]], shapes: Shapes) -> NDArray[Any] | None:
    settings = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Shape":
        shape = whole(shapes.get(node.input[0]))
        return None if shape is None else np.array(shape, np.int64)[settings.get("start", 0) : settings.get("end")]
    names = [name for name in node.input if name]
    if node.op_type not in WORKED_OUT or not names or not all(name in known for name in names):
        return None
    return np.asarray(WORKED_OUT[node.op_type]([known[name] for name in names], settings))


def _cast(values: Values, settings: Settings) -> NDArray[Any]:
    return values[0].astype(onnx.helper.tensor_dtype_to_np_dtype(settings["to"]))


def _divide(values: Values, _: Settings) -> NDArray[Any]:
    over = np.floor_divide if values[0].dtype.kind == "i" else np.divide
    return np.asarray(over(values[0], values[1]))


def _slice(values: Values, settings: Settings) -> NDArray[Any]:
    # Starts and ends were attributes before opset 10; the axis of a list of sides can only be 0.
    starts, ends = values[1:3] if len(values) > 1 else (settings["starts"], settings["ends"])
    step = int(values[4][0]) if len(values) > 4 else 1
    return values[0][int(starts[0]) : int(ends[0]) : step]


WORKED_OUT: dict[str, Callable[[Values, Settings], Any]] = {
    "Add": lambda values, _: values[0] + values[1],
    "Cast": _cast,
    "Ceil": lambda values, _: np.ceil(values[0]),
    "Concat": lambda values, _: np.concatenate(values),
    "Div": _divide,
    "Floor": lambda values, _: np.floor(values[0]),
    "Gather": lambda values, _: values[0][values[1]],
    "Identity": lambda values, _: values[0],
    "Mul": lambda values, _: values[0] * values[1],
    "Slice": _slice,
    "Squeeze": lambda values, _: values[0].reshape(()),
    "Sub": lambda values, _: values[0] - values[1],
    "Unsqueeze": lambda values, _: values[0].reshape(1),
}
"""What exporters compute sizes with, for numbers and lists of numbers."""
