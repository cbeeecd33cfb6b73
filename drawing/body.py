"""Neck, clothes, arms and legs."""

from __future__ import annotations

import numpy as np

from drawing.head import KEY, Head
from drawing.looks import generator
from drawing.patch import Field, Patch, bell, linear, soften, step

FEET = 14.2
"""Distance from the centre of the face to the ground, in face units."""

HEM = 6.75
"""Lower end of the garment, in face units."""

Points = list[tuple[float, float]]


class Build:
    """Measures of a body in face units, from a look."""

    def __init__(self, head: Head) -> None:
        soft = head.look.soft
        self.neck = 0.57 - 0.12 * soft
        self.shoulder = 2.02 - 0.26 * soft
        self.chest = 1.62 - 0.20 * soft
        self.waist = 1.38 - 0.24 * soft
        self.hip = 1.45 - 0.02 * soft

    def half_width(self, y: Field) -> Field:
        """Half of the torso's width at a height."""
        levels = (1.0, 2.9, 5.0, 6.5, 15.0)
        widths = (self.chest, self.chest, self.waist, self.hip, self.hip)
        return np.interp(y.ravel(), levels, widths).astype(np.float32).reshape(y.shape)


def body(head: Head, patch: Patch) -> None:
    """Paint everything below the head, from the neck as far down as the patch reaches."""
    build = Build(head)
    if patch.frame.bottom > 6.0:
        _legs(head, patch)
    _neck(head, build, patch)
    for side in (-1.0, 1.0):
        _arm(head, build, patch, side)
    _torso(head, build, patch)


def _lit(nx: Field, ny: Field, nz: Field, ambient: float = 0.32) -> Field:
    size = np.sqrt(nx * nx + ny * ny + nz * nz)
    key = np.clip((nx * KEY[0] + ny * KEY[1] + nz * KEY[2]) / size * 0.9 + 0.1, 0.0, 1.0)
    return np.asarray(ambient + 0.74 * key, np.float32)


def _neck(head: Head, build: Build, patch: Patch) -> None:
    near = patch.window(-2.4, 0.0, 2.4, 3.2)
    n = build.neck
    half = [
        (n * 0.7, 0.45),
        (n * 0.93, 0.75),
        (n * 0.98, 1.0),
        (n * 1.04, 1.25),
        (n * 1.45, 1.62),
        (n * 2.1, 1.98),
        (1.0, 3.1),
    ]
    mask = near.outline(half + [(-x, y) for x, y in half[::-1]])
    across = np.clip(near.x / np.float32(n * 1.12), -1.0, 1.0) * step(near.y, 1.1, 1.75, falling=True)
    light = _lit(across, np.zeros_like(across) - 0.05, np.sqrt(np.clip(1.0 - across * across, 0.05, 1.0)))
    outside, _, _ = head.bulge(near.x - np.float32(0.07), near.y + np.float32(0.06))
    light = light * (0.30 + 0.70 * step(outside, 1.0, 1.75))
    for side in (-1.0, 1.0):
        bone = bell(near.y - 1.68 + 0.05 * np.abs(near.x), 0.0, 0.045) * bell(near.x, side * 0.55, 0.28)
        tendon = bell(near.x - side * (0.40 - 0.22 * (near.y - 0.9)), 0.0, 0.05) * bell(near.y, 1.25, 0.22)
        light = light * (1.0 + 0.10 * bone + 0.05 * tendon)
    pit = near.glow(0.0, 1.62, 0.07, 0.06)
    base = linear(head.look.skin)
    warm = np.stack([light**1.18, light**1.12, light**0.96], -1)
    near.paint(mask, base * warm * (1.0 - 0.1 * pit)[..., None])


def limb(
    patch: Patch, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> tuple[Patch, Field, Field]:
    """Return the window around a rounded limb, its mask and its light."""
    thick = max(radii) + 0.05
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    near = patch.window(left - thick, top - thick, right + thick, bottom + thick)
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = float(np.hypot(dx, dy))
    ux, uy = dx / length, dy / length
    px, py = near.x - np.float32(start[0]), near.y - np.float32(start[1])
    along = np.clip((px * ux + py * uy) / length, 0.0, 1.0)
    radius = radii[0] + (radii[1] - radii[0]) * along
    away = np.hypot(px - along * dx, py - along * dy) / radius
    round_ = np.clip((py * ux - px * uy) / radius, -1.0, 1.0)
    light = _lit(-uy * round_, ux * round_ * 0.6, np.sqrt(np.clip(1.0 - round_ * round_, 0.05, 1.0)))
    return near, near.edge((away - 1.0) * np.float32(min(radii))), light


def _folds(head: Head, patch: Patch, seed: int, strength: float = 1.0) -> Field:
    rng = generator(head.look.detail, seed)
    return np.asarray(
        1.0 + strength * (0.07 * patch.noise(rng, 0.5, 1.1) + 0.05 * patch.noise(rng, 0.22, 0.6)), np.float32
    )


def _arm(head: Head, build: Build, patch: Patch, side: float) -> None:
    look = head.look
    cloth, flesh = linear(look.garment), linear(look.skin)
    shoulder, elbow = (side * (build.shoulder - 0.50), 2.46), (side * (build.shoulder - 0.03), 4.95)
    bare = look.clothes in {"tee", "striped", "blouse"}
    if patch.frame.bottom > 4.9:
        wrist = (side * (build.shoulder - 0.06), 7.15)
        near, mask, light = limb(patch, elbow, wrist, (0.34, 0.25))
        near.paint(mask, (flesh if bare else cloth) * light[..., None])
        _hand(patch, wrist, side, flesh)
    near, mask, light = limb(patch, shoulder, elbow, (0.48, 0.36))
    light = light * _folds(head, near, 11)
    if bare:
        near.paint(mask, flesh * light[..., None])
        mask = mask * near.edge(near.y - 3.75 - 0.1 * np.abs(near.x), 0.02)
    near.paint(mask, _pattern(head, near, cloth) * light[..., None])


def _hand(patch: Patch, wrist: tuple[float, float], side: float, flesh: Field) -> None:
    """Paint thumb, palm and fingers of a hand that hangs down."""
    x, y = wrist[0] - side * 0.06, wrist[1] + 0.60
    for start, end, radii in (
        ((x - side * 0.12, y - 0.30), (x - side * 0.26, y + 0.20), (0.11, 0.08)),
        (wrist, (x, y), (0.22, 0.25)),
        ((x, y), (x - side * 0.08, y + 0.50), (0.24, 0.13)),
    ):
        near, mask, light = limb(patch, start, end, radii)
        near.paint(mask, flesh * light[..., None])


def _torso(head: Head, build: Build, whole: Patch) -> None:
    look, n = head.look, build.neck
    patch = whole.window(-2.3, 0.9, 2.3, HEM + 0.2)
    half = [
        (n * 0.9, 1.28),
        (n * 1.50, 1.52),
        (build.shoulder * 0.66, 1.76),
        (build.shoulder - 0.36, 1.95),
        (build.shoulder - 0.10, 2.22),
        (build.shoulder - 0.03, 2.60),
        (build.chest + 0.10, 3.05),
        (build.chest - 0.02, 3.6),
        (build.waist, 5.0),
        (build.hip, HEM - 0.45),
        (build.hip - 0.02, HEM - 0.12),
        (build.hip - 0.25, HEM - 0.01),
        (0.3, HEM + 0.02),
    ]
    mask = patch.outline(half + [(-x, y) for x, y in half[::-1]])
    u = np.clip(patch.x / (build.half_width(patch.y) * np.float32(1.06)), -1.0, 1.0)
    nx = np.sign(u) * np.abs(u) ** 1.7
    ny = -0.75 * step(patch.y - 0.22 * np.abs(patch.x), 1.35, 2.3, falling=True)
    light = _lit(nx, ny, np.sqrt(np.clip(1.0 - nx * nx, 0.08, 1.0))) * _folds(head, patch, 12, 1.6)
    for side in (-1.0, 1.0):
        pit = bell(patch.x, side * (build.chest + 0.02), 0.10) * step(patch.y, 2.75, 3.3)
        light *= 1.0 - np.float32(0.42) * pit
    light *= 1.0 - np.float32(0.38) * patch.glow(0.45, 1.35, 0.62, 0.42)  # shadow of the head
    mask = mask * (1.0 - _neckline(head, build, patch))
    patch.shade(1.0 - np.float32(0.45) * soften(mask, 0.07 * patch.scale) * (1.0 - mask))
    patch.paint(mask, _pattern(head, patch, linear(look.garment)) * light[..., None])
    _trim(head, build, patch, mask, light)


def _neckline(head: Head, build: Build, patch: Patch) -> Field:
    """Return the mask of the skin that the garment leaves uncovered below the neck."""
    kind, n = head.look.clothes, build.neck
    if kind in {"shirt", "jacket"}:
        deep = 2.15 if kind == "shirt" else 2.0
        half = [(n * 1.05, 1.0), (n * 0.98, 1.36), (0.03, deep)]
        return patch.outline(half + [(-x, y) for x, y in half[::-1]])
    if kind == "blouse":
        return patch.ellipse(0.0, 1.30, n * 1.55, 0.66, softness=0.015)
    return patch.ellipse(0.0, 1.22, n * 1.16, 0.40, softness=0.015)


def _pattern(head: Head, patch: Patch, cloth: Field) -> Field:
    """Return the garment's color, stripes or knit included, ``(H, W, 3)``."""
    look = head.look
    tone = np.broadcast_to(cloth, (*patch.alpha.shape, 3))
    if look.clothes == "striped":
        bend = patch.y + 0.10 * patch.x * patch.x
        wave = np.sin(bend * np.float32(2.0 * np.pi / 0.52))
        stripe = step(np.asarray(wave, np.float32), 0.0, 18.0 / patch.scale)
        other = linear((234, 230, 222) if float(cloth.mean()) < 0.5 else (58, 78, 112))
        return np.asarray(tone + stripe[..., None] * (other - tone), np.float32)
    if look.clothes == "sweater":
        ribs = 1.0 + 0.05 * np.sin(patch.x * 42.0) * min(1.0, patch.scale / 60.0)
        return np.asarray(tone * ribs[..., None], np.float32)
    return np.asarray(tone, np.float32)


def _trim(head: Head, build: Build, patch: Patch, mask: Field, light: Field) -> None:
    """Paint collars, lapels and buttons."""
    kind, n, cloth = head.look.clothes, build.neck, linear(head.look.garment)
    if kind == "shirt":
        _buttons(patch, mask, light, cloth)
        _collar(build, patch, light, np.minimum(cloth * np.float32(1.12), np.float32(1.0)))
    elif kind == "jacket":
        _jacket(build, patch, light, cloth)
    else:
        wide = {"sweater": 0.10, "blouse": 0.04}.get(kind, 0.06)
        rx, ry, y = (n * 1.55, 0.66, 1.30) if kind == "blouse" else (n * 1.16, 0.40, 1.22)
        near = patch.window(-rx - 0.3, y - 0.1, rx + 0.3, y + ry + 0.3)
        outer = near.ellipse(0.0, y, rx + wide, ry + wide, softness=0.012)
        below = near.ellipse(0.0, y + 0.025, rx + wide + 0.01, ry + wide + 0.01, softness=0.03)
        lit, cover = near.part(light)[..., None], near.part(mask)
        near.tint(np.clip(below - outer, 0, 1) * cover * np.float32(0.5), cloth * np.float32(0.45) * lit)
        near.tint(outer * cover * np.float32(0.9), cloth * np.float32(0.82) * lit)


def _buttons(patch: Patch, mask: Field, light: Field, cloth: Field) -> None:
    near = patch.window(-0.2, 2.0, 0.2, HEM)
    lit, cover = near.part(light)[..., None], near.part(mask)
    placket = bell(near.x, 0.10, 0.015) * step(near.y, 2.05, 2.2)
    near.tint(placket * cover * np.float32(0.45), cloth * np.float32(0.4) * lit)
    for number in range(5):
        button = near.ellipse(0.0, 2.45 + 0.82 * number, 0.045, 0.045, softness=0.02)
        near.tint(button * cover, cloth * lit * np.float32(0.5) + np.float32(0.18))


def _flap(patch: Patch, points: Points, light: Field, color: Field, drop: float) -> None:
    """Paint a collar or lapel, with a shadow downwards and to the right."""
    mask = patch.outline(points)
    shift = max(1, round(drop * patch.scale))
    fall = np.roll(patch.blur(mask, drop), (shift, shift), (0, 1))
    patch.shade(1.0 - np.float32(0.4) * fall * (1.0 - mask))
    patch.tint(mask, color * patch.part(light)[..., None])


def _collar(build: Build, patch: Patch, light: Field, color: Field) -> None:
    n = build.neck
    leaf = [(0.90, 1.10), (1.22, 1.22), (1.55, 1.60), (1.05, 2.02), (0.5, 1.78), (0.55, 1.62)]
    near = patch.window(-n * 1.9, 0.9, n * 1.9, 2.3)
    for side in (-1.0, 1.0):
        _flap(near, [(side * n * x, y) for x, y in leaf], light, color, 0.05)


def _jacket(build: Build, patch: Patch, light: Field, cloth: Field) -> None:
    """Paint an open jacket over a light shirt."""
    n = build.neck
    half = [(n, 1.30), (n * 1.1, 1.9), (0.42, 3.4), (0.16, 4.6)]
    near = patch.window(-1.4, 1.0, 1.4, 4.9)
    linen = near.outline(half + [(-x, y) for x, y in half[::-1]])
    linen = linen * (1.0 - near.ellipse(0.0, 1.22, n * 1.06, 0.44, softness=0.02))
    near.tint(linen, linear((228, 226, 220)) * near.part(light)[..., None])
    lapel = [(n * 1.06, 1.22), (n * 1.45, 1.45), (n * 1.95, 2.25), (n * 1.65, 2.45), (n * 1.62, 2.75), (0.30, 4.3)]
    color = np.minimum(cloth * np.float32(1.18) + np.float32(0.004), np.float32(1.0))
    for side in (-1.0, 1.0):
        _flap(near, [(side * x, y) for x, y in [*lapel, (0.22, 4.3), (n * 0.9, 2.3)]], light, color, 0.06)


def _legs(head: Head, patch: Patch) -> None:
    cloth = linear(head.look.trousers)
    for side in (-1.0, 1.0):
        near = patch.window(side * 0.92 - 0.6, FEET - 0.6, side * 0.92 + 0.6, FEET + 0.2)
        shoe = near.ellipse(side * 0.92, FEET - 0.16, 0.46, 0.24, turn=side * 8, softness=0.05)
        near.paint(shoe, linear((52, 44, 42)) * np.float32(0.8))
        hip, knee, ankle = (side * 0.70, 6.7), (side * 0.78, 10.4), (side * 0.84, FEET - 0.50)
        for start, end, radii in ((knee, ankle, (0.52, 0.38)), (hip, knee, (0.76, 0.52))):
            near, mask, light = limb(patch, start, end, radii)
            near.paint(mask, cloth * (light * _folds(head, near, 13))[..., None])
