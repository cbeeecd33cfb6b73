"""The overlay ``pixelate``: faces in coarse blocks."""

from __future__ import annotations

import math

from pydantic import Field

from overlays._blending import BLENDING_HELP, Blending
from overlays._covering import Covering
from overlays._filters import MIN_STRENGTH, Strength, pixelate_region
from overlays._geometry import Image, Region
from overlays._masks import Mask


class Pixelate(Covering):
    """Pixelate each face. The block size is relative to the face, or in pixels.

    With ``block``, all faces get blocks of the same size. A face more than 5 blocks high may stay recognisable (see
    ``strength`` of :class:`overlays.Blur`), so ``block`` is among the privacy warnings.
    """

    strength: Strength = Field(
        0.25, description="Block size, as a fraction of the face's size. The minimum makes recognition unlikely."
    )
    block: int | None = Field(None, ge=2, le=4096, description="Side of a block in pixels; replaces strength.")
    blending: Blending = Field("srgb", description=BLENDING_HELP)

    def privacy_warnings(self) -> list[str]:
        found = super().privacy_warnings()
        if self.block is not None:
            largest = round(self.block / MIN_STRENGTH)
            found.append(
                f"block {self.block} may leave faces above {largest} pixels recognisable; use strength instead"
            )
        return found

    def replacement(self, canvas: Image, region: Region, mask: Mask) -> Image:
        side = max(2, math.ceil(mask.size * self.strength)) if self.block is None else self.block
        return pixelate_region(canvas, region, side)

    def reach(self, size: float) -> float:
        return max(2, math.ceil(size * self.strength)) if self.block is None else self.block
