"""Fit an image of any size into a network's input, and bring what was found there back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MEAN = 127.5
STD = 128.0
"""A pixel x enters the network as (x − 127.5) / 128 (InsightFace ``SCRFD.detect``)."""

PADDING = -MEAN / STD
"""What a pixel of value zero becomes."""

FREE_SCALES = ((128, 128), (640, 640))
"""Width and height in pixels of the passes over an image, for models of free input size. The largest anchor fits faces
of about 512 pixels in 640; the small pass finds faces that fill the frame."""


@dataclass(frozen=True)
class Letterbox:
    """How one image lies in the network's input: in the top left corner, scaled to fit, the rest padded.

    Attributes
    ----------
    source
        Width and height of the image in pixels.
    target
        Width and height of the network's input in pixels.
    resized
        Width and height of the scaled image in pixels, at least 1 each.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    resized: tuple[int, int]

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Find the largest size with the image's shape that fits, rounded down to whole pixels.

        Parameters
        ----------
        source, target
            Width and height in pixels, at least 1 each.
        """
        (width, height), (across, down) = source, target
        if height * across > down * width:
            across = max(1, width * down // height)
        else:
            down = max(1, height * across // width)
        return cls(source, target, (across, down))

    @property
    def scale(self) -> tuple[float, float]:
        """Network pixels to one source pixel, along x and y, each as it was rounded."""
        return self.resized[0] / self.source[0], self.resized[1] / self.source[1]

    def to_source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map network pixels to source pixels.

        Parameters
        ----------
        points
            ``(…, 2k)`` float32, x and y in turn: ``(N, 4)`` boxes, or ``(N, 5, 2)`` landmarks.

        Returns
        -------
        numpy.ndarray
            The same shape, a new array.
        """
        across, down = self.scale
        back = (1.0 / across, 1.0 / down) * (points.shape[-1] // 2)
        return points * np.array(back, np.float32)


def normalize_into(
    blob: NDArray[np.float32],
    image: NDArray[np.uint8],
    box: Letterbox,
    color: Literal["bgr", "rgb"] = "bgr",
    *,
    padded: bool = False,
) -> None:
    """Scale, pad, turn to RGB planes and normalise one image.

    Parameters
    ----------
    blob
        ``(3, H, W)`` float32, C-contiguous; written to: R, G and B planes of (x − 127.5) / 128.
    image
        ``(h, w, 3)`` uint8.
    box
        As from :meth:`Letterbox.fit` for these two sizes.
    color
        Order of the image's channels.
    padded
        Whether ``blob`` holds the padding already, from an image that lay in it in the same size; writing it again
        takes a fifth of the time.
    """
    across, down = box.resized
    scaled = image if box.resized == box.source else cv2.resize(image, box.resized, interpolation=cv2.INTER_LINEAR)
    planes = cv2.split(scaled)
    for plane, values in zip(blob, planes[::-1] if color == "bgr" else planes, strict=True):
        # One pass from bytes to floats: values · (1 / STD) + values · 0 + PADDING.
        cv2.addWeighted(values, 1.0 / STD, values, 0.0, PADDING, dst=plane[:down, :across], dtype=cv2.CV_32F)
        if not padded:
            plane[down:] = PADDING
            plane[:down, across:] = PADDING
