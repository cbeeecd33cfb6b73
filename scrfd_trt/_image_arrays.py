"""Convert input images to the form that the detector uses, or raise ImageError with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import explain_no_array
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import ImageError, one_line, shown

BYTE = np.dtype(np.uint8)
CHANNELS_FIRST = (1, 3, 4)
DLPACK_CUDA = {2, 13}  # kDLCUDA and kDLCUDAManaged

Matrix = Literal["bt601", "bt709", "bt2020"]
LUMA_SHARES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Shares of red and blue in luma (ITU-T H.273, table 4)."""
FRACTION_BITS = 20
OPENCV_BT601 = (16, 1220542, 1673527, -409993, -852492, 2116026)
"""OpenCV's coefficients of NV12 in limited range, from factors rounded to three digits."""


@explained_options
@dataclass(frozen=True, eq=False)
class YUVImage:
    """An image in two planes, as video decoders return it: NV12, or P010 with 10 bits.

    A detector takes it like any other image, whatever its option ``color`` says. Arrays on the GPU are read in place.

    Parameters
    ----------
    y
        Luma: ``(H, W)`` or ``(H, W, 1)``, uint8 for NV12, or uint16 with the value in the high 10 bits for P010. A
        NumPy array, or an array in GPU memory with DLPack or ``__cuda_array_interface__``.
    uv
        Chroma: ``(H/2, W/2, 2)``, rounded up, of the same type; U and V of each 2×2 pixels.
    matrix
        ``bt601``, ``bt709`` or ``bt2020``.
    full_range
        Whether levels use all values; otherwise those of video, 16 to 235 in 8 bits.

    Raises
    ------
    ImageError
        If the matrix is unknown. The planes are checked where the image is used.
    """

    y: Any
    uv: Any
    matrix: Matrix = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        if self.matrix not in tuple(LUMA_SHARES):  # not hashed: any object may be passed
            raise ImageError(f"matrix is {shown(self.matrix)}; the choices are: {', '.join(LUMA_SHARES)}")

    def __repr__(self) -> str:
        shape = getattr(self.y, "shape", None) or ("?", "?")  # a GPU array may have an interface only
        kind = "p010" if "16" in str(getattr(self.y, "dtype", "")) else "nv12"
        levels = "full" if self.full_range else "limited"
        return f"<YUVImage {shape[1]}×{shape[0]} {kind} {self.matrix} {levels}>"


class YUVCoefficients(NamedTuple):
    """Black, and coefficients to 8-bit RGB with 20 fractional bits: ``red = luma · max(y − black, 0) + red_v · v``."""

    black: int
    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int


@lru_cache
def yuv_coefficients(matrix: str, full_range: bool, bits: int) -> YUVCoefficients:
    """Return the coefficients of a matrix and a range for planes of 8 or 10 bits."""
    if (matrix, full_range, bits) == ("bt601", False, 8):
        return YUVCoefficients(*OPENCV_BT601)
    red, blue = LUMA_SHARES[matrix]
    unit = 2.0 ** (bits - 8)
    luma_levels, chroma_levels = ((1 << bits) - 1, (1 << bits) - 1) if full_range else (219 * unit, 224 * unit)
    light, color = 255.0 / luma_levels, 2.0 * 255.0 / chroma_levels
    green_u, green_v = (-share * (1.0 - share) / (1.0 - red - blue) for share in (blue, red))
    factors = (light, color * (1.0 - red), color * green_u, color * green_v, color * (1.0 - blue))
    black = 0 if full_range else round(16 * unit)
    return YUVCoefficients(black, *(round(factor * (1 << FRACTION_BITS)) for factor in factors))


def as_color(image: Any) -> NDArray[np.uint8]:
    """Return an image as ``(H, W, 3)`` uint8: the same array if it fits, else a copy in the same channel order.

    Accepted are NumPy arrays ``(H, W, 3)``, grey ``(H, W)`` or ``(H, W, 1)``, and ``(H, W, 4)``, whose alpha is
    dropped; uint8, or float from 0 to 1; any memory layout. Other input raises ImageError, which says what to do.
    """
    image = _plain(image)
    if image.dtype == BYTE and _is_packed(image):
        packed: NDArray[np.uint8] = image
        return packed
    if image.ndim not in {2, 3} or (image.ndim == 3 and image.shape[2] not in CHANNELS_FIRST):
        raise ImageError(explain_shape("the image", image.shape))
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
    if type(image) is np.ndarray:
        return image
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

    ``(H · 3/2, W, 1)`` is accepted, too. The result has contiguous rows: the same array, or a copy. Other input raises
    ImageError.
    """
    image = _plain(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    check_nv12_shape(image.shape)
    if image.dtype != np.uint8:
        raise ImageError(f"the NV12 frame has element type {image.dtype}; uint8 is required")
    return _with_packed_rows(image)


def _with_packed_rows(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the plane itself if its rows are contiguous and do not overlap, else a copy."""
    row = plane[:1]
    return plane if row.flags.c_contiguous and plane.strides[0] >= row.nbytes else np.ascontiguousarray(plane)


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


def check_yuv(image: YUVImage) -> YUVImage:
    """Return a YUVImage whose planes are in host memory, ``(H, W)`` and ``(h, w, 2)`` with contiguous rows."""
    y, uv = _plain(image.y), _plain(image.uv)
    check_yuv_planes(y.shape, uv.shape, str(y.dtype), str(uv.dtype))
    return replace(image, y=_with_packed_rows(y.reshape(y.shape[:2])), uv=_with_packed_rows(uv))


def check_yuv_planes(y: tuple[int, ...], uv: tuple[int, ...], y_type: str, uv_type: str) -> None:
    """Raise ImageError unless two planes have shapes and element types of NV12 or P010."""
    half = tuple((side + 1) // 2 for side in y[:2])
    if len(y) not in {2, 3} or 0 in y or y[2:] not in {(), (1,)} or uv != (*half, 2):
        raise ImageError(
            f"the planes of a YUVImage have shapes (H, W) and (H/2, W/2, 2), not {y} and {uv}; for an array of "
            "(H · 3/2, W), set the detector's color to nv12"
        )
    if y_type != uv_type or y_type not in {"uint8", "uint16"}:
        raise ImageError(
            f"the planes of a YUVImage have element types {y_type} and {uv_type}; uint8 (NV12) or uint16 (P010) is "
            "required for both"
        )


def from_yuv(image: YUVImage, color: str = "bgr") -> NDArray[np.uint8]:
    """Return a YUVImage in host memory as ``(H, W, 3)`` uint8, RGB if ``color`` is ``rgb``, else BGR.

    Each 2×2 pixels share their chroma. NV12 of BT.601 in limited range is converted as OpenCV does.
    """
    checked = check_yuv(image)
    y, uv = checked.y, checked.uv
    bits = 8 if y.dtype == BYTE else 10
    coefficients = yuv_coefficients(image.matrix, image.full_range, bits)
    height, width = y.shape
    if coefficients == OPENCV_BT601 and not (height % 2 or width % 2):
        code = cv2.COLOR_YUV2RGB_NV12 if color == "rgb" else cv2.COLOR_YUV2BGR_NV12
        return np.asarray(cv2.cvtColorTwoPlane(y, uv, code), np.uint8)
    if bits == 10:
        y, uv = y >> 6, uv >> 6
    black, luma, red_v, green_u, green_v, blue_u = coefficients
    light = np.maximum(y.astype(np.int32) - black, 0) * luma + (1 << FRACTION_BITS - 1)
    u, v = np.moveaxis(uv.astype(np.int32) - (1 << bits - 1), 2, 0)
    out = np.empty((height, width, 3), np.uint8)
    channels = (red_v * v, green_u * u + green_v * v, blue_u * u)
    for target, tint in zip(range(3) if color == "rgb" else (2, 1, 0), channels, strict=True):
        whole = tint.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
        out[..., target] = np.clip((light + whole) >> FRACTION_BITS, 0, 255)
    return out


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is ``(C, H, W)``, not ``(H, W, C)``; raise ImageError if it may be either."""
    if len(shape) != 3 or shape[0] not in CHANNELS_FIRST:
        return False
    if shape[2] in CHANNELS_FIRST:
        raise ImageError(f"the tensor of shape {shape} may be (C, H, W) or (H, W, C): pass a NumPy array (H, W, C)")
    return True


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
        how = "if white is 255, call .clip(0, 255).astype(numpy.uint8)"
        if -1.0 <= low < 0.0 and high <= 1.0:
            how = "for -1 to 1, pass (image + 1) / 2"
        what = f"a float image must range from 0 to 1, but this one ranges from {low:g} to {high:g}"
        raise ImageError(f"{what}; {how}")
    levels: NDArray[np.uint8] = np.rint(image.astype(np.float32) * np.float32(255.0)).astype(np.uint8)
    return levels


def explain_shape(image: str, shape: tuple[int, ...]) -> str:
    """Return why an array of this shape is no image, and what to do."""
    hint = "(H, W, 3), (H, W, 4) or (H, W) is required"
    if len(shape) == 3 and shape[0] in CHANNELS_FIRST:
        return f"{image} has shape {shape}, channels first: {hint}; call .transpose(1, 2, 0)"
    if len(shape) == 1:
        return f"{image} has shape {shape}: {hint}; the content of a file is passed as bytes, with .tobytes()"
    if len(shape) == 4:
        return f"{image} has shape {shape}, a batch: {hint}; call detect_batch(list(images))"
    return f"{image} has shape {shape}: {hint}"
