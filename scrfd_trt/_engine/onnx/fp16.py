"""FP16: cast a graph to it, and simulate its rounding on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from scrfd_trt._engine.build_options import IoType
from scrfd_trt._engine.onnx.graph import GraphIndex, prune, set_nodes, to_array
from scrfd_trt.errors import ModelFormatError

FP16_MAX = 65504.0
FP16_MIN_NORMAL = 2.0**-14
IO_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}

SUMS = {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "ReduceMean"}
"""These sum squares over a whole feature map, which overflows or loses precision in FP16."""

FLOAT_INPUTS = {"Resize": {1, 2}, "Upsample": {1}}  # inputs that are always FP32: region and scales


@dataclass
class WeightStats:
    """Number of weights cast to FP16."""

    count: int = 0
    flushed: int = 0  # became zero
    denormal: int = 0  # below 2⁻¹⁴, with fewer bits

    def __str__(self) -> str:
        share = 100.0 * self.denormal / max(1, self.count)
        return f"cast to FP16: {self.count:,} weights, {self.flushed:,} of them became 0, {share:.2g} % are denormal"


class Fp16Caster:
    """Casts a graph to FP16 in place, but for sums over maps, values of shapes, and the last sigmoid."""

    # Rounded after the sigmoid, scores of 0.5 and more have steps of 0.0005, and boxes of one face tie.

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights = WeightStats()
        self._graph = model.graph
        self._index = GraphIndex(model.graph)
        self._opset = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 1)
        self._float = _tensors_of(model, TensorProto.FLOAT)
        self._from_shapes = _computed_from_shapes(model.graph)
        self._outputs = {value.name for value in model.graph.output}
        self._half: set[str] = set()
        self._copies: dict[tuple[str, bool], str] = {}
        self._nodes: list[Any] = []

    def run(self) -> WeightStats:
        """Cast; raise ModelFormatError if a weight exceeds FP16's range."""
        for value in self._graph.input:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
                self._half.add(value.name)
        for node in self._graph.node:
            if node.op_type in {"Shape", "Size"}:
                self._nodes.append(node)
            else:
                self._cast(node)
        set_nodes(self._graph, self._nodes)
        for value in self._graph.output:
            if value.name in self._half:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        prune(self._graph)
        return self.weights

    def _cast(self, node: Any) -> None:
        half = not self._stays_float(node)
        for position, name in enumerate(node.input):
            if name in self._float:
                node.input[position] = self._as(name, half and position not in FLOAT_INPUTS.get(node.op_type, ()))
        if half:
            _change_cast(node, TensorProto.FLOAT, TensorProto.FLOAT16)
            self._half.update(name for name in node.output if name in self._float)
        self._nodes.append(node)

    def _stays_float(self, node: Any) -> bool:
        if node.op_type in SUMS or self._from_shapes.issuperset(node.output):
            return True
        if node.op_type == "Sigmoid" and self._outputs.issuperset(node.output):
            return True
        always = FLOAT_INPUTS.get(node.op_type, set())
        positions = {position for position, name in enumerate(node.input) if name in self._float} - always
        if not positions:
            return bool(node.op_type != "Cast")
        schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        used = {schema.inputs[min(position, len(schema.inputs) - 1)].type_str for position in positions}
        return any("tensor(float16)" not in allowed.get(kind, [kind]) for kind in used)

    def _as(self, name: str, half: bool) -> str:
        """Return the name of a tensor's FP16 or FP32 copy; create it if needed."""
        if (name in self._half) == half and name not in self._index.constants:
            return name
        key = (name, half)
        if key not in self._copies:
            self._copies[key] = self._copy(name, half)
        return self._copies[key]

    def _copy(self, name: str, half: bool) -> str:
        values = self._index.constant(name)
        if values is not None:
            return self._index.add_constant(f"{name}_fp16", self._to_half(name, values)) if half else name
        copy = self._index.new_name(f"{name}_{'fp16' if half else 'fp32'}")
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes.append(onnx.helper.make_node("Cast", [name], [copy], to=kind))
        return copy

    def _to_half(self, name: str, values: NDArray[Any]) -> NDArray[np.float16]:
        largest = float(np.abs(values).max(initial=0.0))
        if not largest <= FP16_MAX:
            raise ModelFormatError(
                f"weight {name!r} holds {largest:g}, which exceeds FP16's range (±{FP16_MAX:g}); choose precision tf32 "
                "or fp32"
            )
        halves = values.astype(np.float16)
        self.weights.count += values.size
        self.weights.flushed += int(np.count_nonzero((halves == 0) & (values != 0)))
        self.weights.denormal += int(np.count_nonzero((halves != 0) & (np.abs(halves) < FP16_MIN_NORMAL)))
        return halves


def _tensors_of(model: onnx.ModelProto, kind: int) -> set[str]:
    """Return the names of all tensors of an element type."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type == kind}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == kind}


def _computed_from_shapes(graph: onnx.GraphProto) -> set[str]:
    found: set[str] = set()
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        data = {name for name in node.input if name and name not in constants}
        if node.op_type in {"Shape", "Size"} or (data and data <= found):
            found.update(node.output)
    return found


def _change_cast(node: Any, old: int, new: int) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == old:
            attribute.i = new


def is_fp16(model: onnx.ModelProto) -> bool:
    """Return whether a model's convolution weights are FP16."""
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    return kinds == {TensorProto.FLOAT16}


def set_io_type(model: onnx.ModelProto, dtype: IoType) -> int:
    """Set the type of the input and outputs, with casts where the model computes in another; return their number."""
    graph, wanted = model.graph, IO_TYPES[dtype]
    index, added = GraphIndex(graph), 0
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if kind != wanted:
            inner = index.new_name(f"{value.name}_cast")
            index.redirect(value.name, inner)
            graph.node.insert(0, onnx.helper.make_node("Cast", [value.name], [inner], to=kind))
            value.type.tensor_type.elem_type = wanted
            added += 1
    for value in graph.output:
        if value.type.tensor_type.elem_type != wanted:
            inner = index.new_name(f"{value.name}_cast")
            index.rename(value.name, inner)
            graph.node.append(onnx.helper.make_node("Cast", [inner], [value.name], to=wanted))
            value.type.tensor_type.elem_type = wanted
            added += 1
    return added


def with_rounding(content: bytes) -> bytes | None:
    """Return an FP32 model that rounds to FP16 after each step; None if nothing is FP16."""
    # ONNX Runtime computes FP16 models in FP32 throughout, which hides rounding and overflow.
    model = onnx.load_model_from_string(content)
    graph = model.graph
    half = _tensors_of(model, TensorProto.FLOAT16) - {tensor.name for tensor in graph.initializer}
    if not half:
        return None
    index = GraphIndex(graph)
    nodes: list[Any] = []
    for value in graph.input:
        if value.name in half:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            rounded = index.new_name(f"{value.name}_rounded")
            index.redirect(value.name, rounded)
            nodes += _round(index, value.name, rounded)
    for node in graph.node:
        nodes.append(node)
        _change_cast(node, TensorProto.FLOAT16, TensorProto.FLOAT)
        for name in [name for name in node.output if name in half]:
            exact = index.new_name(f"{name}_exact")
            node.output[list(node.output).index(name)] = exact
            nodes += _round(index, exact, name)
    set_nodes(graph, nodes)
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(to_array(tensor).astype(np.float32), tensor.name))
    for value in graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return bytes(model.SerializeToString())


def _round(index: GraphIndex, exact: str, rounded: str) -> list[Any]:
    between = index.new_name(f"{exact}_half")
    return [
        onnx.helper.make_node("Cast", [exact], [between], to=TensorProto.FLOAT16),
        onnx.helper.make_node("Cast", [between], [rounded], to=TensorProto.FLOAT),
    ]
