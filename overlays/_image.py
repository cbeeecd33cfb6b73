"""The overlay ``image``: the user's own picture over each face, fitted to its landmarks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from overlays._geometry import TYPICAL_LANDMARKS, Box, Placement, drawing_columns, drawing_order, eye_rotations
from overlays._pictures import Picture, PictureOverlay, PlacedPictures, read_picture
from scrfd_trt._crops import similarity
from scrfd_trt._detections import Detections

MIN_FIT, MAX_FIT = 0.5, 2.0  # size by the landmarks over size by the box; outside, the landmarks form no face

COVERED = 1.18
"""Size of the ellipse that has to be opaque to hide a face, relative to its box: 1.2 without the soft edge."""

Points = NDArray[np.float64]


def _as_numbers(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _check_points(value: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if value is not None and len(value) != 10:
        raise ValueError(f"points are ten numbers, x and y of both eyes, nose and both mouth corners, not {len(value)}")
    if value is not None and not all(-10.0 <= number <= 10.0 for number in value):
        raise ValueError("points are fractions of the picture's sides and must be between -10 and 10")
    return value


PicturePoints = Annotated[tuple[float, ...] | None, BeforeValidator(_as_numbers), AfterValidator(_check_points)]


class Sticker(PictureOverlay):
    """Draw your own picture over each face: a sticker, glasses, a beard, a mask.

    ``fit`` selects the placement. ``box`` covers the face's box with the whole picture, rotated by the eyes. The others
    move points of the picture to the face's landmarks: ``two`` the eyes, by rotation and scale; ``three`` the eyes and
    the centre of the mouth, by an affine transform, which follows a head that looks up or aside; ``five`` all points,
    as closely as rotation and scale allow. ``points`` gives the positions of these points in the picture.

    Faces are drawn in ascending order of score, so that the highest lies on top. A picture that cannot be read raises
    ``ImageError``.
    """

    without_landmarks: ClassVar[str] = "placed as on an upright face."
    covers: ClassVar[bool] = True

    picture: Path = Field(description="Picture file, preferably a PNG or WebP with alpha.")
    fit: Literal["box", "two", "three", "five"] = Field(
        "box", description="What the picture is aligned to: face box, both eyes, eyes and mouth, or all five landmarks."
    )
    points: PicturePoints = Field(
        None,
        description="x and y of eyes, nose, mouth corners as fractions of the picture; default: as in a face's box.",
    )
    scale: float = Field(1.0, gt=0.0, le=10.0, description="Size relative to the fitted size; 1 fits.")

    _picture: Picture = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._picture = read_picture(self.picture).in_order(self.color)

    def privacy_warnings(self) -> list[str]:
        found = super().privacy_warnings()
        if self.fit != "box":
            found.append(f"fit {self.fit} may leave parts of the face visible; use box to hide it")
        elif self.scale < 1.0:
            found.append(f"scale {self.scale:g} leaves part of the face visible; use 1 or more to hide it")
        elif not self._picture.is_opaque_within(COVERED / self.scale):
            found.append(f"{self.picture} is transparent where faces stay visible; use an opaque picture to hide them")
        return found

    def placements(self, detections: Detections) -> Iterable[tuple[Picture, Placement]]:
        picture, rotations = self._picture, eye_rotations(detections)
        if self.fit == "box":
            rows, boxes = drawing_columns(detections)
            placed = Placement.cover_box(boxes, picture.size, rotations.of_faces(rows), self.scale)
            return PlacedPictures([picture], np.zeros(len(rows), np.intp), placed)
        points = TYPICAL_LANDMARKS if self.points is None else np.reshape(self.points, (5, 2))
        points, found = points * picture.size, []
        for row, box in drawing_order(detections):
            if detections.landmarks is None or rotations.scale[row] == 0.0:
                landmarks = TYPICAL_LANDMARKS * (box.width, box.height) + (box.x1, box.y1)
            else:
                landmarks = detections.landmarks[row].astype(np.float64)
            found.append((picture, self._fit(points, landmarks, box)))
        return found

    def _fit(self, points: Points, landmarks: Points, box: Box) -> Placement:
        """Fit the picture's points to the landmarks, both ``(5, 2)``."""
        if self.fit == "three" and (placement := _fit_affine(points, landmarks, box)):
            return _scaled_about(placement, points.mean(0), self.scale)
        count = 2 if self.fit == "two" else 5
        fit = similarity(points[:count].astype(np.float32), landmarks[:count].astype(np.float32))
        size = math.hypot(fit[0, 0], fit[1, 0])
        rotation = (float(fit[0, 0]) / size, float(fit[1, 0]) / size) if size > 0.0 else (1.0, 0.0)
        anchor, target = points[:count].mean(0).tolist(), landmarks[:count].mean(0).tolist()
        inside = (min(max(target[0], box.x1), box.x2), min(max(target[1], box.y1), box.y2))
        scale = _clamp_size(size, points, box) * self.scale
        return Placement.from_rotation((anchor[0], anchor[1]), inside, rotation, scale)


def _clamp_size(size: float, points: Points, box: Box) -> float:
    """Limit a scale by the size of the face's box."""
    spans = (
        (TYPICAL_LANDMARKS[1] - TYPICAL_LANDMARKS[0])[0] * box.width,
        (TYPICAL_LANDMARKS[3] - TYPICAL_LANDMARKS[0])[1] * box.height,
    )
    across = float(np.hypot(*(points[1] - points[0])))
    down = float(np.hypot(*((points[3:].sum(0) - points[:2].sum(0)) / 2)))
    by_box = math.hypot(*spans) / max(math.hypot(across, down), 1e-9)
    return min(max(size, MIN_FIT * by_box), MAX_FIT * by_box)


def _fit_affine(points: Points, landmarks: Points, box: Box) -> Placement | None:
    """Move both eyes and the centre of the mouth to the face's; None if they do not form a face."""
    source = np.column_stack([np.vstack([points[:2], points[3:].mean(0)]), np.ones(3)])
    target = np.vstack([landmarks[:2], landmarks[3:].mean(0)])
    if abs(np.linalg.det(source)) < 1e-9:
        return None
    x, y = np.linalg.solve(source, target).T.tolist()
    placement = Placement(*x, *y)
    size = math.sqrt(max(placement.determinant, 0.0))
    return placement if size > 0.0 and _clamp_size(size, points, box) == size else None


def _scaled_about(placement: Placement, point: Points, scale: float) -> Placement:
    """Scale a placement about one point of the picture."""
    u, v = point.tolist()
    x, y = placement.apply(u, v)
    a, b, c, d = (value * scale for value in (placement.a, placement.b, placement.c, placement.d))
    return Placement(a, b, x - a * u - b * v, c, d, y - c * u - d * v)
