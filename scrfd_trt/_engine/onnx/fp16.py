"""A network that computes in FP32 and rounds to FP16 after each step, which is what FP16 does on a GPU at its worst.

ONNX Runtime has no FP16 kernels for the processor: it computes an FP16 network in FP32 from end to end, and would show
neither what rounding costs nor a number that leaves FP16's range on the way. A pair of casts that the network itself
holds, it carries out (since 1.17).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from scrfd_trt._engine.onnx.graph import Wiring, prune
from scrfd_trt.errors import ModelFormatError

HALF_MAX = 65504.0
HALF_NORMAL = 2.0**-14
KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}

SUMS = {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "ReduceMean"}
"""These add up squares over a whole feature map, which overflows or rounds away in FP16."""

FLOAT_INPUTS = {"Resize": {1, 2}, "Upsample": {1}}
"""Inputs that are FP32 whatever the data is: region and scales."""


@dataclass
class Weights:
    """What casting did to the weights.

    Attributes
    ----------
    count
        Values cast.
    flushed
        Of them, those that are not zero and became zero.
    denormal
        Of them, those below 2⁻¹⁴, which FP16 holds with fewer bits.
    """

    count: int = 0
    flushed: int = 0
    denormal: int = 0

    def __str__(self) -> str:
        share = 100.0 * self.denormal / max(1, self.count)
        return f"cast to FP16: {self.count:,} weights, {self.flushed:,} of them became 0, {share:.2g} % are denormal"


class HalfCaster:
    """Casts one graph to FP16.

    Parameters
    ----------
    model
        Its graph is changed; inputs, outputs and all between become FP16, apart from sums over whole feature maps,
        operators that ONNX does not define for FP16, what is computed from shapes, and the last sigmoid: rounded after
        it, scores of 0.5 and more come in steps of 0.0005, and boxes of one face tie that did not.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights = Weights()
        self._graph = model.graph
        self._wiring = Wiring(model.graph)
        self._opset = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 1)
        self._float = _float_tensors(model)
        self._from_shapes = _computed_from_shapes(model.graph)
        self._ends = {value.name for value in model.graph.output}
        self._half: set[str] = set()
        self._copies: dict[tuple[str, bool], str] = {}
        self._nodes: list[Any] = []

    def run(self) -> Weights:
        """Cast, and return what that did to the weights.

        Raises
        ------
        ModelFormatError
            If a weight is beyond FP16's range; the message names it.
        """
        for value in self._graph.input:
            self._make_half(value)
        for node in self._graph.node:
            if node.op_type in {"Shape", "Size"}:
                self._nodes.append(node)
            else:
                self._cast(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        for value in self._graph.output:
            if value.name in self._half:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        prune(self._graph)
        return self.weights

    def _make_half(self, value: Any) -> None:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
            self._half.add(value.name)

    def _cast(self, node: Any) -> None:
        half = not self._stays_float(node)
        for place, name in enumerate(node.input):
            if name in self._float:
                node.input[place] = self._as(name, half and place not in FLOAT_INPUTS.get(node.op_type, ()))
        if half and node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        self._nodes.append(node)
        if half:
            self._half.update(name for name in node.output if name in self._float)

    def _stays_float(self, node: Any) -> bool:
        if node.op_type in SUMS or self._from_shapes.issuperset(node.output):
            return True
        if node.op_type == "Sigmoid" and self._ends.issuperset(node.output):
            return True
        always = FLOAT_INPUTS.get(node.op_type, set())
        places = {place for place, name in enumerate(node.input) if name in self._float} - always
        if not places:
            return bool(node.op_type != "Cast")
        schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        types = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        asked = {schema.inputs[min(place, len(schema.inputs) - 1)].type_str for place in places}
        return any("tensor(float16)" not in types.get(kind, [kind]) for kind in asked)

    def _as(self, name: str, half: bool) -> str:
        """Return the tensor's name in FP16 or FP32; make it where it is not there yet."""
        if (name in self._half) == half and name not in self._wiring.constants:
            return name
        key = (name, half)
        if key not in self._copies:
            self._copies[key] = self._copy(name, half)
        return self._copies[key]

    def _copy(self, name: str, half: bool) -> str:
        values = self._wiring.constant(name)
        if values is not None:
            return self._wiring.add_constant(f"{name}_fp16", self._to_half(name, values)) if half else name
        copy = self._wiring.new_name(f"{name}_{'fp16' if half else 'fp32'}")
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes.append(onnx.helper.make_node("Cast", [name], [copy], to=kind))
        return copy

    def _to_half(self, name: str, values: NDArray[Any]) -> NDArray[np.float16]:
        largest = float(np.abs(values).max(initial=0.0))
        if not largest <= HALF_MAX:
            raise ModelFormatError(
                f"weight {name!r} holds {largest:g}, which FP16 cannot (its largest number is {HALF_MAX:g}); choose "
                "precision tf32 or fp32"
            )
        halves = values.astype(np.float16)
        self.weights.count += values.size
        self.weights.flushed += int(np.count_nonzero((halves == 0) & (values != 0)))
        self.weights.denormal += int(np.count_nonzero((halves != 0) & (np.abs(halves) < HALF_NORMAL)))
        return halves


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _computed_from_shapes(graph: onnx.GraphProto) -> set[str]:
    found: set[str] = set()
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        data = {name for name in node.input if name and name not in constants}
        if node.op_type in {"Shape", "Size"} or (data and data <= found):
            found.update(node.output)
    return found


def is_half(model: onnx.ModelProto) -> bool:
    """Tell whether a network's weights are FP16 already."""
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    return kinds == {TensorProto.FLOAT16}


def set_ends(model: onnx.ModelProto, dtype: Literal["float32", "float16"]) -> int:
    """Let the network take and give numbers of one type, with casts at its ends where it computes in the other.

    Parameters
    ----------
    model
        Changed in place.
    dtype
        Of the input and all outputs.

    Returns
    -------
    int
        How many casts were added.
    """
    graph, wanted = model.graph, KINDS[dtype]
    wiring, added = Wiring(graph), 0
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if kind != wanted:
            inner = wiring.new_name(f"{value.name}_cast")
            for node, place in wiring.consumers.get(value.name, []):
                node.input[place] = inner
            graph.node.insert(0, onnx.helper.make_node("Cast", [value.name], [inner], to=kind))
            value.type.tensor_type.elem_type = wanted
            added += 1
    for value in graph.output:
        if value.type.tensor_type.elem_type != wanted:
            inner = wiring.new_name(f"{value.name}_cast")
            wiring.rename(value.name, inner)
            graph.node.append(onnx.helper.make_node("Cast", [inner], [value.name], to=wanted))
            value.type.tensor_type.elem_type = wanted
            added += 1
    return added


TO = "to"


def with_rounding(model: bytes) -> bytes | None:
    """Return the rounding twin of an FP16 network, with FP32 input and outputs.

    Parameters
    ----------
    model
        Serialized ONNX.

    Returns
    -------
    bytes or None
        Serialized ONNX; None if nothing in the network is FP16.
    """
    network = onnx.load_model_from_string(model)
    graph = network.graph
    half = _half_tensors(network)
    if not half:
        return None
    wiring = Wiring(graph)
    nodes: list[Any] = []
    for value in graph.input:
        if value.name in half:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            nodes += _rounded(wiring, value.name, wiring.new_name(f"{value.name}_rounded"))
            for node, place in wiring.consumers.get(value.name, []):
                node.input[place] = nodes[-1].output[0]
    for node in graph.node:
        nodes.append(node)
        _cast_to_float(node)
        for name in [name for name in node.output if name in half]:
            exact = wiring.new_name(f"{name}_exact")
            node.output[list(node.output).index(name)] = exact
            nodes += _rounded(wiring, exact, name)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return bytes(network.SerializeToString())


def _half_tensors(network: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(network).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT16}


def _cast_to_float(node: Any) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == TO and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT


def _rounded(wiring: Wiring, exact: str, rounded: str) -> list[Any]:
    between = wiring.new_name(f"{exact}_half")
    return [
        onnx.helper.make_node("Cast", [exact], [between], to=TensorProto.FLOAT16),
        onnx.helper.make_node("Cast", [between], [rounded], to=TensorProto.FLOAT),
    ]
