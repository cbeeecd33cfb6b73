"""Say which sides of a network's input and outputs are free, under names that tell one from the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from scrfd_trt._heads import WIDTHS, HeadLayout, check
from scrfd_trt._tensors import TensorSpec, listing
from scrfd_trt.errors import ModelFormatError, one_line


class Wiring:
    """An index of a graph, as it is when this is made.

    Parameters
    ----------
    graph
        It is changed by the methods; nodes that are added or rewired by hand need a new index.

    Attributes
    ----------
    producers : dict of str to onnx.NodeProto
        The node that makes a tensor.
    consumers : dict of str to list of (onnx.NodeProto, int)
        The nodes that take a tensor, and as which of their inputs.
    constants : dict of str to onnx.TensorProto
        The graph's initializers.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.producers: dict[str, Any] = {name: node for node in graph.node for name in node.output if name}
        self.consumers: dict[str, list[tuple[Any, int]]] = {}
        for node in graph.node:
            for place, name in enumerate(node.input):
                self.consumers.setdefault(name, []).append((node, place))
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        ends = {value.name for value in (*graph.input, *graph.output)}
        self._names = {*self.producers, *self.consumers, *self.constants, *ends}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant's values, or None for a tensor that is none."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def new_name(self, hint: str) -> str:
        """Return a name that no tensor of the graph has yet."""
        name, number = hint, 1
        while name in self._names:
            name, number = f"{hint}_{number}", number + 1
        self._names.add(name)
        return name

    def add_constant(self, hint: str, values: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(values), self.new_name(hint))
        self.graph.initializer.append(tensor)
        self.constants[tensor.name] = tensor
        return str(tensor.name)

    def rename(self, old: str, new: str) -> None:
        """Give the tensor that a node makes another name, wherever a node speaks of it."""
        producer = self.producers.pop(old)
        producer.output[list(producer.output).index(old)] = new
        for node, place in self.consumers.get(old, []):
            node.input[place] = new
        self.consumers[new] = self.consumers.pop(old, [])
        self.producers[new] = producer


def fold_constant_nodes(graph: onnx.GraphProto) -> None:
    """Turn ``Constant`` nodes into initializers, which all else here looks at only."""
    kept = []
    for node in graph.node:
        values = _value_of(node)
        if values is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _value_of(node: onnx.NodeProto) -> NDArray[Any] | None:
    if node.op_type != "Constant":
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            return numpy_helper.to_array(attribute.t)
        if attribute.name in {"value_float", "value_floats"}:
            return np.array(onnx.helper.get_attribute_value(attribute), np.float32)
        if attribute.name in {"value_int", "value_ints"}:
            return np.array(onnx.helper.get_attribute_value(attribute), np.int64)
    return None


def prune(graph: onnx.GraphProto) -> int:
    """Leave out nodes and initializers that no output depends on.

    Returns
    -------
    int
        How many nodes went.
    """
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    gone = len(graph.node) - len(kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    return gone


def describe(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of each tensor that has one written down; None where a side is free."""
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: sides(value) for value in values if value.type.tensor_type.HasField("shape")}
    found.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return found


def sides(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the sides of an input or output; None where free or not told."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


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


def set_input(graph: onnx.GraphProto, batch: int | None, size: tuple[int, int] | None) -> None:
    """Fix or free the sides of the input.

    Parameters
    ----------
    graph
        Changed in place.
    batch
        None frees it, as ``batch``.
    size
        Width and height; None frees them, as ``width`` and ``height``.
    """
    width, height = size or (None, None)
    _write(graph.input[0], [batch or "batch", 3, height or "height", width or "width"])


def set_outputs(graph: onnx.GraphProto, layout: HeadLayout, batch: int | None, size: tuple[int, int] | None) -> None:
    """Write down the outputs' shapes as the input's sides make them; rows of each free output get a name of their own.

    Parameters
    ----------
    graph
        Changed in place.
    layout
        Of its outputs.
    batch, size
        As for :func:`set_input`.
    """
    groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
    for name, group in groups.items():
        for stride, index in zip(layout.strides, group, strict=False):
            value, width = graph.output[index], WIDTHS[name]
            rows = layout.rows(stride, size) if size else f"rows_{value.name}"
            if layout.kind == "flat":
                _write(value, [rows, width])
            elif layout.kind == "batched":
                _write(value, [batch or "batch", rows, width])
            else:
                across, down = (
                    (-(-side // stride) for side in size) if size else (f"width_{stride}", f"height_{stride}")
                )
                _write(value, [batch or "batch", layout.anchors * width, down, across])


def _write(value: onnx.ValueInfoProto, sides: list[int | str]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for side in sides:
        if isinstance(side, int):
            shape.dim.add().dim_value = side
        else:
            shape.dim.add().dim_param = side


def name_outputs(graph: onnx.GraphProto, layout: HeadLayout) -> bool:
    """Call the outputs ``score_8``, ``bbox_8``, ``kps_8`` … where their names do not tell the stride.

    Without row counts, and in an engine, which may list its outputs in another order, only names tell them apart.

    Returns
    -------
    bool
        Whether anything was renamed.
    """
    groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
    wanted = {
        index: f"{name}_{stride}"
        for name, group in groups.items()
        for stride, index in zip(layout.strides, group, strict=False)
    }
    if all(re.search(rf"_{name.split('_')[1]}$", graph.output[index].name) for index, name in wanted.items()):
        return False
    wiring = Wiring(graph)
    # By way of names that nothing has: an output may be called what another one is to be called.
    for value in graph.output:
        free = wiring.new_name(f"{value.name}_made")
        wiring.rename(value.name, free)
        value.name = free
    for index, name in wanted.items():
        if name in wiring.producers:
            wiring.rename(name, wiring.new_name(f"{name}_inner"))
        wiring.rename(graph.output[index].name, name)
        graph.output[index].name = name
    return True


def check_shapes(model: onnx.ModelProto, layout: HeadLayout, shape: tuple[int, ...]) -> None:
    """Check, without running it, that a network gives SCRFD's rows for an input of this shape.

    Parameters
    ----------
    model
        Left as it is.
    layout
        Of its outputs.
    shape
        ``(B, 3, H, W)``.

    Raises
    ------
    ModelFormatError
        If it does not, or cannot take the input.
    """
    found = infer(model, shape)
    outputs = [TensorSpec(value.name, found.get(value.name, (None,))) for value in model.graph.output]
    known = [sides for sides in (whole(output.shape) for output in outputs) if sides is not None]
    # Where inference comes to no end only a run can tell; the comparison makes one.
    if len(known) < len(outputs):
        return
    arrays = [np.broadcast_to(np.float32(0), sides) for sides in known]
    batches = {array.shape[0] for array in arrays} if layout.has_batch_axis else {1}
    if batches != {shape[0]}:
        raise ModelFormatError(f"{shape[0]} images go in, but the outputs do not keep them apart: {listing(outputs)}")
    check(layout, arrays, (shape[3], shape[2]))
