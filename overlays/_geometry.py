"""Boxes, pixel regions, rotations of faces, and affine placements.

Coordinates are continuous: pixel ``i`` covers ``i`` to ``i + 1``; its centre is ``i + 0.5``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import ARCFACE_TEMPLATE
from scrfd_trt._detections import Detections

Image = NDArray[np.uint8]

TYPICAL_LANDMARKS: NDArray[np.float64] = np.array([[0.3, 0.36], [0.7, 0.36], [0.5, 0.55], [0.35, 0.74], [0.65, 0.74]])
"""Typical positions of the five landmarks in a face's box, ``(5, 2)``, as fractions of its sides."""


class Region(NamedTuple):
    """Pixels of an image, at least one: columns ``left`` to ``right - 1``, rows ``top`` to ``bottom - 1``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices that select the region from an image array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Box(NamedTuple):
    """A rectangle in pixels, as Python floats, which do not overflow for huge boxes."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.y2 - self.y1

    @property
    def center(self) -> tuple[float, float]:
        """Centre, x and y in pixels."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def padded(self, x: float, y: float) -> Box:
        """Return the box with its sides moved out by ``x`` and ``y`` pixels."""
        return Box(self.x1 - x, self.y1 - y, self.x2 + x, self.y2 + y)

    def clip(self, width: int, height: int) -> Region | None:
        """Return the pixels of an image that the box touches; None if it has no area or lies outside the image."""
        left, top = math.floor(max(self.x1, 0.0)), math.floor(max(self.y1, 0.0))
        right, bottom = math.ceil(min(self.x2, width)), math.ceil(min(self.y2, height))
        if self.x2 <= self.x1 or self.y2 <= self.y1 or right <= left or bottom <= top:
            return None
        return Region(left, top, right, bottom)


def drawing_order(detections: Detections) -> Iterator[tuple[int, Box]]:
    """Yield row and box of each face whose box has an area, lowest score first, so that the highest lies on top."""
    boxes = face_boxes(detections)
    for row in rows_by_score(detections)[::-1].tolist():
        if boxes[row].width > 0.0 and boxes[row].height > 0.0:
            yield row, boxes[row]


def rows_by_score(detections: Detections) -> NDArray[np.intp]:
    """Return the rows of faces, highest score first."""
    return np.argsort(-detections.scores, kind="stable")


def face_boxes(detections: Detections) -> list[Box]:
    """Return the boxes of all faces."""
    return [Box(*corners) for corners in detections.boxes.astype(np.float64).tolist()]


def drawing_columns(detections: Detections) -> tuple[NDArray[np.intp], Box]:
    """Return the rows and boxes of :func:`drawing_order`, as columns: each side of the box is ``(N,)``."""
    boxes = detections.boxes.astype(np.float64)
    rows = rows_by_score(detections)[::-1]
    rows = rows[(boxes[rows, :2] < boxes[rows, 2:]).all(1)]
    return rows, Box(*boxes[rows].T)


class Rotations(NamedTuple):
    """Rotation and scale of faces against a template, ``(N,)`` each.

    Attributes
    ----------
    cos, sin
        Of the clockwise angle; 1 and 0 if it is unknown.
    scale
        Size relative to the template; 0 if landmarks are missing or coincide.
    """

    cos: NDArray[np.float64]
    sin: NDArray[np.float64]
    scale: NDArray[np.float64]

    def of_faces(self, rows: NDArray[np.intp]) -> tuple[Any, Any]:
        """Return the cosines and the sines of some faces, ``(N,)`` each."""
        return self.cos[rows], self.sin[rows]

    def of_face(self, row: int) -> tuple[float, float]:
        """Return the cosine and the sine of one face."""
        return float(self.cos[row]), float(self.sin[row])


def fit_rotations(
    points: NDArray[np.float32] | None, count: int, template: NDArray[np.float32] = ARCFACE_TEMPLATE
) -> Rotations:
    """Fit a similarity transform (Umeyama, 1991) to each face's ``(N, K, 2)`` points, against a ``(K, 2)`` template."""
    if points is None or count == 0:
        return Rotations(np.ones(count), np.zeros(count), np.zeros(count))
    a = template.astype(np.float64)
    a -= a.mean(0)
    b = points.astype(np.float64)
    b -= b.mean(1, keepdims=True)
    spread = (a * a).sum()
    cosine = (b * a).sum((1, 2)) / spread
    sine = (a[:, 0] * b[:, :, 1] - a[:, 1] * b[:, :, 0]).sum(1) / spread
    scale = np.hypot(cosine, sine)
    safe = np.where(scale > 0.0, scale, 1.0)
    return Rotations(np.where(scale > 0.0, cosine / safe, 1.0), sine / safe, scale)


def eye_rotations(detections: Detections) -> Rotations:
    """Return the rotations of the line between each face's eyes; ``scale`` is its length in pixels."""
    eyes = None if detections.landmarks is None else detections.landmarks[:, :2]
    return fit_rotations(eyes, len(detections), np.array([[0.0, 0.0], [1.0, 0.0]], np.float32))


class Placement(NamedTuple):
    """Affine transform from a picture's pixels to an image's: ``x' = a·x + b·y + x0``, ``y' = c·x + d·y + y0``."""

    a: float
    b: float
    x0: float
    c: float
    d: float
    y0: float

    @classmethod
    def from_rotation(
        cls, anchor: tuple[Any, Any], target: tuple[Any, Any], rotation: tuple[Any, Any], scale: Any
    ) -> Placement:
        """Return the placement that rotates and scales a picture and moves its point ``anchor`` to ``target``.

        Of arrays ``(N,)``, the fields of the result are such arrays, here and in :meth:`cover_box`.

        Parameters
        ----------
        anchor, target
            x and y in the picture and in the image, in pixels.
        rotation
            Cosine and sine of the clockwise angle.
        scale
            Image pixels per picture pixel.
        """
        a, c = scale * rotation[0], scale * rotation[1]
        x0, y0 = target[0] - a * anchor[0] + c * anchor[1], target[1] - c * anchor[0] - a * anchor[1]
        return cls(a, -c, x0, c, a, y0)

    @classmethod
    def cover_box(
        cls, box: Box, size: tuple[Any, Any], rotation: tuple[Any, Any] = (1.0, 0.0), scale: Any = 1.0
    ) -> Placement:
        """Return the placement that centres a picture on a face's box, large enough to cover the face.

        Parameters
        ----------
        size
            Width and height of the picture in pixels.
        rotation
            Cosine and sine of the clockwise angle.
        scale
            Multiplies the size that covers the face.
        """
        # Extent of the ellipse within the box along the rotated axes.
        across = np.hypot(box.width * rotation[0], box.height * rotation[1])
        along = np.hypot(box.width * rotation[1], box.height * rotation[0])
        fitted = np.maximum(across / size[0], along / size[1]) * scale
        return cls.from_rotation((size[0] / 2, size[1] / 2), box.center, rotation, fitted)

    def rows(self) -> list[Placement]:
        """Return single placements from one whose fields are columns ``(N,)``."""
        return [Placement(*row) for row in zip(*(np.asarray(field).tolist() for field in self), strict=True)]

    @property
    def determinant(self) -> Any:
        """Image area per picture area; negative if mirrored, 0 if the picture becomes a line."""
        return self.a * self.d - self.b * self.c

    def apply(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return the image point of a picture point."""
        return self.a * x + self.b * y + self.x0, self.c * x + self.d * y + self.y0

    def inverse(self) -> Placement:
        """Return the transform from the image to the picture; ``determinant`` must not be 0."""
        scale = self.determinant
        a, b, c, d = self.d / scale, -self.b / scale, -self.c / scale, self.a / scale
        return Placement(a, b, -a * self.x0 - b * self.y0, c, d, -c * self.x0 - d * self.y0)

    def map_box(self, box: Box) -> Box:
        """Return the upright box in the image around a box of the picture."""
        x, y = self.apply(*box.center)
        across = (abs(self.a) * box.width + abs(self.b) * box.height) / 2
        down = (abs(self.c) * box.width + abs(self.d) * box.height) / 2
        return Box(x - across, y - down, x + across, y + down)
