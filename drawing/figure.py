"""A whole person: layers drawn once for a look, then placed at any position, size and angle."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing import body, features, hair
from drawing.head import Head, ears, lighting, relief, skin
from drawing.looks import Look
from drawing.patch import Field, Frame, Patch, soften

LEVELS = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Heights in pixels at which faces are drawn before they are scaled."""

REACHES = (0.0, 4.5, body.FEET + 0.2)
"""Lower end of a body in face units: no body, a bust, or down to the feet."""

FACE = Frame(-0.95, -1.40, 0.95, 1.12)
"""Bounds of the bare head."""

GLOSS = np.array([0.090, 0.100, 0.112], np.float32)
"""Color of light reflected by skin, BGR."""

MAX_HEAD_TILT = 24.0
"""Angle of a head in degrees from which the body is rotated too."""


class Layer(NamedTuple):
    """A finished drawing: ``(H, W, 4)`` uint8 premultiplied BGRA, its bounds, and pixels per unit."""

    pixels: NDArray[np.uint8]
    frame: Frame
    scale: float


class Layers(NamedTuple):
    """A person from back to front; ``body`` is None if not drawn."""

    back: Layer
    body: Layer | None
    front: Layer


@lru_cache(maxsize=256)
def layers(look: Look, level: int, reach: float) -> Layers:
    """Draw a person with a face of ``level`` pixels, down to ``reach`` face units below its centre."""
    head, scale = Head(look), level / 2.0
    return Layers(_back(head, scale), _body(head, scale * 0.6, reach), _front(head, scale))


def _back(head: Head, scale: float) -> Layer:
    low = hair.LENGTHS.get(head.look.style, 0.4) + 0.3
    patch = Patch(Frame(-1.45, -2.0, 1.45, low), scale * 0.5)
    hair.behind(head, patch)
    return to_layer(patch)


def _body(head: Head, scale: float, reach: float) -> Layer | None:
    if reach <= 0.0:
        return None
    patch = Patch(Frame(-2.7, 0.0, 2.7, reach), scale)
    body.body(head, patch)
    return to_layer(patch)


def _front(head: Head, scale: float) -> Layer:
    look = head.look
    low = hair.LENGTHS.get(look.style, 0.85) + 0.3
    patch = Patch(Frame(-1.25, -1.85, 1.25, low), scale)
    if look.style not in hair.LENGTHS:
        ears(head, patch.window(-1.2, -0.5, 1.2, 0.5))
    face = Patch(patch.frame, scale).window(*FACE)
    skin(head, face)
    features.nostrils(head, face)
    features.eyes(head, face)
    features.brows(head, face)
    features.mouth(head, face)
    features.beard(head, face)
    light, gloss = lighting(head, face, relief(head, face))
    for x, y in head.eyes:
        gloss *= 1.0 - face.ellipse(x, y, 0.21, 0.11, softness=0.05)
    locks = Patch(patch.frame, scale)
    hair.over(head, locks)
    light *= face.part(_hair_shadow(locks))[..., None]
    face.shade(light)
    face.light += (gloss * face.alpha)[..., None] * GLOSS
    features.catchlights(head, face)
    _composite(patch.window(*FACE), face)
    features.glasses(head, patch.window(-0.95, -0.7, 0.95, 0.4))
    _composite(patch, locks)
    return to_layer(patch)


def _hair_shadow(locks: Patch) -> Field:
    """Return the fraction of light that reaches the skin beside the hair."""
    shift = np.array([[1, 0, 0.03 * locks.scale], [0, 1, 0.05 * locks.scale]])
    size = (locks.alpha.shape[1], locks.alpha.shape[0])
    moved = cv2.warpAffine(soften(locks.alpha, 0.045 * locks.scale), shift, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(1.0 - 0.55 * moved, np.float32)


def _composite(under: Patch, over: Patch) -> None:
    rest = 1.0 - over.alpha
    under.light *= rest[..., None]
    under.light += over.light
    under.alpha *= rest
    under.alpha += over.alpha


def to_layer(patch: Patch) -> Layer:
    """Convert linear light to display values."""
    alpha = np.clip(patch.alpha, 0.0, 1.0)
    # sqrt(light / alpha) * alpha, without the division
    color = np.sqrt(np.clip(patch.light, 0.0, alpha[..., None]) * alpha[..., None])
    pixels = np.concatenate([color, alpha[..., None]], -1)
    display = np.rint(pixels * 255.0).astype(np.uint8)
    display.setflags(write=False)  # cached and shared
    return Layer(display, patch.frame, patch.scale)
