"""The overlay ``spotlight``: everything but the faces dimmed, blurred or grey."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from overlays._base import OverlayModel
from overlays._blending import LINEAR_TO_SRGB, SRGB_TO_LINEAR
from overlays._colors import ChannelOptions
from overlays._filters import blur_region
from overlays._geometry import Image, Region
from overlays._masks import MaskOptions
from scrfd_trt._detections import Detections


class Spotlight(ChannelOptions, MaskOptions, OverlayModel):
    """Dim, blur or desaturate everything but the faces.

    The pixels of the shape over each face stay unchanged. An image without faces is dimmed completely, so that a video
    does not flash when a face is missed.
    """

    effect: Literal["dim", "blur", "grey"] = Field("dim", description="Effect on the rest of the image.")
    amount: float = Field(0.7, ge=0.0, le=1.0, description="Strength of the effect, 0 (none) to 1 (full).")
    scale: float = Field(
        1.0, gt=0.0, le=10.0, description="Size of the unchanged shape; below 1, part of the face is changed, too."
    )
    margin: float = Field(
        0.25, ge=0.0, le=2.0, description="Unchanged margin around the box, as a fraction of its sides."
    )
    feather: float = Field(0.3, ge=0.0, le=1.0, description="Width of the soft edge, as a fraction of the face's size.")

    def draw(self, canvas: Image, detections: Detections) -> None:
        if self.amount == 0.0:
            return
        lit = np.zeros(canvas.shape[:2], np.uint8)
        for mask in self.masks(detections):
            if region := mask.region(canvas):
                view = lit[region.slices]
                np.maximum(view, mask.rasterize(region), out=view)
        alpha = cv2.cvtColor(lit, cv2.COLOR_GRAY2BGR)
        kept = cv2.multiply(canvas, alpha, scale=1 / 255)
        canvas[...] = cv2.add(kept, cv2.multiply(self._apply(canvas), cv2.bitwise_not(alpha), scale=1 / 255))

    def _apply(self, canvas: Image) -> Image:
        """Return the whole image under the effect."""
        if self.effect == "dim":
            table = LINEAR_TO_SRGB[np.rint(SRGB_TO_LINEAR * (1.0 - self.amount)).astype(np.intp)]
            return np.asarray(cv2.LUT(canvas, table), np.uint8)
        if self.effect == "grey":
            code = cv2.COLOR_BGR2GRAY if self.color == "bgr" else cv2.COLOR_RGB2GRAY
            grey = cv2.cvtColor(cv2.cvtColor(canvas, code), cv2.COLOR_GRAY2BGR)
            return np.asarray(cv2.addWeighted(grey, self.amount, canvas, 1.0 - self.amount, 0.0), np.uint8)
        height, width = canvas.shape[:2]
        sigma = max(0.04 * self.amount * max(width, height), 0.3)
        return np.ascontiguousarray(blur_region(canvas, Region(0, 0, width, height), sigma))
