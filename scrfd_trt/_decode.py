"""From a network's heads to candidate faces in input pixels, looking only at rows above the threshold."""

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
    """Faces before NMS, in no order.

    Attributes
    ----------
    boxes
        ``(N, 4)`` float32 x1, y1, x2, y2 in pixels.
    scores
        ``(N,)`` float32.
    landmarks
        ``(N, 5, 2)`` float32 in pixels, or None.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.scores)

    def to_source(self, box: Letterbox) -> Candidates:
        """Map from the network's input to the source image."""
        points = None if self.landmarks is None else box.to_source(self.landmarks)
        return Candidates(box.to_source(self.boxes), self.scores, points)

    def take(self, rows: NDArray[np.intp]) -> Candidates:
        """Return some rows, in the order asked for, as new arrays."""
        points = None if self.landmarks is None else self.landmarks[rows]
        return Candidates(self.boxes[rows], self.scores[rows], points)


def decode(
    layout: HeadLayout, outputs: Sequence[NDArray[Any]], image: int, input_size: tuple[int, int], threshold: float
) -> Candidates:
    """Find the rows of one image above a threshold and turn their distances into boxes and landmarks.

    Parameters
    ----------
    layout
        The network's layout.
    outputs
        Its outputs, in its own order.
    image
        Which image of the batch.
    input_size
        Width and height of the network's input in pixels.
    threshold
        Lowest score, 0 to 1.

    Returns
    -------
    Candidates
        In input pixels.

    Notes
    -----
    An anchor sits at ``(x · stride, y · stride)`` of its cell; ``bbox`` holds the distances to the left, top, right and
    bottom side and ``kps`` five x, y offsets, all in strides (Guo et al. 2021, after FCOS). A distance below zero,
    which only rows of very low score have, counts as zero.
    """
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


def merge(parts: Sequence[Candidates]) -> Candidates:
    """Put candidates of several strides or passes, in the same pixels, one after the other."""
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
    """Return numbers, scores, boxes and, where there are some, landmarks of one stride's rows above the threshold."""
    scores = layout.read_scores(outputs[layout.scores[level]], image)
    rows = np.flatnonzero(scores >= np.float32(threshold))  # not rounded to float16, where scores are
    boxes = layout.read_rows(outputs[layout.boxes[level]], image, rows)
    found = (rows, scores[rows].astype(np.float32, copy=False), boxes)
    if layout.landmarks is None:
        return found
    return (*found, layout.read_rows(outputs[layout.landmarks[level]], image, rows))
