"""The overlay ``emoji``: drawn faces over real ones."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from overlays._geometry import Placement, drawing_columns, eye_rotations
from overlays._pictures import Picture, PictureOverlay, PlacedPictures, read_picture
from scrfd_trt._detections import Detections

_SCALE = 1.12  # size of a picture relative to the face it covers: its round head just surrounds the box's ellipse

MIN_COVERING_SCALE = 1.5  # from here on, no emoji leaves a part of the box's ellipse with a margin of 0.1 uncovered

KINDS = ("smile", "wink", "cool", "cat", "robot")  # the pictures that kind=each assigns to tracks


@functools.cache
def _picture(kind: str, color: str) -> Picture:
    return read_picture(Path(__file__).parent / "assets" / f"emoji-{kind}.png").in_order(color)


class Emoji(PictureOverlay):
    """Draw an emoji over each face: smile, wink, cool (sunglasses), cat or robot.

    They are rotated by the eyes. ``kind=each`` gives each track of a video its own emoji, which it keeps; faces without
    track ids get the smile.
    """

    without_landmarks: ClassVar[str] = "drawn upright."
    covers: ClassVar[bool] = True

    kind: Literal["each", "smile", "wink", "cool", "cat", "robot"] = Field(
        "each", description="Emoji to draw; each uses a different one per track, and a smile in images."
    )
    scale: float = Field(1.0, gt=0.0, le=10.0, description="Size; 1 covers the face from chin to hairline.")

    def privacy_warnings(self) -> list[str]:
        small = self.scale < MIN_COVERING_SCALE
        edge = (
            f"scale {self.scale:g} leaves the edge of some faces visible; use {MIN_COVERING_SCALE:g} or more to hide it"
        )
        return super().privacy_warnings() + ([edge] if small else [])

    def placements(self, detections: Detections) -> PlacedPictures:
        rows, box = drawing_columns(detections)
        kinds = KINDS if self.kind == "each" else (self.kind,)
        tracks = np.zeros(len(detections), np.int64) if detections.track_ids is None else detections.track_ids
        used, number = np.unique(tracks[rows] % len(kinds), return_inverse=True)
        pictures = [_picture(kinds[each], self.color) for each in used.tolist()]
        sizes = np.array([picture.size for picture in pictures], np.float64).reshape(-1, 2)[number].T
        rotation = eye_rotations(detections).of_faces(rows)
        placed = Placement.cover_box(box, (sizes[0], sizes[1]), rotation, self.scale * _SCALE)
        return PlacedPictures(pictures, number, placed)
