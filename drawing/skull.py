"""Picture of the overlay ``skull``: curves, relief and light.

Outlines are smooth curves through a few points of the right half, given as (distance from the middle, y), and mirrored.
They are filled at four times the size and shrunk, which smooths the edges. The bone's relief is a height field: the
outline is inflated, then bumps and hollows are added; light from the upper left on its slopes gives the shading.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 512, 640
"""Size of the picture in pixels."""

Floats = NDArray[np.float32]
Points = Sequence[tuple[float, float]]

_MIDDLE = WIDTH / 2
_FINE = 4
_LIGHTS = ((1.0, (-0.44, -0.58, 0.68)), (0.22, (0.66, 0.42, 0.62)))
"""Strength and direction (right, down, towards the viewer) of the main light and of the fill light."""

_OUTLINE: Points = (
    (0, 10), (56, 14), (112, 30), (162, 64), (198, 114), (214, 170), (214, 224), (203, 270), (196, 300), (200, 330),
    (207, 362), (202, 390), (184, 416), (164, 440), (156, 478), (150, 520), (136, 560), (110, 592), (78, 614),
    (40, 627), (0, 628),
)  # fmt: skip
_SOCKET: Points = (
    (40, 276), (52, 258), (84, 247), (124, 254), (146, 284), (141, 326), (112, 352), (70, 347), (40, 322), (33, 298),
)  # fmt: skip
_NOSE: Points = ((0, 344), (12, 356), (22, 382), (33, 414), (31, 432), (17, 436), (6, 426), (0, 422))
_SEPTUM: Points = ((0, 362), (5, 392), (6, 426), (0, 430))
_MOUTH: Points = ((0, 492), (60, 486), (98, 470), (116, 464), (118, 486), (104, 508), (60, 526), (0, 530))


class _Relief(NamedTuple):
    """A bump (positive) or hollow on both halves: a curve of some width, softened; all in pixels."""

    height: float
    softness: float
    width: int
    points: Points


_RELIEFS = (
    _Relief(20, 8, 18, ((16, 268), (50, 240), (100, 228), (148, 246), (170, 290))),  # brow
    _Relief(22, 9, 24, ((166, 300), (178, 344), (150, 376), (112, 392))),  # cheekbone
    _Relief(14, 5, 14, ((0, 284), (0, 338))),  # nasal bone
    _Relief(13, 5, 8, ((18, 346), (36, 388), (45, 424), (34, 450), (0, 452))),  # rim of the nose
    _Relief(24, 20, 70, ((0, 470), (56, 466), (84, 452))),  # upper jaw
    _Relief(24, 18, 50, ((0, 556), (60, 552), (96, 536))),  # lower jaw
    _Relief(30, 11, 26, ((0, 600), (26, 600), (48, 592))),  # chin
    _Relief(20, 10, 18, ((146, 460), (140, 530), (112, 580))),  # branch of the jaw
    _Relief(-40, 14, 28, ((204, 216), (194, 252), (190, 286))),  # temple
    _Relief(-64, 11, 26, ((150, 418), (126, 446), (126, 494), (120, 520))),  # hollow of the cheek
    _Relief(-18, 9, 18, ((66, 396), (74, 428))),  # under the socket
    _Relief(-10, 8, 12, ((22, 250), (60, 222), (110, 210))),  # above the brow
    _Relief(-16, 9, 20, ((0, 576), (50, 574))),  # above the chin
)
_UPPER_TEETH = (25.0, 20.0, 21.0, 17.0, 14.0, 10.0)
_LOWER_TEETH = (17.0, 18.0, 19.0, 17.0, 14.0, 10.0)
_CRACKS: tuple[Points, ...] = (
    ((-150, 92), (-128, 112), (-132, 130), (-104, 150), (-108, 172), (-92, 190), (-96, 210)),
    ((-132, 130), (-150, 142), (-148, 158)),
    ((-104, 150), (-86, 152), (-74, 164)),
    ((66, 22), (60, 42), (72, 58), (64, 78), (74, 92)),
    ((112, 596), (104, 580), (108, 568)),
)


def _curve(points: Points, closed: bool = True, steps: int = 12) -> Floats:
    """Draw a smooth curve (Catmull and Rom, 1974) through points; (N, 2)."""
    p = np.asarray(points, np.float32)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([curve.reshape(-1, 2), p[-2:-1]]).astype(np.float32)


def _mirrored(half: Points) -> Points:
    """Return the closed outline of a right half whose ends lie on the axis."""
    left = [(-x, y) for x, y in reversed(half) if x > 0]
    return [*half, *left]


def _both(shape: Floats) -> list[Floats]:
    return [shape, shape * np.array([-1, 1], np.float32)]


def _pixels(shape: Floats, zoom: float) -> NDArray[np.int32]:
    """Convert (distance from the axis, y) to cv2's fixed-point pixels, with 4 bits of fraction."""
    at = (shape + np.array([_MIDDLE, 0], np.float32)) * zoom - 0.5
    return np.round(at * 16).astype(np.int32)


def _filled(shapes: Sequence[Floats]) -> Floats:
    """Fill closed shapes; (HEIGHT, WIDTH) from 0 to 1 with smooth edges."""
    fine = np.zeros((HEIGHT * _FINE, WIDTH * _FINE), np.uint8)
    for shape in shapes:
        cv2.fillPoly(fine, [_pixels(shape, _FINE)], 255, cv2.LINE_8, 4)
    small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def _stroked(lines: Sequence[Floats], width: int) -> Floats:
    """Draw open lines of a width in quarter pixels; (HEIGHT, WIDTH) from 0 to 1."""
    fine = np.zeros((HEIGHT * _FINE, WIDTH * _FINE), np.uint8)
    cv2.polylines(fine, [_pixels(line, _FINE) for line in lines], False, 255, width, cv2.LINE_8, 4)
    small = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small / 255, np.float32)


def _soft(mask: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)


def _inflated(mask: Floats, rounds: int = 160) -> Floats:
    """Inflate a flat shape: the root of the solution of Poisson's equation, from coarse to fine grids; 0 to 1."""
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    height = np.zeros((1, 1), np.float32)
    for grid in (32, 16, 8, 4):
        size = (WIDTH // grid, HEIGHT // grid)
        inside = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32)
        height = np.asarray(cv2.resize(height, size, interpolation=cv2.INTER_LINEAR), np.float32)
        for _ in range(rounds):
            height = (cv2.filter2D(height, -1, cross, borderType=cv2.BORDER_CONSTANT) + grid * grid) * inside
    full = cv2.resize(np.sqrt(height / height.max()), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return _soft(np.asarray(full, np.float32), 4)


def _teeth() -> tuple[list[Floats], list[Floats]]:
    """Return the teeth's outlines and the ridges of their roots, both halves."""
    teeth, roots = [], []
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    # A superellipse: a rectangle with round corners.
    x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.45
    y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.45
    for widths, edge, down in ((_UPPER_TEETH, 509.0, -1), (_LOWER_TEETH, 511.0, 1)):
        left = 0.0
        for number, width in enumerate(widths):
            middle = left + width / 2
            rise = (middle / 110) ** 2 * 20
            tall = (38, 34, 38, 33, 29, 25)[number] * (1.0 if down < 0 else 0.9)
            narrow = 1 - 0.12 * (y * down + 1) / 2
            tooth = np.stack([middle + x * narrow * (width / 2 - 0.9), edge - rise + (down + y) * tall / 2], 1)
            teeth += _both(tooth.astype(np.float32))
            top = edge - rise + down * tall
            line = np.array([[middle, top], [middle * 0.97, top + down * tall * 0.9]], np.float32)
            roots += _both(line)
            left += width
    return teeth, roots


def _height(outline: Floats, sockets: Floats, nose: Floats, teeth: Floats, roots: Sequence[Floats]) -> Floats:
    """Build the relief in pixels."""
    height = 190 * _inflated(outline)
    for relief in _RELIEFS:
        lines = _both(_curve(relief.points, closed=False))
        height += relief.height * _soft(_stroked(lines, relief.width * _FINE), relief.softness)
    height += 5 * _soft(_stroked(roots, 9 * _FINE), 4)
    height += 9 * _soft(teeth, 2.2) + 5 * _soft(teeth, 5)
    height -= 46 * _soft(sockets, 9) + 30 * _soft(nose, 5)
    return height


def _lit(height: Floats) -> Floats:
    """Shade a relief: diffuse light, dimmed in hollows; about 0 to 1."""
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    upright = 1 / np.sqrt(1 + dx * dx + dy * dy)
    total = np.zeros_like(height)
    for strength, (right, down, near) in _LIGHTS:
        facing = (near - right * dx - down * dy) * upright / np.hypot(right, np.hypot(down, near))
        total += strength * np.clip((facing + 0.4) / 1.4, 0, 1) ** 1.25
    depth = np.clip(_soft(height, 14) - height, 0, 40)
    return np.asarray(total * np.exp(-depth / 20), np.float32)


def _grain() -> Floats:
    """Return the texture of bone, about -1 to 1."""
    noise = np.random.default_rng(7).random((HEIGHT, WIDTH), np.float32) - 0.5
    coarse, fine = _soft(noise, 9), _soft(noise, 1.4)
    return np.asarray(coarse / np.abs(coarse).max() + 0.5 * fine / np.abs(fine).max(), np.float32)


_TONES = np.array(  # brightness, then blue, green, red
    [
        [0.00, 14, 18, 26],
        [0.18, 34, 50, 68],
        [0.40, 88, 118, 142],
        [0.62, 150, 182, 202],
        [0.82, 203, 226, 238],
        [1.00, 240, 250, 254],
    ],
    np.float32,
)


def _toned(brightness: Floats) -> Floats:
    """Convert brightness to colours, (HEIGHT, WIDTH, 3) blue, green, red from 0 to 255."""
    flat = np.clip(brightness, 0, 1).ravel()
    channels = [np.interp(flat, _TONES[:, 0], _TONES[:, channel]) for channel in (1, 2, 3)]
    return np.stack(channels, 1).reshape(HEIGHT, WIDTH, 3).astype(np.float32)


@functools.cache
def draw() -> NDArray[np.uint8]:
    """Draw the skull.

    Returns
    -------
    numpy.ndarray
        ``(640, 512, 4)`` uint8, blue, green, red, alpha (not premultiplied), read-only. The first call takes about a
        fifth of a second; later ones return the same array.
    """
    outline = _filled([_curve(_mirrored(_OUTLINE))])
    sockets = _filled(_both(_curve(_SOCKET)))
    nose = _filled([_curve(_mirrored(_NOSE))])
    mouth = _filled([_curve(_mirrored(_MOUTH))])
    tooth_shapes, roots = _teeth()
    teeth = _filled(tooth_shapes)
    cracks = _stroked([_curve(line, closed=False, steps=2) for line in _CRACKS], 6)

    height = _height(outline, sockets, nose, teeth, roots)
    bright = _lit(height) * 0.80 + 0.01 + 0.03 * _grain()
    rim = np.clip(_soft(outline, 7) * 2 - 1, 0, 1) ** 0.5
    bright *= 0.45 + 0.55 * rim
    bright += 0.10 * teeth
    bright *= 1 - 0.92 * mouth * (1 - teeth)
    bright *= 1 - 0.6 * cracks
    bright += 0.12 * np.roll(cracks, (2, 2), (0, 1))
    fall = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    inner = _soft(sockets, 5) * sockets
    bright *= 1 - inner * (1.0 - 0.2 * np.clip((fall - 0.47) * 12, 0, 1))
    septum = _filled([_curve(_mirrored(_SEPTUM))])
    bright *= 1 - _soft(nose, 2.5) * nose * (0.97 - 0.25 * _soft(septum, 2))
    picture = np.empty((HEIGHT, WIDTH, 4), np.uint8)
    picture[..., :3] = np.round(_toned(bright))
    picture[..., 3] = np.round(outline * 255)
    picture.setflags(write=False)
    return picture
