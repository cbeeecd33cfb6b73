"""A whole person: layers drawn once for a look, then placed anywhere, at any size and angle."""

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
"""Heights in pixels at which faces are drawn before they are brought to size."""

REACHES = (0.0, 4.5, body.FEET + 0.2)
"""How far down a body is drawn: not at all, a bust, or down to the feet."""

FACE = Frame(-0.95, -1.40, 0.95, 1.12)
"""What the bare head lies within."""

GLOSS = np.array([0.090, 0.100, 0.112], np.float32)
"""Color of the light that skin throws back, BGR."""

TILT = 24.0
"""Degrees by which a head leans before the body leans too."""


class Layer(NamedTuple):
    """A finished drawing: ``(H, W, 4)`` uint8, BGR times alpha and alpha, what it covers, and pixels a unit."""

    pixels: NDArray[np.uint8]
    frame: Frame
    scale: float


class Layers(NamedTuple):
    """A person from back to front; ``body`` may be missing."""

    back: Layer
    body: Layer | None
    front: Layer


@lru_cache(maxsize=32)
def layers(look: Look, level: int, reach: float) -> Layers:
    """Draw a person, ``level`` pixels a face, down to ``reach`` face units below the middle of the face."""
    head, scale = Head(look), level / 2.0
    return Layers(_back(head, scale), _body(head, scale * 0.6, reach), _front(head, scale))


def _back(head: Head, scale: float) -> Layer:
    low = hair.LENGTHS.get(head.look.style, 0.4) + 0.3
    patch = Patch(Frame(-1.45, -2.0, 1.45, low), scale * 0.5)
    hair.behind(head, patch)
    return _finished(patch)


def _body(head: Head, scale: float, reach: float) -> Layer | None:
    if reach <= 0.0:
        return None
    patch = Patch(Frame(-2.7, 0.0, 2.7, reach), scale)
    body.body(head, patch)
    return _finished(patch)


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
    light *= face.part(_cast(locks))[..., None]
    face.shade(light)
    face.light += (gloss * face.alpha)[..., None] * GLOSS
    features.catchlights(head, face)
    _lay(patch.window(*FACE), face)
    features.glasses(head, patch.window(-0.95, -0.7, 0.95, 0.4))
    _lay(patch, locks)
    return _finished(patch)


def _cast(locks: Patch) -> Field:
    """Return how much light the hair leaves on the skin beside it."""
    shift = np.array([[1, 0, 0.03 * locks.scale], [0, 1, 0.05 * locks.scale]])
    size = (locks.alpha.shape[1], locks.alpha.shape[0])
    moved = cv2.warpAffine(soften(locks.alpha, 0.045 * locks.scale), shift, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(1.0 - 0.55 * moved, np.float32)


def _lay(under: Patch, over: Patch) -> None:
    rest = 1.0 - over.alpha
    under.light *= rest[..., None]
    under.light += over.light
    under.alpha *= rest
    under.alpha += over.alpha


def _finished(patch: Patch) -> Layer:
    """Turn linear light into display values."""
    alpha = np.clip(patch.alpha, 0.0, 1.0)
    # sqrt(light / alpha) * alpha, without the division
    color = np.sqrt(np.clip(patch.light, 0.0, alpha[..., None]) * alpha[..., None])
    pixels = np.concatenate([color, alpha[..., None]], -1)
    display = np.rint(pixels * 255.0).astype(np.uint8)
    display.setflags(write=False)  # kept, and shared by all who draw this look
    return Layer(display, patch.frame, patch.scale)
