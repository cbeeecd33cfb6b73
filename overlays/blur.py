"""Faces made unreadable: blurred, or in coarse blocks."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlays.base import OverlayModel
from overlays.raster import Box, Shape, blend, clip_box, soft_mask
from scrfd_trt.detections import Detections

_FINE_SIGMA = 3.0


class Blur(OverlayModel):
    """Blur each face, or pixelate it, in proportion to its own size.

    The size of a face is the longer side of its box. With a margin, a shape is cut around it within which every pixel
    is covered wholly; the soft edge lies outside of that.

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
        ge=0.2,
        le=1.0,
        description="Finest detail left, as a share of the face's size; less would tell who it is.",
    )
    shape: Shape = Field("ellipse", description="What is covered: an ellipse within the box, or the whole box.")
    margin: float = Field(
        0.15, ge=0.0, le=2.0, description="How far the shape reaches beyond the box, as a share of the box's sides."
    )
    feather: float = Field(
        0.1, ge=0.0, le=1.0, description="Width of the soft edge outside of the shape, as a share of the face's size."
    )

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        """Draw into the canvas; see :meth:`overlays.OverlayModel.draw`."""
        boxes = [Box(*row) for row in detections.boxes.astype(np.float64).tolist()]
        for box in sorted(boxes, key=lambda box: max(box.width, box.height)):
            self._cover(canvas, box)

    def _cover(self, canvas: NDArray[np.uint8], box: Box) -> None:
        if box.width <= 0.0 or box.height <= 0.0:
            return
        size = max(box.width, box.height)
        covered = box.grown(box.width * self.margin, box.height * self.margin)
        feather = size * self.feather
        region = clip_box(covered.grown(feather, feather), canvas.shape[1], canvas.shape[0])
        if region is None:
            return
        mask = soft_mask(self.shape, covered, feather, region)
        pixels = np.ascontiguousarray(canvas[region.rows_columns])
        detail = max(size * self.strength, 2.0)
        patch = blurred(pixels, detail / 2) if self.method == "gaussian" else pixelated(pixels, detail)
        blend(canvas, region, patch, mask)


def blurred(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur by a Gaussian, mirrored at the border; a wide one is done on a smaller copy.

    Parameters
    ----------
    pixels
        ``(h, w, 3)`` uint8.
    sigma
        Standard deviation in pixels.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8. The time hardly depends on ``sigma``.
    """
    height, width = pixels.shape[:2]
    shrink = max(1.0, sigma / _FINE_SIGMA)
    small = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    if small == (width, height):
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.uint8)
    out = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    # A side of one pixel would ask for a kernel as wide as sigma itself.
    sigmas = [min(sigma * part / whole, 2 * _FINE_SIGMA) for part, whole in zip(small, (width, height), strict=True)]
    out = cv2.GaussianBlur(out, (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def pixelated(pixels: NDArray[np.uint8], block: float) -> NDArray[np.uint8]:
    """Average over blocks.

    Parameters
    ----------
    pixels
        ``(h, w, 3)`` uint8.
    block
        Least side of a block in pixels, 1 or more; blocks are larger where that lets them fill the patch.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8.
    """
    height, width = pixels.shape[:2]
    count = (max(1, math.floor(width / block)), max(1, math.floor(height / block)))
    means = cv2.resize(pixels, count, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(means, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
