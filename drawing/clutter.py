"""Things in which networks see faces: hands, prints, leaves, windows, wheels, knots, backs of heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from drawing import body
from drawing.figure import Layer, to_layer
from drawing.head import Head
from drawing.looks import SKINS, Look, generator, pick
from drawing.patch import Frame, Patch, linear, step

SCALE = 64.0
"""Pixels per unit of the drawings; things are 2 units high, as faces are."""


def marks(patch: Patch, rng: np.random.Generator, at: tuple[float, float], size: float, depth: float) -> None:
    """Shade an area as by chance: two dark spots beside each other, a ridge and a dark line below."""
    x, y = at
    loose = 0.4 * size

    def near(value: float) -> float:
        return value + loose * (float(rng.random()) - 0.5)

    for side in (-1.0, 1.0):
        middle = near(x + side * 0.36 * size), near(y - 0.18 * size)
        for share, soft in ((0.26, 0.18), (0.12, 0.08)):
            spot = patch.ellipse(*middle, share * size, 0.62 * share * size, softness=soft * size)
            patch.shade(1.0 - np.float32(depth * 0.7) * spot)
    ridge = patch.ellipse(near(x), near(y + 0.08 * size), 0.09 * size, 0.24 * size, softness=0.12 * size)
    patch.shade(1.0 + np.float32(0.3 * depth) * ridge)
    base = patch.ellipse(near(x), near(y + 0.30 * size), 0.17 * size, 0.06 * size, softness=0.1 * size)
    patch.shade(1.0 - np.float32(0.6 * depth) * base)
    line = patch.ellipse(near(x), near(y + 0.56 * size), 0.28 * size, 0.07 * size, softness=0.08 * size)
    patch.shade(1.0 - np.float32(0.75 * depth) * line)


def hand(rng: np.random.Generator) -> Patch:
    """Paint an open or half-closed hand with its wrist."""
    patch = Patch(Frame(-1.2, -1.3, 1.2, 1.5), SCALE)
    flesh, curl = linear(pick(rng, SKINS)), float(rng.random())
    parts = [((0.0, 1.5), (0.0, 0.6), (0.30, 0.34))]
    for finger in range(4):
        x = -0.36 + 0.24 * finger
        tip = (x * (1.5 - curl), -0.30 - (0.75 - 0.12 * abs(finger - 1.5)) * (1.0 - 0.75 * curl))
        parts.append(((x, 0.05), tip, (0.14, 0.11)))
    parts += [((-0.30, 0.5), (-0.80 + 0.5 * curl, 0.0), (0.17, 0.12)), ((0.0, 0.55), (0.0, 0.10), (0.46, 0.50))]
    for start, end, radii in parts:
        near, mask, light = body.limb(patch, start, end, radii)
        near.shade(1.0 - 0.35 * near.blur(mask, 0.05) * (1.0 - mask))
        near.paint(mask, flesh * light[..., None])
    for line in range(3):
        crease = patch.ellipse(0.0, 0.25 + 0.2 * line, 0.30, 0.02, turn=20 * (float(rng.random()) - 0.5), softness=0.05)
        patch.tint(crease * np.float32(0.5), flesh * np.float32(0.35))
    marks(patch, rng, (0.0, 0.1), 0.7, 0.25 + 0.5 * float(rng.random()))
    return patch


def shirt(rng: np.random.Generator) -> Patch:
    """Paint the upper body of somebody whose head is not in sight, with a print on the shirt."""
    look = Look.random(int(rng.random() * 1e6), clothes="tee")
    whole = Patch(Frame(-2.7, 0.9, 2.7, 5.9), SCALE / 3.0)
    body.body(Head(look), whole)
    middle, wide = 3.6, 0.7 + 0.4 * float(rng.random())
    disc = whole.ellipse(0.0, middle, wide * 0.8, wide, softness=0.1)
    whole.tint(disc, linear(pick(rng, (*SKINS[:5], (236, 206, 120), (214, 214, 206)))))
    marks(whole, rng, (0.0, middle), wide, 0.2 + 0.4 * float(rng.random()))
    return whole


def bush(rng: np.random.Generator) -> Patch:
    """Paint a bush with light and deep shade between its leaves."""
    patch = Patch(Frame(-1.6, -1.4, 1.6, 1.2), SCALE)
    ball = (
        np.hypot(patch.x / 1.4, patch.y / 1.15) + 0.25 * patch.noise(rng, 0.5, 0.5) + 0.1 * patch.noise(rng, 0.1, 0.1)
    )
    depth = patch.noise(rng, 0.55, 0.45) + 0.7 * patch.noise(rng, 0.25, 0.2) + 0.5 * patch.noise(rng, 0.09, 0.08)
    low, high = linear((34, 48, 30)), linear(pick(rng, ((150, 172, 96), (196, 168, 110), (206, 184, 150))))
    color = low + (high - low) * step(depth, -0.9, 0.9)[..., None]
    patch.paint(step(ball, 0.85, 0.95, falling=True), np.asarray(color, np.float32))
    patch.shade(np.asarray(1.0 - 0.5 * step(np.hypot(patch.x / 0.8, patch.y), 0.8, 1.3), np.float32))
    marks(patch, rng, (0.0, 0.0), 0.9, 0.8)
    return patch


def window(rng: np.random.Generator) -> Patch:
    """Paint two windows over a door in a piece of wall."""
    patch = Patch(Frame(-1.3, -1.4, 1.3, 1.4), SCALE)
    wall = linear(pick(rng, ((206, 176, 146), (182, 140, 112), (214, 196, 170))))
    light = 1.0 + 0.12 * patch.noise(rng, 0.9, 0.9) + 0.05 * patch.noise(rng, 0.08, 0.08)
    patch.paint(np.ones_like(patch.alpha), np.asarray(wall * light[..., None], np.float32))
    high, wide = 0.18 + 0.15 * float(rng.random()), 0.16 + 0.12 * float(rng.random())
    panes = [(-0.45, -0.35, wide, high), (0.45, -0.35, wide, high)]
    panes += [(0.0, 0.65, 0.2 + 0.25 * float(rng.random()), 0.12 + 0.2 * float(rng.random()))]
    for x, y, rx, ry in panes:
        patch.paint(
            patch.rectangle(x - rx - 0.05, y - ry - 0.05, x + rx + 0.05, y + ry + 0.05), wall * np.float32(1.15)
        )
        patch.paint(patch.rectangle(x - rx, y - ry, x + rx, y + ry), linear((44, 50, 60)))
        patch.paint(patch.rectangle(x - 0.02, y - ry, x + 0.02, y + ry), wall)
    marks(patch, rng, (0.0, 0.0), 1.1, 0.7)
    return patch


def wheel(rng: np.random.Generator) -> Patch:
    """Paint a wheel with spokes and hub."""
    patch = Patch(Frame(-1.1, -1.1, 1.1, 1.1), SCALE)
    rim, spokes = linear(pick(rng, ((176, 178, 182), (206, 180, 150)))), 3 + int(4 * float(rng.random()))
    away, turn = np.hypot(patch.x, patch.y), np.arctan2(patch.y, patch.x) + np.float32(6.0 * rng.random())
    patch.paint(patch.edge(away - 1.0), linear((36, 36, 38)))
    shade = (1.0 - 0.3 * patch.x - 0.4 * patch.y)[..., None]
    patch.paint(patch.edge(away - 0.78), np.asarray(rim * shade, np.float32))
    gap = step(np.asarray(np.cos(turn * spokes), np.float32), -0.1, 0.2) * step(away, 0.25, 0.32)
    patch.paint(gap * step(away, 0.62, 0.68, falling=True), linear((40, 38, 40)))
    patch.paint(patch.edge(away - 0.10), linear((60, 58, 60)))
    marks(patch, rng, (0.0, 0.0), 0.9, 0.6)
    return patch


def knot(rng: np.random.Generator) -> Patch:
    """Paint a board with knots."""
    patch = Patch(Frame(-1.2, -1.5, 1.2, 1.5), SCALE)
    wood, dark = linear(pick(rng, ((206, 162, 118), (186, 142, 104), (222, 186, 146)))), linear((84, 54, 36))
    grain = patch.x + 0.05 * patch.noise(rng, 1.0, 0.6)
    knots = [(-0.38, -0.3), (0.36, -0.34), (0.02, 0.15), (0.0, 0.6)]
    for x, y in knots:
        grain = grain + 0.12 * np.sign(patch.x - x) * patch.glow(x, y, 0.25, 0.3)
    lines = 0.5 + 0.5 * np.sin(grain * np.float32(38.0))
    patch.paint(np.ones_like(patch.alpha), np.asarray(wood + (dark - wood) * (0.3 * lines)[..., None], np.float32))
    for x, y in knots:
        dx, dy = (0.15 * (float(rng.random()) - 0.5) for _ in range(2))
        size = 0.09 + 0.07 * float(rng.random())
        patch.paint(0.9 * patch.ellipse(x + dx, y + dy, 1.5 * size, size, softness=0.05), dark)
    marks(patch, rng, (0.0, 0.0), 0.9, 0.6 + 0.3 * float(rng.random()))
    return patch


def back(rng: np.random.Generator) -> Patch:
    """Paint somebody who looks away."""
    look = Look.random(int(rng.random() * 1e6))
    patch = Patch(Frame(-2.7, -1.6, 2.7, 5.0), SCALE * 0.6)
    body.body(Head(look), patch)
    patch.paint(patch.ellipse(0.0, 0.3, 0.62, 0.8, softness=0.05), linear(look.skin) * np.float32(0.7))
    strands = 1.0 + 0.4 * patch.noise(rng, 0.06, 0.8) - 0.35 * patch.x + 0.2 * patch.noise(rng, 0.5, 0.4)
    hair = patch.ellipse(0.0, -0.35, 0.84, 1.05, softness=0.05)
    patch.paint(hair, np.asarray(linear(look.hair) * np.clip(strands, 0.3, 1.8)[..., None], np.float32))
    marks(patch, rng, (0.0, -0.2), 0.8, 0.2 + 0.35 * float(rng.random()))
    return patch


KINDS: dict[str, Callable[[np.random.Generator], Patch]] = {
    "hand": hand,
    "shirt": shirt,
    "bush": bush,
    "window": window,
    "wheel": wheel,
    "knot": knot,
    "back": back,
}
"""Painters by name."""


@lru_cache(maxsize=256)
def thing(kind: str, seed: int) -> Layer:
    """Draw a thing of one of the ``KINDS``."""
    return to_layer(KINDS[kind](generator(seed, 60)))
