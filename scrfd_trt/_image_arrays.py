"""Convert input images to the form that the detector uses, or raise ImageError with the reason."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import explain_no_array
from scrfd_trt.errors import ImageError, one_line

BYTE = np.dtype(np.uint8)
CHANNELS_FIRST = (1, 3, 4)
DLPACK_CUDA = {2, 13}  # kDLCUDA and kDLCUDAManaged


def as_color(image: Any) -> NDArray[np.uint8]:
    """Return an image as ``(H, W, 3)`` uint8: the same array if it fits, else a copy in the same channel order.

    Accepted are NumPy arrays ``(H, W, 3)``, grey ``(H, W)`` or ``(H, W, 1)``, and ``(H, W, 4)``, whose alpha is
    dropped; uint8, or float from 0 to 1; any memory layout. Other input raises ImageError, which says what to do.
    """
    if type(image) is not np.ndarray:
        image = _plain(image)
    if image.dtype == BYTE and _is_packed(image):
        packed: NDArray[np.uint8] = image
        return packed
    if image.ndim not in {2, 3} or (image.ndim == 3 and image.shape[2] not in CHANNELS_FIRST):
        raise ImageError(_no_image(image))
    if 0 in image.shape:
        raise ImageError(f"the image has no pixels: its shape is {image.shape}")
    pixels = _as_bytes(image)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        gray = np.ascontiguousarray(pixels.reshape(pixels.shape[:2]))
        return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    if pixels.shape[2] == 4:
        pixels = pixels[:, :, :3]
    return pixels if _is_packed(pixels) else np.ascontiguousarray(pixels)


def _plain(image: Any) -> NDArray[Any]:
    """Return an array of a subclass as one of NumPy's own, whose attributes are what the memory is."""
    if not isinstance(image, np.ndarray):
        raise ImageError(explain_no_array(image))
    return np.ndarray.view(image, np.ndarray)


def _is_packed(image: NDArray[Any]) -> bool:
    """Whether an array is ``(H, W, 3)`` with contiguous rows; OpenCV accepts any distance between rows."""
    shape, steps = image.shape, image.strides
    return (
        len(shape) == 3
        and shape[2] == 3
        and steps[1] == 3
        and steps[2] == 1
        and steps[0] >= 3 * shape[1] > 0
        and shape[0] > 0
    )


def is_on_gpu(image: Any) -> bool:
    """Return whether an object is an array in GPU memory, of PyTorch, CuPy, Numba or a similar library."""
    if isinstance(image, np.ndarray):
        return False
    try:
        where = getattr(image, "__dlpack_device__", None)
        if where is not None:
            return int(where()[0]) in DLPACK_CUDA
        # Some libraries define the attribute for all arrays; it raises AttributeError for CPU arrays.
        return hasattr(image, "__cuda_array_interface__")
    except Exception as error:
        kind = type(image).__name__
        raise ImageError(f"the image of type {kind} does not say where its memory is: {one_line(error)}") from error


def check_nv12(image: Any) -> NDArray[np.uint8]:
    """Return an NV12 frame, ``(H · 3/2, W)`` uint8, H and W even: luma rows, then half as many chroma rows.

    The result has contiguous rows: the same array, or a copy. Other input raises ImageError.
    """
    if type(image) is not np.ndarray:
        image = _plain(image)
    check_nv12_shape(image.shape)
    if image.dtype != np.uint8:
        raise ImageError(f"the NV12 frame has element type {image.dtype}; uint8 is required")
    packed = image.strides[1] == 1 and image.strides[0] >= image.shape[1]
    return image if packed else np.ascontiguousarray(image)


def check_nv12_shape(shape: tuple[int, ...]) -> None:
    """Raise ImageError if a shape is not that of an NV12 frame."""
    if len(shape) != 2 or 0 in shape or shape[0] % 3 or shape[1] % 2:
        raise ImageError(
            f"an NV12 frame of W×H pixels has shape (H · 3/2, W), W and H even, not {shape}; for other images, set "
            "color to bgr or rgb"
        )


def from_nv12(image: Any) -> NDArray[np.uint8]:
    """Return an NV12 frame as ``(H, W, 3)`` uint8 BGR, read as BT.601 in limited range."""
    return np.asarray(cv2.cvtColor(check_nv12(image), cv2.COLOR_YUV2BGR_NV12), np.uint8)


def _as_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise ImageError(
            f"the image has element type {image.dtype}: uint8 from 0 to 255 or float from 0 to 1 is required; scale "
            "it to 0 to 255 and call .astype(numpy.uint8)"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= 0.0 and high <= 1.0):
        if not np.isfinite(low + high):
            raise ImageError("the float image contains NaN or infinity; replace them with numpy.nan_to_num(image)")
        raise ImageError(
            f"a float image must range from 0 to 1, but this one ranges from {low:g} to {high:g}; if white is 255, "
            "call .clip(0, 255).astype(numpy.uint8)"
        )
    levels: NDArray[np.uint8] = np.rint(image.astype(np.float32) * np.float32(255.0)).astype(np.uint8)
    return levels


def _no_image(image: NDArray[Any]) -> str:
    hint = "(H, W, 3), (H, W, 4) or (H, W) is required"
    if image.ndim == 3 and image.shape[0] in CHANNELS_FIRST:
        return f"the image has shape {image.shape}, channels first: {hint}; call .transpose(1, 2, 0)"
    if image.ndim == 4:
        return f"the image has shape {image.shape}, a batch: {hint}; call detect_batch(list(images))"
    return f"the image has shape {image.shape}: {hint}"
