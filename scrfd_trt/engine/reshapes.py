"""Make reshapes follow the batch and the image's size where an export has written them down as numbers.

InsightFace's official files bring each head from ``(B, A·C, H, W)`` to ``(rows, C)`` by ``permute(2, 3, 0, 1)`` and
``reshape(-1, C)``, which is right for one image only: the batch axis ends up between cells and anchors. Exports with a
batch axis use ``permute(0, 2, 3, 1)`` and ``reshape(B, -1, C)``, some with B and the rows as numbers. Both become
``permute(0, 2, 3, 1)`` and ``reshape(0, -1, C)``, where 0 keeps the batch as it comes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from scrfd_trt.engine.wiring import Wiring
from scrfd_trt.heads import WIDTHS, HeadLayout

POINTWISE = {
    "Add", "Cast", "Clip", "DequantizeLinear", "Div", "Exp", "Identity", "Mul", "QuantizeLinear", "Relu", "Sigmoid",
    "Sub",
}  # fmt: skip
FOLDING = (2, 3, 0, 1)
KEEPING = (0, 2, 3, 1)


def split_heads(graph: onnx.GraphProto, layout: HeadLayout) -> str:
    """Bring flat and batched heads to ``(B, rows, C)`` for any B and any number of rows.

    Parameters
    ----------
    graph
        Changed in place, all heads of it or none.
    layout
        Of its outputs.

    Returns
    -------
    str
        Empty where all heads are so now, else the first one that is made in another way and by what.
    """
    if layout.kind == "grid":
        return ""
    wiring = Wiring(graph)
    groups = {"score": layout.scores, "bbox": layout.boxes, "kps": layout.landmarks or ()}
    found = []
    for name, group in groups.items():
        for index in group:
            output = graph.output[index].name
            shaped = _before_pointwise(wiring, output)
            transpose = _transpose_of(wiring, shaped)
            if shaped is None or transpose is None:
                return f"{output} ({'an input' if shaped is None else shaped.op_type})"
            found.append((transpose, shaped, WIDTHS[name]))
    for transpose, reshape, width in found:
        del transpose.attribute[:], reshape.attribute[:]
        transpose.attribute.append(onnx.helper.make_attribute("perm", KEEPING))
        shape = wiring.add_constant("rows_of_image", np.array([0, -1, width], np.int64))
        del reshape.input[:]
        reshape.input.extend([transpose.output[0], shape])
    return ""


def _before_pointwise(wiring: Wiring, output: str) -> Any:
    """Return the node that gave a head its shape; what follows keeps it."""
    node = wiring.makers.get(output)
    while node is not None and node.op_type in POINTWISE:
        data = [name for name in node.input if name and name not in wiring.constants]
        if len(data) != 1:
            break
        node = wiring.makers.get(data[0])
    return node


def _transpose_of(wiring: Wiring, reshape: Any) -> Any:
    if reshape is None or reshape.op_type != "Reshape":
        return None
    node = wiring.makers.get(reshape.input[0])
    while node is not None and node.op_type in {"Reshape", "Identity"}:
        node = wiring.makers.get(node.input[0])
    if node is None or node.op_type != "Transpose":
        return None
    order = next((tuple(item.ints) for item in node.attribute if item.name == "perm"), ())
    alone = len(wiring.takers.get(node.output[0], [])) == 1
    return node if order == KEEPING or (order == FOLDING and alone) else None


def free_norms(graph: onnx.GraphProto) -> int:
    """Let group norms, exported as ``Reshape``, ``InstanceNormalization``, ``Reshape``, take any batch and size.

    Returns
    -------
    int
        How many were changed.
    """
    wiring = Wiring(graph)
    nodes, changed = [], 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "InstanceNormalization":
            continue
        before = wiring.makers.get(node.input[0])
        after = [taker for taker, _ in wiring.takers.get(node.output[0], [])]
        if before is None or before.op_type != "Reshape" or [taker.op_type for taker in after] != ["Reshape"]:
            continue
        groups, shape = wiring.constant(before.input[1]), wiring.constant(after[0].input[1])
        if groups is not None and groups.shape == (3,) and (groups[0], groups[2]) != (0, -1):
            before.input[1] = wiring.add_constant("groups", np.array([0, groups[1], -1], np.int64))
            changed += 1
        if shape is not None:
            after[0].input[1] = wiring.new_name("shape_of_norm")
            nodes.append(onnx.helper.make_node("Shape", [before.input[0]], [after[0].input[1]]))
            changed += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return changed
