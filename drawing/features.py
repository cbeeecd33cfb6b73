"""Eyes, brows, nostrils, lips, beard and glasses."""

from __future__ import annotations

import numpy as np

from drawing.head import Head
from drawing.looks import generator
from drawing.patch import Field, Patch, bell, linear, step


def eyes(head: Head, patch: Patch) -> None:
    """Paint both eyes with lids and lashes."""
    rng = generator(head.look.detail, 3)
    gaze = (float(rng.random()) - 0.5) * 0.03
    tall = 0.082 + 0.012 * float(rng.random()) - 0.014 * head.look.smile + 0.006 * head.look.soft
    for side, (x, y) in zip((-1.0, 1.0), head.eyes, strict=True):
        half = (0.172 + 0.008 * head.look.soft) * head.span(side)
        _eye(head, patch.window(x - 0.3, y - 0.25, x + 0.3, y + 0.25), (x, y, half, tall), side, gaze)


def _eye(head: Head, patch: Patch, place: tuple[float, float, float, float], side: float, gaze: float) -> None:
    x, y, half, tall = place
    look = head.look
    t = (patch.x - x) / np.float32(half) * np.float32(side)  # -1 at the nose, 1 at the temple
    arch = np.clip(1.0 - np.abs(t) ** 2.3, 0.0, 1.0)
    tilt = -0.016 * t
    upper, lower = y + tilt - tall * arch * (1.0 - 0.12 * t), y + tilt + tall * 0.62 * np.clip(1.0 - t * t, 0, 1)
    inside = np.abs(t) < 1.02
    opening = np.asarray(
        patch.edge(np.maximum(upper - patch.y, patch.y - lower), 0.008) * inside.astype(np.float32), np.float32
    )
    crease = bell(patch.y - upper, -0.036, 0.010) * step(np.abs(t), 0.8, 1.1, falling=True)
    base = linear(look.skin)
    patch.tint(crease * np.float32(0.45), base * np.float32(0.38))
    bag = bell(patch.y - lower, 0.040, 0.016) * step(np.abs(t), 0.5, 1.0, falling=True)
    patch.tint(bag * np.float32(0.10 + 0.25 * look.age), base * np.float32(0.5))
    patch.tint(opening, linear((232, 226, 222)))
    corner = opening * bell(t, -1.0, 0.16)
    patch.tint(corner * np.float32(0.6), linear((196, 120, 112)))
    _iris(patch, opening, (x + gaze + head.sin * 0.06, y - 0.014), look.eyes)
    shadow = opening * step(patch.y - upper, 0.0, 0.05, falling=True)
    patch.tint(shadow * np.float32(0.55), linear((70, 56, 56)))
    thick = 0.010 + 0.010 * look.soft
    lash = bell(patch.y - upper, -0.002, thick) * step(np.abs(t), 0.92, 1.12, falling=True)
    patch.tint(lash * np.float32(0.92), linear((30, 20, 18)))
    lower_lash = bell(patch.y - lower, 0.004, 0.007) * step(np.abs(t), 0.7, 1.05, falling=True)
    patch.tint(lower_lash * np.float32(0.40 + 0.15 * look.soft), linear((72, 46, 42)))


def _iris(patch: Patch, opening: Field, center: tuple[float, float], color: tuple[float, float, float]) -> None:
    x, y = center
    radius = 0.083
    iris = patch.ellipse(x, y, radius, radius, softness=0.012) * opening
    patch.tint(iris, linear(color) * np.float32(0.30))
    glow = patch.ellipse(x, y + 0.012, radius * 0.72, radius * 0.70, softness=0.035) * opening
    patch.tint(glow * np.float32(0.8), linear(color) * np.float32(1.25))
    patch.tint(patch.ellipse(x, y, 0.031, 0.031, softness=0.012) * opening, linear((12, 10, 10)))


def catchlights(head: Head, patch: Patch) -> None:
    """Paint the reflection of the light in both eyes, after the light."""
    for x, y in head.eyes:
        near = patch.window(x - 0.15, y - 0.15, x + 0.15, y + 0.15)
        spot = near.ellipse(x - 0.022 + head.sin * 0.06, y - 0.036, 0.017, 0.017, softness=0.012)
        near.tint(spot * np.float32(0.9), (1.0, 1.0, 1.0))


def brows(head: Head, patch: Patch) -> None:
    """Paint both brows as bundles of hair."""
    look, rng = head.look, generator(head.look.detail, 4)
    raise_, thick = 0.02 * float(rng.random()), 0.030 + 0.022 * (1.0 - look.soft)
    hair = np.minimum(linear(look.hair), linear((120, 96, 80))) * np.float32(0.55)
    for side in (-1.0, 1.0):
        x = head.across(side * (head.eye_gap + 0.01), 0.70)
        near = patch.window(x - 0.4, -0.62, x + 0.4, -0.12)
        t = (near.x - x) / np.float32(0.215 * head.span(side)) * np.float32(side)
        line = head.eye_y - 0.190 - raise_ - 0.032 * (1.0 - (t - 0.15) ** 2) + 0.006 * t
        width = thick * np.clip(1.05 - 0.55 * np.clip(t, -0.3, 1.2) ** 2 - 0.25 * np.clip(t, 0, 2), 0.12, 1.0)
        body = np.exp(-(((near.y - line) / width) ** 2)) * step(np.abs(t), 0.85, 1.12, falling=True)
        strands = 1.0 + 0.22 * near.noise(rng, 0.022, 0.10) + 0.16 * near.noise(rng, 0.009, 0.05)
        patch_mask = np.clip(body * strands * np.float32(0.90), 0.0, 0.92).astype(np.float32)
        near.tint(patch_mask, hair)


def nostrils(head: Head, patch: Patch) -> None:
    """Paint the nostrils and the shadow of the nose."""
    base = linear(head.look.skin)
    x, y = head.across(0.0, 0.9), head.nose_y + 0.085
    patch = patch.window(x - 0.45, y - 0.25, x + 0.45, y + 0.25)
    for side in (-1.0, 1.0):
        hole = patch.ellipse(
            head.across(side * 0.062, 0.93), y, 0.036 * head.span(side), 0.018, turn=side * -14, softness=0.022
        )
        patch.tint(hole * np.float32(0.85), base * np.array([0.07, 0.07, 0.12], np.float32))
        wing = patch.ellipse(head.across(side * 0.15, 0.82), y - 0.04, 0.014, 0.055, turn=side * -8, softness=0.035)
        patch.tint(wing * np.float32(0.42), base * np.float32(0.42))
    under = patch.glow(head.across(0.0, 0.93) + 0.015, y + 0.018, 0.10, 0.022)
    patch.tint(under * np.float32(0.42), base * np.array([0.32, 0.32, 0.42], np.float32))
    cast = patch.ellipse(head.across(0.14, 0.8), y + 0.015, 0.10, 0.05, turn=20, softness=0.10)
    patch.tint(cast * np.float32(0.30), base * np.array([0.40, 0.42, 0.52], np.float32))


def mouth(head: Head, patch: Patch) -> None:
    """Paint the lips, and the teeth of a wide smile."""
    look = head.look
    (left, corner_y), (right, _) = head.corners
    middle, half = (left + right) / 2 + head.sin * 0.06, (right - left) / 2
    near = patch.window(left - 0.15, head.mouth_y - 0.3, right + 0.15, head.mouth_y + 0.3)
    t = (near.x - np.float32(middle)) / np.float32(half)
    flat = np.clip(1.0 - t * t, 0.0, 1.0)
    seam = corner_y + (head.mouth_y - corner_y) * flat**0.8 + 0.010 * np.cos(t * 6.0) * flat * (1.0 - look.smile)
    full = 0.050 + 0.022 * look.soft
    gap = max(0.0, look.smile - 0.55) * 0.19
    bow = 1.0 - 0.28 * bell(t, 0.0, 0.14)
    upper = seam - gap * 0.35 * flat - full * flat**0.62 * bow
    lower = seam + gap * flat + full * 1.25 * flat**0.6
    inside = (np.abs(t) < 1.0).astype(np.float32)
    lips = near.edge(np.maximum(upper - near.y, near.y - lower), 0.022) * inside
    base = linear(look.skin)
    red = linear((190, 84, 84)) * np.float32(0.35 + 0.25 * look.soft) + base * np.array([0.34, 0.34, 0.50], np.float32)
    red = red * np.float32(0.92 if look.soft > 0.5 else 0.80)
    near.tint(lips * np.float32(0.45 + 0.45 * look.soft), red)
    near.tint(lips * step(near.y - seam, -0.02, 0.02, falling=True) * np.float32(0.28), red * np.float32(0.55))
    dark = linear((64, 22, 22))
    if gap > 0.01:
        top, bottom = seam - gap * 0.35 * flat, seam + gap * flat
        opening = near.edge(np.maximum(top - near.y, near.y - bottom), 0.010) * inside
        near.tint(opening * np.float32(0.95), dark)
        teeth = near.edge(np.maximum(top - near.y, near.y - (top + (bottom - top) * 0.86)), 0.014) * inside
        ivory = linear((238, 232, 222)) * np.float32(0.92)
        near.tint(teeth * step(np.abs(t), 0.62, 0.95, falling=True), ivory)
        near.tint(teeth * step(near.y - top, 0.0, 0.03, falling=True) * np.float32(0.45), dark)
    else:
        near.tint(bell(near.y - seam, 0.0, 0.011) * inside * np.float32(0.80), dark)
    for x in (left, right):
        near.tint(near.ellipse(x, corner_y, 0.028, 0.018, softness=0.035) * np.float32(0.55), base * np.float32(0.25))
    near.tint(near.glow(middle, head.mouth_y + full * 1.25 + gap + 0.045, 0.13, 0.022) * np.float32(0.30), base * 0.4)


def beard(head: Head, patch: Patch) -> None:
    """Paint beard and moustache."""
    look, rng = head.look, generator(head.look.detail, 5)
    if look.beard == "none":
        return
    middle = head.across(0.0, 0.8)
    x = np.abs(patch.x - np.float32(middle))
    cheek = 0.30 + 0.26 * bell(x, 0.30, 0.14) - 0.30 * step(x, 0.48, 0.72)
    area = step(patch.y - cheek, -0.05, 0.07)
    (left, corner_y), (right, _) = head.corners
    inner = patch.ellipse((left + right) / 2, head.mouth_y + 0.015, (right - left) / 2 * 0.98, 0.115, softness=0.05)
    lip = patch.ellipse(middle, head.mouth_y - 0.118, (right - left) / 2 * 1.08, 0.058, softness=0.05)
    side_lip = sum(
        patch.ellipse(px, corner_y + 0.03, 0.055, 0.11, turn=turn, softness=0.05)
        for px, turn in ((left - 0.02, 14), (right + 0.02, -14))
    )
    moustache = np.clip(lip + 0.7 * side_lip, 0, 1)
    area = np.clip(area * (1.0 - inner), 0, 1) if look.beard != "moustache" else np.zeros_like(area)
    area = np.clip(np.maximum(area, moustache * (1.0 - inner * 0.6)), 0, 1)
    strands = 0.5 + 0.40 * patch.noise(rng, 0.013, 0.05) + 0.30 * patch.noise(rng, 0.035, 0.09)
    strength = 0.42 if look.beard == "stubble" else 0.92
    cover = np.clip(area * strength * (0.70 + 0.55 * strands), 0.0, strength).astype(np.float32)
    tone = linear(look.hair)[None, None] * (0.62 + 0.5 * strands)[..., None]
    patch.tint(cover, np.asarray(tone, np.float32))


def glasses(head: Head, patch: Patch) -> None:
    """Paint round glasses, after the light."""
    if not head.look.glasses:
        return
    rim = linear((38, 34, 36))
    for side, (x, y) in zip((-1.0, 1.0), head.eyes, strict=True):
        wide, high = 0.245 * head.span(side), 0.200
        outer = patch.ellipse(x, y + 0.03, wide, high, softness=0.006)
        inner = patch.ellipse(x, y + 0.03, wide - 0.020, high - 0.020, softness=0.006)
        patch.tint(inner * np.float32(0.05), (1.0, 1.0, 1.0))
        fall = patch.ellipse(x + 0.02, y + 0.06, wide, high, softness=0.04) * (1.0 - inner) * (1.0 - outer)
        patch.tint(fall * np.float32(0.25), linear(head.look.skin) * np.float32(0.3))
        patch.tint(np.clip(outer - inner, 0, 1), rim)
        start, end = sorted((x + side * wide, side * head.width))
        patch.tint(bell(patch.y, y - 0.02, 0.016) * _between(patch.x, start, end), rim)
    (left, y), (right, _) = head.eyes
    bridge_y = y - 0.03 * (1.0 - ((patch.x - (left + right) / 2) / 0.1) ** 2)
    gap = _between(patch.x, left + 0.235 * head.span(-1.0), right - 0.235 * head.span(1.0))
    patch.tint(bell(patch.y - bridge_y, 0.0, 0.014) * gap, rim)


def _between(values: Field, low: float, high: float) -> Field:
    return step(values, low - 0.01, low + 0.01) * step(values, high - 0.01, high + 0.01, falling=True)
