"""Image files, read by everything that reads them: all frames, the metadata, and the pictures of overlays."""

from __future__ import annotations

import io
import itertools
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st
from mutations import File, mutated
from PIL import Image, ImageCms, features
from worker import attempt

import overlays
from scrfd_trt._image_files import Limits, open_image, read_image
from scrfd_trt._image_files.metadata import read_metadata
from scrfd_trt._image_files.write import write_image

SECONDS = 20
MEBIBYTES = 600
LIMITS = Limits(pixels=4_000_000)
SIZE = (37, 29)


def picture(channels: int = 3, number: int = 0) -> Any:
    """Return noise over a ramp, ``(29, 37, channels)``."""
    ramp = np.linspace(0, 200, SIZE[0])[None, :, None] + np.zeros((SIZE[1], 1, channels))
    return (ramp + np.random.default_rng(number).integers(0, 50, ramp.shape)).astype(np.uint8)


@lru_cache
def samples() -> list[File]:
    """Return a small file of each kind that this machine can write."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    exif.get_ifd(0x8825)[1] = "N"
    color, alpha, grey = (Image.fromarray(picture(channels)) for channels in (3, 4, 3))
    grey = grey.convert("L")
    frames = [Image.fromarray(picture(4, number)) for number in range(1, 4)]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made: list[tuple[str, Any, dict[str, Any]]] = [
        ("a.jpg", color, {"exif": exif, "icc_profile": profile, "comment": "words"}),
        ("progressive.jpg", color, {"progressive": True}),
        ("cmyk.jpg", color.convert("CMYK"), {}),
        ("grey.jpg", grey, {}),
        ("mpo.mpo", color, {"save_all": True, "append_images": [color]}),
        ("a.png", color, {"exif": exif, "icc_profile": profile, "dpi": (72, 300)}),
        ("alpha.png", alpha, {}),
        ("palette.png", color.quantize(16), {"transparency": 3}),
        ("sixteen.png", Image.fromarray(picture(1)[..., 0].astype(np.uint16) * 200), {}),
        ("animated.png", frames[0], {"save_all": True, "append_images": frames[1:], "duration": 50}),
        ("a.webp", color, {"exif": exif, "icc_profile": profile}),
        ("alpha.webp", alpha, {"lossless": True}),
        ("animated.webp", frames[0], {"save_all": True, "append_images": frames[1:], "duration": 50}),
        ("animated.gif", frames[0], {"save_all": True, "append_images": frames[1:], "duration": 50, "loop": 3}),
        ("a.gif", color.quantize(8), {}),
        ("a.tif", color, {"exif": exif, "dpi": (72, 300), "icc_profile": profile}),
        ("lzw.tif", alpha, {"compression": "tiff_lzw"}),
        ("pages.tif", color, {"save_all": True, "append_images": [color]}),
        ("float.tif", Image.fromarray(picture(1)[..., 0].astype(np.float32)), {}),
        ("a.bmp", color, {}),
        ("a.ppm", color, {}),
        ("a.pgm", grey, {}),
        ("a.jp2", color, {}),
        ("a.tga", color, {}),
        ("a.ico", alpha, {}),
    ]
    if features.check("avif"):
        made += [
            ("a.avif", color, {"exif": exif}),
            ("animated.avif", frames[0], {"save_all": True, "append_images": frames[1:], "duration": 50}),
        ]
    made += [(f"a{suffix}", None, {}) for suffix in (".hdr", ".pfm", ".ras", ".exr")]
    files = [written(*each) for each in made] + [heic(color)]
    return [each for each in files if each.content]


def written(name: str, image: Any, options: dict[str, Any]) -> File:
    """Return a file that Pillow writes, or OpenCV without an image; empty if this release cannot."""
    with tempfile.TemporaryDirectory() as folder, suppress(OSError, KeyError, ValueError, TypeError, cv2.error):
        path = Path(folder) / name
        if image is None:
            pixels = picture()
            cv2.imwrite(str(path), pixels if path.suffix == ".ras" else pixels.astype(np.float32) / 255)
        else:
            image.save(path, **options)
        return File(name, path.read_bytes())
    return File(name, b"")


def heic(image: Any) -> File:
    """Return a HEIC file; empty without pillow-heif or its encoder."""
    target = io.BytesIO()
    with suppress(ImportError, RuntimeError, ValueError, OSError):
        import pillow_heif

        pillow_heif.from_pillow(image).save(target)
    return File("a.heic", target.getvalue())


def cases() -> st.SearchStrategy[tuple[File, str]]:
    """Return image files, and whether damaged ones are kept."""
    return st.tuples(mutated(samples()), st.sampled_from(["stop", "keep"]))


def check(case: tuple[File, str]) -> None:
    """Read all frames and write them again; read the metadata, and use the file as the picture of an overlay."""
    (name, content), damaged = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        attempt(lambda: overlays.create("image", picture=path))
    attempt(lambda: read_image(content, limits=LIMITS, damaged=damaged, name=name))
    attempt(copy, name, content, damaged)


def copy(name: str, content: bytes, damaged: Any) -> None:
    """Read the frames and the metadata of a file, and write the first frame."""
    opened = open_image(content, limits=LIMITS, damaged=damaged, name=name)
    metadata = read_metadata(content, opened.kind).kept(descriptive=True, location=True)
    frames = list(itertools.islice(opened.frames(), 20))
    for frame in frames:
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.ndim == 3
        assert frame.alpha is None or frame.alpha.shape == frame.pixels.shape[:2]
    assert frames[0].pixels.shape[1::-1] == opened.size
    for suffix in (".png", ".jpg"):
        write_image(io.BytesIO(), frames[:1], suffix, color=opened.color, metadata=metadata)
