"""Faces of one video frame, with their tracks and the origin of each box."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections

Origin = Literal["detected", "interpolated", "extended"]
"""Found in this frame, placed between two detections, or placed before the first or after the last detection."""
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True)
class Face:
    """A face in one frame.

    Attributes
    ----------
    track
        Track number, from 1: the same for the same face in all frames.
    box, landmarks
        ``(4,)`` x1, y1, x2, y2 and ``(5, 2)``, in pixels of the upright frame.
    score
        0 to 1; taken from the neighbouring detections if the face was not detected in this frame.
    """

    track: int
    box: NDArray[np.float64]
    score: float
    landmarks: NDArray[np.float64] | None
    origin: Origin


@dataclass(frozen=True)
class FrameFaces:
    """The faces of one frame, in no particular order; frames count from 0, and ``cut`` marks the start of a scene."""

    number: int
    pts_seconds: float
    cut: bool = False
    faces: list[Face] = field(default_factory=list)

    def detections(self, size: tuple[int, int]) -> Detections:
        """Return the faces as the input of overlays; ``size`` is the frame's width and height in pixels."""
        points = [face.landmarks for face in self.faces]
        return Detections(
            np.array([face.box for face in self.faces], np.float32).reshape(-1, 4),
            [face.score for face in self.faces],
            None if any(each is None for each in points) else np.array(points, np.float32).reshape(-1, 5, 2),
            image_size=size,
            track_ids=np.array([face.track for face in self.faces], np.int64),
            pts_seconds=self.pts_seconds,
        )
