"""Convert frames to images and back: pixels that an overlay does not change keep their exact values."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.video import _pyav

logger = logging.getLogger("scrfd_trt")

# Numbers of ITU-T H.273 for matrices, and FFmpeg's for ranges.
RGB, BT709, UNKNOWN, BT601, BT2020 = 0, 1, 2, 5, 9
LIMITED, FULL = 1, 2
MATRICES = (1, 4, 5, 6, 7, 9)  # matrices that FFmpeg converts with
NEAREST = {3: BT601, 10: BT2020, 13: BT2020, 14: BT2020}
"""Substitutes for other matrices, where it is not BT.709: constant luminance and ICtCp are close to BT.2020."""
PASTE_MARGIN = 8  # pixels around changed ones that affect their chroma: the reach of swscale's filters
CHROMATICITY, LUMINANCE = 50_000, 10_000  # steps to 1, and to a candela per square metre (ITU-T H.265, D.3.28)


class HdrMetadata(NamedTuple):
    """HDR10 metadata as encoders take it; empty where the source has none."""

    mastering_display: str = ""  # primaries, white point and luminance, ``G(…)B(…)R(…)WP(…)L(…)``
    content_light_level: str = ""  # maximum, and maximum average of a frame, ``1000,400``

    @classmethod
    def from_side_data(cls, data: Mapping[str, bytes]) -> HdrMetadata:
        light = data.get("CONTENT_LIGHT_LEVEL")
        light_level = "" if light is None else "{},{}".format(*struct.unpack_from("=2I", light))
        return cls(_mastering_display(data.get("MASTERING_DISPLAY_METADATA")), light_level)


NO_HDR = HdrMetadata()
DYNAMIC_HDR = {"DOVI_RPU_BUFFER": "Dolby Vision", "DOVI_METADATA": "Dolby Vision", "DYNAMIC_HDR_PLUS": "HDR10+"}


def dynamic_hdr(data: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names of the HDR metadata in side data that differs between frames; none can be written."""
    return tuple(dict.fromkeys(name for kind, name in DYNAMIC_HDR.items() if kind in data))


def side_data(picture: Any) -> dict[str, bytes]:
    """Return the side data of a decoded frame by FFmpeg's names, up to the first kind that PyAV does not know."""
    from av.sidedata.sidedata import SideDataContainer  # noqa: PLC0415 - optional

    # PyAV up to 18 fails on unknown kinds, such as the EXIF of photographs, but keeps what comes before.
    container: Any = SideDataContainer.__new__(SideDataContainer)
    with suppress(ValueError):
        container.__init__(picture)
    found = {}
    for at in range(len(container)):
        with suppress(ValueError):
            found[container[at].type.name] = bytes(container[at])
    return found


def _mastering_display(data: bytes | None) -> str:
    """Format ``AVMasteringDisplayMetadata``: ten fractions, and two flags for whether they are set."""
    if data is None:
        return ""
    *numbers, has_primaries, has_luminance = struct.unpack_from("=20i2i", data)
    if not has_primaries or not has_luminance or not all(numbers[1::2]):
        return ""
    values = [top / below for top, below in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = (
        f"({values[at] * CHROMATICITY:.0f},{values[at + 1] * CHROMATICITY:.0f})" for at in (0, 2, 4, 6)
    )
    low, high = (round(value * LUMINANCE) for value in values[8:])
    return f"G{green}B{blue}R{red}WP{white}L({high},{low})"


@dataclass(frozen=True)
class Orientation:
    """How a picture is turned upright: transposed first, then mirrored."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_x or self.flip_y

    @classmethod
    def from_side_data(cls, data: Mapping[str, bytes]) -> Orientation:
        """Read the display matrix (libavutil/display.h) in right angles: x, y is shown at a·x + c·y, b·x + d·y."""
        if "DISPLAYMATRIX" not in data:
            return cls()
        a, b, _, c, d = np.frombuffer(data["DISPLAYMATRIX"], np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return a view of an array with its first two axes turned."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class Layout(NamedTuple):
    """A planar YUV format: luma samples per chroma sample, horizontally and vertically, and bits per sample."""

    across: int
    down: int
    bits: int


LAYOUTS = {
    f"{family}{chroma}{suffix}": Layout(*steps, bits)
    for family, suffix, bits in (("yuv", "", 8), ("yuvj", "", 8), ("yuv", "10le", 10), ("yuv", "12le", 12))
    for chroma, steps in (("420p", (2, 2)), ("422p", (2, 1)), ("444p", (1, 1)))
}
"""Formats whose planes can be read and written, by FFmpeg's name."""


def planar_format(name: str, bits: int) -> str:
    """Return the format of :data:`LAYOUTS` that holds the pixels of another one with ``bits`` per component."""
    if name in LAYOUTS:
        return name
    chroma = "444p" if name.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal", "yuva444")) else ""
    chroma = chroma or ("422p" if "422" in name or "v210" in name else "420p")
    return f"yuv{chroma}{'' if bits <= 8 else '10le' if bits <= 10 else '12le'}"


def reformat(picture: Any, **options: Any) -> Any:
    """Convert a frame with swscale, on one thread: with several, FFmpeg 8 gets single pixels wrong now and then."""
    options["threads"] = 1
    matrix = picture.colorspace
    with _pyav.reading(lambda: f"a picture in {picture.format.name} cannot be converted to {options.get('format')}"):
        try:
            if matrix not in (RGB, UNKNOWN):
                picture.colorspace = nearest_matrix(matrix)
            return picture.reformat(**options)
        finally:
            picture.colorspace = matrix


@cache
def nearest_matrix(matrix: int) -> int:
    """Return a matrix that FFmpeg converts with: the same, or a similar one, with one warning in the log."""
    if matrix in MATRICES:
        return matrix
    found = NEAREST.get(matrix, BT709)
    logger.warning(
        "FFmpeg does not convert colours of matrix %d (ITU-T H.273); matrix %d is used, and overlays are slightly off "
        "in colour",
        matrix,
        found,
    )
    return found


def conversion_tags(picture: Any) -> tuple[int, int]:
    """Return matrix and range for conversions: BT.601 and limited where the frame has no tags."""
    known = picture.colorspace not in (RGB, UNKNOWN)
    return nearest_matrix(picture.colorspace) if known else BT601, FULL if tagged_range(picture) == FULL else LIMITED


def tagged_range(picture: Any) -> int:
    """Return the range of a frame's tags or of its format's name; 0 if neither has one."""
    return FULL if picture.format.name.startswith("yuvj") else int(picture.color_range)


def convert(picture: Any, name: str) -> Any:
    """Return a frame in another pixel format, with the same matrix and range; itself if it has that format."""
    if picture.format.name == name:
        return picture
    out = _reformat_range(picture, name, conversion_tags(picture)[1])
    if picture.colorspace == RGB:
        out.colorspace = BT601
    return out


def to_limited_range(picture: Any) -> Any:
    """Return a frame of full range in limited range, which players assume of videos without tags."""
    out = _reformat_range(picture, picture.format.name, LIMITED, FULL)
    out.color_range = LIMITED
    return out


def _reformat_range(picture: Any, name: str, to_range: int, from_range: int | None = None, **size: int) -> Any:
    matrix, own_range = conversion_tags(picture)
    out = reformat(
        picture,
        format=name,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=from_range or own_range,
        dst_color_range=to_range,
        **size,
    )
    return out if name == "bgr24" else copy_tags(out, picture)


def copy_tags(picture: Any, source: Any) -> Any:
    """Give a new frame the time and the colour tags of another."""
    for name in ("pts", "time_base", "duration", "colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(picture, name, getattr(source, name))
    return picture


def to_bgr(picture: Any, **size: int) -> NDArray[np.uint8]:
    """Convert a frame to an image ``(H, W, 3)`` uint8 BGR, of another ``width`` and ``height`` if they are given."""
    if picture.format.name == "cuda":  # swscale converts what the CPU's decoders return in another way
        picture = convert(picture, planar_format("", bit_depth(picture)))
    # Without a target range, the image would have the frame's own.
    return np.ascontiguousarray(_pixels(_reformat_range(picture, "bgr24", FULL, **size)))


def _pixels(picture: Any) -> NDArray[np.uint8]:
    """Return a view ``(H, W, 3)`` of a frame in BGR."""
    plane = picture.planes[0]
    return np.ndarray((picture.height, picture.width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))


def planes(picture: Any) -> list[NDArray[Any]]:
    """Return views of the planes of a frame in one of :data:`LAYOUTS`, ``(h, w)`` uint8 or uint16 each."""
    dtype = np.dtype(np.uint8 if LAYOUTS[picture.format.name].bits == 8 else "<u2")
    found = []
    for plane in picture.planes:
        rows = np.frombuffer(plane, np.uint8).view(dtype)
        stride = plane.line_size // dtype.itemsize
        found.append(rows[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width])
    return found


def turn_upright(picture: Any, orientation: Orientation) -> Any:
    """Return a new upright frame without a display matrix."""
    name = planar_format(picture.format.name, bit_depth(picture))  # 4:2:0 of frames on a GPU
    layout = LAYOUTS[name]
    if orientation.transpose and layout.across != layout.down:
        name = name.replace("422p", "444p")
    source = convert(picture, name)
    size = (picture.height, picture.width) if orientation.transpose else (picture.width, picture.height)
    out = _pyav.load().VideoFrame(*size, name)
    for target, plane in zip(planes(out), planes(source), strict=True):
        target[...] = orientation.apply(plane)
    return copy_tags(out, picture)


def copy(picture: Any) -> Any:
    """Return a new frame with the same pixels."""
    return turn_upright(picture, Orientation())


def cut(picture: Any, left: int, top: int, right: int, bottom: int) -> Any:
    """Return a part of a frame in one of :data:`LAYOUTS` as a new frame; all sides are even numbers."""
    name = picture.format.name
    layout = LAYOUTS[name]
    out = _pyav.load().VideoFrame(right - left, bottom - top, name)
    for number, (target, plane) in enumerate(zip(planes(out), planes(picture), strict=True)):
        across, down = (layout.across, layout.down) if number else (1, 1)
        target[...] = plane[top // down : bottom // down, left // across : right // across]
    return copy_tags(out, picture)


def bit_depth(picture: Any) -> int:
    pixels = getattr(picture, "sw_format", None) or picture.format  # of a frame on a GPU, and of others
    return max(int(part.bits) for part in pixels.components)


class Patch(NamedTuple):
    """A part of a frame's image, before and after an overlay: ``(h, w, 3)`` BGR; its inner sides are unchanged."""

    left: int
    top: int
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


def paste_changes(picture: Any, patches: Sequence[Patch]) -> Any:
    """Copy the pixels that patches change into a frame in one of :data:`LAYOUTS`, which is made writable; return it."""
    masks = [_changed(patch) for patch in patches]
    bounds = [_changed_bounds(patch, mask, picture) for patch, mask in zip(patches, masks, strict=True)]
    known = np.array([each for each in bounds if each is not None])
    if not len(known):
        return picture
    # What is outside the box around all changes is not read: colours at its sides are those of the pixels within.
    (x1, y1), (x2, y2) = known[:, :2].min(0).tolist(), known[:, 2:].max(0).tolist()
    picture.make_writable()
    for patch, mask, own in zip(patches, masks, bounds, strict=True):
        if own is not None:
            left, top = max(own[0] - PASTE_MARGIN, x1, patch.left), max(own[1] - PASTE_MARGIN, y1, patch.top)
            right = min(own[2] + PASTE_MARGIN, x2, patch.left + mask.shape[1])
            bottom = min(own[3] + PASTE_MARGIN, y2, patch.top + mask.shape[0])
            part = (slice(top - patch.top, bottom - patch.top), slice(left - patch.left, right - patch.left))
            _paste(picture, left, top, patch.after[part], mask[part])
    return picture


def _changed(patch: Patch) -> NDArray[np.uint8]:
    """Return a mask that is above 0 where a pixel is changed."""
    differs = cv2.compare(patch.before, patch.after, cv2.CMP_NE)
    return np.asarray(cv2.cvtColor(differs, cv2.COLOR_BGR2GRAY), np.uint8)


def _changed_bounds(patch: Patch, mask: NDArray[np.uint8], picture: Any) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the changes in the frame, aligned to chroma blocks; None without any."""
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return None
    x, y = x + patch.left, y + patch.top
    right, bottom = min(((x + width - 1) | 1) + 1, picture.width), min(((y + height - 1) | 1) + 1, picture.height)
    return x & ~1, y & ~1, right, bottom


def _paste(picture: Any, left: int, top: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    name, (matrix, color_range) = picture.format.name, conversion_tags(picture)
    patch = _pyav.load().VideoFrame(image.shape[1], image.shape[0], "bgr24")
    _pixels(patch)[...] = image
    patch = reformat(patch, format=name, dst_colorspace=matrix, src_color_range=FULL, dst_color_range=color_range)
    layout = LAYOUTS[name]
    for number, (target, source) in enumerate(zip(planes(picture), planes(patch), strict=True)):
        across, down = (layout.across, layout.down) if number else (1, 1)
        part = target[top // down :, left // across :][: source.shape[0], : source.shape[1]]
        cv2.copyTo(source, _shrink_mask(mask, across, down), part)


def _shrink_mask(mask: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Shrink a mask of 0 and at least 4; a block is above 0 if any of its pixels is."""
    height, width = mask.shape
    if across == down == 1:
        return np.ascontiguousarray(mask)
    padded = cv2.copyMakeBorder(mask, 0, height % down, 0, width % across, cv2.BORDER_CONSTANT)
    size = (padded.shape[1] // across, padded.shape[0] // down)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.uint8)
