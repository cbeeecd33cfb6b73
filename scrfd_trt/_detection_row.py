"""One face as a plain value."""

from __future__ import annotations

from typing import NamedTuple

from scrfd_trt._option_names import explained_options, unknown_attribute

Point = tuple[float, float]


class Landmarks(NamedTuple):
    """The five landmarks of a face, each x and y in source pixels; left and right as seen in the image."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


@explained_options
class Detection(NamedTuple):
    """One face: a row of ``Detections``, as plain numbers. It is not validated; ``Detections.from_rows`` does that.

    Attributes
    ----------
    box
        x1, y1, x2, y2 in source pixels, x2 ≥ x1 and y2 ≥ y1; the box may extend beyond the image.
    score
        0 to 1.
    landmarks
        A named tuple: ``left_eye``, ``right_eye``, ``nose``, ``mouth_left`` and ``mouth_right`` as seen in the image,
        each x and y in source pixels; or None.
    track_id
        On video, the number of the face in all frames; or None.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Landmarks | None = None
    track_id: int | None = None

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return self.box[3] - self.box[1]

    @property
    def center(self) -> Point:
        """Center of the box, x and y in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


Detection.__getattr__ = unknown_attribute  # type: ignore[attr-defined]  # type checkers know which attributes exist
