"""The head: positions of its features, relief, skin and light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drawing.looks import Look, generator
from drawing.patch import Field, Patch, bell, linear, soften, step

KEY = np.array([-0.46, -0.46, 0.76], np.float32)
"""Direction to the main light: x right, y down, z towards the viewer."""
FILL = np.array([0.80, -0.10, 0.59], np.float32)

MIDDLE, ABOVE, BELOW = -0.20, 1.06, 1.20
"""Height of the widest line of the head, and extent of the skull above it and of the chin below."""

FORM = (
    # x, depth, y, width, height, lift of each hill of the relief; both sides where x is not 0
    (0.00, 0.80, -0.62, 0.36, 0.20, 0.040),
    (0.30, 0.70, -0.36, 0.16, 0.060, 0.045),
    (0.31, 0.66, -0.20, 0.15, 0.085, -0.085),
    (0.345, 0.66, -0.16, 0.11, 0.070, 0.055),
    (0.00, 0.74, -0.22, 0.05, 0.090, 0.020),
    (0.00, 0.86, -0.06, 0.055, 0.120, 0.075),
    (0.00, 0.92, 0.09, 0.065, 0.100, 0.095),
    (0.00, 1.00, 0.225, 0.085, 0.075, 0.150),
    (0.105, 0.90, 0.265, 0.050, 0.050, 0.075),
    (0.43, 0.52, 0.16, 0.16, 0.130, 0.070),
    (0.00, 0.88, 0.375, 0.022, 0.045, -0.022),
    (0.075, 0.86, 0.445, 0.090, 0.040, 0.040),
    (0.00, 0.86, 0.585, 0.150, 0.050, 0.070),
    (0.00, 0.82, 0.700, 0.140, 0.045, -0.045),
    (0.00, 0.80, 0.850, 0.160, 0.100, 0.075),
)


class Head:
    """Measures of a head in face units, from a look.

    Attributes
    ----------
    width
        Half of the width at the widest line.
    taper
        Narrowing towards the chin.
    """

    def __init__(self, look: Look) -> None:
        rng = generator(look.detail, 1)
        self.look = look
        self.width = 0.755 + 0.035 * (1.0 - look.soft) + 0.02 * float(rng.random())
        self.taper = 0.10 + 0.13 * look.soft + 0.05 * float(rng.random())
        self.power = 2.25 + 0.45 * (1.0 - look.soft)
        self.eye_gap = 0.34 + 0.02 * float(rng.random())
        self.eye_y = -0.175 + 0.02 * float(rng.random())
        self.nose_y = 0.22 + 0.03 * float(rng.random())
        self.mouth_y = 0.545 + 0.02 * float(rng.random())
        self.mouth_half = 0.245 + 0.045 * look.smile + 0.015 * float(rng.random())
        angle = np.radians(look.turn)
        self.cos, self.sin = float(np.cos(angle)), float(np.sin(angle))

    def across(self, x: float, depth: float) -> float:
        """Return the horizontal position of a point of the frontal head after the yaw."""
        return x * self.cos + depth * self.sin

    def span(self, side: float) -> float:
        """Return the relative width of features on the left (-1) or right (1) of the face after the yaw."""
        return self.cos - 0.45 * side * self.sin

    @property
    def eyes(self) -> list[tuple[float, float]]:
        """Centres of the left and right eye as seen in the image."""
        return [(self.across(side * self.eye_gap, 0.62), self.eye_y) for side in (-1.0, 1.0)]

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Left and right mouth corner as seen in the image."""
        lift = self.mouth_y - 0.010 - 0.095 * self.look.smile
        return [(self.across(side * self.mouth_half, 0.68), lift) for side in (-1.0, 1.0)]

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """Eyes, nose and mouth corners, ``(5, 2)``."""
        return np.array([*self.eyes, (self.across(0.0, 0.95), self.nose_y), *self.corners])

    def bulge(self, x: Field, y: Field) -> tuple[Field, Field, Field]:
        """Return the distance of a point from the centre (1 on the outline), and the two terms of its sum."""
        reach = np.where(y < MIDDLE, np.float32(ABOVE), np.float32(BELOW))
        t = (y - np.float32(MIDDLE)) / reach
        down = np.clip(t, 0.0, 1.0)
        half = np.float32(self.width) * (1.0 - np.float32(self.taper) * down * down)
        power = np.float32(2.1) + np.float32(self.power - 2.1) * np.clip(down * 2.5, 0.0, 1.0)
        sideways, upright = (np.abs(x) / half) ** power, np.abs(t) ** power
        return np.asarray(sideways + upright, np.float32), sideways, upright

    def outline(self) -> NDArray[np.float64]:
        """Points around the face from hairline to chin, ``(N, 2)``: their bounds are the face's box."""
        y = np.linspace(-1.0, MIDDLE + BELOW, 80)
        t = (y - MIDDLE) / np.where(y < MIDDLE, ABOVE, BELOW)
        half = self.width * (1.0 - self.taper * np.clip(t, 0, 1) ** 2)
        power = 2.1 + (self.power - 2.1) * np.clip(t * 2.5, 0.0, 1.0)
        x = half * np.maximum(1.0 - np.abs(t) ** power, 0.0) ** (1.0 / power)
        return np.concatenate([np.column_stack([-x, y]), np.column_stack([x, y])])


def relief(head: Head, patch: Patch) -> Field:
    """Return the height of nose, brows, cheeks, lips and chin over the plain head."""
    look, out = head.look, np.zeros(patch.alpha.shape, np.float32)
    nose_shift, mouth_shift = head.nose_y - 0.225, head.mouth_y - 0.52
    for x, depth, y, width, height, lift in FORM:
        shift = nose_shift if 0.2 < y < 0.4 else mouth_shift if 0.4 < y < 0.8 else 0.0
        strength = lift * (1.25 - 0.5 * look.soft) if y < -0.3 or y > 0.8 else lift
        for side in (-1.0, 1.0) if x else (1.0,):
            hill = bell(patch.x, head.across(side * x, depth), width * head.span(side if x else 0.0))
            out += hill * (bell(patch.y, y + shift, height) * np.float32(strength))
    for side in (-1.0, 1.0):
        fold = _fold(head, patch, side)
        out -= fold * np.float32(0.004 + 0.026 * look.age + 0.010 * look.smile)
    if look.age > 0.5:
        waves = np.sin((patch.y + 0.04 * np.cos(patch.x * 4.0)) * np.float32(70.0))
        out += waves * patch.glow(head.across(0, 0.7), -0.66, 0.3, 0.10) * np.float32(0.004 * look.age)
    return out


def _fold(head: Head, patch: Patch, side: float) -> Field:
    """Return the line from the side of the nose to the corner of the mouth."""
    t = np.clip((patch.y - 0.27) / 0.26, -0.5, 1.5)
    start, end = head.across(side * 0.155, 0.8), head.across(side * 0.33, 0.6)
    line = start + (end - start) * t * (0.8 + 0.2 * t)
    return bell(patch.x - line, 0.0, 0.026) * bell(patch.y, 0.38, 0.085)


def lighting(head: Head, patch: Patch, height: Field) -> tuple[Field, Field]:
    """Return the light on the head, ``(H, W, 3)`` BGR, and its gloss, ``(H, W)``."""
    outside, sideways, upright = head.bulge(patch.x, patch.y)
    deep = np.sqrt(np.clip(1.0 - outside, 0.004, 1.0))
    slope_y, slope_x = np.gradient(height * np.float32(patch.scale))
    across = np.sign(patch.x) * np.sqrt(sideways) * np.float32(0.95)
    along = np.sign(patch.y - MIDDLE) * np.sqrt(upright) * np.float32(0.62)
    facing = deep * np.float32(0.85) + np.float32(0.12)
    nx, ny = across - slope_x * facing, along - slope_y * facing
    size = np.sqrt(nx * nx + ny * ny + facing * facing)
    nx, ny, nz = nx / size, ny / size, facing / size
    key = nx * KEY[0] + ny * KEY[1] + nz * KEY[2]
    fill = np.clip(nx * FILL[0] + ny * FILL[1] + nz * FILL[2], 0.0, 1.0)
    hollow = np.clip(1.0 + 5.0 * (height - soften(height, 0.11 * patch.scale)), 0.6, 1.15)
    light = np.empty((*patch.alpha.shape, 3), np.float32)
    # Light scattered in skin reddens the edge of shadows: each channel wraps around the form by its own amount.
    for channel, (wrap, key_c, fill_c, ambient) in enumerate(
        ((0.10, 0.74, 0.20, 0.30), (0.16, 0.79, 0.17, 0.28), (0.34, 0.84, 0.15, 0.29))
    ):
        direct = np.clip((key + wrap) / (1.0 + wrap), 0.0, 1.0)
        light[..., channel] = (direct * key_c + fill * fill_c + ambient * (0.86 - 0.14 * ny)) * hollow
    half = KEY + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    gloss = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0.0, 1.0) ** 28
    return light, np.asarray(gloss, np.float32)


def skin(head: Head, patch: Patch) -> None:
    """Paint the bare head without light: base color, flush of the cheeks, small blotches."""
    look, rng = head.look, generator(head.look.detail, 2)
    outside, _, _ = head.bulge(patch.x, patch.y)
    base = linear(look.skin)
    distance = (np.sqrt(outside) - 1.0) * np.float32(0.7)
    patch.paint(patch.edge(distance), base)
    flush = base * np.array([0.72, 0.72, 0.98], np.float32)
    for side in (-1.0, 1.0):
        patch.tint(patch.glow(head.across(side * 0.45, 0.5), 0.20, 0.17, 0.13) * np.float32(0.45), flush)
    patch.tint(patch.glow(head.across(0, 1.0), head.nose_y + 0.01, 0.11, 0.09) * np.float32(0.4), flush)
    for side in (-1.0, 1.0):
        socket = patch.glow(head.across(side * 0.31, 0.6), -0.13, 0.14, 0.09) * np.float32(0.35)
        patch.tint(socket, base * np.array([0.74, 0.66, 0.70], np.float32))
    blotches = patch.noise(rng, 0.09, 0.09) * 0.5 + patch.noise(rng, 0.03, 0.03) * 0.35
    patch.shade(np.asarray(1.0 + 0.045 * blotches, np.float32))
    if look.beard in {"stubble", "full"} or (look.soft < 0.3 and look.age > 0.1):
        shadow = step(patch.y + 0.35 * np.abs(patch.x) ** 2, 0.30, 0.55)
        patch.tint(shadow * np.float32(0.22), base * np.array([0.70, 0.62, 0.56], np.float32))


def ears(head: Head, patch: Patch) -> None:
    """Paint both ears, lit, behind the head."""
    base = linear(head.look.skin)
    for side in (-1.0, 1.0):
        shift = head.sin * 0.25
        size = 1.0 - 0.9 * side * head.sin
        x = side * (head.width * 0.99) - shift
        light = 0.92 if side < 0 else 0.55
        lobe = patch.ellipse(x, -0.02, 0.125 * size, 0.235, turn=side * 10, softness=0.01)
        patch.paint(lobe, base * np.array([0.80, 0.82, 1.0], np.float32) * np.float32(light))
        inner = patch.ellipse(x - side * 0.01, -0.04, 0.070 * size, 0.155, turn=side * 10, softness=0.09)
        patch.tint(inner * np.float32(0.55), base * np.array([0.5, 0.5, 0.64], np.float32) * np.float32(light))
        rim = patch.ellipse(x + side * 0.06 * size, -0.10, 0.030 * size, 0.12, turn=side * 6, softness=0.05)
        patch.tint(rim * np.float32(0.35), base * np.float32(light * 1.25))
