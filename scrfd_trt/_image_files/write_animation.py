"""Write animations frame by frame (GIF, APNG, WebP, AVIF), of each the rectangle that changes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._image_files import gif, png, webp
from scrfd_trt._image_files.frames import NO_EXTRAS, Extras, ImageFrame
from scrfd_trt._image_files.heif import avif_options
from scrfd_trt._image_files.opencv_codec import encode_with_opencv
from scrfd_trt._image_files.pillow_codec import to_pillow
from scrfd_trt._image_files.png import chunk, png_extras
from scrfd_trt._image_files.webp import webp_chunk, webp_header, webp_trailers
from scrfd_trt.errors import OutputError, one_line

MAX_SIDES = {".gif": 65535, ".png": 2**31 - 1, ".webp": 16383, ".avif": 65535}
GIF_COLORS = 256
GIF_OPAQUE = 128  # alpha from which a pixel of a GIF is opaque


class _Patch(NamedTuple):
    """The part of a frame that differs from the one before."""

    frame: ImageFrame
    left: int
    top: int


class Animation(NamedTuple):
    """How an animation is written; ``loops`` is how often it is shown (0: forever), ``total`` the number of frames."""

    extras: Extras
    quality: int
    loops: int
    total: int


def write_animation(file: BinaryIO, frames: Iterator[ImageFrame], suffix: str, how: Animation) -> None:
    """Write an animation in the format of a suffix; raise OutputError if the size or a frame cannot be written."""
    WRITERS[suffix](file, frames, how)


def _milliseconds(frame: ImageFrame) -> int:
    return max(0, round(frame.seconds * 1000))


def _patch(frame: ImageFrame, last: ImageFrame | None, align: int = 1) -> _Patch:
    """Return the part of a frame that changes, at least one pixel; ``align`` rounds its left and top down."""
    if last is None:
        return _Patch(frame, 0, 0)
    changed = np.any(frame.pixels != last.pixels, axis=2)
    if frame.alpha is not None or last.alpha is not None:
        changed |= _alpha(frame) != _alpha(last)
    left, top, width, height = cv2.boundingRect(changed.view(np.uint8))
    right, bottom = max(left + width, 1), max(top + height, 1)
    left, top = left - left % align, top - top % align
    alpha = None if frame.alpha is None else frame.alpha[top:bottom, left:right]
    pixels = np.ascontiguousarray(frame.pixels[top:bottom, left:right])
    return _Patch(ImageFrame(pixels, alpha, frame.seconds), left, top)


def _alpha(frame: ImageFrame) -> NDArray[np.uint8]:
    return np.full(frame.pixels.shape[:2], 255, np.uint8) if frame.alpha is None else frame.alpha


def check_animation(suffix: str, size: tuple[int, int]) -> None:
    """Raise OutputError if no frames of this size can be written, and MissingDependencyError without an encoder."""
    if max(size) > MAX_SIDES[suffix]:
        raise OutputError(
            f"{size[0]}×{size[1]} pixels do not fit: {suffix} files have at most {MAX_SIDES[suffix]} a side"
        )
    if suffix == ".avif":
        avif_options(NO_EXTRAS, 0)


def _sized(frames: Iterator[ImageFrame], suffix: str) -> Iterator[tuple[ImageFrame, ImageFrame | None]]:
    """Yield each frame with the one before, after checking their size."""
    last: ImageFrame | None = None
    for frame in frames:
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        if last is None:
            check_animation(suffix, size)
        elif frame.pixels.shape != last.pixels.shape:
            first = (last.pixels.shape[1], last.pixels.shape[0])
            raise OutputError(f"a frame has {size[0]}×{size[1]} pixels, and the first one {first[0]}×{first[1]}")
        yield frame, last
        last = frame


def _write_png(file: BinaryIO, frames: Iterator[ImageFrame], how: Animation) -> None:
    count = sequence = control_at = 0
    for frame, last in _sized(frames, ".png"):
        count += 1
        # All frames have alpha, since a later one may need it.
        patch = _patch(_with_alpha(frame), last and _with_alpha(last))
        encoded = encode_with_opencv(patch.frame, ".png", 0)
        if last is None:
            file.write(encoded[:33])  # up to the header
            control_at = file.tell()
            file.write(chunk(b"acTL", bytes(8)) + png_extras(how.extras))
        height, width = patch.frame.pixels.shape[:2]
        time = Fraction(frame.seconds).limit_denominator(10_000)
        if time.numerator > 65535:
            time = Fraction(min(round(frame.seconds), 65535))
        place = b"".join(value.to_bytes(4, "big") for value in (sequence, width, height, patch.left, patch.top))
        duration = time.numerator.to_bytes(2, "big") + time.denominator.to_bytes(2, "big")
        file.write(chunk(b"fcTL", place + duration + b"\0\0"))  # stays, and replaces what is below
        sequence += 1
        for name, start, end in png.chunks(encoded):
            if name == b"IDAT" and last is None:
                file.write(chunk(name, encoded[start:end]))
            elif name == b"IDAT":
                file.write(chunk(b"fdAT", sequence.to_bytes(4, "big") + encoded[start:end]))
                sequence += 1
    file.write(chunk(b"IEND", b""))
    end = file.tell()
    file.seek(control_at)
    file.write(chunk(b"acTL", count.to_bytes(4, "big") + how.loops.to_bytes(4, "big")))
    file.seek(end)


def _with_alpha(frame: ImageFrame) -> ImageFrame:
    return frame if frame.alpha is not None else ImageFrame(frame.pixels, _alpha(frame), frame.seconds)


PIXELS = (b"ALPH", b"VP8 ", b"VP8L")  # chunks of WebP's pixels


def _write_webp(file: BinaryIO, frames: Iterator[ImageFrame], how: Animation) -> None:
    extras, has_alpha, size = how.extras, False, (1, 1)
    for frame, last in _sized(frames, ".webp"):
        if last is None:
            size = (frame.pixels.shape[1], frame.pixels.shape[0])
            file.write(b"RIFF\0\0\0\0WEBP" + webp_header(size, extras, alpha=False, animation=True))
            file.write(webp_chunk(b"ANIM", b"\xff\xff\xff\0" + min(how.loops, 65535).to_bytes(2, "little")))
        patch = _patch(frame, last, align=2)
        has_alpha |= frame.alpha is not None
        height, width = patch.frame.pixels.shape[:2]
        numbers = (patch.left // 2, patch.top // 2, width - 1, height - 1, min(_milliseconds(frame), 2**24 - 1))
        head = b"".join(value.to_bytes(3, "little") for value in numbers) + b"\2"  # stays, and replaces what is below
        encoded = encode_with_opencv(patch.frame, ".webp", how.quality)
        chunks = [(name, encoded[start:end]) for name, start, end in webp.chunks(encoded) if name in PIXELS]
        file.write(webp_chunk(b"ANMF", head + b"".join(webp_chunk(*one) for one in chunks)))
    file.write(b"".join(webp_trailers(extras)))
    end = file.tell()
    if end >= 2**32:
        raise OutputError("WebP files have at most 4 GB")
    file.seek(4)
    file.write((end - 8).to_bytes(4, "little"))
    file.seek(12)
    file.write(webp_header(size, extras, alpha=has_alpha, animation=True)[:18])
    file.seek(end)


def _write_gif(file: BinaryIO, frames: Iterator[ImageFrame], how: Animation) -> None:
    """Write each frame with a palette of its own; one before transparent pixels covers all, and is cleared."""
    waiting: tuple[ImageFrame, ImageFrame | None] | None = None
    cleared = True
    for frame, last in _sized(frames, ".gif"):
        if waiting is None:
            _write_gif_header(file, frame, how)
        else:
            cleared = _write_gif_frame(file, *waiting, whole=cleared, clear=frame.alpha is not None)
        waiting = frame, last
    if waiting is not None:
        _write_gif_frame(file, *waiting, whole=cleared, clear=waiting[0].alpha is not None)
    file.write(b"\x3b")


def _write_gif_header(file: BinaryIO, frame: ImageFrame, how: Animation) -> None:
    height, width = frame.pixels.shape[:2]
    file.write(b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x70\0\0")
    if how.loops != 1:  # the extension counts repetitions
        repeats = min(max(how.loops - 1, 0), 65535)
        file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + repeats.to_bytes(2, "little") + b"\0")
    if how.extras.xmp:
        trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"  # leads readers that look for lengths to its end
        file.write(b"\x21\xff\x0bXMP DataXMP" + how.extras.xmp + trailer)


def _write_gif_frame(file: BinaryIO, frame: ImageFrame, last: ImageFrame | None, *, whole: bool, clear: bool) -> bool:
    """Write a frame, or the part of it that changes; return whether the screen is cleared after it."""
    patch = _Patch(frame, 0, 0) if whole or clear or frame.alpha is not None else _patch(frame, last)
    palette, transparent, pixels = _gif_pixels(patch.frame, clear=clear)
    height, width = patch.frame.pixels.shape[:2]
    delay = min(max(0, round(frame.seconds * 100)), 65535)
    flags = (8 if clear else 4) | (transparent is not None)
    file.write(b"\x21\xf9\x04" + bytes((flags,)) + delay.to_bytes(2, "little") + bytes((transparent or 0, 0)))
    place = b"".join(value.to_bytes(2, "little") for value in (patch.left, patch.top, width, height))
    file.write(b"\x2c" + place + b"\x87" + palette.ljust(3 * GIF_COLORS, b"\0") + pixels)
    return clear


def _gif_pixels(frame: ImageFrame, *, clear: bool) -> tuple[bytes, int | None, bytes]:
    """Return palette, transparent index (where the screen is cleared, too) and compressed pixels of a frame."""
    # Without the index, some readers clear the screen to a colour.
    hidden = _alpha(frame) < GIF_OPAQUE
    if not clear and not hidden.any():
        palette, indexes = _palette_and_indexes(frame.pixels, GIF_COLORS)
        return palette, None, _compressed(indexes)
    palette, indexes = _palette_and_indexes(frame.pixels, GIF_COLORS - 1, hidden)
    transparent = len(palette) // 3
    indexes[hidden] = transparent
    return palette + b"\xff\xff\xff", transparent, _compressed(indexes)


def _palette_and_indexes(
    pixels: NDArray[np.uint8], size: int, hidden: NDArray[np.bool_] | None = None
) -> tuple[bytes, NDArray[np.uint8]]:
    """Return a palette of RGB colours and an index ``(H, W)`` for each pixel: the pixels' own colours if they fit."""
    packed = pixels.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    if hidden is not None:
        packed[hidden] = packed[~hidden][0] if not hidden.all() else 0
    colors, indexes = np.unique(packed, return_inverse=True)
    if len(colors) <= size:
        palette = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
        return palette.tobytes(), indexes.reshape(packed.shape).astype(np.uint8)
    from PIL import Image  # noqa: PLC0415 - slow to import

    reduced = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).quantize(size)
    return bytes(reduced.getpalette() or ())[: 3 * size], np.array(reduced)


def _compressed(indexes: NDArray[np.uint8]) -> bytes:
    """Return the compressed pixels of a GIF with 256 colours: those of a file that Pillow writes."""
    from PIL import Image  # noqa: PLC0415

    file = io.BytesIO()
    Image.fromarray(indexes).save(file, "GIF", optimize=False, interlace=False)
    data = file.getvalue()
    start = next(start for kind, start, _ in gif.blocks(data) if kind == gif.IMAGE)
    return data[start + 10 : -1]


def _write_avif(file: BinaryIO, frames: Iterator[ImageFrame], how: Animation) -> None:
    """Write an animation with Pillow, which asks for one frame after the other, and knows no number of loops."""
    options, durations = avif_options(how.extras, how.quality), list[int]()
    checked = (frame for frame, _ in _sized(frames, ".avif"))
    first = next(checked)
    sequence = _sequence(first, checked, durations, how.total)
    try:
        sequence.save(file, "AVIF", save_all=True, duration=durations, **options)
    except (OSError, ValueError, EOFError) as error:
        raise OutputError(one_line(error) or f"it has less than {how.total} frames") from error


def _sequence(first: ImageFrame, rest: Iterator[ImageFrame], durations: list[int], count: int) -> Any:
    """Return Pillow's image of several frames, which takes them from an iterator; ``durations`` grows with them."""
    from PIL import Image  # noqa: PLC0415

    class Sequence(Image.Image):
        is_animated = True

        def __init__(self) -> None:
            super().__init__()
            self._position = -1
            self.encoderinfo: dict[str, Any] = {}
            self._show(first)

        def _show(self, frame: ImageFrame) -> None:
            # All frames have alpha, since a later one may need it.
            image = to_pillow(frame, "RGBA")
            self.im, self._mode, self._size = image.im, image.mode, image.size
            durations.append(_milliseconds(frame))
            self._position += 1

        @property
        def n_frames(self) -> int:
            return count

        def tell(self) -> int:
            return max(0, self._position)

        def seek(self, frame: int) -> None:
            if frame > self._position:
                following = next(rest, None)
                if following is None:
                    raise EOFError
                self._show(following)

    return Sequence()


WRITERS: Mapping[str, Callable[[BinaryIO, Iterator[ImageFrame], Animation], None]] = {
    ".gif": _write_gif, ".png": _write_png, ".webp": _write_webp, ".avif": _write_avif,
}  # fmt: skip
