"""ONNX graphs: an index of their tensors, dead nodes, and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from scrfd_trt.errors import ModelFormatError, ScrfdError, one_line, out_of_memory, shown

Shape = tuple[int | None, ...]  # None where a side is free or unknown


class GraphIndex:
    """Producers, consumers and constants of a graph; build a new one after nodes are added or rewired by hand."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.producers: dict[str, Any] = {name: node for node in graph.node for name in node.output if name}
        # Each consumer with the position among its inputs.
        self.consumers: dict[str, list[tuple[Any, int]]] = {}
        for node in graph.node:
            for position, name in enumerate(node.input):
                self.consumers.setdefault(name, []).append((node, position))
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        ends = {value.name for value in (*graph.input, *graph.output)}
        self._names = {*self.producers, *self.consumers, *self.constants, *ends}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return a constant's values; None if the tensor is not constant."""
        tensor = self.constants.get(name)
        return None if tensor is None else to_array(tensor)

    def new_name(self, hint: str) -> str:
        """Return an unused tensor name."""
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

    def redirect(self, old: str, new: str) -> None:
        """Let all consumers of a tensor read another one."""
        moved = self.consumers.pop(old, [])
        for node, position in moved:
            node.input[position] = new
        self.consumers.setdefault(new, []).extend(moved)

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor at its producer and at all consumers."""
        producer = self.producers.pop(old)
        producer.output[list(producer.output).index(old)] = new
        self.producers[new] = producer
        self.redirect(old, new)


@contextmanager
def format_errors(message: str) -> Iterator[None]:
    """Translate the errors of onnx for an invalid file to ModelFormatError, and a lack of memory to BackendError."""
    try:
        yield
    except ScrfdError:
        raise
    except MemoryError as error:
        raise out_of_memory("reading the model") from error
    except Exception as error:
        raise ModelFormatError(f"{message}: {one_line(error)}") from error


def to_array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """Return the values of a constant; raise ModelFormatError if its sides do not fit its data, which costs memory."""
    with format_errors(f"the constant {shown(tensor.name)} cannot be read"):
        array = numpy_helper.to_array(tensor)
    if array.shape != tuple(tensor.dims):
        raise ModelFormatError(
            f"the constant {shown(tensor.name)} has the sides {list(tensor.dims)}, which do not fit its data"
        )
    return array


def set_nodes(graph: onnx.GraphProto, nodes: Iterable[Any]) -> None:
    """Replace all nodes of a graph."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def lift_constants(graph: onnx.GraphProto) -> None:
    """Turn ``Constant`` nodes into initializers."""
    kept = []
    for node in graph.node:
        values = _constant_value(node)
        if values is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    set_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> NDArray[Any] | None:
    if node.op_type != "Constant":
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            return to_array(attribute.t)
        if attribute.name in {"value_float", "value_floats"}:
            return np.array(onnx.helper.get_attribute_value(attribute), np.float32)
        if attribute.name in {"value_int", "value_ints"}:
            return np.array(onnx.helper.get_attribute_value(attribute), np.int64)
    return None


def prune(graph: onnx.GraphProto) -> int:
    """Remove nodes and initializers that no output depends on; return the number of removed nodes."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    removed = len(graph.node) - len(kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    set_nodes(graph, reversed(kept))
    return removed


def shape_of(value: onnx.ValueInfoProto) -> Shape:
    """Return the declared shape of an input or output."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def infer_outputs(model: onnx.ModelProto, shape: tuple[int, ...]) -> list[Shape | None]:
    """Return the output shapes for an input shape, without running the model; None where the rank is unknown."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, side in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = side
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ModelFormatError(
            f"the model does not accept an input of {'×'.join(map(str, shape))}: {one_line(error)}"
        ) from error
    outputs = inferred.graph.output
    return [shape_of(value) if value.type.tensor_type.HasField("shape") else None for value in outputs]
