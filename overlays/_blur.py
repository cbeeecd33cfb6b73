"""Faces made unreadable by a blur, or by coarse blocks."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays._coarse import LEAST_DETAIL, blocks, blurred
from overlays._covering import Covering
from overlays._masks import Area
from overlays._mixing import Blending
from overlays._raster import Region


class Blur(Covering):
    """Blur each face, or pixelate it, in proportion to its own size.

    The size of a face is the longer side of its box.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.

    Notes
    -----
    ``strength`` is the finest detail left, as a share of the face's size: the side of a block of ``pixelate``, two
    standard deviations of ``gaussian``. Familiar faces are still known at 7×10 blocks (Sinha et al., "Face recognition
    by humans: nineteen results", Proc. IEEE 94(11), 2006), so strengths that leave more than half of these ten along
    the face, those below 0.2, are refused. The default leaves four.

    Faces are done one after the other on the same canvas, the smallest first: where faces overlap, what the small one
    left is blurred again by the large one, so that no pixel of a face keeps detail finer than its own strength allows.
    Nothing but pixels of the image goes into a blur: the border is mirrored, not taken as black.
    """

    method: Literal["gaussian", "pixelate"] = Field("gaussian", description="A smooth blur, or coarse blocks.")
    strength: float = Field(
        0.25,
        ge=LEAST_DETAIL,
        le=1.0,
        description="Finest detail left, as a share of the face's size; less would tell who it is.",
    )
    blending: Blending = Field(
        "srgb", description="Where it is half-transparent, mix light as the eye would see it, or stored sRGB values."
    )

    def patch(self, canvas: NDArray[np.uint8], region: Region, area: Area) -> NDArray[np.uint8]:
        """Blur a region; see :meth:`overlays._covering.Covering.patch`."""
        detail = max(area.size * self.strength, 2.0)
        if self.method == "pixelate":
            return blocks(canvas, region, math.ceil(detail))
        return blurred(canvas, region, detail / 2)
