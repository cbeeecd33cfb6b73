"""Cut faces out of an image: a box with a margin, or a face turned upright for a recognition network."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import DetectionsError, ImageError, OptionError

ARCFACE_TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where ArcFace wants the five landmarks in a 112×112 crop, (5, 2), x and y in pixels (InsightFace ``face_align``)."""


def check_image(image: object, image_size: tuple[int, int]) -> None:
    """Check that an array is an image, and the one that faces were found in.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8, of at least one pixel.
    image_size
        Width and height of the image that the faces were found in.

    Raises
    ------
    ImageError
        If it is no such array.
    DetectionsError
        If it has another size: boxes would miss the faces.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image as a numpy array (H, W, 3) of uint8 is needed, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(
            f"an image of shape (H, W, 3) and type uint8 is needed, not {image.shape} {image.dtype}: "
            "convert it with cv2.cvtColor or .astype first"
        )
    if image.size == 0:
        raise ImageError(f"an image of at least one pixel is needed, not {image.shape}")
    size = (image.shape[1], image.shape[0])
    if image_size != size:
        raise DetectionsError(
            f"these faces were found in an image of {image_size[0]}×{image_size[1]}, this one is {size[0]}×{size[1]}: "
            "hand in the image that the detector saw"
        )


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
