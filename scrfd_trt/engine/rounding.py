"""A network that computes in FP32 and rounds to FP16 after each step, which is what FP16 does on a GPU at its worst.

ONNX Runtime has no FP16 kernels for the processor: it computes an FP16 network in FP32 from end to end, and would show
neither what rounding costs nor a number that leaves FP16's range on the way. A pair of casts that the network itself
holds, it carries out (since 1.17).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from scrfd_trt.engine.wiring import Wiring

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
            for node, place in wiring.takers.get(value.name, []):
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
