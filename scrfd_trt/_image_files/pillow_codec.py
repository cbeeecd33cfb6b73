"""Decode with Pillow what OpenCV does not read right: animations, AVIF, HEIC, alpha of TIFF, CMYK by its profile."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _forks
from scrfd_trt._image_files import icc, pixels
from scrfd_trt._image_files.frames import ColorDescription, ImageFile, ImageFrame, Kind
from scrfd_trt._image_files.opencv_codec import OUT_OF_MEMORY
from scrfd_trt._image_files.stderr import dropped_stderr
from scrfd_trt._image_files.tiff_tags import ORIENTATION, first_directory
from scrfd_trt.errors import ImageError, MissingDependencyError, one_line

Pixels = NDArray[np.uint8]
ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError),
    *(AttributeError, struct.error, zlib.error),
)
"""What Pillow raises for damaged files."""
HEIF_COMMAND = 'pip install "scrfd-trt[heif]"'
WITH_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
_WARNINGS = _forks.Lock()


def open_with(kind: str, data: bytes | bytearray) -> Any:
    """Return Pillow's image of a file, by the plugin of its format, which checks no number of pixels."""
    if kind == "avif" and not pillow_has_avif():
        raise MissingDependencyError(f"reading AVIF images requires Pillow 11.3 or newer: {HEIF_COMMAND}")
    name = PLUGINS[kind]
    plugin = getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")  # slow to import
    # The filters of warnings belong to the whole process.
    with translated(), _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plugin(io.BytesIO(data))


PLUGINS = {"gif": "Gif", "png": "Png", "webp": "WebP", "tiff": "Tiff", "jpeg": "Jpeg", "avif": "Avif"}


def open_heif(data: bytes) -> Any:
    """Return pillow-heif's file; raise MissingDependencyError without this package."""
    try:
        import pillow_heif  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise MissingDependencyError(f"reading HEIC images requires pillow-heif: {HEIF_COMMAND}") from error
    with translated():
        return pillow_heif.open_heif(data, convert_hdr_to_8bit=True)


@contextmanager
def translated() -> Iterator[None]:
    """Translate what Pillow raises for damaged files to ImageError."""
    from PIL.Image import DecompressionBombError  # noqa: PLC0415

    try:
        yield
    except (ImageError, MissingDependencyError):
        raise
    except DecompressionBombError as error:
        raise ImageError("the image has more pixels than Pillow reads: make it smaller") from error
    except MemoryError as error:
        raise ImageError(OUT_OF_MEMORY) from error
    except ERRORS as error:
        raise ImageError(f"the image is damaged ({one_line(error)}): copy or download it again") from error


def decode(
    kind: str, data: bytes | bytearray, file: ImageFile, profile: bytes | None = None
) -> tuple[Pixels, Pixels | None]:
    """Decode the first image of a file; see :func:`bgr_and_alpha`. ``profile`` is one that Pillow does not read."""
    with dropped_stderr(), translated():  # libtiff and Pillow's plugin for TIFF write there
        image = open_with(kind, data)
        if profile is not None:
            image.info["icc_profile"] = profile
        load(image, file)
        return bgr_and_alpha(image, file.add_note)


def from_pillow(image: Any) -> ImageFrame:
    """Return the frame that a Pillow image of any mode shows now, upright; raise ImageError if it cannot be decoded."""
    with translated():
        try:
            image.load()
        except (AssertionError, AttributeError, ValueError) as error:
            if getattr(image, "fp", None) is not None:
                raise
            raise ImageError("the image is closed: pass it before, or call its load() before it is closed") from error
        orientation = image.getexif().get(ORIENTATION, 1)
        if image.mode.startswith("I;16"):  # bytes of any order
            image = np.asarray(image).astype(np.uint16)
            return pixels.upright_frame(*pixels.to_bgr(pixels.to_eight_bits(image)[0]), orientation)
        return pixels.upright_frame(*bgr_and_alpha(image, lambda _: None), orientation)


def load(image: Any, file: ImageFile) -> None:
    """Decode a Pillow image; keep the pixels that are there if it is cut off and the caller wants them."""
    try:
        image.load()
    except ERRORS as error:
        if not file.keep_damaged or vars(image).get("_im", vars(image).get("im")) is None:
            raise
        image.tile = []
        file.add_damage(one_line(error))


def bgr_and_alpha(image: Any, add_note: Callable[[str], None]) -> tuple[Pixels, Pixels | None]:
    """Return BGR pixels ``(H, W, 3)`` and alpha ``(H, W)`` of a loaded Pillow image of any mode."""
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        rgba = np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
        return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR), np.uint8), np.ascontiguousarray(rgba[..., 3])
    if image.mode[:1] in {"I", "F"}:
        values, note = pixels.to_eight_bits(np.asarray(image))
        add_note(note)
        return pixels.to_bgr(values)[0], None
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        image = icc.lab_to_srgb(image)
    elif icc.space(profile) == {"CMYK": "CMYK", "L": "GRAY"}.get(image.mode):
        image = icc.to_srgb(image, profile) or image
    rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8), None


def animation_file(
    kind: Kind,
    data: bytes,
    count: int,
    size: tuple[int, int],
    *,
    exif: bytes = b"",
    profile: bytes | None = None,
    first: int = 0,
    orientation: int = 0,
) -> ImageFile:
    """Open a file whose ``count`` frames, from number ``first`` on, Pillow decodes; see EXIF unless ``orientation``."""
    described = first_directory(exif)
    turn = orientation or described.orientation
    loops = open_with(kind, data).info.get("loop")
    if kind == "gif":  # counts repetitions, and 0 is for ever
        loops = 1 if loops is None else loops + (loops > 0)

    def frames(file: ImageFile) -> Iterator[ImageFrame]:
        image = open_with(kind, data)
        for number in range(first, first + count):
            with translated():
                image.seek(number)
                load(image, file)
                colors, alpha = bgr_and_alpha(image, file.add_note)
                seconds = float(image.info.get("duration", 0)) / 1000.0
            if alpha is not None and alpha.min() == 255:  # Pillow adds it to the later frames of GIFs
                alpha = None
            yield replace(pixels.upright_frame(colors, alpha, turn), seconds=seconds)

    resolution = pixels.upright_resolution(described.resolution, turn)
    return ImageFile(
        kind=kind,
        data=data,
        size=pixels.upright_size(size, turn),
        count=count,
        is_animation=count > 1,
        loops=int(loops or 0),
        color=ColorDescription(icc.rgb_profile(profile), resolution),
        decode=frames,
    )


def to_pillow(frame: ImageFrame, mode: str = "") -> Any:
    """Return Pillow's image of a frame: RGB, or RGBA if it has alpha or ``mode`` says so."""
    from PIL import Image  # noqa: PLC0415 - slow to import

    if frame.alpha is None and mode != "RGBA":
        return Image.fromarray(np.ascontiguousarray(frame.pixels[..., ::-1]))
    alpha = frame.alpha if frame.alpha is not None else np.full(frame.pixels.shape[:2], 255, np.uint8)
    return Image.fromarray(np.dstack([frame.pixels[..., ::-1], alpha]))


def pillow_has_avif() -> bool:
    """Return whether this Pillow reads and writes AVIF."""
    from PIL import features  # noqa: PLC0415

    return "avif" in features.modules and bool(features.check("avif"))
