"""Opacity and blending of patches into an image, the same for all overlays.

Partly transparent colours are mixed in linear light, as glass and printed dots do, or as stored sRGB values, which is
faster. They differ most between light and dark: half white over black is level 188 in linear light and 128 in sRGB.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._geometry import Image, Region
from scrfd_trt._options import OptionsModel

Blending = Literal["linear", "srgb"]
"""How partly transparent colours are mixed: in linear light, or as stored sRGB values."""

BLENDING_HELP = "Mix partly transparent pixels in linear light, or as sRGB values, which is faster."

_STEPS = 1 << 14  # fine enough for the darkest levels, where sRGB is steepest
_DENSE = 0.3  # fraction of partly transparent pixels above which mixing all pixels is faster


def _to_linear() -> NDArray[np.float32]:
    """Linear light of each of the 256 levels, 0 to ``_STEPS`` (IEC 61966-2-1)."""
    value = np.arange(256) / 255.0
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(light * _STEPS, np.float32)


def _to_srgb() -> Image:
    light = np.arange(_STEPS + 1) / _STEPS
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255.0 * value), np.uint8)


SRGB_TO_LINEAR, LINEAR_TO_SRGB = _to_linear(), _to_srgb()

_FRACTION = np.asarray(np.arange(256) / 255.0, np.float32)
_PIXEL = np.dtype("V3")  # three channels at once: taking and putting these is twice as fast
_UNPREMULTIPLY = np.asarray(255.0 / np.maximum(np.arange(256), 1), np.float32)


class BlendOptions(OptionsModel):
    """Options of overlays that draw over a face."""

    opacity: float = Field(1.0, ge=0.0, le=1.0, description="Opacity; below 1 the face is visible.")
    blending: Blending = Field("linear", description=BLENDING_HELP)


def blend(canvas: Image, region: Region, patch: Image, mask: Image, blending: Blending = "srgb") -> None:
    """Blend a patch into a region of an image, in place.

    Parameters
    ----------
    canvas, patch
        ``(H, W, 3)`` and ``(h, w, 3)`` uint8; only ``region`` of the canvas is written.
    mask
        ``(h, w)`` uint8: 255 takes the patch, 0 keeps the canvas.
    blending
        How values in between are mixed.
    """
    view = canvas[region.slices]
    if blending == "linear":
        _blend_linear(view, patch, mask, premultiplied=False)
        return
    alpha = cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR)
    above = cv2.multiply(patch, alpha, scale=1 / 255)
    # 255 is odd: two halves never round to a level other than that of equal colours.
    view[...] = cv2.add(above, cv2.multiply(view, cv2.bitwise_not(alpha), scale=1 / 255))


def blend_premultiplied(canvas: Image, region: Region, patch: Image, blending: Blending = "srgb") -> None:
    """Blend a patch with premultiplied alpha over a region of an image, in place ("over" of Porter and Duff, 1984).

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8; only ``region`` is written.
    patch
        ``(h, w, 4)`` uint8: three colour channels multiplied by alpha, and alpha.
    blending
        How partly transparent colours are mixed.
    """
    view = canvas[region.slices]
    alpha = np.asarray(cv2.extractChannel(patch, 3), np.uint8)
    color = np.asarray(cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), np.uint8)
    if blending == "linear":
        _blend_linear(view, color, alpha, premultiplied=True)
        return
    below = cv2.multiply(view, cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR), scale=1 / 255)
    view[...] = cv2.add(below, color)


def _blend_linear(view: Image, patch: Image, alpha: Image, *, premultiplied: bool) -> None:
    """Copy opaque pixels and mix partly transparent ones in linear light."""
    partly = np.flatnonzero(np.subtract(alpha, 1, dtype=np.uint8) < 254)
    if len(partly) > _DENSE * alpha.size:
        view[...] = _mix_linear(np.ascontiguousarray(view), patch, alpha, premultiplied=premultiplied)
        return
    out = np.array(view, order="C")
    cv2.copyTo(patch, np.equal(alpha, 255).view(np.uint8), out)
    if len(partly):
        pixels = out.reshape(-1, 3).view(_PIXEL)
        below, above = (
            each.take(partly).view(np.uint8).reshape(-1, 1, 3) for each in (pixels, patch.reshape(-1, 3).view(_PIXEL))
        )
        share = alpha.ravel().take(partly)[:, None]
        mixed = _mix_linear(below, above, share, premultiplied=premultiplied)
        pixels[partly, 0] = mixed.reshape(-1, 3).view(_PIXEL)[:, 0]
    view[...] = out


def _mix_linear(below: Image, above: Image, alpha: Image, *, premultiplied: bool) -> Image:
    """Mix ``(h, w, 3)`` by alpha ``(h, w)`` in linear light."""
    share = cv2.LUT(cv2.merge([alpha] * 3), _FRACTION)
    if premultiplied:
        color = cv2.multiply(above, cv2.LUT(cv2.merge([alpha] * 3), _UNPREMULTIPLY), dtype=cv2.CV_8U)
        above = np.asarray(color, np.uint8)
    light = np.asarray(cv2.LUT(below, SRGB_TO_LINEAR), np.float32)
    rise = np.asarray(cv2.LUT(above, SRGB_TO_LINEAR), np.float32)
    rise -= light
    rise *= share
    rise += light
    return LINEAR_TO_SRGB.take(np.rint(rise, out=rise).astype(np.uint16))
