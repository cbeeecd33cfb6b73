"""What overlays draw on images in two planes, by the overlays on the CPU, and how far pictures are apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import overlays
from scrfd_trt import Detections
from scrfd_trt._image_arrays import LUMA_SHARES

CAT = Path(overlays.__file__).parent / "assets" / "emoji-cat.png"
COVERING = (
    "blur",
    "blur:shape=aligned,feather=0.3,blending=linear",
    "blur:method=pixelate,shape=rectangle",
    "blur:strength=1,opacity=0.6",
    "pixelate",
    "pixelate:shape=aligned,block=5,margin=0.5",
    "solid",
    "solid:shape=aligned,fill=orange,opacity=0.7,scale=0.8",
    "solid:shape=rectangle,margin=0,feather=0",
    "skull:opacity=0.6,scale=0.9",
    "emoji",
    "emoji:kind=robot,blending=srgb,scale=1.5",
    f"image:picture={CAT},fit=three,opacity=0.7",
    f"image:picture={CAT},scale=2",
)
"""Every overlay that covers, with different shapes, fills and blending."""

FORMATS = {"nv12": ("bt709", False, 8), "nv12-full": ("bt601", True, 8), "p010": ("bt2020", False, 10)}
"""Matrix, full range and bits."""


def crowd(size, count, seed=0, largest=0.25):
    """Faces of many sizes and angles that overlap, and may lie across the border, with track ids."""
    rng = np.random.default_rng(seed)
    high = rng.uniform(4, largest * size[1], count)
    sides = np.stack([high / 1.24, high], 1)
    center = rng.uniform(0, 1, (count, 2)) * size
    angle = rng.normal(0, 0.3, count)[:, None]
    points = np.array([[-0.2, -0.14], [0.2, -0.14], [0, 0.05], [-0.15, 0.24], [0.15, 0.24]]) * sides[:, None]
    turned = np.stack(
        [
            points[..., 0] * np.cos(angle) - points[..., 1] * np.sin(angle),
            points[..., 0] * np.sin(angle) + points[..., 1] * np.cos(angle),
        ],
        2,
    )
    boxes = np.concatenate([center - sides / 2, center + sides / 2], 1)
    scores = np.sort(rng.uniform(0.5, 1, count))[::-1]
    return Detections(boxes, scores, turned + center[:, None], image_size=size, track_ids=np.arange(count))


def picture(size, seed=1):
    """A picture with soft structures of all levels."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5.0), None, 0, 255, cv2.NORM_MINMAX)


def to_planes(image, matrix, full_range, bits, *, as_swscale=False):
    """Return luma and chroma of a BGR image; chroma is that of the mean of 2×2 pixels.

    swscale rounds down to 8 bits, but for luma of full range.
    """
    red, blue = LUMA_SHARES[matrix]
    b, g, r = np.moveaxis(image.astype(np.float64), 2, 0)
    light = red * r + blue * b + (1 - red - blue) * g
    height, width = light.shape
    wide = np.pad(
        np.stack([(b - light) / (2 - 2 * blue), (r - light) / (2 - 2 * red)], 2),
        [(0, height % 2), (0, width % 2), (0, 0)],
        "edge",
    )
    tint = wide.reshape(wide.shape[0] // 2, 2, wide.shape[1] // 2, 2, 2).mean((1, 3))
    unit = 1 << bits - 8
    y = light if full_range else light * 219 / 255 + 16
    uv = 128 + (tint if full_range else tint * 224 / 255)
    to_y, to_uv = (_down, _down) if as_swscale and bits == 8 else (np.rint, np.rint)
    to_y = np.rint if full_range else to_y
    planes = [np.clip(round_(plane * unit), 0, 256 * unit - 1) for plane, round_ in ((y, to_y), (uv, to_uv))]
    return [plane.astype(np.uint8) if bits == 8 else plane.astype(np.uint16) << 6 for plane in planes]


def _down(values):
    return np.floor(values + 0.001)


def from_planes(y, uv, matrix, full_range):
    """Return the BGR image of planes as swscale does, which rounds each term down."""
    red, blue = LUMA_SHARES[matrix]
    unit = 1 if y.itemsize == 1 else 256
    light = _down(y / unit if full_range else (y / unit - 16) * 255 / 219)
    u, v = np.moveaxis((uv / unit - 128) * (1 if full_range else 255 / 224), 2, 0)
    u, v = (
        plane.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for plane in (2 * (1 - blue) * u, 2 * (1 - red) * v)
    )
    green = 1 - blue - red
    image = light[..., None] + np.stack([_down(u), _down(-u * blue / green) + _down(-v * red / green), _down(v)], 2)
    return np.clip(image, 0, 255).astype(np.uint8)


def drawn_on_planes(overlay, y, uv, matrix, full_range, detections):
    """Return the planes as the path over BGR leaves them, the image it draws, and which samples it changes."""
    before = from_planes(y, uv, matrix, full_range)
    after = overlay(before, detections)
    changed = (after != before).any(2)
    new_y, new_uv = to_planes(after, matrix, full_range, 8 if y.itemsize == 1 else 10, as_swscale=True)
    blocks = cv2.copyMakeBorder(
        changed.astype(np.uint8), 0, len(changed) % 2, 0, changed.shape[1] % 2, cv2.BORDER_CONSTANT
    )
    blocks = blocks.reshape(uv.shape[0], 2, uv.shape[1], 2).any((1, 3))
    return np.where(changed, new_y, y), np.where(blocks[..., None], new_uv, uv), after, (changed, blocks)


def is_flat(image, limit=24):
    """Return the pixels ``(H, W)`` around which an image has no edge."""
    kernel = np.ones((7, 7), np.uint8)
    return (cv2.dilate(image, kernel).astype(int) - cv2.erode(image, kernel)).max(2) <= limit


def apart(found, wanted, where=None):
    """Return the largest difference in levels of 255, at some pixels only if ``where`` says so."""
    levels = np.abs(found.astype(float) - wanted) / (256 if found.itemsize == 2 else 1)
    levels = levels.max(2) if levels.ndim == 3 else levels
    return float(levels.max(initial=0.0) if where is None else levels[where].max(initial=0.0))


def share_within(found, wanted, limit):
    """Return the share of values that are at most so many levels of 255 apart."""
    levels = np.abs(found.astype(float) - wanted) / (256 if found.itemsize == 2 else 1)
    return float((levels <= limit).mean())


def left_uncovered(found, before, wanted):
    """Return how many samples the overlay on the CPU changes clearly, and ``found`` does not change."""
    unit = 256 if found.itemsize == 2 else 1
    clear = np.abs(wanted.astype(int) - before) >= 3 * unit
    return int((clear & (found == before)).sum())
