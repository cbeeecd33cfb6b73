"""The overlay ``pixelate``: faces in coarse blocks."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from overlays._blending import BLENDING_HELP, Blending
from overlays._covering import Covering
from overlays._filters import MIN_STRENGTH, Fill, MosaicFill, Strength, Values


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

    def fill_for(self, sizes: Values) -> Fill:
        sides = np.maximum(2.0, np.ceil(sizes * self.strength))
        return MosaicFill(sides if self.block is None else np.full_like(sides, self.block))
