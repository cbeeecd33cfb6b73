"""How fast faces are found: the same image again and again, on the clock."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.cli import messages
from scrfd_trt.detections import Detections
from scrfd_trt.detector import SCRFDDetector


@dataclass(frozen=True)
class Pace:
    """What it took to find the faces of one image several times.

    Attributes
    ----------
    seconds
        Of each ``detector.detect()``; reading and drawing are not in it.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images that were done in a second, over all runs."""
        return len(self.seconds) / sum(self.seconds)

    def __str__(self) -> str:
        runs = len(self.seconds)
        return (
            f"{self.images_per_second:,.1f} images/s, median {self.median * 1000:.3f} ms "
            f"({runs:,} run{'' if runs == 1 else 's'} after one to warm up)"
        )


def find(detector: SCRFDDetector, image: NDArray[np.uint8], repeat: int) -> tuple[Detections, float, Pace | None]:
    """Find the faces of an image.

    Parameters
    ----------
    detector
        Finds them.
    image
        ``(H, W, 3)`` uint8 BGR.
    repeat
        How often to do it again, on the clock.

    Returns
    -------
    tuple
        The faces; the seconds that it took, or the median of doing it again; and the pace, None without repetition.
    """
    faces, seconds = _timed(detector, image)
    if not repeat:
        return faces, seconds, None
    with messages.hushed():
        pace = Pace(tuple(_timed(detector, image)[1] for _ in range(repeat)))
    return faces, pace.median, pace


def _timed(detector: SCRFDDetector, image: NDArray[np.uint8]) -> tuple[Detections, float]:
    start = time.perf_counter()
    faces = detector.detect(image)
    return faces, time.perf_counter() - start
