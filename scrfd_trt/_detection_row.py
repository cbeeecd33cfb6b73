"""One face as a plain value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scrfd_trt._option_names import attribute_hint, explained_options, unknown_attribute


class Box(NamedTuple):
    """Upper left and lower right corner in source pixels; the box may extend beyond the image."""

    x1: float
    y1: float
    x2: float
    y2: float


class Point(NamedTuple):
    """A place in source pixels."""

    x: float
    y: float


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
        A named tuple: ``x1``, ``y1``, ``x2`` and ``y2`` in source pixels, x2 ≥ x1 and y2 ≥ y1; the box may extend
        beyond the image.
    score
        0 to 1.
    landmarks
        A named tuple: ``left_eye``, ``right_eye``, ``nose``, ``mouth_left`` and ``mouth_right`` as seen in the image,
        each ``x`` and ``y`` in source pixels; or None.
    track_id
        On video, the number of the face in all frames; or None.
    """

    box: Box
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
        return Point((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)


def _item(row: Any, index: Any) -> Any:
    """Return an item by number; raise KeyError for a name, which is an attribute."""
    if isinstance(index, str):
        hint = f"; use .{index}" if index in row._fields else attribute_hint(type(row), index)
        raise KeyError(f"{type(row).__name__} has no item {index!r}{hint}")
    return tuple.__getitem__(row, index)


if not TYPE_CHECKING:  # type checkers know which attributes and items exist
    for _kind in (Box, Point, Landmarks, Detection):
        _kind.__getattr__, _kind.__getitem__ = unknown_attribute, _item
    Box.__repr__ = Point.__repr__ = tuple.__repr__
