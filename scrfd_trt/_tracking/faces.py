"""The faces of one frame of a video, with their tracks and where each box comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections

Origin = Literal["detected", "interpolated", "extended"]
"""Found in this frame, put between two sightings, or beyond the first or last."""
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True)
class Face:
    """A face in one frame.

    Attributes
    ----------
    track
        The same number for the same face, from 1.
    box
        ``(4,)`` float, x1, y1, x2, y2 in pixels of the upright frame.
    score
        0 to 1; of the sightings beside it where there is none in this frame.
    landmarks
        ``(5, 2)`` float in pixels, or None.
    origin
        Where the box comes from.
    """

    track: int
    box: NDArray[np.float64]
    score: float
    landmarks: NDArray[np.float64] | None
    origin: Origin


@dataclass(frozen=True)
class FrameFaces:
    """The faces of one frame.

    Attributes
    ----------
    number
        Of the frame, from 0.
    pts_seconds
        In seconds, as the video has it.
    cut
        Whether a new scene begins here.
    faces
        In no order.
    """

    number: int
    pts_seconds: float
    cut: bool = False
    faces: list[Face] = field(default_factory=list)

    def detections(self, size: tuple[int, int]) -> Detections:
        """Return what overlays take.

        Parameters
        ----------
        size
            Width and height of the frame in pixels.
        """
        points = [face.landmarks for face in self.faces]
        return Detections(
            np.array([face.box for face in self.faces], np.float32).reshape(-1, 4),
            [face.score for face in self.faces],
            None if any(each is None for each in points) else np.array(points, np.float32).reshape(-1, 5, 2),
            image_size=size,
            track_ids=np.array([face.track for face in self.faces], np.int64),
            pts_seconds=self.pts_seconds,
        )
