"""Opacity and blending: how a patch goes into an image, one thing for all overlays.

Half-transparent colours are mixed in linear light, as glass and printed dots do, or in the stored sRGB values, which is
quicker. The difference shows where light meets dark: half of white over black is level 188 in linear light and 128 in
sRGB. It hardly shows where both sides are alike, at the soft edge of a blur say.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._raster import Region
from scrfd_trt._options import OptionsModel

Blending = Literal["linear", "srgb"]

Image = NDArray[np.uint8]
Weights = NDArray[np.uint8]

_STEPS = 1 << 14  # fine enough for the darkest levels, where sRGB is steepest in linear light


def _to_linear() -> NDArray[np.float32]:
    """Light of each of the 256 levels, 0 to ``_STEPS`` (IEC 61966-2-1)."""
    value = np.arange(256) / 255.0
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(light * _STEPS, np.float32)


def _to_levels() -> NDArray[np.uint8]:
    light = np.arange(_STEPS + 1) / _STEPS
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255.0 * value), np.uint8)


LIGHT, LEVELS = _to_linear(), _to_levels()
"""Tables from level to light and back."""

_SHARE = np.asarray(np.arange(256) / 255.0, np.float32)
_WHOLE = np.asarray(255.0 / np.maximum(np.arange(256), 1), np.float32)
_DENSE = 0.3


class MixOptions(OptionsModel):
    """The options of every overlay that lays something over a face."""

    opacity: float = Field(
        1.0, ge=0.0, le=1.0, description="How much it hides: 0 nothing, 1 all; a face shines through below 1."
    )
    blending: Blending = Field(
        "linear", description="Where it is half-transparent, mix light as the eye would see it, or stored sRGB values."
    )


def mix(canvas: Image, region: Region, patch: Image, weights: Weights, blending: Blending = "srgb") -> None:
    """Mix a patch into a region of the canvas.

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8; only ``region`` is written.
    region
        Where the patch lies.
    patch
        ``(h, w, 3)`` uint8.
    weights
        ``(h, w)`` uint8: 255 takes the patch, 0 keeps the canvas.
    blending
        What the values in between mean.
    """
    view = canvas[region.rows_columns]
    if blending == "linear":
        _mix_light(view, patch, weights, straight=True)
        return
    over = cv2.cvtColor(weights, cv2.COLOR_GRAY2BGR)
    above = cv2.multiply(patch, over, scale=1 / 255)
    # 255 has no even factor, so that two halves never round to a level beside that of equal colours.
    view[...] = cv2.add(above, cv2.multiply(view, cv2.bitwise_not(over), scale=1 / 255))


def stack(canvas: Image, region: Region, patch: Image, blending: Blending = "srgb") -> None:
    """Lay a patch with premultiplied alpha over a region of the canvas ("over" of Porter and Duff, 1984).

    Parameters
    ----------
    canvas
        ``(H, W, 3)`` uint8; only ``region`` is written.
    region
        Where the patch lies.
    patch
        ``(h, w, 4)`` uint8: blue, green, red, each times alpha, and alpha.
    blending
        What alpha between 0 and 255 means.
    """
    view = canvas[region.rows_columns]
    alpha = np.asarray(cv2.extractChannel(patch, 3), np.uint8)
    color = np.asarray(cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), np.uint8)
    if blending == "linear":
        _mix_light(view, color, alpha, straight=False)
        return
    below = cv2.multiply(view, cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR), scale=1 / 255)
    view[...] = cv2.add(below, color)


def _mix_light(view: Image, patch: Image, alpha: Weights, *, straight: bool) -> None:
    """Copy what is opaque, and mix in linear light what is partly so; unless ``straight``, colours are times alpha."""
    partly = np.flatnonzero(np.subtract(alpha, 1, dtype=np.uint8) < 254)
    if len(partly) > _DENSE * alpha.size:
        # All pixels at once cost less than picking out so many.
        view[...] = _lit(np.ascontiguousarray(view), patch, alpha, straight=straight)
        return
    if len(partly):
        rows, columns = np.divmod(partly, alpha.shape[1])
        below, above, share = view[rows, columns], patch.reshape(-1, 3).take(partly, 0), alpha.ravel().take(partly)
        view[rows, columns] = _lit(below[:, None], above[:, None], share[:, None], straight=straight)[:, 0]
    cv2.copyTo(patch, np.equal(alpha, 255).view(np.uint8), view)


def _lit(below: Image, above: Image, alpha: Weights, *, straight: bool) -> Image:
    """Mix ``(h, w, 3)`` with weights ``(h, w)`` in linear light."""
    share = cv2.LUT(cv2.merge([alpha] * 3), _SHARE)
    if not straight:
        color = cv2.multiply(above, cv2.LUT(cv2.merge([alpha] * 3), _WHOLE), dtype=cv2.CV_8U)
        above = np.asarray(color, np.uint8)
    light = np.asarray(cv2.LUT(below, LIGHT), np.float32)
    rise = np.asarray(cv2.LUT(above, LIGHT), np.float32)
    rise -= light
    rise *= share
    rise += light
    return LEVELS.take(np.rint(rise, out=rise).astype(np.uint16))
