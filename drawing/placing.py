"""Put a drawn person into an image, smoothly at any place, size and angle."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.figure import LEVELS, REACHES, TILT, Layer, layers
from drawing.head import Head
from drawing.looks import Look
from scrfd_trt import Detection, ImageError, OptionError

Point = tuple[float, float]
LARGEST = 16000
"""Sides of a canvas: OpenCV warps to at most 32767 pixels, and twice as many are drawn as are needed."""

NECK = np.array([0.0, 0.95])
"""The point, in face units, around which the head leans on the body."""

SUNK = np.array([0.0, 0.12])
"""By how much the body, which is drawn upright below the head, is moved up: it makes the neck shorter."""


def draw_face(
    canvas: NDArray[np.uint8],
    center: Point,
    size: float,
    *,
    angle: float = 0.0,
    look: Look | int = 0,
    body: bool = True,
) -> Detection:
    """Draw a person into an image.

    Place, size and angle are followed to a fraction of a pixel, so that a face that is drawn again and again a little
    further on moves smoothly. What a look is drawn with is kept, so that the next drawing of it is fast.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8, BGR; drawn upon. Parts of the person may lie outside.
    center
        Middle of the upright face, x and y in pixels.
    size
        Height of the face, hairline to chin, in pixels.
    angle
        Degrees by which the head is turned in the image, clockwise.
    look
        Who is drawn; a number stands for ``Look.random(number)``.
    body
        Whether neck, shoulders and all below are drawn too. Without it a head hangs in the air.

    Returns
    -------
    Detection
        Box and landmarks of the face, score 1.

    Raises
    ------
    ImageError
        If the canvas is no writable ``(H, W, 3)`` uint8 array, or one that is too large.
    OptionError
        If a number is not finite or the size is not above 0.
    """
    if not (isinstance(canvas, np.ndarray) and canvas.ndim == 3 and canvas.shape[2] == 3 and canvas.dtype == np.uint8):
        raise ImageError("canvas must be an array of shape (H, W, 3) and type uint8")
    if not canvas.flags.writeable:
        raise ImageError("canvas is read-only: pass a copy of it")
    if max(canvas.shape) > LARGEST:
        raise ImageError(f"canvas must be at most {LARGEST} pixels wide and high, not {canvas.shape[1::-1]}")
    if not all(map(math.isfinite, (*center, size, angle))):
        raise OptionError("center, size and angle must be finite numbers")
    if size <= 0:
        raise OptionError(f"size must be above 0, not {size}")
    person = Look.random(look) if not isinstance(look, Look) else look
    _draw(canvas, (center, size, angle), person, body)
    return truth(center, size, angle, person)


def truth(center: Point, size: float, angle: float, look: Look) -> Detection:
    """Return box and landmarks of a face that is drawn there; see :func:`draw_face`."""
    head, matrix = Head(look), _matrix(np.asarray(center, np.float64), size / 2.0, angle)
    outline = head.outline() @ matrix[:, :2].T + matrix[:, 2]
    points = head.landmarks @ matrix[:, :2].T + matrix[:, 2]
    (x1, y1), (x2, y2) = outline.min(0).tolist(), outline.max(0).tolist()
    return Detection(box=(x1, y1, x2, y2), score=1.0, landmarks=tuple((x, y) for x, y in points.tolist()))


def _draw(canvas: NDArray[np.uint8], spot: tuple[Point, float, float], look: Look, with_body: bool) -> None:
    center, size, angle = spot
    unit = size / 2.0
    level = next((level for level in LEVELS if level >= size), LEVELS[-1])
    to_head = _matrix(np.asarray(center, np.float64), unit, angle)
    lean = math.remainder(angle, 360.0)
    lean = 0.15 * lean if abs(lean) <= TILT else lean - math.copysign(0.85 * TILT, lean)
    neck = to_head[:, :2] @ NECK + to_head[:, 2]
    to_body = _matrix(neck, unit, lean)
    to_body[:, 2] -= to_body[:, :2] @ (NECK + SUNK)
    reach = 0.0
    if with_body:
        corners = np.array([[x, REACHES[1]] for x in (-2.7, 2.7)]) @ to_body[:, :2].T + to_body[:, 2]
        outside = bool((corners[:, 1] >= canvas.shape[0]).all())
        reach = REACHES[1] if outside else REACHES[2]
    person = layers(look, level, reach)
    place(canvas, person.back, to_head)
    if person.body is not None:
        place(canvas, person.body, to_body)
    place(canvas, person.front, to_head)


def _matrix(center: NDArray[np.float64], unit: float, angle: float) -> NDArray[np.float64]:
    """Return the ``(2, 3)`` map from face units to pixels."""
    c, s = unit * math.cos(math.radians(angle)), unit * math.sin(math.radians(angle))
    return np.array([[c, -s, center[0]], [s, c, center[1]]])


def place(canvas: NDArray[np.uint8], layer: Layer, to_canvas: NDArray[np.float64]) -> None:
    """Lay a layer over an image, antialiased.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8, drawn upon.
    layer
        What is drawn.
    to_canvas
        ``(2, 3)``, from the layer's units to pixels of the canvas, where pixel 0 reaches from 0 to 1.
    """
    frame, scale = layer.frame, layer.scale
    corners = np.array([(x, y) for x in (frame.left, frame.right) for y in (frame.top, frame.bottom)])
    spots = corners @ to_canvas[:, :2].T + to_canvas[:, 2]
    left, top = (max(0, math.floor(v)) for v in spots.min(0).tolist())
    right, bottom = (
        min(side, math.ceil(v)) for side, v in zip(canvas.shape[1::-1], spots.max(0).tolist(), strict=True)
    )
    if right <= left or bottom <= top:
        return
    pixels, step = _shrunk(layer.pixels, scale / float(np.hypot(*to_canvas[:, 0])))
    # Twice the size first, then the mean of 2 by 2 pixels: edges stay smooth and move by fractions of a pixel.
    unit = to_canvas[:, :2] * (2.0 * step / scale)
    start = to_canvas[:, :2] @ (frame.left, frame.top) + to_canvas[:, 2] - (left, top)
    shift = 2.0 * start + unit @ (0.5, 0.5) - 0.5
    size = (right - left, bottom - top)
    large = cv2.warpAffine(pixels, np.column_stack([unit, shift]), (size[0] * 2, size[1] * 2), flags=cv2.INTER_LINEAR)
    over = cv2.resize(large, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    spot = canvas[top:bottom, left:right]
    spot[:] = np.rint(over[..., :3] + spot * (1.0 - over[..., 3:] / np.float32(255.0)))


def _shrunk(pixels: NDArray[np.uint8], ratio: float) -> tuple[NDArray[np.uint8], int]:
    """Return a copy that is smaller by a whole factor, where there are pixels to spare, and that factor."""
    step = max(1, int(ratio))
    if step == 1:
        return pixels, 1
    height, width = (-(-side // step) * step for side in pixels.shape[:2])
    padded = np.zeros((height, width, 4), np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    small = cv2.resize(padded, (width // step, height // step), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), step
