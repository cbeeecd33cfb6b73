"""How faces are turned and sized, for many at once: similarities by landmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.crops import ARCFACE_TEMPLATE
from scrfd_trt.detections import Detections

Floats = NDArray[np.float64]


class Turns(NamedTuple):
    """Rotation and scale of faces against a template, each ``(N,)`` float64.

    Attributes
    ----------
    cos, sin : numpy.ndarray
        Of the angle, clockwise as seen in the image; 1 and 0 where there is none.
    scale : numpy.ndarray
        How many times as large as the template; 0 where landmarks are missing or coincide.
    """

    cos: Floats
    sin: Floats
    scale: Floats


def turns(points: NDArray[np.float32] | None, count: int, template: NDArray[np.float32] = ARCFACE_TEMPLATE) -> Turns:
    """Find how each face is turned: the similarity with the least squared error (Umeyama, 1991), without its shift.

    Parameters
    ----------
    points
        ``(N, K, 2)`` landmarks in pixels, or None.
    count
        N.
    template
        ``(K, 2)`` where they lie in an upright face.
    """
    if points is None or count == 0:
        return Turns(np.ones(count), np.zeros(count), np.zeros(count))
    a = template.astype(np.float64)
    a -= a.mean(0)
    b = points.astype(np.float64)
    b -= b.mean(1, keepdims=True)
    spread = (a * a).sum()
    cosine = (b * a).sum((1, 2)) / spread
    sine = (a[:, 0] * b[:, :, 1] - a[:, 1] * b[:, :, 0]).sum(1) / spread
    scale = np.hypot(cosine, sine)
    safe = np.where(scale > 0.0, scale, 1.0)
    return Turns(np.where(scale > 0.0, cosine / safe, 1.0), sine / safe, scale)


def eye_turns(detections: Detections) -> Turns:
    """Find how the line between each face's eyes is turned; the scale is its length in pixels."""
    points, count = detections.landmarks, len(detections)
    eyes = None if points is None else points[:, :2]
    return turns(eyes, count, np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))
