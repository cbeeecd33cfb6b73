"""A picture of one's own over each face, fitted by its landmarks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from overlays._base import OverlayModel
from overlays._colors import ChannelOptions
from overlays._masks import eye_turns
from overlays._mixing import MixOptions
from overlays._pictures import Picture, around, lay_over, read_picture
from overlays._placing import Placement, over_box, turned_about
from overlays._raster import Box
from scrfd_trt._crops import similarity
from scrfd_trt._detections import Detections

USUAL: NDArray[np.float64] = np.array([[0.3, 0.36], [0.7, 0.36], [0.5, 0.55], [0.35, 0.74], [0.65, 0.74]])
"""Where the five points lie in a face's box, as shares of its sides: what is meant where nothing else is said."""

LEAST_FIT, MOST_FIT = 0.5, 2.0
"""How far the size by the landmarks may differ from the size by the box; beyond, they make no face."""

Points = NDArray[np.float64]


def _as_numbers(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _ten(value: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if value is not None and len(value) != 10:
        raise ValueError("points are ten numbers, x and y of both eyes, nose and both mouth corners")
    if value is not None and not all(-10.0 <= number <= 10.0 for number in value):
        raise ValueError("points are shares of the picture's sides; numbers from -10 to 10 are wanted")
    return value


Anchors = Annotated[tuple[float, ...] | None, BeforeValidator(_as_numbers), AfterValidator(_ten)]


class Sticker(ChannelOptions, MixOptions, OverlayModel):
    """Lay a picture of one's own over each face: a sticker, glasses, a beard, a mask.

    ``fit`` tells how it is placed. ``box`` covers the face's box with the whole picture, turned by the eyes. The others
    bring points of the picture onto the face's landmarks: ``two`` the eyes, by turning and scaling; ``three`` the eyes
    and the middle of the mouth, by an affine map, which follows a head that looks up or aside; ``five`` all points as
    closely as turning and scaling can. Where these points lie in the picture is told by ``points``.

    Faces of lower score are drawn first, so that the surest lie on top.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    ImageError
        If the picture cannot be read.
    """

    without_landmarks: ClassVar[str] = "The points are taken where they usually lie in an upright face's box."

    picture: Path = Field(description="The picture, best a PNG or WebP with alpha.")
    fit: Literal["box", "two", "three", "five"] = Field(
        "box", description="What places it: the face's box, the two eyes, eyes and mouth, or all five points."
    )
    points: Anchors = Field(
        None,
        description="Where eyes, nose and mouth corners lie in the picture, as ten shares of its sides; left out: as "
        "in a face's box.",
    )
    scale: float = Field(1.0, gt=0.0, le=10.0, description="Makes the picture larger or smaller.")

    _picture: Picture = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        picture = read_picture(self.picture)
        self._picture = picture if self.color == "bgr" else picture.with_red_and_blue_swapped()

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        for place in self._places(detections):
            lay_over(canvas, self._picture, place, self.opacity, self.blending)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around all pictures; see :meth:`overlays.OverlayModel.reach_boxes`."""
        return np.array([around(self._picture, place) for place in self._places(detections)]).reshape(-1, 4)

    def _places(self, detections: Detections) -> Iterator[Placement]:
        turn = eye_turns(detections)
        own = USUAL if self.points is None else np.reshape(self.points, (5, 2))
        own = own * self._picture.size
        for row, corners in reversed(list(enumerate(detections.boxes.astype(np.float64).tolist()))):
            box = Box(*corners)
            if box.width <= 0.0 or box.height <= 0.0:
                continue
            if self.fit == "box":
                yield over_box(box, (float(turn.cos[row]), float(turn.sin[row])), self.scale, self._picture.size)
                continue
            if detections.landmarks is None or turn.scale[row] == 0.0:
                five = USUAL * (box.width, box.height) + (box.x1, box.y1)
            else:
                five = detections.landmarks[row].astype(np.float64)
            yield self._fitted(own, five, box)

    def _fitted(self, own: Points, five: Points, box: Box) -> Placement:
        if self.fit == "three" and (place := _affine(own, five, box)):
            return _grown(place, own.mean(0), self.scale)
        count = 2 if self.fit == "two" else 5
        fit = similarity(own[:count].astype(np.float32), five[:count].astype(np.float32))
        size = math.hypot(fit[0, 0], fit[1, 0])
        turn = (float(fit[0, 0]) / size, float(fit[1, 0]) / size) if size > 0.0 else (1.0, 0.0)
        middle, to = own[:count].mean(0).tolist(), five[:count].mean(0).tolist()
        inside = (min(max(to[0], box.x1), box.x2), min(max(to[1], box.y1), box.y2))
        return turned_about((middle[0], middle[1]), inside, turn, _likely(size, own, box) * self.scale)


def _likely(size: float, own: Points, box: Box) -> float:
    """Keep a scale within what the face's box makes likely."""
    spans = (USUAL[1] - USUAL[0])[0] * box.width, (USUAL[3] - USUAL[0])[1] * box.height
    across, down = float(np.hypot(*(own[1] - own[0]))), float(np.hypot(*((own[3:].sum(0) - own[:2].sum(0)) / 2)))
    by_box = math.hypot(*spans) / max(math.hypot(across, down), 1e-9)
    return min(max(size, LEAST_FIT * by_box), MOST_FIT * by_box)


def _affine(own: Points, five: Points, box: Box) -> Placement | None:
    """Bring both eyes and the middle of the mouth onto a face's; None where they make no face."""
    source = np.column_stack([np.vstack([own[:2], own[3:].mean(0)]), np.ones(3)])
    target = np.vstack([five[:2], five[3:].mean(0)])
    if abs(np.linalg.det(source)) < 1e-9:
        return None
    a, c = np.linalg.solve(source, target).T.tolist()
    place = Placement(*a, *c)
    size = math.sqrt(max(place.area, 0.0))
    return place if size > 0.0 and _likely(size, own, box) == size else None


def _grown(place: Placement, middle: Points, scale: float) -> Placement:
    """Scale a placement about one point of the picture."""
    x, y = place.at(*middle.tolist())
    a, b, c, d = (value * scale for value in (place.a, place.b, place.c, place.d))
    u, v = middle.tolist()
    return Placement(a, b, x - a * u - b * v, c, d, y - c * u - d * v)
