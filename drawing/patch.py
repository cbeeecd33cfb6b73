"""A patch of a drawing: premultiplied linear light on a grid in face units, with masks of basic shapes."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.floating[Any]]
"""Values over a patch, ``(H, W)`` or more; float32 where it matters for speed."""

Color = tuple[float, float, float]


class Frame(NamedTuple):
    """Bounds of a patch in face units; y points down."""

    left: float
    top: float
    right: float
    bottom: float


def linear(color: Color) -> Field:
    """Convert an RGB color of 0 to 255 to linear light, BGR, 0 to 1 (gamma 2)."""
    return np.asarray(np.square(np.asarray(color[::-1], np.float32) / np.float32(255.0)))


class Patch:
    """A drawing in progress.

    Parameters
    ----------
    frame
        Bounds in face units: a face is 2 units high and centred at 0, 0.
    scale
        Pixels per unit.

    Attributes
    ----------
    light : numpy.ndarray
        ``(H, W, 3)`` float32, BGR, linear light times alpha.
    alpha : numpy.ndarray
        ``(H, W)`` float32, 0 to 1.
    x, y : numpy.ndarray
        ``(1, W)`` and ``(H, 1)`` float32, the pixel centres in face units.
    """

    def __init__(self, frame: Frame, scale: float) -> None:
        columns = max(1, round((frame.right - frame.left) * scale))
        rows = max(1, round((frame.bottom - frame.top) * scale))
        self.frame, self.scale = frame, float(scale)
        self.rows, self.columns = slice(0, rows), slice(0, columns)
        self.light: Field = np.zeros((rows, columns, 3), np.float32)
        self.alpha: Field = np.zeros((rows, columns), np.float32)
        self.x: Field = (frame.left + (np.arange(columns, dtype=np.float32) + 0.5) / scale).astype(np.float32)[None]
        self.y: Field = (frame.top + (np.arange(rows, dtype=np.float32) + 0.5) / scale).astype(np.float32)[:, None]

    def part(self, values: Field) -> Field:
        """Return the part of values ``(H, W, ...)`` of the parent patch that this window covers."""
        return values[self.rows, self.columns]

    def window(self, left: float, top: float, right: float, bottom: float) -> Patch:
        """Return the part within these bounds, as a patch that shares its pixels."""
        view = object.__new__(Patch)
        height, width = self.alpha.shape
        x1, x2 = (int(np.clip(round((v - self.frame.left) * self.scale), 0, width)) for v in (left, right))
        y1, y2 = (int(np.clip(round((v - self.frame.top) * self.scale), 0, height)) for v in (top, bottom))
        origin_x, origin_y = self.frame.left + x1 / self.scale, self.frame.top + y1 / self.scale
        view.frame = Frame(origin_x, origin_y, self.frame.left + x2 / self.scale, self.frame.top + y2 / self.scale)
        view.scale = self.scale
        view.light, view.alpha = self.light[y1:y2, x1:x2], self.alpha[y1:y2, x1:x2]
        view.x, view.y = self.x[:, x1:x2], self.y[y1:y2]
        view.rows, view.columns = slice(y1, y2), slice(x1, x2)
        return view

    def paint(self, mask: Field, color: ArrayLike) -> None:
        """Paint linear light with the mask as opacity; both broadcast to the patch."""
        over = mask[..., None]
        self.light += over * (np.asarray(color, np.float32) - self.light)
        self.alpha += mask * (1.0 - self.alpha)

    def tint(self, mask: Field, color: ArrayLike) -> None:
        """Paint like :meth:`paint`, limited to what is already painted."""
        self.light += mask[..., None] * (np.asarray(color, np.float32) * self.alpha[..., None] - self.light)

    def shade(self, factor: Field) -> None:
        """Multiply the light by ``(H, W)`` or ``(H, W, 3)``."""
        self.light *= factor if factor.ndim == 3 else factor[..., None]

    def edge(self, distance: Field, softness: float = 0.0) -> Field:
        """Return a mask that is 1 where ``distance`` (in units) is below 0, with an edge of at least one pixel."""
        width = max(softness, 1.2 / self.scale)
        return step(distance, -width / 2, width / 2, falling=True)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, *, turn: float = 0.0, softness: float = 0.0) -> Field:
        """Return the mask of an ellipse, rotated by ``turn`` degrees."""
        c, s = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
        dx, dy = self.x - np.float32(cx), self.y - np.float32(cy)
        radius = np.sqrt(((c * dx + s * dy) / np.float32(rx)) ** 2 + ((c * dy - s * dx) / np.float32(ry)) ** 2)
        return self.edge((radius - 1.0) * np.float32(min(rx, ry)), softness)

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> Field:
        """Return the mask of an upright rectangle."""
        aside = np.maximum(np.float32(left) - self.x, self.x - np.float32(right))
        return self.edge(np.maximum(aside, np.maximum(np.float32(top) - self.y, self.y - np.float32(bottom))))

    def glow(self, cx: float, cy: float, sx: float, sy: float) -> Field:
        """Return a Gaussian hill of height 1."""
        return bell(self.x, cx, sx) * bell(self.y, cy, sy)

    def outline(self, points: ArrayLike, *, softness: float = 0.0) -> Field:
        """Return the mask of a closed smooth curve through ``(N, 2)`` points."""
        height, width = self.alpha.shape
        pixels = (spline(np.asarray(points, np.float64)) - (self.frame.left, self.frame.top)) * self.scale
        (x1, y1), (x2, y2) = np.floor(pixels.min(0)).astype(int), np.ceil(pixels.max(0)).astype(int)
        x1, y1, x2, y2 = (int(v) for v in np.clip((x1, y1, x2, y2), 0, (width, height, width, height)))
        mask = np.zeros((height, width), np.float32)
        if x2 > x1 and y2 > y1:
            large = np.zeros(((y2 - y1) * 4, (x2 - x1) * 4), np.uint8)
            corners = ((pixels - (x1, y1)) * 4.0 - 0.5) * 16.0
            cv2.fillPoly(large, [np.rint(corners).astype(np.int32)], 255, lineType=cv2.LINE_8, shift=4)
            small = cv2.resize(large, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
            mask[y1:y2, x1:x2] = small.astype(np.float32) / np.float32(255.0)
        return soften(mask, max(0.6, softness * self.scale / 2.0))

    def blur(self, values: Field, sigma: float) -> Field:
        """Blur by a Gaussian of ``sigma`` units."""
        return soften(values, sigma * self.scale)

    def noise(self, rng: np.random.Generator, cell_x: float, cell_y: float) -> Field:
        """Return smooth noise of about -1 to 1 with cells of the given width and height in units."""
        height, width = self.alpha.shape
        cells = (
            max(2, round((self.frame.right - self.frame.left) / cell_x)),
            max(2, round((self.frame.bottom - self.frame.top) / cell_y)),
        )
        return grain(rng, cells, (width, height))


def grain(rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]) -> Field:
    """Return smooth noise, -1 to 1, with ``cells`` columns and rows, ``(size[1], size[0])`` float32."""
    values = (rng.random((cells[1], cells[0])) * 2.0 - 1.0).astype(np.float32)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_CUBIC), np.float32)


def soften(values: Field, sigma: float) -> Field:
    """Blur by a Gaussian of ``sigma`` pixels, a wide one on a smaller copy; border values are repeated."""
    if sigma < 0.3:
        return values
    shrink = int(min(sigma / 3.0, *(side / 4.0 for side in values.shape[:2])))
    if shrink < 2:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    size = (values.shape[1], values.shape[0])
    small = cv2.resize(values, (size[0] // shrink, size[1] // shrink), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.float32)


def step(values: Field, low: float, high: float, *, falling: bool = False) -> Field:
    """Return a smooth step from 0 below ``low`` to 1 above ``high``, inverted if ``falling``."""
    t = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    rising = t * t * (3.0 - 2.0 * t)
    return np.asarray(1.0 - rising if falling else rising, np.float32)


def bell(values: Field, middle: float, sigma: float) -> Field:
    """Return a Gaussian of height 1."""
    return np.asarray(np.exp(-0.5 * ((values - np.float32(middle)) / np.float32(sigma)) ** 2), np.float32)


def spline(points: NDArray[np.float64], steps: int = 12) -> NDArray[np.float64]:
    """Return a closed curve through the points (Catmull-Rom), ``steps`` points for each."""
    before, after, beyond = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[:, None] for p in (before, points, after, beyond))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(curve.reshape(-1, 2))
