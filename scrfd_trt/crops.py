"""Cut faces out of an image: a box with a margin, or a face turned upright for a recognition network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import OptionError

ARCFACE_TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace wants the five landmarks in a 112×112 crop, (5, 2), x and y in pixels (InsightFace ``face_align``)."""


def crop_box(image: NDArray[np.uint8], box: NDArray[np.float32], margin: float) -> NDArray[np.uint8]:
    """Copy a box out of an image.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    box
        ``(4,)`` x1, y1, x2, y2 in pixels.
    margin
        Grown by this share of its width and height on each side; negative shrinks.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` uint8, a copy, cut at the image's border; ``h`` or ``w`` is 0 where nothing is left.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in box)
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = max(0, int(np.floor(x1 - dx))), max(0, int(np.floor(y1 - dy)))
    right, bottom = min(width, int(np.ceil(x2 + dx))), min(height, int(np.ceil(y2 + dy)))
    return image[top : max(top, bottom), left : max(left, right)].copy()


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rotation, uniform scale and shift that bring points onto others with the least squared error.

    Parameters
    ----------
    source, target
        ``(N, 2)`` points, N at least 2.

    Returns
    -------
    numpy.ndarray
        ``(2, 3)`` float64: ``target ≈ source @ m[:, :2].T + m[:, 2]``. Closed form of Umeyama (1991) in the plane,
        without reflection. Points that all coincide give scale 0.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    da, db = a - mean_a, b - mean_b
    spread = float((da * da).sum())
    if spread == 0.0:
        return np.array([[0.0, 0.0, mean_b[0]], [0.0, 0.0, mean_b[1]]])
    cosine = float((da * db).sum()) / spread
    sine = float((da[:, 0] * db[:, 1] - da[:, 1] * db[:, 0]).sum()) / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, mean_b - turn @ mean_a])


def align_face(image: NDArray[np.uint8], landmarks: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Turn and scale one face onto the ArcFace template.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    landmarks
        ``(5, 2)`` float32 in pixels.
    size
        Side of the crop in pixels; the template is for 112 and is scaled for others. For the sizes of InsightFace that
        are multiples of 128 the template is moved 8 pixels of 128 to the right, as it is there.

    Returns
    -------
    numpy.ndarray
        ``(size, size, 3)`` uint8, black where the image ends.

    Raises
    ------
    OptionError
        If the size is no positive multiple of 112 or 128.
    """
    if size <= 0 or (size % 112 and size % 128):
        raise OptionError(f"size: a multiple of 112 or of 128 is wanted, not {size}")
    if size % 112 == 0:
        target = ARCFACE_TEMPLATE * np.float32(size / 112)
    else:
        target = ARCFACE_TEMPLATE * np.float32(size / 128) + np.array([8.0 * size / 128, 0.0], np.float32)
    out = cv2.warpAffine(image, similarity(landmarks, target), (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(out, np.uint8)
