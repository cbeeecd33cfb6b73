"""Decode the outputs of a model into candidate faces; only rows above the threshold are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._heads import HeadLayout
from scrfd_trt._letterbox import Letterbox


@dataclass(frozen=True)
class Candidates:
    """Faces before NMS, unsorted."""

    boxes: NDArray[np.float32]  # (N, 4) x1, y1, x2, y2 in pixels
    scores: NDArray[np.float32]  # (N,)
    landmarks: NDArray[np.float32] | None  # (N, 5, 2) in pixels

    def __len__(self) -> int:
        return len(self.scores)

    def to_source(self, box: Letterbox) -> Candidates:
        """Map from input pixels to source pixels."""
        points = None if self.landmarks is None else box.to_source(self.landmarks)
        return Candidates(box.to_source(self.boxes), self.scores, points)

    def select(self, rows: NDArray[np.intp]) -> Candidates:
        """Return the given rows, in this order, as new arrays."""
        points = None if self.landmarks is None else self.landmarks[rows]
        return Candidates(self.boxes[rows], self.scores[rows], points)

    def above(self, threshold: float) -> Candidates:
        """Return those with a score of at least ``threshold``."""
        return self.select(rows_above(self.scores, threshold))


def decode(
    layout: HeadLayout, outputs: Sequence[NDArray[Any]], image: int, input_size: tuple[int, int], threshold: float
) -> Candidates:
    """Return the faces of image number ``image`` with a score of at least ``threshold``, in input pixels."""
    # Distances are in strides from the anchor (Guo et al. 2021); negative ones, of very low scores only, count as 0.
    levels = [_above(layout, outputs, level, image, threshold) for level in range(len(layout.strides))]
    rows, scores, distances, *points = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    counts = [len(level[0]) for level in levels]
    strides = np.repeat(np.array(layout.strides, np.float32), counts)[:, None]
    across = np.repeat([-(-input_size[0] // stride) for stride in layout.strides], counts)
    cells = rows // layout.anchors
    centers = np.empty((len(rows), 2), np.float32)
    centers[:, 0], centers[:, 1] = cells % across, cells // across
    centers *= strides
    boxes = np.maximum(distances, 0) * strides
    np.subtract(centers, boxes[:, :2], out=boxes[:, :2])
    boxes[:, 2:] += centers
    if not points:
        return Candidates(boxes, scores, None)
    landmarks = points[0].reshape(-1, 5, 2) * strides[:, None]
    landmarks += centers[:, None]
    return Candidates(boxes, scores, landmarks)


def rows_above(scores: NDArray[Any], threshold: float) -> NDArray[np.intp]:
    """Return the numbers of the scores ``(N,)`` of at least ``threshold``, compared in float32 as on the GPU."""
    # NumPy 1 compares a float16 array with any scalar in float16, which rounds the threshold.
    return np.flatnonzero(scores.astype(np.float32, copy=False) >= np.float32(threshold))


def merge(parts: Sequence[Candidates]) -> Candidates:
    """Concatenate candidates that are in the same pixel coordinates."""
    if len(parts) == 1:
        return parts[0]
    points = [part.landmarks for part in parts if part.landmarks is not None]
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate(points) if points else None,
    )


def _above(
    layout: HeadLayout, outputs: Sequence[NDArray[Any]], level: int, image: int, threshold: float
) -> tuple[NDArray[Any], ...]:
    """Return row numbers, scores, boxes and, if the model has them, landmarks of one stride."""
    scores = layout.read_scores(outputs[layout.scores[level]], image)
    rows = rows_above(scores, threshold)
    boxes = layout.read_rows(outputs[layout.boxes[level]], image, rows)
    found = (rows, scores[rows].astype(np.float32, copy=False), boxes)
    if layout.landmarks is None:
        return found
    return (*found, layout.read_rows(outputs[layout.landmarks[level]], image, rows))
