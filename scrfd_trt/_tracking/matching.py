"""Pair the faces of a frame with the tracks that they may carry on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


def grown(boxes: Boxes, share: NDArray[np.float64] | float) -> Boxes:
    """Grow boxes by a share of their sides, on each side.

    Parameters
    ----------
    boxes
        ``(N, 4)`` x1, y1, x2, y2.
    share
        One for all, or ``(N,)``.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.reshape(share, (-1, 1))
    return np.concatenate([boxes[:, :2] - sides, boxes[:, 2:] + sides], axis=1)


def pairs(likeness: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Choose the pairs whose likeness is the greatest in sum, each row and column once.

    Parameters
    ----------
    likeness
        ``(N, M)``.
    least
        Pairs below this are none.

    Returns
    -------
    list of tuple
        Row and column of each.
    """
    if not likeness.size:
        return []
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - comes with the extra, and is slow to import

    rows, columns = linear_sum_assignment(np.where(likeness >= least, likeness, 0.0), maximize=True)
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if likeness[r, c] >= least]
