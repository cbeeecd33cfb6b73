"""Faces in coarse blocks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._coarse import LEAST_DETAIL, blocks
from overlays._covering import Covering
from overlays._masks import Area
from overlays._mixing import Blending
from overlays._raster import Region


class Pixelate(Covering):
    """Show each face in coarse blocks, of a share of its size or of a number of pixels.

    With ``block``, all faces get blocks of the same side. A face more than five blocks high could still be known (see
    ``strength`` of :class:`overlays.Blur`), so this is said in a warning when the overlay is made.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    strength: float = Field(
        0.25,
        ge=LEAST_DETAIL,
        le=1.0,
        description="Side of a block as a share of the face's size; less would tell who it is.",
    )
    block: int | None = Field(
        None, ge=2, le=4096, description="Side of a block in pixels, for all faces alike, in the place of strength."
    )
    blending: Blending = Field(
        "srgb", description="Where it is half-transparent, mix light as the eye would see it, or stored sRGB values."
    )

    def readable(self) -> list[str]:
        """Return why faces may still be known; see :meth:`overlays._covering.Covering.readable`."""
        found = super().readable()
        if self.block is not None:
            most = round(self.block / LEAST_DETAIL)
            found.append(
                f"with block {self.block} faces of more than {most} pixels may still be known; strength suits all sizes"
            )
        return found

    def patch(self, canvas: NDArray[np.uint8], region: Region, area: Area) -> NDArray[np.uint8]:
        """Average a region over blocks; see :meth:`overlays._covering.Covering.patch`."""
        side = max(2, math.ceil(area.size * self.strength)) if self.block is None else self.block
        return blocks(canvas, region, side)
