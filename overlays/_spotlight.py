"""Everything but the faces dimmed, blurred or without colour."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._base import OverlayModel
from overlays._coarse import blurred
from overlays._colors import ChannelOptions
from overlays._masks import MaskOptions, areas, region_of, weights
from overlays._mixing import LEVELS, LIGHT
from overlays._raster import Region
from scrfd_trt._detections import Detections


class Spotlight(ChannelOptions, MaskOptions, OverlayModel):
    """Dim, blur or grey all but the faces.

    The pixels of the shape over each face stay exactly as they are. Where no face was found, there is no light: the
    whole image is dimmed, so that a video does not flash where a face is missed.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    effect: Literal["dim", "blur", "grey"] = Field("dim", description="What happens to the rest of the image.")
    amount: float = Field(0.7, ge=0.0, le=1.0, description="How dark, soft or grey it gets: 0 not at all, 1 wholly.")
    margin: float = Field(
        0.25, ge=0.0, le=2.0, description="How far the light reaches beyond the box, as a share of the box's sides."
    )
    feather: float = Field(
        0.3, ge=0.0, le=1.0, description="Width of the soft edge outside of the light, as a share of the face's size."
    )

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        if self.amount == 0.0:
            return
        light = np.zeros(canvas.shape[:2], np.uint8)
        for area in areas(self, detections):
            if region := region_of(area, canvas):
                view = light[region.rows_columns]
                np.maximum(view, weights(area, region), out=view)
        rest = self._rest(canvas)
        share = cv2.cvtColor(light, cv2.COLOR_GRAY2BGR)
        kept = cv2.multiply(canvas, share, scale=1 / 255)
        canvas[...] = cv2.add(kept, cv2.multiply(rest, cv2.bitwise_not(share), scale=1 / 255))

    def _rest(self, canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.effect == "dim":
            table = LEVELS[np.rint(LIGHT * (1.0 - self.amount)).astype(np.intp)]
            return np.asarray(cv2.LUT(canvas, table), np.uint8)
        if self.effect == "grey":
            how = cv2.COLOR_BGR2GRAY if self.color == "bgr" else cv2.COLOR_RGB2GRAY
            grey = cv2.cvtColor(cv2.cvtColor(canvas, how), cv2.COLOR_GRAY2BGR)
            return np.asarray(cv2.addWeighted(grey, self.amount, canvas, 1.0 - self.amount, 0.0), np.uint8)
        height, width = canvas.shape[:2]
        sigma = max(0.04 * self.amount * max(width, height), 0.3)
        return np.ascontiguousarray(blurred(canvas, Region(0, 0, width, height), sigma))
