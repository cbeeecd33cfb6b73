"""Say which sides of a network's input and outputs are free, under names that tell one from the other."""

from __future__ import annotations

import re

import numpy as np
import onnx

from scrfd_trt.engine.shapes import infer, whole
from scrfd_trt.engine.wiring import Wiring
from scrfd_trt.errors import ModelFormatError
from scrfd_trt.heads import WIDTHS, HeadLayout, check
from scrfd_trt.tensors import TensorSpec, listing


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
        if name in wiring.makers:
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
