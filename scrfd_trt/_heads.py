"""Detect the head layout of a SCRFD model (docs/explanation/design.md has the table), and read rows from any layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._tensors import TensorSpec, listing
from scrfd_trt.errors import ModelFormatError

Kind = Literal["flat", "batched", "grid"]
STRIDES = {3: (8, 16, 32), 5: (8, 16, 32, 64, 128)}
ANCHORS = {3: 2, 5: 1}
WIDTHS = {"score": 1, "bbox": 4, "kps": 10}
KINDS: dict[int, Kind] = {2: "flat", 3: "batched", 4: "grid"}  # kind of head by the rank of its outputs


@dataclass(frozen=True)
class HeadLayout:
    """The meaning of each output of a model."""

    kind: Kind
    strides: tuple[int, ...]  # input pixels, ascending
    anchors: int  # per cell
    scores: tuple[int, ...]  # numbers of outputs, one per stride; also below
    boxes: tuple[int, ...]
    landmarks: tuple[int, ...] | None  # None for a model without landmarks

    @property
    def has_batch_axis(self) -> bool:
        """Whether the outputs have a batch axis."""
        return self.kind != "flat"

    def __str__(self) -> str:
        points = "with" if self.landmarks else "without"
        return f"{self.kind} head, strides {', '.join(map(str, self.strides))}, {points} landmarks"

    def rows(self, stride: int, input_size: tuple[int, int]) -> int:
        """Return the number of rows of one stride for an input of (width, height) pixels."""
        width, height = input_size
        return -(-width // stride) * -(-height // stride) * self.anchors

    def read_scores(self, output: NDArray[Any], image: int) -> NDArray[Any]:
        """Return the scores of one image, ``(rows,)``; a view if the layout permits."""
        if self.kind == "grid":
            scores: NDArray[Any] = output[image].reshape(self.anchors, -1).T.reshape(-1)
            return scores
        return (output if self.kind == "flat" else output[image]).reshape(-1)

    def read_rows(self, output: NDArray[Any], image: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the given rows of boxes or landmarks of one image, ``(len(rows), 4 or 10)`` float32, a copy."""
        if self.kind == "grid":
            values = output[image].reshape(self.anchors, output.shape[1] // self.anchors, -1)
            values = values[rows % self.anchors, :, rows // self.anchors]
        else:
            values = (output if self.kind == "flat" else output[image])[rows]
        return np.asarray(values, np.float32)


def recognize(outputs: Sequence[TensorSpec]) -> HeadLayout:
    """Return the layout that the outputs define; strides are known by name, else by row count, else by order."""
    kind = _kind(outputs)
    count = len(outputs) // (3 if len(outputs) in {9, 15} else 2)
    if kind is None or count not in STRIDES or len(outputs) not in {2 * count, 3 * count}:
        raise _unknown(outputs)
    anchors = ANCHORS[count]
    groups: dict[str, list[int]] = {name: [] for name in WIDTHS}
    for index, tensor in enumerate(outputs):
        groups[_group(tensor, kind, anchors, outputs)].append(index)
    landmarks = groups["kps"] if len(outputs) == 3 * count else None
    wanted = [groups["score"], groups["bbox"], *([] if landmarks is None else [landmarks])]
    if any(len(group) != count for group in wanted) or (landmarks is None and groups["kps"]):
        raise _unknown(outputs)
    ordered = [_by_stride(group, outputs, kind, STRIDES[count]) for group in wanted]
    return HeadLayout(
        kind, STRIDES[count], anchors, ordered[0], ordered[1], ordered[2] if landmarks is not None else None
    )


def check(
    layout: HeadLayout, outputs: Sequence[NDArray[Any]], input_size: tuple[int, int], images: int | None = None
) -> None:
    """Raise ModelFormatError unless the outputs are floats of the shapes that SCRFD has for this input."""
    if images is None:
        images = outputs[layout.scores[0]].shape[0] if len(outputs) > layout.scores[0] else 1
    wanted = output_shapes(layout, images, input_size)
    if len(outputs) != len(wanted):
        raise ModelFormatError(
            f"the model returned {len(outputs)} outputs, but its layout has {len(wanted)}: this is not a SCRFD model"
        )
    for index, (shape, name) in wanted.items():
        output = outputs[index]
        if output.shape != shape or output.dtype.kind != "f":
            raise ModelFormatError(
                f"{name} has shape {output.shape} and type {output.dtype} for {input_size[0]}×{input_size[1]} pixels, "
                f"but SCRFD with {layout.anchors} anchor(s) per cell has floats {shape}: this is not a SCRFD model"
            )


@lru_cache(maxsize=64)
def output_shapes(
    layout: HeadLayout, images: int, input_size: tuple[int, int]
) -> dict[int, tuple[tuple[int, ...], str]]:
    """Return for each output index its shape for a batch of this size, and its description."""
    width, height = input_size
    groups = [(layout.scores, "score"), (layout.boxes, "bbox"), (layout.landmarks or (), "kps")]
    found: dict[int, tuple[tuple[int, ...], str]] = {}
    for group, name in groups:
        for stride, index in zip(layout.strides, group, strict=False):
            shape: tuple[int, ...] = (layout.rows(stride, input_size), WIDTHS[name])
            if layout.kind == "grid":
                shape = (images, WIDTHS[name] * layout.anchors, -(-height // stride), -(-width // stride))
            elif layout.kind == "batched":
                shape = (images, *shape)
            found[index] = shape, f"{name} of stride {stride}"
    return found


def _kind(outputs: Sequence[TensorSpec]) -> Kind | None:
    ranks = {len(tensor.shape) for tensor in outputs}
    return KINDS.get(ranks.pop()) if len(ranks) == 1 else None


def _group(tensor: TensorSpec, kind: Kind, anchors: int, outputs: Sequence[TensorSpec]) -> str:
    width = tensor.shape[1] if kind == "grid" else tensor.shape[-1]
    for name, values in WIDTHS.items():
        if width == values * (anchors if kind == "grid" else 1):
            return name
    raise _unknown(outputs)


def _by_stride(
    group: list[int], outputs: Sequence[TensorSpec], kind: Kind, strides: tuple[int, ...]
) -> tuple[int, ...]:
    named = [re.search(r"_(\d+)$", outputs[index].name) for index in group]
    numbers = [int(match[1]) if match else 0 for match in named]
    if sorted(numbers) == list(strides):
        return tuple(index for _, index in sorted(zip(numbers, group, strict=True)))
    sizes = [_cells(outputs[index].shape, kind) for index in group]
    if None not in sizes and len(set(sizes)) == len(sizes):
        return tuple(index for _, index in sorted(zip(sizes, group, strict=True), reverse=True))
    return tuple(group)


def _cells(shape: tuple[int | None, ...], kind: Kind) -> int | None:
    if kind != "grid":
        return shape[-2]
    height, width = shape[2:]
    return None if height is None or width is None else height * width


def _unknown(outputs: Sequence[TensorSpec]) -> ModelFormatError:
    return ModelFormatError(
        "this is not a SCRFD model: 6, 9, 10 or 15 outputs are required, score, bbox and kps per stride, all flat "
        "(rows, 1 | 4 | 10), batched (B, rows, …) or grid (B, anchors·…, H, W); its outputs are: " + listing(outputs)
    )
