"""Fit an image into the input of a model, and map points back to the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MEAN = 127.5
STD = 128.0  # the model input is (x − 127.5) / 128 for a pixel value x (InsightFace ``SCRFD.detect``)
PADDING = -MEAN / STD  # the model input for a pixel value of zero
FREE_SCALES = ((128, 128), (640, 640))
"""Width and height in pixels of the passes over an image, for models of free input size. The largest anchor fits faces
of about 512 pixels in 640; the small pass finds faces that fill the frame."""

MIN_CUT = 256
"""Inputs with no longer side, in pixels, are not cut: they cost little, and where both passes find a face with almost
the same score, the change would swap its boxes."""

MIN_PADDING = 16
"""Padding in pixels that stays in a cut input. Without any, models miss faces at that border of the image."""

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
"""OpenCV's names of the rotations, in degrees clockwise."""

TURNED_ASIDE = (90, 270)  # rotations that swap width and height
SIDE_STEP = 32  # sides of an input in pixels are multiples of it, as of scales


def own_scales(height: int | None, width: int | None) -> tuple[tuple[int, int], ...]:
    """Return the passes of a model by the sides of its input, None where they are free."""
    if height is None and width is None:
        return FREE_SCALES
    return ((width or FREE_SCALES[-1][0], height or FREE_SCALES[-1][1]),)


@dataclass(frozen=True)
class Letterbox:
    """The placement of an image in the model input, in width and height: scaled to fit, top left, the rest padded."""

    source: tuple[int, int]  # image
    target: tuple[int, int]  # model input
    resized: tuple[int, int]  # scaled image, at least 1×1

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Return the placement of the largest size that fits and keeps the aspect ratio, rounded down to pixels."""
        (width, height), (across, down) = source, target
        if height * across > down * width:
            across = max(1, width * down // height)
        else:
            down = max(1, height * across // width)
        return cls(source, target, (across, down))

    def cut(self) -> Letterbox:
        """Return the same placement in an input without the padding that hardly changes the faces."""
        if max(self.target) <= MIN_CUT:
            return self
        needed = (-(-(side + MIN_PADDING) // SIDE_STEP) * SIDE_STEP for side in self.resized)
        across, down = map(min, needed, self.target)
        return replace(self, target=(across, down))

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per source pixel along x and y; they differ by the rounding of each axis."""
        return self.resized[0] / self.source[0], self.resized[1] / self.source[1]

    def to_source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(…, 2k)`` x, y pairs, boxes ``(N, 4)`` or landmarks ``(N, 5, 2)``, from input to source pixels."""
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
    rotation: int = 0,
) -> None:
    """Write an image ``(h, w, 3)`` uint8 into ``blob``, ``(3, H, W)`` float32, C-contiguous: RGB, scaled, normalised.

    The scaled image is turned clockwise by ``rotation`` degrees, 0, 90, 180 or 270; ``box`` is that of the turned one.
    ``padded`` says that ``blob`` already holds the padding of an image of the same placement; writing the padding
    takes a fifth of the time.
    """
    across, down = box.resized
    upright = (down, across) if rotation in TURNED_ASIDE else (across, down)
    is_scaled = upright == (image.shape[1], image.shape[0])
    scaled = image if is_scaled else cv2.resize(image, upright, interpolation=cv2.INTER_LINEAR)
    planes = cv2.split(scaled)
    for plane, values in zip(blob, planes[::-1] if color == "bgr" else planes, strict=True):
        if rotation:  # of planes, in half the time
            values = cv2.rotate(values, TURNS[rotation])  # noqa: PLW2901
        # One pass from bytes to floats: values · (1 / STD) + values · 0 + PADDING.
        cv2.addWeighted(values, 1.0 / STD, values, 0.0, PADDING, dst=plane[:down, :across], dtype=cv2.CV_32F)
        if not padded:
            plane[down:] = PADDING
            plane[:down, across:] = PADDING
