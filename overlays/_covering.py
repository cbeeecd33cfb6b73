"""The base of overlays that hide faces under a mask."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._base import OverlayModel
from overlays._masks import Area, MaskOptions, Shape, areas, region_of, weights
from overlays._mixing import MixOptions, mix
from overlays._raster import Region
from scrfd_trt._detections import Detections

LOG = logging.getLogger("scrfd_trt.overlays")

LEAST_MARGIN: dict[Shape, float] = {"ellipse": 0.1, "aligned": 0.1, "rectangle": 0.05}
"""With less, the box of a face that leans, looks aside or was found badly leaves too much of it out. At these margins
5, 7 and 7 % of 256 faces in four photographs have more than a twentieth beyond the mask, of the ellipse from chin to
hairline that their landmarks give; with no margin, 47, 71 and 20 %."""


class Covering(MaskOptions, MixOptions, OverlayModel):
    """Base of overlays that put something else in the place of a face's pixels.

    A subclass implements :meth:`patch`. The options of ``overlays._masks`` define which pixels are covered, those of
    ``overlays._mixing`` how they are mixed; all pixels of the shape are covered, whatever the options.

    Faces are done one after the other on the same canvas, the smallest first: where faces overlap, what the small one
    left is covered again by the large one.

    An ``opacity`` below 1 lets the face shine through, a ``scale`` below 1 leaves some of it in sight, and so does a
    ``margin`` near 0: all are said in a warning of the logger ``scrfd_trt.overlays`` when the overlay is made.

    Raises
    ------
    OptionError
        If an option is unknown or out of its range.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for reason in self.readable():
            LOG.warning("%s: %s", type(self).__name__, reason)

    def readable(self) -> list[str]:
        """Return why faces may still be known with these options, one sentence each; empty where they may not."""
        found = []
        if self.opacity < 1.0:
            found.append(f"with opacity {self.opacity:g} the face shines through; 1 hides it")
        if self.scale < 1.0:
            found.append(f"with scale {self.scale:g} some of the face stays in sight; 1 or more hides it")
        elif self.scale * (0.5 + self.margin) < 0.5 + LEAST_MARGIN[self.shape]:
            enough = LEAST_MARGIN[self.shape]
            found.append(
                f"with margin {self.margin:g} the rim of some faces stays in sight; {enough:g} or more hides it"
            )
        return found

    @abstractmethod
    def patch(self, canvas: NDArray[np.uint8], region: Region, area: Area) -> NDArray[np.uint8]:
        """Make what covers one face.

        Parameters
        ----------
        canvas
            ``(H, W, 3)`` uint8; it is not written to.
        region
            The pixels of it that are wanted.
        area
            The shape over the face.

        Returns
        -------
        numpy.ndarray
            ``(h, w, 3)`` uint8 of the region's size, contiguous.
        """

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        if self.opacity == 0.0:
            return
        for area in sorted(areas(self, detections), key=lambda area: area.size):
            region = region_of(area, canvas)
            if region is None:
                continue
            mask = weights(area, region)
            if self.opacity < 1.0:
                mask = np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(mask), alpha=self.opacity), np.uint8)
            mix(canvas, region, self.patch(canvas, region, area), mask, self.blending)

    def reach_boxes(self, detections: Detections) -> NDArray[np.float64]:
        """Return the boxes around all masks; see :meth:`overlays.OverlayModel.reach_boxes`."""
        return np.array([area.reach.grown(*self._slack(area)) for area in areas(self, detections)]).reshape(-1, 4)

    @staticmethod
    def _slack(area: Area) -> tuple[float, float]:
        return (0.0, 0.0) if area.sin == 0.0 else (1.0, 1.0)
