"""Draw a person into an image at any position, size and angle, accurate to a fraction of a pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.figure import LEVELS, MAX_HEAD_TILT, REACHES, Layer, layers
from drawing.head import Head
from drawing.looks import Look
from scrfd_trt import Detection, ImageError, OptionError
from scrfd_trt._detection_row import Box, Landmarks
from scrfd_trt._detection_row import Point as Landmark

Point = tuple[float, float]
MAX_SIDE = 16000
"""Maximum side of a canvas: OpenCV warps to at most 32767 pixels, and drawing is at twice the size."""

NECK = np.array([0.0, 0.95])
"""Pivot of the head on the body, in face units."""

BODY_SHIFT = np.array([0.0, 0.12])
"""Upward shift of the body, in face units; it shortens the neck."""


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

    Position, size and angle are accurate to a fraction of a pixel, so that a face moves smoothly from frame to frame.
    The layers of a look are cached, so that drawing it again is fast.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8, BGR, modified in place. Parts of the person may lie outside.
    center
        Centre of the upright face, x and y in pixels.
    size
        Height of the face, hairline to chin, in pixels.
    angle
        Clockwise rotation of the head in degrees.
    look
        The person; a number means ``Look.random(number)``.
    body
        Draw neck, shoulders and everything below as well.

    Returns
    -------
    Detection
        Box and landmarks of the face, score 1.

    Raises
    ------
    ImageError
        If the canvas is not a writable ``(H, W, 3)`` uint8 array, or too large.
    OptionError
        If a number is not finite or the size is not above 0.
    """
    if not (isinstance(canvas, np.ndarray) and canvas.ndim == 3 and canvas.shape[2] == 3 and canvas.dtype == np.uint8):
        raise ImageError("canvas must be an array of shape (H, W, 3) and type uint8")
    if not canvas.flags.writeable:
        raise ImageError("canvas is read-only: pass a copy of it")
    if max(canvas.shape) > MAX_SIDE:
        raise ImageError(f"canvas must be at most {MAX_SIDE} pixels wide and high, not {canvas.shape[1::-1]}")
    if not all(map(math.isfinite, (*center, size, angle))):
        raise OptionError("center, size and angle must be finite numbers")
    if size <= 0:
        raise OptionError(f"size must be above 0, not {size}")
    person = Look.random(look) if not isinstance(look, Look) else look
    draw_person(canvas, (center, size, angle), person, body=body)
    return truth(center, size, angle, person)


def truth(center: Point, size: float, angle: float, look: Look) -> Detection:
    """Return box and landmarks of a face that :func:`draw_face` draws there."""
    head, matrix = Head(look), _matrix(np.asarray(center, np.float64), size / 2.0, angle)
    outline = head.outline() @ matrix[:, :2].T + matrix[:, 2]
    points = head.landmarks @ matrix[:, :2].T + matrix[:, 2]
    (x1, y1), (x2, y2) = outline.min(0).tolist(), outline.max(0).tolist()
    return Detection(Box(x1, y1, x2, y2), score=1.0, landmarks=Landmarks(*map(Landmark._make, points.tolist())))


def draw_person(
    canvas: NDArray[np.uint8],
    spot: tuple[Point, float, float],
    look: Look,
    *,
    body: bool = True,
    camera: NDArray[np.float64] | None = None,
) -> None:
    """Draw a person at a spot (centre, size, angle); ``camera`` ``(2, 3)`` is a similarity from spots to the canvas."""
    center, size, angle = spot
    unit = size / 2.0
    large = size if camera is None else size * float(np.hypot(*camera[:, 0]))
    level = next((level for level in LEVELS if level >= large), LEVELS[-1])
    to_head = _matrix(np.asarray(center, np.float64), unit, angle)
    lean = math.remainder(angle, 360.0)
    lean = 0.15 * lean if abs(lean) <= MAX_HEAD_TILT else lean - math.copysign(0.85 * MAX_HEAD_TILT, lean)
    neck = to_head[:, :2] @ NECK + to_head[:, 2]
    to_body = _matrix(neck, unit, lean)
    to_body[:, 2] -= to_body[:, :2] @ (NECK + BODY_SHIFT)
    if camera is not None:
        to_head, to_body = combine(camera, to_head), combine(camera, to_body)
    reach = 0.0
    if body:
        corners = np.array([[x, REACHES[1]] for x in (-2.7, 2.7)]) @ to_body[:, :2].T + to_body[:, 2]
        outside = bool((corners[:, 1] >= canvas.shape[0]).all())
        reach = REACHES[1] if outside else REACHES[2]
    person = layers(look, level, reach)
    place_layer(canvas, person.back, to_head)
    if person.body is not None:
        place_layer(canvas, person.body, to_body)
    place_layer(canvas, person.front, to_head)


def combine(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(2, 3)`` map that applies ``first``, then ``second``."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _matrix(center: NDArray[np.float64], unit: float, angle: float) -> NDArray[np.float64]:
    """Return the ``(2, 3)`` map from face units to pixels."""
    c, s = unit * math.cos(math.radians(angle)), unit * math.sin(math.radians(angle))
    return np.array([[c, -s, center[0]], [s, c, center[1]]])


def place_layer(canvas: NDArray[np.uint8], layer: Layer, to_canvas: NDArray[np.float64]) -> None:
    """Draw a layer on a canvas ``(H, W, 3)``, antialiased.

    ``to_canvas`` ``(2, 3)`` maps the layer's units to canvas pixels, of which pixel 0 covers 0 to 1.
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
    pixels, step = _shrink(layer.pixels, scale / float(np.hypot(*to_canvas[:, 0])))
    # Drawn at twice the size and averaged over 2×2 pixels: edges stay smooth and move by fractions of a pixel.
    unit = to_canvas[:, :2] * (2.0 * step / scale)
    start = to_canvas[:, :2] @ (frame.left, frame.top) + to_canvas[:, 2] - (left, top)
    shift = 2.0 * start + unit @ (0.5, 0.5) - 0.5
    size = (right - left, bottom - top)
    large = cv2.warpAffine(pixels, np.column_stack([unit, shift]), (size[0] * 2, size[1] * 2), flags=cv2.INTER_LINEAR)
    over = cv2.resize(large, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    spot = canvas[top:bottom, left:right]
    spot[:] = np.rint(over[..., :3] + spot * (1.0 - over[..., 3:] / np.float32(255.0)))


def _shrink(pixels: NDArray[np.uint8], ratio: float) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels shrunk by a whole factor, if there are more than needed, and that factor."""
    step = max(1, int(ratio))
    if step == 1:
        return pixels, 1
    height, width = (-(-side // step) * step for side in pixels.shape[:2])
    padded = np.zeros((height, width, 4), np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    small = cv2.resize(padded, (width // step, height // step), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), step
