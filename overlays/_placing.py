"""Where pictures go: placements from a picture's pixels to the image's."""

from __future__ import annotations

import math
from typing import NamedTuple

from overlays._raster import Box


class Placement(NamedTuple):
    """An affine map: ``x' = a·x + b·y + x0`` and ``y' = c·x + d·y + y0``.

    From the full picture's pixels to the canvas's, in continuous coordinates.
    """

    a: float
    b: float
    x0: float
    c: float
    d: float
    y0: float

    @property
    def area(self) -> float:
        """How many times as large a patch becomes; negative where it is mirrored, 0 where it becomes a line."""
        return self.a * self.d - self.b * self.c

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Bring a point of the picture onto the canvas."""
        return self.a * x + self.b * y + self.x0, self.c * x + self.d * y + self.y0

    def inverse(self) -> Placement:
        """Return the way back, from the canvas to the picture; the area must not be 0."""
        a, b, c, d = self.d / self.area, -self.b / self.area, -self.c / self.area, self.a / self.area
        return Placement(a, b, -a * self.x0 - b * self.y0, c, d, -c * self.x0 - d * self.y0)

    def box(self, inner: Box) -> Box:
        """Return the box on the canvas around a rectangle of the picture."""
        x, y = self.at(*inner.center)
        across = (abs(self.a) * inner.width + abs(self.b) * inner.height) / 2
        down = (abs(self.c) * inner.width + abs(self.d) * inner.height) / 2
        return Box(x - across, y - down, x + across, y + down)


def turned_about(
    middle: tuple[float, float], to: tuple[float, float], turn: tuple[float, float], size: float
) -> Placement:
    """Turn by an angle (cosine, sine), scale, and bring one point onto another."""
    a, c = size * turn[0], size * turn[1]
    return Placement(a, -c, to[0] - a * middle[0] + c * middle[1], c, a, to[1] - c * middle[0] - a * middle[1])


def over_box(box: Box, turn: tuple[float, float], scale: float, size: tuple[float, float]) -> Placement:
    """Lay a picture of a size (width, height) over a face's box, turned, and large enough to cover it."""
    # How far the ellipse within the box reaches along the turned axes.
    across = math.hypot(box.width * turn[0], box.height * turn[1])
    along = math.hypot(box.width * turn[1], box.height * turn[0])
    return turned_about((size[0] / 2, size[1] / 2), box.center, turn, max(across / size[0], along / size[1]) * scale)
