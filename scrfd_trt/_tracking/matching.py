"""Assign the faces of a frame to tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def expand(boxes: Array, share: Array | float) -> Array:
    """Expand boxes ``(..., 4)`` by a share of their sides on each side."""
    margin = (boxes[..., 2:] - boxes[..., :2]) * share
    return np.concatenate([boxes[..., :2] - margin, boxes[..., 2:] + margin], axis=-1)


def assign(similarity: Array, minimum: float) -> list[tuple[int, int]]:
    """Return the pairs of row and column with the largest total similarity; pairs below ``minimum`` are dropped."""
    if not similarity.size:
        return []
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - comes with the extra, and is slow to import

    rows, columns = linear_sum_assignment(np.where(similarity >= minimum, similarity, 0.0), maximize=True)
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if similarity[r, c] >= minimum]
