"""Backdrops: a park, a room, and the plain wall of a studio."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.looks import generator
from drawing.patch import Color, Field, Frame, Patch, bell, grain, linear, soften, step

HORIZON = 0.36
"""Horizon, as a fraction of the picture's height from the top."""

WALL_END = 0.66
"""Upper end of the room's floor, as a fraction of the picture's height."""

Image = NDArray[np.uint8]


def park(size: tuple[int, int], seed: int) -> Image:
    """Paint a sunny lawn with trees, out of focus, ``(H, W, 3)`` uint8."""
    far = _scenery(size, 0.5)
    rng = generator(seed, 20)
    _sky(far, rng)
    _hills(far, rng)
    _grove(far, rng)
    far.light = soften(far.light, 0.006 * far.scale)
    _lawn(far, rng)
    _trees(far, rng)
    far.light = soften(far.light, 0.0026 * far.scale)
    return _to_image(far, size)


def room(size: tuple[int, int], seed: int) -> Image:
    """Paint a bright room with a window, pictures and plants, out of focus, ``(H, W, 3)`` uint8."""
    wide = _scenery(size, 0.5)
    rng = generator(seed, 21)
    aspect = wide.frame.right
    wall, boards = linear((214, 202, 184)), linear((168, 124, 86))
    glow = np.exp(-((wide.x / (0.9 * aspect)) ** 2) - ((wide.y - 0.25) / 0.7) ** 2)
    wide.paint(np.ones_like(wide.alpha), wall * (0.55 + 0.50 * glow)[..., None])
    _windows(wide, aspect)
    _pictures(wide, aspect, rng)
    _floor(wide, boards, rng)
    for place in (0.40 * aspect, 0.965 * aspect):
        _plant(wide, place, rng)
    wide.light = soften(wide.light, 0.004 * wide.scale)
    return _to_image(wide, size)


def studio(size: tuple[int, int], seed: int) -> Image:
    """Paint a plain wall, lit from the left, ``(H, W, 3)`` uint8."""
    wall = _scenery(size, 0.25)
    rng = generator(seed, 22)
    tones: tuple[Color, ...] = ((126, 142, 158), (150, 140, 126), (118, 138, 126), (146, 128, 138))
    tone = linear(tones[int(rng.random() * len(tones))])
    aspect = wall.frame.right
    glow = np.exp(-(((wall.x - 0.3 * aspect) / (0.7 * aspect)) ** 2) - ((wall.y - 0.35) / 0.75) ** 2)
    cloud = 0.06 * wall.noise(rng, 0.4, 0.4)
    wall.paint(np.ones_like(wall.alpha), tone * (0.45 + 0.85 * glow + cloud)[..., None])
    return _to_image(wall, size)


BACKDROPS: dict[str, Callable[[tuple[int, int], int], Image]] = {"park": park, "room": room, "studio": studio}
"""Backdrops by name."""


def _scenery(size: tuple[int, int], share: float) -> Patch:
    """Return an empty patch of height 1; a fraction of the pixels suffices, because the picture is out of focus."""
    width, height = size
    return Patch(Frame(0.0, 0.0, width / height, 1.0), min(max(24.0, height * share), 640.0))


def _to_image(patch: Patch, size: tuple[int, int]) -> Image:
    color = np.sqrt(np.clip(patch.light, 0.0, 1.0)) * np.float32(255.0)
    large = np.asarray(cv2.resize(color, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return np.rint(np.clip(large, 0.0, 255.0)).astype(np.uint8)


def _sky(patch: Patch, rng: np.random.Generator) -> None:
    low, high = linear((226, 236, 240)), linear((112, 164, 214))
    height = np.clip(1.0 - patch.y / 0.42, 0.0, 1.0)[..., None]
    patch.paint(np.ones_like(patch.alpha), low + (high - low) * height**1.2)
    clouds = (
        0.6 * patch.noise(rng, 0.40, 0.10) + 0.3 * patch.noise(rng, 0.14, 0.045) + 0.15 * patch.noise(rng, 0.05, 0.02)
    )
    cover = step(clouds, 0.05, 0.65) * step(patch.y, 0.02, 0.30, falling=True)
    patch.paint(np.asarray(cover * 0.75, np.float32), linear((252, 250, 246)))
    sun = np.exp(-np.hypot(patch.x - 0.1, patch.y + 0.05) / 0.28)
    patch.paint(np.asarray(0.6 * sun, np.float32), linear((255, 246, 224)))


def _ridge(patch: Patch, rng: np.random.Generator, cell: float) -> Field:
    """Return a line of hills or tree tops, -1 to 1 along x."""
    width = patch.alpha.shape[1]
    out = np.zeros((1, width), np.float32)
    for part, weight in ((1.0, 0.6), (0.4, 0.3), (0.15, 0.15)):
        cells = max(3, int(patch.frame.right / (cell * part)) + 2)
        out += np.float32(weight) * grain(rng, (cells, 2), (width, 2))[:1]
    return out


def _hills(patch: Patch, rng: np.random.Generator) -> None:
    for base, swing, color in ((0.285, 0.030, (150, 176, 190)), (0.325, 0.022, (126, 158, 146))):
        top = base + swing * _ridge(patch, rng, 0.5)
        patch.paint(patch.edge(top - patch.y, 0.01), linear(color))


def _foliage(patch: Patch, rng: np.random.Generator, size: float) -> Field:
    """Return light and shade of leaves, about 0.5 to 1.6."""
    leaves = 0.5 * patch.noise(rng, size, size) + 0.4 * patch.noise(rng, size * 0.45, size * 0.4)
    fine = patch.noise(rng, size * 0.2, size * 0.18)
    return np.asarray(1.0 + 0.42 * leaves + 0.20 * fine, np.float32)


def _grove(patch: Patch, rng: np.random.Generator) -> None:
    """Paint the line of trees at the far end of the lawn."""
    for base, swing, color in ((0.300, 0.070, (96, 128, 84)), (0.350, 0.040, (74, 112, 62))):
        top = base + swing * _ridge(patch, rng, 0.22)
        depth = np.clip((patch.y - top) / 0.12, 0.0, 1.0)
        light = _foliage(patch, rng, 0.07) * (1.15 - 0.55 * depth)
        patch.paint(patch.edge(top - patch.y, 0.012), linear(color) * light[..., None])


def _lawn(patch: Patch, rng: np.random.Generator) -> None:
    edge = 0.415
    depth = np.clip((patch.y - edge) / (1.0 - edge), 0.0, 1.0)
    far, near = linear((168, 188, 98)), linear((78, 122, 48))
    grass = far + (near - far) * (depth**0.7)[..., None]
    light = np.ones_like(patch.alpha)
    for cell, weight in ((0.55, 0.16), (0.20, 0.12), (0.07, 0.10)):
        # Patches of grass get flatter with distance.
        shallow = patch.noise(rng, cell, cell * 0.12) * (1.0 - depth)
        light += np.float32(weight) * (shallow + patch.noise(rng, cell, cell * 0.35) * depth)
    light += np.float32(0.12) * patch.noise(rng, 0.010, 0.025) * depth
    shade = bell(patch.y, edge + 0.01, 0.022) * 0.45
    over = step(patch.y, edge - 0.004, edge + 0.004)
    patch.paint(over, np.asarray(grass * (light * (1.0 - shade))[..., None], np.float32))
    middle = 0.62 * patch.frame.right + 0.9 * (patch.y - edge) * (0.6 - patch.y)
    width = 0.012 + 0.20 * depth**1.4
    path = patch.edge(np.abs(patch.x - middle) - width, 0.012) * over
    gravel = linear((206, 190, 158)) * (1.0 + 0.10 * patch.noise(rng, 0.05, 0.02) * depth)[..., None]
    patch.paint(np.asarray(path * 0.9, np.float32), np.asarray(gravel, np.float32))


def _trees(patch: Patch, rng: np.random.Generator) -> None:
    """Paint a few trees on the lawn, their crowns clipped at the top."""
    aspect = patch.frame.right
    for place, ground, width in ((0.30, 0.455, 0.085), (0.76, 0.47, 0.10), (0.06, 0.56, 0.21), (0.95, 0.60, 0.25)):
        x = aspect * (place + 0.05 * (float(rng.random()) - 0.5))
        crown_y = ground - width * 2.05
        patch.shade(1.0 - np.float32(0.45) * patch.ellipse(x + 0.10, ground, width * 1.1, width * 0.16, softness=0.05))
        trunk = patch.edge(np.abs(patch.x - x) - width * (0.075 + 0.05 * bell(patch.y, ground, width * 0.2)), 0.006)
        trunk = (
            trunk * step(patch.y, crown_y - 0.02, crown_y) * step(patch.y, ground - 0.004, ground + 0.004, falling=True)
        )
        bark = linear((104, 84, 66)) * (1.0 - 1.4 * np.clip((patch.x - x) / width, -0.3, 0.6))[..., None]
        patch.paint(trunk, np.asarray(bark, np.float32))
        _crown(patch, (x, crown_y), width, rng)


def _crown(patch: Patch, center: tuple[float, float], width: float, rng: np.random.Generator) -> None:
    x, y = center
    near = patch.window(x - width * 1.9, y - width * 1.9, x + width * 1.9, y + width * 1.5)
    if not near.alpha.size:
        return
    ball = np.sqrt(((near.x - x) / (width * 1.15)) ** 2 + ((near.y - y) / width) ** 2)
    rough = 0.22 * near.noise(rng, width * 0.42, width * 0.38) + 0.05 * near.noise(rng, width * 0.13, width * 0.12)
    mask = step(ball + rough, 0.90, 1.03, falling=True)
    sun = np.clip(0.95 - 0.50 * (near.x - x) / width - 0.60 * (near.y - y) / width, 0.40, 1.45)
    light = _foliage(near, rng, width * 0.30) * sun
    color = (
        linear((88, 128, 60)) + (linear((128, 150, 76)) - linear((88, 128, 60))) * np.clip(sun - 0.7, 0, 1)[..., None]
    )
    near.paint(mask, np.asarray(color * light[..., None], np.float32))


def _windows(patch: Patch, aspect: float) -> None:
    """Paint two tall windows on the left with daylight and a lawn behind."""
    top, bottom = 0.06, 0.56
    for left, right in ((0.05 * aspect, 0.17 * aspect), (0.20 * aspect, 0.32 * aspect)):
        patch.paint(patch.rectangle(left - 0.018, top - 0.018, right + 0.018, bottom + 0.018), linear((236, 230, 220)))
        glass = patch.rectangle(left, top, right, bottom)
        high, low = linear((250, 250, 248)), linear((158, 186, 138))
        patch.paint(glass, high + (low - high) * step(patch.y, 0.30, bottom)[..., None])
        bars = np.maximum(bell(patch.x, (left + right) / 2, 0.006), bell(patch.y, 0.30, 0.006))
        patch.paint(bars * glass, linear((232, 226, 216)))


def _pictures(patch: Patch, aspect: float, rng: np.random.Generator) -> None:
    """Paint three framed pictures, each of two colors."""
    tones: tuple[Color, ...] = ((170, 92, 70), (86, 116, 132), (196, 160, 92), (104, 126, 96))
    places = ((0.44, 0.12, 0.20, 0.26), (0.60, 0.08, 0.26, 0.20), (0.79, 0.14, 0.18, 0.24))
    for number, (place, top, wide, high) in enumerate(places):
        left, first, second = place * aspect, linear(tones[number]), linear(tones[number + 1])
        band = step(patch.y - top - high * (0.55 + 0.1 * patch.noise(rng, 0.12, 1.0)), -0.01, 0.01)
        for grow, color in (
            (0.016, linear((84, 66, 52))),
            (0.006, linear((238, 232, 220))),
            (-0.020, first + (second - first) * band[..., None]),
        ):
            sides = (left - grow, top - grow, left + wide + grow, top + high + grow)
            patch.paint(patch.rectangle(*sides), color)


def _floor(patch: Patch, boards: Field, rng: np.random.Generator) -> None:
    aspect = patch.frame.right
    patch.paint(step(patch.y, WALL_END - 0.034, WALL_END - 0.030), linear((226, 218, 204)))
    over = step(patch.y, WALL_END - 0.003, WALL_END + 0.003)
    depth = np.maximum(patch.y - HORIZON, 0.05)
    board = (patch.x - aspect / 2) / depth * 1.6
    tone = np.interp(np.floor(board).astype(np.float64) + 60.0, np.arange(120), rng.random(120)).astype(np.float32)
    seam = np.abs(board - np.round(board))
    light = 0.82 + 0.26 * tone - 0.35 * step(seam, 0.0, 0.05, falling=True) + 0.05 * patch.noise(rng, 0.05, 0.2)
    shine = bell(patch.x + 0.5 * (patch.y - WALL_END), 0.25 * aspect, 0.20 * aspect) * 0.45
    patch.paint(
        over, np.asarray(boards * light[..., None] + shine[..., None] * linear((236, 224, 204)) * 0.5, np.float32)
    )


def _plant(patch: Patch, x: float, rng: np.random.Generator) -> None:
    """Paint a pot with long leaves on the floor by the wall."""
    ground = WALL_END + 0.03
    patch.shade(1.0 - np.float32(0.4) * patch.ellipse(x + 0.03, ground, 0.11, 0.02, softness=0.02))
    for _ in range(16):
        lean, tall = (float(rng.random()) - 0.5) * 1.7, 0.20 + 0.22 * float(rng.random())
        tip = (x + lean * tall, ground - 0.12 - tall * (1.0 - 0.35 * abs(lean)))
        bend = (x + lean * tall * 0.35, ground - 0.12 - tall * 0.75)
        leaf = [
            (x - 0.008, ground - 0.1),
            (bend[0] - 0.022, bend[1]),
            tip,
            (bend[0] + 0.022, bend[1]),
            (x + 0.008, ground - 0.1),
        ]
        green = linear((70, 112, 66)) * np.float32(0.6 + 0.8 * float(rng.random()))
        near = patch.window(x - 0.5, ground - 0.6, x + 0.5, ground)
        near.paint(near.outline(leaf), green)
    pot = [(x - 0.075, ground - 0.13), (x + 0.075, ground - 0.13), (x + 0.055, ground), (x - 0.055, ground)]
    near = patch.window(x - 0.15, ground - 0.2, x + 0.15, ground + 0.05)
    side = np.clip(1.1 - 5.0 * (near.x - x), 0.5, 1.5)[..., None]
    near.paint(near.outline(pot), linear((196, 178, 156)) * side)
