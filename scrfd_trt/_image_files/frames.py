"""What a picture file consists of: frames or pages, what describes their colours and size, and limits of those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import ImageError

Kind = Literal["jpeg", "png", "webp", "gif", "tiff", "avif", "heic", "bmp", "jp2", "pnm", "pfm", "hdr", "ras"]


@dataclass(frozen=True, eq=False)
class ImageFrame:
    """One frame of an animation, one page, or the only image of a file."""

    pixels: NDArray[np.uint8]
    """``(H, W, 3)`` BGR, upright, C-contiguous; black where alpha is 0, since what is erased must not come back."""
    alpha: NDArray[np.uint8] | None = None  # ``(H, W)``, upright, 255 is opaque; None if the file has none
    seconds: float = 0.0  # how long an animation shows the frame

    def visible(self) -> NDArray[np.uint8]:
        """Return the pixels ``(H, W, 3)`` over white, as a viewer shows them; the same array if there is no alpha."""
        if self.alpha is None:
            return self.pixels
        alpha = self.alpha[..., None].astype(np.uint16)
        return ((self.pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def drawn_on(self, drawn: NDArray[np.uint8]) -> ImageFrame:
        """Return the frame with what was drawn on :meth:`visible`; that is opaque, as alpha can show what it covers."""
        if self.alpha is None:
            return replace(self, pixels=drawn)
        changed = np.any(drawn != self.visible(), axis=2)
        alpha = np.where(changed, np.uint8(255), self.alpha)
        return replace(self, pixels=np.where(changed[..., None], drawn, self.pixels), alpha=alpha)


@dataclass(frozen=True)
class ColorDescription:
    """What stays in every copy of an image: how its colours and its size are to be read."""

    icc_profile: bytes | None = None  # the profile of the BGR pixels; None if they are sRGB or not described
    resolution: tuple[float, float] | None = None  # dots per inch along the upright image's x and y axes
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG's own description of colours without a profile, name and content: cICP, cHRM, gAMA, sRGB."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An opened image file: its header is read and within the limits, its frames are not decoded yet."""

    kind: Kind
    data: bytes = field(repr=False)  # the file's content
    size: tuple[int, int]  # upright width and height of the first frame
    color: ColorDescription
    decode: Callable[[ImageFile], Iterator[ImageFrame]] = field(repr=False)
    count: int = 1  # number of frames or pages
    is_animation: bool = False  # whether frames are shown one after the other; otherwise they are pages
    loops: int = 0  # how often an animation is shown; 0 means forever
    notes: list[str] = field(default_factory=list)
    """What reading changes, one line each, such as 16 bits per channel reduced to 8; decoding may add more."""
    keep_damaged: bool = False  # whether pixels of damaged parts are decoded as far as possible
    damage: list[str] = field(default_factory=list)
    """What is missing or wrong in a file that is read nevertheless, one line each; decoding may add more."""

    def frames(self) -> Iterator[ImageFrame]:
        """Decode the frames one by one; raise ImageError if one cannot be decoded."""
        return self.decode(self)

    def add_note(self, line: str) -> None:
        """Add a line to the notes unless it is empty or there."""
        if line and line not in self.notes:
            self.notes.append(line)

    def lose(self, lines: Sequence[str]) -> None:
        """Add messages about lost pixels to the damage; raise ImageError unless damaged parts are kept."""
        if lines and not self.keep_damaged:
            raise ImageError(f"the image is damaged ({lines[0]}): copy or download it again", fields=["damaged"])
        self.add_damage(*lines)

    def add_damage(self, *lines: str) -> None:
        """Add lines to the damage unless they are empty or there."""
        self.damage.extend(line for line in dict.fromkeys(lines) if line and line not in self.damage)


class Extras(NamedTuple):
    """What is put into a file: the profile of its pixels, dots per inch, EXIF data, an XMP packet, colours of PNG."""

    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    exif: bytes = b""
    xmp: bytes = b""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def pixels_per_metre(self) -> bytes:
        """The resolution in the numbers of PNG, big-endian; empty if there is none."""
        return b"".join(min(round(value / 0.0254), 2**31 - 1).to_bytes(4, "big") for value in self.resolution or ())


NO_EXTRAS = Extras()


MILLION = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits for one image file."""

    pixels: int = 300 * MILLION
    """Of one frame."""
    option: str = "max_pixels"
    """The option that sets ``pixels``; empty if there is none."""

    @property
    def total_pixels(self) -> int:
        """The limit over all frames, or all scans of a JPEG: bounds the time."""
        return 20 * self.pixels


DEFAULT = Limits()
SMALL_FRAME = 10_000  # pixels; decoding a frame or a scan takes at least as long as for so many


def check_header(size: tuple[int, int], limits: Limits, damage: str = "") -> None:
    """Raise ImageError if an image has too many pixels, or none; ``damage`` completes "the file is …"."""
    width, height = size
    if width <= 0 or height <= 0:
        reason = f"the file is {damage}" if damage else f"the image is damaged (its size is {width}×{height})"
        raise ImageError(f"{reason}: copy or download it again")
    if width * height > limits.pixels:
        hint = f", or raise {limits.option}" if limits.option else ""
        raise ImageError(
            f"the image has {width}×{height} pixels, more than {limits.pixels / MILLION:g} million: "
            f"make it smaller{hint}",
            fields=[limits.option] if limits.option else [],
        )


def check_total(sizes: Iterable[tuple[int, int]], limits: Limits, what: str = "its frames together have") -> None:
    """Raise ImageError if the frames of a file, or the scans of a JPEG, have too many pixels together."""
    total = sum(max(width * height, SMALL_FRAME) for width, height in sizes)
    if total > limits.total_pixels:
        raise ImageError(
            f"the image takes too long to decode: {what} {total / MILLION:,.0f} million pixels, more than "
            f"{limits.total_pixels / MILLION:,.0f} million; split it, or convert it to another format",
            fields=[limits.option] if limits.option else [],
        )
