"""The base class of overlays that hide faces under a mask."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._base import OverlayModel
from overlays._blending import BlendOptions, blend
from overlays._filters import FILLS, Fill, Values
from overlays._geometry import Image, Region
from overlays._masks import MIN_HALF_SIDE, Mask, MaskOptions, Shape
from overlays._records import FACE, SHAPES, GpuFaces, clip_boxes
from scrfd_trt._detections import Detections
from scrfd_trt.errors import OverlayError

LOG = logging.getLogger("scrfd_trt.overlays")

MIN_MARGIN: dict[Shape, float] = {"ellipse": 0.1, "aligned": 0.1, "rectangle": 0.05}
"""Below these, the box of a face that is tilted, in profile or poorly detected leaves too much of it uncovered. At
these margins 5, 7 and 7 % of 256 faces in four photographs have more than a twentieth outside the mask, of the ellipse
from chin to hairline that their landmarks give; with no margin, 47, 71 and 20 %."""


class Covering(MaskOptions, BlendOptions, OverlayModel):
    """Base class of overlays that replace the pixels of a face.

    A subclass implements :meth:`fill_for`, which works on the CPU and on the GPU, or :meth:`replacement`, which works
    on the CPU. :class:`MaskOptions` define which pixels are covered, and :class:`BlendOptions` how they are mixed.
    Faces are covered one after the other, smallest first: where faces overlap, the larger one covers what the smaller
    one left.

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

    def fill_for(self, sizes: Values) -> Fill | None:
        """Return what replaces the pixels of faces; None if that is what :meth:`replacement` says.

        Parameters
        ----------
        sizes
            The longer side of each face's box in pixels, ``(N,)`` float64. Values of the fill that depend on it
            have the same shape.
        """
        del sizes
        return None

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
        raise NotImplementedError(f"{type(self).__name__} needs a method fill_for() or replacement()")

    def draw(self, canvas: Image, detections: Detections) -> None:
        if self.opacity == 0.0:
            return
        masks = sorted(self.masks(detections), key=lambda mask: mask.size)
        fill = self._fill(np.array([mask.size for mask in masks]))
        for row, mask in enumerate(masks):
            region = mask.region(canvas)
            if region is None:
                continue
            alpha = mask.rasterize(region)
            if self.opacity < 1.0:
                alpha = np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(alpha), alpha=self.opacity), np.uint8)
            patch = self.replacement(canvas, region, mask) if fill is None else fill.replace(canvas, region, row)
            if np.shape(patch) != (*alpha.shape, 3):
                what = f"an array {(*alpha.shape, 3)} of the region's size, not {np.shape(patch)}"
                raise OverlayError(f"{type(self).__name__}.replacement must return {what}")
            blend(canvas, region, patch, alpha, self.blending)

    def changed_boxes(self, detections: Detections) -> NDArray[np.float64]:
        return self.mask_columns(detections).boxes()

    def used_boxes(self, detections: Detections) -> NDArray[np.float64] | None:
        columns = self.mask_columns(detections)
        fill = self._fill(columns.size)
        return None if fill is None else columns.boxes(fill.reach)

    def _fill(self, sizes: Values) -> Fill | None:
        """Return :meth:`fill_for`, unless the class has its own :meth:`replacement`."""
        return self.fill_for(sizes) if type(self).replacement is Covering.replacement else None

    def gpu_faces(self, detections: Detections) -> GpuFaces | None:
        columns = self.mask_columns(detections)
        if not self._draws_as(Covering, "masks", "mask_columns"):
            return None
        regions, kept = clip_boxes(columns.boxes(), detections.image_size)
        order = np.argsort(columns.size[kept], kind="stable")
        rows = np.flatnonzero(kept)[order]
        fill = self._fill(columns.size[rows])
        if fill is None or type(fill) not in FILLS:  # a class derived from these may replace pixels in its own way
            return None
        records = np.zeros(len(rows), FACE)
        records["region"], records["shape"] = regions[order], SHAPES[self.shape]
        records["center"], records["half"] = columns.center[rows], np.maximum(columns.half[rows], MIN_HALF_SIDE)
        records["turn"] = np.stack([columns.cos[rows], columns.sin[rows]], 1)
        records["feather"], records["opacity"] = columns.feather[rows], self.opacity
        records["linear"] = self.blending == "linear"
        fill.pack(records, detections.image_size)
        return GpuFaces(records)
