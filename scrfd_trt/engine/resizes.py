"""Give the upsampling of the feature pyramid its factor instead of a size, which would bind it to one input size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from scrfd_trt.engine.shapes import Shapes, whole
from scrfd_trt.engine.wiring import Wiring

ROI, SIZES = 1, 3

WHOLE = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
"""The region is looked at in one mode only, but has to be there before opset 13; TensorRT warns of an empty one."""


def scale_resizes(graph: onnx.GraphProto, measured: Sequence[Shapes]) -> int:
    """Let each ``Resize`` that is told a size multiply by the factor that this comes to.

    Exporters trace the size of the finer feature map, as a constant or through ``Shape``, ``Gather`` and ``Concat``.
    For inputs of whole multiples of 32 pixels it is always twice the coarser one's.

    Parameters
    ----------
    graph
        Changed in place.
    measured
        Shapes of all tensors for each of the inputs that the network as it is can take; a ``Resize`` whose factor is
        not whole, or not the same for all of them, stays as it is.

    Returns
    -------
    int
        How many were changed.
    """
    wiring = Wiring(graph)
    changed = 0
    for node in graph.node:
        if node.op_type != "Resize" or len(node.input) <= SIZES or not node.input[SIZES] or _crops(node):
            continue
        factors = {_factor(node, shapes) for shapes in measured}
        factor = factors.pop() if len(factors) == 1 else None
        if factor is None:
            continue
        scales = wiring.add_constant("resize_scales", np.array([1, 1, *factor], np.float32))
        roi = node.input[ROI] and wiring.add_constant("resize_roi", WHOLE)
        data = node.input[0]
        del node.input[:]
        node.input.extend([data, roi, scales])
        _drop_attributes(node, {"axes", "keep_aspect_ratio_policy"})
        changed += 1
    return changed


def _crops(node: Any) -> bool:
    return any(item.s == b"tf_crop_and_resize" for item in node.attribute)


def _factor(node: Any, shapes: Shapes) -> tuple[int, int] | None:
    coarse, fine = whole(shapes.get(node.input[0])), whole(shapes.get(node.output[0]))
    if coarse is None or fine is None or len(coarse) != len(fine) or len(coarse) != 4 or coarse[:2] != fine[:2]:
        return None
    if fine[2] % coarse[2] or fine[3] % coarse[3]:
        return None
    return fine[2] // coarse[2], fine[3] // coarse[3]


def _drop_attributes(node: Any, names: set[str]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
