"""Pictures of the overlay ``emoji``, drawn at four times their size and shrunk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 320
"""Width and height of a picture in pixels; the face is centred."""

Color = tuple[int, int, int]
Point = tuple[float, float]

_FINE = 4
_INK: Color = (34, 42, 66)
_WHITE: Color = (255, 255, 255)
_YELLOW: Color = (60, 200, 255)
_RED: Color = (66, 60, 222)


class _Canvas:
    """Colours and alpha at four times the size; coordinates run from -1 to 1, y down."""

    def __init__(self) -> None:
        side = SIDE * _FINE
        self.color = np.empty((side, side, 3), np.uint8)
        self.color[...] = _INK
        self.alpha = np.zeros((side, side), np.uint8)

    def shape(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        at = [self._pixels(points)]
        cv2.fillPoly(self.color, at, color, cv2.LINE_8, 4)
        cv2.fillPoly(self.alpha, at, 255, cv2.LINE_8, 4)

    def disc(self, middle: Point, radii: Point, color: Color, span: tuple[float, float] = (0.0, 360.0)) -> None:
        """Fill an ellipse, or the part of it between two angles in degrees, clockwise from the right."""
        turn = np.deg2rad(np.linspace(*span, 181))
        rim = np.column_stack([middle[0] + radii[0] * np.cos(turn), middle[1] + radii[1] * np.sin(turn)])
        self.shape([(float(x), float(y)) for x, y in rim], color)

    def line(self, points: Sequence[Point], width: float, color: Color = _INK) -> None:
        """Draw an open line with round ends."""
        at, stroke = [self._pixels(points)], max(1, round(width * SIDE * _FINE / 2))
        cv2.polylines(self.color, at, False, color, stroke, cv2.LINE_8, 4)
        cv2.polylines(self.alpha, at, False, 255, stroke, cv2.LINE_8, 4)

    def arc(self, middle: Point, radii: Point, span: tuple[float, float], width: float) -> None:
        """Draw a part of an ellipse as a line."""
        turn = np.deg2rad(np.linspace(*span, 61))
        self.line([(middle[0] + radii[0] * np.cos(t), middle[1] + radii[1] * np.sin(t)) for t in turn], width)

    def ball(self, radii: Point, color: Color) -> None:
        """Fill a round head with a dark edge and light from the upper left."""
        self.disc((0, 0), radii, tuple(round(level * 0.72) for level in color))  # type: ignore[arg-type]
        self.disc((0, 0), (radii[0] - 0.035, radii[1] - 0.035), color)
        light = np.zeros_like(self.alpha)
        cv2.ellipse(light, (self._pixels([(-0.25, -0.35)])[0] // 16).tolist(), (SIDE, SIDE), 0, 0, 360, 110, -1)
        light = np.minimum(cv2.blur(cv2.blur(light, (601, 601)), (601, 601)), self.alpha)
        self.color += (light[..., None] / 255.0 * (255 - self.color) * 0.9).astype(np.uint8)

    def shrunk(self) -> NDArray[np.uint8]:
        """Shrink to the final size; ``(SIDE, SIDE, 4)``, read-only."""
        color = cv2.resize(self.color, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        out = np.dstack([color, alpha]).astype(np.uint8)
        out.setflags(write=False)
        return out

    @staticmethod
    def _pixels(points: Sequence[Point]) -> NDArray[np.int32]:
        at = (np.asarray(points, np.float64) + 1.0) * (SIDE * _FINE / 2) - 0.5
        return np.round(at * 16).astype(np.int32)


def _smile(paper: _Canvas) -> None:
    paper.ball((0.95, 0.95), _YELLOW)
    for side in (-1, 1):
        paper.disc((0.34 * side, -0.22), (0.11, 0.17), _INK)
        paper.disc((0.34 * side - 0.035, -0.29), (0.035, 0.05), _WHITE)
    paper.disc((0, 0.18), (0.56, 0.5), _INK, (0, 180))
    paper.disc((0, 0.21), (0.46, 0.12), _WHITE, (0, 180))
    paper.disc((0, 0.56), (0.28, 0.1), _RED)


def _wink(paper: _Canvas) -> None:
    paper.ball((0.95, 0.95), _YELLOW)
    paper.disc((-0.34, -0.22), (0.11, 0.17), _INK)
    paper.disc((-0.375, -0.29), (0.035, 0.05), _WHITE)
    paper.arc((0.34, -0.14), (0.17, 0.14), (190, 350), 0.08)
    paper.arc((0, 0.1), (0.5, 0.42), (15, 165), 0.09)
    paper.disc((0.3, 0.56), (0.13, 0.19), _RED)


def _cool(paper: _Canvas) -> None:
    paper.ball((0.95, 0.95), _YELLOW)
    for side in (-1, 1):
        rim = [(0.04, -0.36), (0.74, -0.36), (0.7, -0.08), (0.56, 0.06), (0.26, 0.06), (0.12, -0.06)]
        paper.shape([(side * x, y) for x, y in rim], _INK)
    paper.line([(-0.84, -0.34), (0.84, -0.34)], 0.08)
    for x in (-0.5, 0.28):
        paper.line([(x, -0.22), (x + 0.16, -0.02)], 0.04, (190, 170, 150))
    paper.arc((0, 0.2), (0.42, 0.34), (20, 160), 0.09)


def _cat(paper: _Canvas) -> None:
    fur: Color = (92, 150, 232)
    for side in (-1, 1):
        paper.shape([(side * 0.9, -0.92), (side * 0.86, -0.1), (side * 0.2, -0.62)], (66, 108, 168))
        paper.shape([(side * 0.8, -0.74), (side * 0.76, -0.3), (side * 0.42, -0.56)], (160, 170, 245))
    paper.ball((0.93, 0.82), fur)
    for side in (-1, 1):
        paper.disc((0.36 * side, -0.16), (0.15, 0.19), (120, 220, 150))
        paper.disc((0.36 * side, -0.16), (0.05, 0.17), _INK)
        paper.arc((0.13 * side, 0.3), (0.14, 0.14), (10, 170), 0.05)
        for tilt in (-0.1, 0.02, 0.14):
            paper.line([(0.36 * side, 0.26 + tilt / 2), (0.82 * side, 0.2 + tilt)], 0.025)
    paper.shape([(-0.11, 0.12), (0.11, 0.12), (0, 0.26)], (130, 110, 240))


def _robot(paper: _Canvas) -> None:
    steel: Color = (196, 178, 160)
    paper.line([(0, -0.78), (0, -0.93)], 0.06, (120, 104, 90))
    paper.disc((0, -0.9), (0.09, 0.09), _RED)
    for side in (-1, 1):
        paper.disc((0.86 * side, 0.05), (0.12, 0.22), (120, 104, 90))
    rim = [(-0.84, -0.62), (-0.68, -0.78), (0.68, -0.78), (0.84, -0.62), (0.84, 0.72), (0.68, 0.88), (-0.68, 0.88)]
    paper.shape([*rim, (-0.84, 0.72)], (140, 122, 106))
    paper.shape([(x * 0.95, y * 0.95) for x, y in [*rim, (-0.84, 0.72)]], steel)
    for side in (-1, 1):
        paper.disc((0.36 * side, -0.2), (0.22, 0.22), _INK)
        paper.disc((0.36 * side, -0.2), (0.15, 0.15), (250, 220, 90))
        paper.disc((0.36 * side - 0.05, -0.26), (0.05, 0.05), _WHITE)
    paper.shape([(-0.5, 0.28), (0.5, 0.28), (0.5, 0.6), (-0.5, 0.6)], _INK)
    for x in (-0.42, -0.21, 0.0, 0.21):
        paper.shape([(x, 0.34), (x + 0.16, 0.34), (x + 0.16, 0.54), (x, 0.54)], _WHITE)


_DRAWN: dict[str, Callable[[_Canvas], None]] = {
    "smile": _smile, "wink": _wink, "cool": _cool, "cat": _cat, "robot": _robot
}  # fmt: skip

KINDS = tuple(_DRAWN)
"""Names of the pictures."""


@functools.cache
def draw(kind: str) -> NDArray[np.uint8]:
    """Draw one of ``KINDS``: ``(SIDE, SIDE, 4)`` uint8 blue, green, red, alpha; read-only."""
    paper = _Canvas()
    _DRAWN[kind](paper)
    return paper.shrunk()
