"""The base class of overlays that hide faces under a mask."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._base import OverlayModel
from overlays._blending import BlendOptions, blend
from overlays._geometry import Image, Region
from overlays._masks import Mask, MaskOptions, Shape
from scrfd_trt._detections import Detections

LOG = logging.getLogger("scrfd_trt.overlays")

MIN_MARGIN: dict[Shape, float] = {"ellipse": 0.1, "aligned": 0.1, "rectangle": 0.05}
"""Below these, the box of a face that is tilted, in profile or poorly detected leaves too much of it uncovered. At
these margins 5, 7 and 7 % of 256 faces in four photographs have more than a twentieth outside the mask, of the ellipse
from chin to hairline that their landmarks give; with no margin, 47, 71 and 20 %."""


class Covering(MaskOptions, BlendOptions, OverlayModel):
    """Base class of overlays that replace the pixels of a face.

    A subclass implements :meth:`replacement`. :class:`MaskOptions` define which pixels are covered, and
    :class:`BlendOptions` how they are mixed. Faces are covered one after the other, smallest first: where faces
    overlap, the larger one covers what the smaller one left.

    Each of :meth:`privacy_warnings` is logged as a warning by the logger ``scrfd_trt.overlays`` at construction.
    """

    covers: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for warning in self.privacy_warnings():
            LOG.warning("%s: %s", type(self).__name__, warning)

    def privacy_warnings(self) -> list[str]:
        """Return why faces may stay recognisable, one sentence each; empty if the options hide faces.

        A subclass adds what its own options may leave visible.
        """
        found = []
        if self.opacity < 1.0:
            found.append(f"opacity {self.opacity:g} leaves the face visible; use 1 to hide it")
        if self.scale < 1.0:
            found.append(f"scale {self.scale:g} leaves part of the face visible; use 1 or more to hide it")
        elif self.scale * (0.5 + self.margin) < 0.5 + MIN_MARGIN[self.shape]:
            enough = MIN_MARGIN[self.shape]
            found.append(
                f"margin {self.margin:g} leaves the edge of some faces visible; use {enough:g} or more to hide it"
            )
        return found

    @abstractmethod
    def replacement(self, canvas: Image, region: Region, mask: Mask) -> Image:
        """Return the pixels that replace one face.

        Parameters
        ----------
        canvas
            ``(H, W, 3)`` uint8; must not be modified.
        region, mask
            The pixels to replace, and the mask over the face.

        Returns
        -------
        numpy.ndarray
            ``(h, w, 3)`` uint8 of the region's size, contiguous.
        """

    def reach(self, size: float) -> float | None:
        """Return how far from the mask over a face :meth:`replacement` reads, in pixels; None if that has no limit.

        ``size`` is the longer side of the face's box in pixels.
        """
        del size
        return None

    def draw(self, canvas: Image, detections: Detections) -> None:
        if self.opacity == 0.0:
            return
        for mask in sorted(self.masks(detections), key=lambda mask: mask.size):
            region = mask.region(canvas)
            if region is None:
                continue
            alpha = mask.rasterize(region)
            if self.opacity < 1.0:
                alpha = np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(alpha), alpha=self.opacity), np.uint8)
            blend(canvas, region, self.replacement(canvas, region, mask), alpha, self.blending)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        return np.array([mask.box for mask in self.masks(detections)]).reshape(-1, 4)

    def used_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        masks = self.masks(detections)
        reaches = [self.reach(mask.size) for mask in masks]
        boxes = [mask.box.padded(by, by) for mask, by in zip(masks, reaches, strict=True) if by is not None]
        return np.array(boxes).reshape(-1, 4) if len(boxes) == len(masks) else None
