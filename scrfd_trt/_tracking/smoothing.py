"""Weights of a moving polynomial fit, after Savitzky and Golay (1964), that looks to both sides."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LINE_FROM, CURVE_FROM = 3, 2
"""Samples for a straight line, and samples on either side for a parabola."""


@lru_cache(maxsize=1024)
def weights(before: int, after: int) -> NDArray[np.float64]:
    """Return what each sample of an evenly spaced series weighs in the smoothed value of one of them.

    Parameters
    ----------
    before, after
        How many samples there are to either side of it.

    Returns
    -------
    numpy.ndarray
        ``(before + 1 + after,)``; their sum is 1. A steady motion comes out as it went in, and where there is enough to
        both sides an evenly accelerated one, too.
    """
    count = before + 1 + after
    degree = 2 if min(before, after) >= CURVE_FROM else 1 if count >= LINE_FROM else 0
    steps = np.arange(-before, after + 1, dtype=np.float64)
    if degree == 0:
        found = (steps == 0).astype(np.float64)  # two samples are too few to tell noise from motion
    else:
        found = np.linalg.pinv(np.vander(steps, degree + 1, increasing=True))[0]
    found.flags.writeable = False
    return np.asarray(found)


def slope(values: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slope of the straight line through samples.

    Parameters
    ----------
    values
        ``(N, D)``.
    steps
        ``(N,)``, where they were taken.

    Returns
    -------
    numpy.ndarray
        ``(D,)`` a step; 0 for a single sample.
    """
    away = steps - steps.mean()
    spread = float(away @ away)
    if spread == 0.0:
        return np.zeros(values.shape[1])
    return np.asarray(away @ values / spread)
