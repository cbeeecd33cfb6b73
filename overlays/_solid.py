"""The overlay ``solid``: faces covered with one colour."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import Field

from overlays._colors import ChannelOptions, Color
from overlays._covering import Covering
from overlays._geometry import Image, Region
from overlays._masks import Mask


class Solid(ChannelOptions, Covering):
    """Cover each face with one colour.

    Nothing of a face is left, not even its colours: this overlay hides the most.
    """

    fill: Color = Field("black", description="Colour: #rrggbb, #rgb or a name.")

    def replacement(self, canvas: Image, region: Region, mask: Mask) -> Image:
        width, height = region.size
        out = np.empty((height, width, 3), np.uint8)
        # Much faster than assigning three values.
        cv2.rectangle(out, (0, 0), (width, height), self.channels(self.fill), cv2.FILLED)
        return out

    def reach(self, size: float) -> float:
        return 0.0
