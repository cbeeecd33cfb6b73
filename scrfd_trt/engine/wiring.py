"""Who makes and who takes each tensor of an ONNX graph, and the small changes that the other files are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Wiring:
    """An index of a graph, as it is when this is made.

    Parameters
    ----------
    graph
        It is changed by the methods; nodes that are added or rewired by hand need a new index.

    Attributes
    ----------
    makers : dict of str to onnx.NodeProto
        The node that makes a tensor.
    takers : dict of str to list of (onnx.NodeProto, int)
        The nodes that take a tensor, and as which of their inputs.
    constants : dict of str to onnx.TensorProto
        The graph's initializers.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.makers: dict[str, Any] = {name: node for node in graph.node for name in node.output if name}
        self.takers: dict[str, list[tuple[Any, int]]] = {}
        for node in graph.node:
            for place, name in enumerate(node.input):
                self.takers.setdefault(name, []).append((node, place))
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        ends = {value.name for value in (*graph.input, *graph.output)}
        self._names = {*self.makers, *self.takers, *self.constants, *ends}

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
        maker = self.makers.pop(old)
        maker.output[list(maker.output).index(old)] = new
        for node, place in self.takers.get(old, []):
            node.input[place] = new
        self.takers[new] = self.takers.pop(old, [])
        self.makers[new] = maker


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
