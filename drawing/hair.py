"""Hair behind and over the head, with strands, curls and gloss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drawing.head import KEY, Head
from drawing.looks import generator
from drawing.patch import Field, Patch, bell, linear, soften, step

Points = list[tuple[float, float]]

CURLS = {"curly": 0.115, "afro": 0.085}
"""Size of a curl in face units."""

LENGTHS = {"bob": 0.95, "long": 2.45, "wavy": 2.15}
"""Lower end of the hair by style, in face units."""

BOB: Points = [(1.05, 0.55), (1.02, 0.93), (0.84, 1.00), (0.68, 0.90), (0.75, 0.45), (0.72, 0.02)]
FALL: Points = [(1.08, 0.7), (1.16, 1.4), (1.10, 2.0), (0.92, 2.45), (0.74, 2.1), (0.66, 1.5), (0.72, 0.8), (0.73, 0.1)]

CAPS: dict[str, tuple[Points, Points]] = {
    # outer outline from the right ear up to the crown, then the hairline from the middle back to the ear
    "short": (
        [(0.76, 0.10), (0.80, -0.25), (0.86, -0.60), (0.78, -1.02), (0.48, -1.34), (0.0, -1.43)],
        [(0.0, -0.93), (0.36, -0.92), (0.55, -0.82), (0.645, -0.58), (0.68, -0.34), (0.69, -0.08)],
    ),
    "parted": (
        [(0.76, 0.16), (0.83, -0.25), (0.91, -0.60), (0.85, -1.08), (0.52, -1.45), (0.0, -1.53)],
        [(-0.08, -0.98), (0.34, -0.95), (0.57, -0.74), (0.64, -0.52), (0.68, -0.30), (0.69, -0.02)],
    ),
    "quiff": (
        [(0.76, 0.02), (0.79, -0.25), (0.84, -0.58), (0.82, -1.05), (0.58, -1.48), (0.05, -1.66)],
        [(0.0, -0.98), (0.36, -0.97), (0.56, -0.84), (0.645, -0.58), (0.68, -0.34), (0.70, -0.10)],
    ),
    "curly": (
        [(0.78, 0.12), (0.90, -0.20), (1.00, -0.62), (0.92, -1.14), (0.56, -1.52), (0.0, -1.60)],
        [(0.0, -0.84), (0.34, -0.84), (0.56, -0.74), (0.65, -0.52), (0.69, -0.28), (0.69, 0.02)],
    ),
    "afro": (
        [(0.84, 0.02), (0.96, -0.20), (1.02, -0.62), (0.90, -1.16), (0.55, -1.50), (0.0, -1.58)],
        [(0.0, -0.95), (0.34, -0.94), (0.56, -0.82), (0.66, -0.56), (0.70, -0.30), (0.70, -0.04)],
    ),
    "bun": (
        [(0.76, 0.12), (0.80, -0.25), (0.85, -0.60), (0.78, -1.02), (0.48, -1.35), (0.0, -1.44)],
        [(0.0, -1.00), (0.36, -0.97), (0.55, -0.84), (0.645, -0.58), (0.69, -0.34), (0.70, -0.06)],
    ),
    "receding": (
        [(0.76, 0.10), (0.80, -0.25), (0.84, -0.58), (0.76, -0.98), (0.46, -1.27), (0.0, -1.33)],
        [(0.0, -1.13), (0.24, -1.10), (0.44, -0.98), (0.60, -0.78), (0.68, -0.46), (0.70, -0.08)],
    ),
}


def behind(head: Head, patch: Patch) -> None:
    """Paint the hair behind head and neck."""
    style = head.look.style
    if style == "afro":
        mask = _curled_edge(head, patch, patch.ellipse(0.0, -0.52, 1.27, 1.20, softness=0.10))
    elif style == "bun":
        mask = patch.ellipse(0.04, -1.58, 0.36, 0.33, softness=0.02)
    elif style in LENGTHS:
        mask = _curtain_back(head, patch)
    else:
        return
    _shine(head, patch, mask, dim=0.80 if style == "bun" else 0.55)


def over(head: Head, patch: Patch) -> None:
    """Paint the hair over skull, forehead and temples."""
    style = head.look.style
    if style in LENGTHS:
        mask = _curtains(head, patch)
    elif style in CAPS:
        outer, inner = CAPS[style]
        mask = patch.outline(_mirrored(outer, inner, head))
        mask = _curled_edge(head, patch, mask) if style in CURLS else _frayed(head, patch, mask)
        if style == "receding":
            mask = mask * np.float32(0.92)
    else:
        return
    _shine(head, patch, mask, dim=1.0)


def _mirrored(outer: Points, inner: Points, head: Head) -> NDArray[np.float64]:
    """Return the closed outline; the hairline moves with the turn of the head."""
    wide, shift = head.width / 0.775, head.sin * 0.45
    out = np.array(outer + [(-x, y) for x, y in outer[-2::-1]])
    line = np.array([(-x, y) for x, y in inner[:0:-1]] + inner)
    line[:, 0] += shift * np.clip(1.0 - np.abs(line[:, 0]) / 0.72, 0.0, 1.0)
    return np.concatenate([out, line]) * (wide, 1.0)


def _curtain_back(head: Head, patch: Patch) -> Field:
    reach = LENGTHS[head.look.style]
    wide = 1.02 if head.look.style == "wavy" else 0.95
    half: Points = [(0.0, -1.50), (0.50, -1.42), (0.84, -1.08), (0.93, -0.55), (wide, 0.10)]
    if reach > 1.2:
        half += [(wide + 0.07, 0.8), (wide + 0.06, 1.5), (0.80, reach), (0.3, reach + 0.12)]
    else:
        half += [(wide + 0.07, 0.55), (0.88, reach), (0.4, reach + 0.08)]
    outline = half + [(-x, y) for x, y in half[:0:-1]]
    return _frayed(head, patch, patch.outline(outline))


def _curtains(head: Head, patch: Patch) -> Field:
    """Return the mask of hair that falls on both sides of the face, from a parting."""
    look, rng = head.look, generator(head.look.detail, 6)
    part = (float(rng.random()) - 0.5) * 0.5
    outer: Points = [(0.0, -1.52), (0.52, -1.43), (0.85, -1.08), (0.95, -0.55), (1.00, 0.05)]
    right = outer + (BOB if look.style == "bob" else FALL)
    top = -0.74 if look.fringe else -1.0
    masks = []
    for side in (-1.0, 1.0):
        shift = head.sin * 0.30
        brow = [(0.665 + shift * side * 0.3, -0.42), (0.52 + shift * side * 0.5, -0.72)]
        at_part = side * part + shift * side
        middle = ((0.52 + at_part) / 2 + 0.03, (top - 0.80) / 2 - 0.02)
        points = [*right, *brow, middle, (at_part + 0.05, top - 0.10), (at_part - 0.03, -1.30)]
        masks.append(patch.outline(np.array(points) * (side * head.width / 0.775, 1.0)))
    mask = np.maximum(*masks)
    if look.fringe:
        bangs = [(-0.62, -0.66), (0.0, -0.70), (0.62, -0.66), (0.66, -0.95), (0.0, -1.30), (-0.66, -0.95)]
        mask = np.maximum(mask, patch.outline(np.array(bangs) + np.array([head.sin * 0.25, 0.0])))
    return _frayed(head, patch, mask)


def _strands(head: Head, patch: Patch) -> Field:
    """Return noise of -1 to 1 that runs along the hair."""
    look, rng = head.look, generator(head.look.detail, 7)
    x, y = patch.x, patch.y
    if look.style in LENGTHS:
        wave = 0.07 * np.sin(y * 5.2 + np.abs(x) * 2.0) * step(y, -0.6, 0.4) if look.style == "wavy" else 0.0
        across = (x + wave) / (0.34 + 0.72 * step(y, -1.65, -0.35))
    elif look.style in {"parted", "quiff"}:
        across = np.arctan2(x + 0.32, 2.05 + 0.8 * y + 0.5 * x) * 1.4 + 0.10 * np.sin(y * 3.0)
    elif look.style == "bun":
        across = x / (0.30 + 0.62 * step(y, -1.7, -0.6)) + 0.15 * y
    else:
        across = np.arctan2(x, 0.55 - (y + 0.85)) * 1.1
    position = (np.asarray(across, np.float64) + 4.0) / 8.0
    out = np.zeros(patch.alpha.shape, np.float32)
    for count, weight in ((60, 0.30), (190, 0.40), (520, 0.35)):
        table = rng.random(count) * 2.0 - 1.0
        out += np.float32(weight) * np.interp(position * (count - 1), np.arange(count), table).astype(np.float32)
    return out + np.float32(0.15) * patch.noise(rng, 0.10, 0.35)


def _frayed(head: Head, patch: Patch, mask: Field) -> Field:
    """Return the mask with single strands along its edge."""
    soft, strands = patch.blur(mask, 0.022), _strands(head, patch)
    thin = soft + 0.20 * strands * soft * (1.0 - soft) * 4.0
    if head.look.style in {"long", "wavy"}:
        thin = thin - step(patch.y, 1.5, 2.5) * (0.55 + 0.9 * strands) * 0.8
    return step(np.asarray(thin, np.float32), 0.22, 0.78)


def _curled_edge(head: Head, patch: Patch, mask: Field) -> Field:
    size = CURLS[head.look.style]
    bumps = patch.noise(generator(head.look.detail, 8), size, size)
    soft = patch.blur(mask, size * 0.42)
    return step(soft + 0.34 * bumps * np.clip(soft * (1.0 - soft) * 4.0, 0.0, 1.0), 0.40, 0.62)


def _curl_relief(head: Head, patch: Patch) -> tuple[Field, Field]:
    """Return light and shade of curls, and the position of their glossy strands."""
    size, rng = CURLS[head.look.style], generator(head.look.detail, 9)
    coarse, fine = patch.noise(rng, size, size), patch.noise(rng, size / 2, size / 2)
    rings = np.cos(coarse * np.float32(7.0) + fine * np.float32(1.6))
    slope_y, slope_x = np.gradient(coarse * np.float32(size * patch.scale * 0.55))
    light = np.clip(1.0 - (slope_x * KEY[0] + slope_y * KEY[1]) * np.float32(0.55), 0.35, 1.9)
    return np.asarray(light, np.float32), np.asarray(rings, np.float32)


def _shine(head: Head, patch: Patch, mask: Field, dim: float) -> None:
    """Paint hair through a mask: rounded like the head, streaked by its strands, with a band of gloss."""
    look = head.look
    nx, ny = patch.x / np.float32(1.15), (patch.y + 0.45) / np.float32(1.35)
    ny = np.minimum(ny, np.float32(0.35))
    nz = np.sqrt(np.clip(1.0 - nx * nx - ny * ny, 0.06, 1.0))
    form = np.clip((nx * KEY[0] + ny * KEY[1] + nz * KEY[2] + 0.35) / 1.35, 0.0, 1.0)
    rim = np.clip(soften(mask, 0.10 * patch.scale) * 1.55 - 0.45, 0.25, 1.0)
    if look.style in CURLS:
        light, streak = _curl_relief(head, patch)
        tone = (0.26 + 0.85 * form) * light * (0.88 + 0.13 * streak)
        gloss = np.clip(light - 1.15, 0.0, 1.0) * form * 0.05
    else:
        streak = _strands(head, patch)
        around = np.sqrt((patch.x / 0.95) ** 2 + ((patch.y + 0.30) / 1.05) ** 2)
        band = bell(around - 0.06 * streak, 0.88, 0.085) * step(patch.y, -0.35, 0.1, falling=True)
        low = bell(np.abs(patch.x) + 0.03 * streak, 0.88, 0.07) * step(patch.y, -0.2, 0.5) * 0.45
        tone = (0.24 + 0.80 * form) * (1.0 + 0.55 * streak) * (0.75 + 0.25 * rim)
        gloss = (band + low) * np.clip(0.55 + streak, 0.0, 1.6) * form * 0.11
    base = linear(look.hair)
    sheen = base * np.float32(1.6) + np.float32(0.22)
    colors = base * (tone * rim * dim)[..., None] + sheen * (gloss * dim)[..., None]
    patch.paint(mask, colors)
