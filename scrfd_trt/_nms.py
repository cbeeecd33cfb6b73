"""Intersection over union of boxes, and non-maximum suppression."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating[Any])


def pairwise_iou(one: NDArray[Float], other: NDArray[Float]) -> NDArray[Float]:
    """Return ``(N, M)`` intersection over union of boxes ``(N, 4)`` and ``(M, 4)``; 0 for boxes without area."""
    a, b = one.T[:, :, None], other.T[:, None]
    overlap = _overlap(a, b)
    union = _area(a) + _area(b) - overlap
    ratio: NDArray[Float] = np.divide(overlap, union, out=np.zeros_like(union), where=union > 0)
    return ratio


def largest_share(one: NDArray[Float], other: NDArray[Float]) -> tuple[NDArray[Float], NDArray[np.intp]]:
    """Return for each box ``(N, 4)`` the largest share that one of ``(M, 4)`` covers, and which one; 0 if M is 0."""
    if not len(other):
        return np.zeros(len(one), one.dtype), np.zeros(len(one), np.intp)
    a, b = one.T[:, :, None], other.T[:, None]
    share = _overlap(a, b) / np.maximum(_area(a), np.finfo(one.dtype).tiny)
    return share.max(axis=1), share.argmax(axis=1)


def _overlap(a: NDArray[Float], b: NDArray[Float]) -> NDArray[Float]:
    overlap: NDArray[Float] = np.clip(np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]), 0, None)
    overlap *= np.clip(np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]), 0, None)
    return overlap


def _area(columns: NDArray[Float]) -> NDArray[Float]:
    area: NDArray[Float] = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return area


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> NDArray[np.intp]:
    """Return the indices of the boxes that greedy non-maximum suppression keeps.

    Indices are sorted by descending score; rows of equal score keep their order. A box is dropped if its IoU with a
    kept box is above ``iou``, or if it has no area or a score of 0. Infinite boxes are kept and suppress nothing.
    """
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not has_area.all():
        whole = np.flatnonzero(has_area)
        return whole[nms(boxes[whole], scores[whole], iou)]
    if len(boxes) == 0:
        return np.empty(0, np.intp)
    # OpenCV stores doubles; it converts float32 one by one, which is four times slower.
    rectangles = boxes.astype(np.float64)
    rectangles[:, 2:] -= rectangles[:, :2]
    if rectangles.max() == np.inf:
        return _beside_infinite_ones(boxes, scores, iou)
    kept = cv2.dnn.NMSBoxes(rectangles, scores, 0.0, iou)  # type: ignore[call-overload,arg-type,unused-ignore]
    return np.asarray(kept, np.intp).reshape(-1)


def _beside_infinite_ones(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> NDArray[np.intp]:
    is_finite = np.isfinite(boxes).all(axis=1)
    finite, infinite = np.flatnonzero(is_finite), np.flatnonzero(~is_finite & (scores > 0))
    kept = np.sort(np.concatenate([finite[nms(boxes[finite], scores[finite], iou)], infinite]))
    return kept[np.argsort(-scores[kept], kind="stable")]
