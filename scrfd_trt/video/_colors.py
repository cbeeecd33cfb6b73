"""Frames as arrays and back: only what was drawn over changes, all else keeps its own bits."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.video import _pyav

CHROMATICITY, LUMINANCE = 50_000, 10_000
"""Steps to 1, and to a candela per square metre, as the bitstreams count (ITU-T H.265, D.3.28)."""


class Light(NamedTuple):
    """As encoders take it.

    Attributes
    ----------
    mastering
        Primaries, white point and luminance, ``G(…)B(…)R(…)WP(…)L(…)``; empty where they are not told.
    content
        Greatest light level and greatest average of a frame, ``1000,400``; empty likewise.
    """

    mastering: str = ""
    content: str = ""

    @classmethod
    def of(cls, picture: Any) -> Light:
        """Read the side data of a decoded frame."""
        try:
            mastering = picture.side_data.get("MASTERING_DISPLAY_METADATA")
            content = picture.side_data.get("CONTENT_LIGHT_LEVEL")
        except ValueError:  # PyAV up to 18 stumbles over kinds that it does not know
            return cls()
        return cls(_mastering(mastering), _content(content))


NO_LIGHT = Light()


def _mastering(data: Any) -> str:
    """Write ``AVMasteringDisplayMetadata`` out: ten fractions, and whether they are set."""
    if data is None:
        return ""
    *numbers, has_colours, has_luminance = struct.unpack_from("=20i2i", bytes(data))
    if not has_colours or not has_luminance or not all(numbers[1::2]):
        return ""
    values = [top / below for top, below in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = (
        f"({values[at] * CHROMATICITY:.0f},{values[at + 1] * CHROMATICITY:.0f})" for at in (0, 2, 4, 6)
    )
    least, most = (round(value * LUMINANCE) for value in values[8:])
    return f"G{green}B{blue}R{red}WP{white}L({most},{least})"


def _content(data: Any) -> str:
    return "" if data is None else "{},{}".format(*struct.unpack_from("=2I", bytes(data)))


Pixels = TypeVar("Pixels", bound=np.generic)


@dataclass(frozen=True)
class Turn:
    """What is to be done with the rows and columns of a picture, first to last.

    Attributes
    ----------
    transpose
        Rows become columns.
    flip_x, flip_y
        Then mirror left and right, top and bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_x or self.flip_y

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """Read the display matrix of a decoded frame.

        Notes
        -----
        FFmpeg's ``libavutil/display.h``: a pixel at x, y is shown at ``a·x + c·y``, ``b·x + d·y``. Angles between right
        angles are taken to the nearest one.
        """
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV up to 18 knows no EXIF, which photographs have; it still tells the rotation
            turns = {90: cls(True, False, True), 180: cls(False, True, True), 270: cls(True, True, False)}
            return turns.get(frame.rotation % 360, cls())
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the turn."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, plane: NDArray[Pixels]) -> NDArray[Pixels]:
        """Turn the first two axes of an array; a view."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


RGB, UNKNOWN = 0, 2
BT601 = 5
"""What pixels without a named matrix are converted with, there and back; numbers of ITU-T H.273."""
LIMITED, FULL = 1, 2
MATRICES = (1, 4, 5, 6, 7, 9)
"""Those that FFmpeg converts with."""
NEAREST = {3: BT601, 10: 9, 13: 9, 14: 9}
"""What stands for another one, where it is not BT.709: constant luminance and ICtCp are near to BT.2020."""
BT709 = 1

log = logging.getLogger("scrfd_trt")


class Layout(NamedTuple):
    """A planar YUV format: steps of the chroma planes across and down, and bits a sample."""

    across: int
    down: int
    bits: int


def _layouts() -> dict[str, Layout]:
    steps = {"420p": (2, 2), "422p": (2, 1), "444p": (1, 1)}
    found = {f"{kind}{name}": Layout(*step, 8) for name, step in steps.items() for kind in ("yuv", "yuvj")}
    for bits in (10, 12):
        found |= {f"yuv{name}{bits}le": Layout(*step, bits) for name, step in steps.items()}
    return found


LAYOUTS = _layouts()
"""Formats whose planes are written into one by one."""


def planar(name: str, depth: int) -> str:
    """Return the format in :data:`LAYOUTS` that stands for one that is not there.

    Parameters
    ----------
    name
        FFmpeg's name of a pixel format.
    depth
        Most bits a component.
    """
    if name in LAYOUTS:
        return name
    chroma = "444p" if name.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal", "yuva444")) else ""
    chroma = chroma or ("422p" if "422" in name or "v210" in name else "420p")
    return f"yuv{chroma}{'' if depth <= 8 else '10le' if depth <= 10 else '12le'}"


def rescale(picture: Any, **how: Any) -> Any:
    """Let swscale convert a frame, on one thread: with several, FFmpeg 8 gets single pixels wrong now and then.

    Raises
    ------
    VideoError
        If it cannot.
    """
    if _has_threads():
        how["threads"] = 1
    matrix = picture.colorspace
    with _pyav.reading(lambda: f"a picture in {picture.format.name} cannot be converted to {how.get('format')}"):
        try:
            if matrix not in (RGB, UNKNOWN):
                picture.colorspace = nearest(matrix)
            return picture.reformat(**how)
        finally:
            picture.colorspace = matrix


@cache
def nearest(matrix: int) -> int:
    """Return the matrix itself where FFmpeg converts with it, or one that is near; then it is told once in the log."""
    if matrix in MATRICES:
        return matrix
    found = NEAREST.get(matrix, BT709)
    log.warning(
        "FFmpeg does not convert colours of matrix %d (ITU-T H.273); they are taken for those of %d, and what is drawn "
        "is a little off in colour",
        matrix,
        found,
    )
    return found


@cache
def _has_threads() -> bool:
    """Tell whether this PyAV's conversions may take several threads; older ones take one."""
    return int(_pyav.load().__version__.partition(".")[0]) >= 17


def convert(picture: Any, name: str) -> Any:
    """Bring a frame into another pixel format, with the same matrix and range; itself where it has that format."""
    if picture.format.name == name:
        return picture
    matrix, level = colours(picture)
    out = rescale(
        picture, format=name, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=level, dst_color_range=level
    )
    like(out, picture)
    if picture.colorspace == RGB:
        out.colorspace = BT601
    return out


def narrowed(picture: Any) -> Any:
    """Bring a frame of the full range into the limited one, which is what players take untagged pictures for."""
    matrix, _ = colours(picture)
    out = rescale(
        picture,
        format=picture.format.name,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=LIMITED,
    )
    like(out, picture)
    out.color_range = LIMITED
    return out


def colours(picture: Any) -> tuple[int, int]:
    """Return matrix and range for conversions: BT.601 and limited where the frame does not say."""
    full = picture.format.name.startswith("yuvj") or picture.color_range == FULL
    known = picture.colorspace not in (RGB, UNKNOWN)
    return nearest(picture.colorspace) if known else BT601, FULL if full else LIMITED


def tagged_range(picture: Any) -> int:
    """Return the range that a frame names, itself or by its format's name; 0 where it names none."""
    return FULL if picture.format.name.startswith("yuvj") else int(picture.color_range)


def like(picture: Any, source: Any) -> Any:
    """Give a new frame the time and the colour tags of another."""
    picture.pts, picture.time_base = source.pts, source.time_base
    picture.duration = source.duration
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(picture, name, getattr(source, name))
    return picture


def to_bgr(picture: Any) -> NDArray[np.uint8]:
    """Copy a frame into an image.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8 BGR.
    """
    matrix, level = colours(picture)
    # Without a range for the way out, the image would be in the frame's own.
    out = rescale(
        picture,
        format="bgr24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=level,
        dst_color_range=FULL,
    )
    return np.asarray(out.to_ndarray(), np.uint8)


def planes(picture: Any) -> list[NDArray[Any]]:
    """View the planes of a frame whose format is one of :data:`LAYOUTS`, ``(h, w)`` uint8 or uint16 each."""
    kind = np.dtype(np.uint8 if LAYOUTS[picture.format.name].bits == 8 else "<u2")
    found = []
    for plane in picture.planes:
        rows = np.frombuffer(plane, np.uint8).view(kind)
        stride = plane.line_size // kind.itemsize
        found.append(rows[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width])
    return found


def turned(picture: Any, turn: Turn) -> Any:
    """Turn a frame upright; a new frame without a display matrix."""
    name = planar(picture.format.name, max(part.bits for part in picture.format.components))
    layout = LAYOUTS[name]
    if turn.transpose and layout.across != layout.down:
        name = name.replace("422p", "444p")
    source = convert(picture, name)
    out = _pyav.load().VideoFrame(*turn.size(picture.width, picture.height), name)
    for target, plane in zip(planes(out), planes(source), strict=True):
        target[...] = turn.apply(plane)
    return like(out, picture)


def paste(picture: Any, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Any:
    """Put what was drawn into a frame.

    Parameters
    ----------
    picture
        In one of :data:`LAYOUTS`. Its own planes are written to, once they are nobody else's.
    before, after
        ``(H, W, 3)`` uint8 BGR: the frame as an image, and the image with something drawn over.

    Returns
    -------
    av.VideoFrame
        The frame. Samples of pixels that are the same in both images are as they were.
    """
    spots = cv2.bitwise_not(cv2.inRange(cv2.absdiff(before, after), (0, 0, 0), (0, 0, 0)))
    x, y, width, height = cv2.boundingRect(spots)
    if not width:
        return picture
    # Whole blocks of chroma, and a whole number of them.
    top, left = y & ~1, x & ~1
    bottom, right = min(((y + height - 1) | 1) + 1, picture.height), min(((x + width - 1) | 1) + 1, picture.width)
    picture.make_writable()
    name, (matrix, level) = picture.format.name, colours(picture)
    patch = _pyav.load().VideoFrame.from_ndarray(np.ascontiguousarray(after[top:bottom, left:right]), "bgr24")
    patch = rescale(patch, format=name, dst_colorspace=matrix, src_color_range=FULL, dst_color_range=level)
    changed = np.asarray(spots[top:bottom, left:right], np.uint8)
    layout = LAYOUTS[name]
    for number, (target, source) in enumerate(zip(planes(picture), planes(patch), strict=True)):
        across, down = (layout.across, layout.down) if number else (1, 1)
        part = target[top // down :, left // across :][: source.shape[0], : source.shape[1]]
        cv2.copyTo(source, _any(changed, across, down), part)
    return picture


def _any(spots: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """Shrink a mask of 0 and 255: a block is above 0 where one of its pixels is."""
    height, width = spots.shape
    if across == down == 1:
        return np.ascontiguousarray(spots)
    padded = cv2.copyMakeBorder(spots, 0, height % down, 0, width % across, cv2.BORDER_CONSTANT)
    size = (padded.shape[1] // across, padded.shape[0] // down)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.uint8)
