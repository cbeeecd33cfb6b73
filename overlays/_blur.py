"""The overlay ``blur``: faces blurred or pixelated."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from overlays._blending import BLENDING_HELP, Blending
from overlays._covering import Covering
from overlays._filters import BlurFill, Fill, MosaicFill, Strength, Values


class Blur(Covering):
    """Blur or pixelate each face in proportion to its size (the longer side of its box).

    Notes
    -----
    ``strength`` is the finest detail left, as a fraction of the face's size: the side of a block for ``pixelate``, two
    standard deviations for ``gaussian``. Familiar faces are recognised at 7×10 blocks (Sinha et al., "Face recognition
    by humans: nineteen results", Proc. IEEE 94(11), 2006), so strengths below 0.2, which leave more than 5 blocks along
    the face, are rejected. The default leaves 4.

    Where faces overlap, the larger one blurs again what the smaller one left, so that no pixel of a face keeps finer
    detail than its strength allows. The image is mirrored at its border, so that no black enters the blur.
    """

    method: Literal["gaussian", "pixelate"] = Field("gaussian", description="Smooth blur, or coarse blocks.")
    strength: Strength = Field(
        0.25,
        description="Smallest visible detail, as a fraction of the face size. The minimum makes recognition unlikely.",
    )
    blending: Blending = Field("srgb", description=BLENDING_HELP)

    def fill_for(self, sizes: Values) -> Fill:
        detail = np.maximum(sizes * self.strength, 2.0)
        return MosaicFill(np.ceil(detail)) if self.method == "pixelate" else BlurFill(detail / 2)
