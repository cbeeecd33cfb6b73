"""Crop faces: a box with a margin, or an aligned face for a recognition model."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import DetectionsError, ImageError, OptionError, OverlayError, ScrfdError, one_line, shown

ARCFACE_TEMPLATE: NDArray[np.float32] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""ArcFace's positions of the five landmarks in a 112×112 crop, (5, 2), in pixels (InsightFace ``face_align``)."""


def check_image(image: object, image_size: tuple[int, int]) -> None:
    """Raise ImageError unless ``image`` is ``(H, W, 3)`` uint8, DetectionsError unless its (width, height) fits."""
    if not isinstance(image, np.ndarray):
        raise ImageError(explain_no_array(image))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        how = "convert it with cv2.cvtColor"
        if image.dtype != np.uint8:
            is_share = image.dtype.kind in "bf" and image.size and image.max() <= 1
            how = f"{'multiply it by 255' if is_share else 'scale it to 0 to 255'}, and call .astype(numpy.uint8)"
        raise ImageError(f"an image must have shape (H, W, 3) and type uint8, not {image.shape} {image.dtype}: {how}")
    if image.size == 0:
        raise ImageError(f"an image must have at least one pixel; its shape is {image.shape}")
    size = (image.shape[1], image.shape[0])
    if image_size != size:
        swapped = "image_size is (width, height), image.shape[1::-1]; or " * (image_size == size[::-1])
        raise DetectionsError(
            f"these faces belong to an image of {image_size[0]}×{image_size[1]}, but this one is {size[0]}×{size[1]}: "
            f"{swapped}pass the image that was given to the detector"
        )


def drawn_by(overlay: Callable[[Any, Any], Any], image: NDArray[np.uint8], detections: Any) -> NDArray[np.uint8]:
    """Return the image that an overlay draws; raise OverlayError if it fails, or returns something else."""
    try:
        found = overlay(image, detections)
    except (ScrfdError, MemoryError):
        raise
    except Exception as error:  # third-party overlays may raise anything
        raise overlay_error(overlay, error, image) from error
    if isinstance(found, np.ndarray) and found.shape == image.shape and found.dtype == np.uint8:
        return found
    what = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
    name, required = overlay_name(overlay), f"an array of {image.shape} uint8 like its image"
    raise OverlayError(f"overlay {name} must return {required}, not {what}")


def overlay_name(overlay: object) -> str:
    """Return the name of a function, and how another overlay is created."""
    return str(getattr(overlay, "__qualname__", None) or repr(overlay))


def overlay_error(overlay: object, error: Exception, image: NDArray[np.uint8] | None = None) -> OverlayError:
    """Return the error for an exception of an overlay, which may have drawn on an image that is read-only."""
    reason = f"{type(error).__name__}: {one_line(error)}"
    if image is not None and not image.flags.writeable and re.search("read-?only", reason):
        reason = "the image is read-only; begin with image = image.copy()"
    return OverlayError(f"overlay {overlay_name(overlay)} failed: {reason}")


def explain_no_array(image: object) -> str:
    """Return why an object that is no NumPy array cannot be used as an image, and what to pass."""
    hint = "a NumPy array (H, W, 3) of uint8 is required"
    if image is None:
        return f"the image is None, which cv2.imread returns for a file that it cannot read; {hint}"
    if isinstance(image, (str, bytes)) or hasattr(type(image), "__fspath__"):
        path = image.decode(errors="replace") if isinstance(image, bytes) else image
        return f"the image is a path: read it first, for example with cv2.imread({shown(str(path), 200)}); {hint}"
    if str(type(image).__module__).startswith("PIL."):
        how = "numpy.asarray(PIL.ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1], which is BGR"
        return f"the image is a Pillow image: pass {how}; {hint}"
    return f"the image is of type {type(image).__name__}; {hint}"


def crop_box(image: NDArray[np.uint8], box: NDArray[np.float32], margin: float) -> NDArray[np.uint8]:
    """Return a copy of a box x1, y1, x2, y2 of the image, clipped at its border; empty if the box is outside.

    ``margin`` is the share of the width and height that each side grows by; a negative margin shrinks the box.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in box)
    dx, dy = (x2 - x1) * margin, (y2 - y1) * margin
    # Limited before they become integers: with a large margin they are infinite.
    left, top = math.floor(max(0.0, min(x1 - dx, width))), math.floor(max(0.0, min(y1 - dy, height)))
    right, bottom = math.ceil(max(0.0, min(x2 + dx, width))), math.ceil(max(0.0, min(y2 + dy, height)))
    return image[top : max(top, bottom), left : max(left, right)].copy()


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the similarity transform ``(2, 3)`` float64 that maps ``(N, 2)`` points onto others, by least squares.

    ``target ≈ source @ m[:, :2].T + m[:, 2]``; closed form of Umeyama (1991) in the plane, without reflection. Points
    that all coincide give scale 0.
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


MAX_ALIGNED = 32_640  # maximum side of an aligned face in pixels; OpenCV's limit is 32,766


def check_size(size: int) -> int:
    """Return the side of aligned faces; raise OptionError unless it is a multiple of 112 or 128 pixels."""
    try:
        side = operator.index(size)
    except TypeError:
        side = 0
    if not 0 < side <= MAX_ALIGNED or (side % 112 and side % 128):
        what = f"size must be a multiple of 112 or 128, and at most {MAX_ALIGNED:,}, not {shown(size)}"
        raise OptionError(what, fields=["size"], value=size)
    return side


def align_face(image: NDArray[np.uint8], landmarks: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """Return the face with landmarks ``(5, 2)`` aligned to the ArcFace template, ``(size, size, 3)`` uint8.

    Pixels outside of the image are black. For multiples of 128, the template is shifted right by 8 of 128 pixels, as in
    InsightFace. ``size`` is one that :func:`check_size` accepts.
    """
    if size % 112 == 0:
        target = ARCFACE_TEMPLATE * np.float32(size / 112)
    else:
        target = ARCFACE_TEMPLATE * np.float32(size / 128) + np.array([8.0 * size / 128, 0.0], np.float32)
    out = cv2.warpAffine(image, similarity(landmarks, target), (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(out, np.uint8)
