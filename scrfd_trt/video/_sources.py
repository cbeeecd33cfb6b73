"""Open a video source by its name: a file, images, a camera or a stream."""

from __future__ import annotations

import mimetypes
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from scrfd_trt._files import temporary_folder, user_path
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import OptionError, VideoError, redact_password
from scrfd_trt.video import _pyav
from scrfd_trt.video._animation_reader import AnimationReader, open_animation
from scrfd_trt.video._live_reader import LiveReader
from scrfd_trt.video._reader import DEFAULT_RATE, Damaged, Source, VideoReader, is_camera

WEB_SCHEMES = ("http", "https")
STREAM_SCHEMES = tuple(scheme for scheme in _pyav.PROTOCOLS if scheme not in WEB_SCHEMES)
STREAM_OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},  # UDP loses packets silently
    "rtsps": {"rtsp_transport": "tcp"},
    "udp": {"overrun_nonfatal": "1"},  # a slow consumer loses packets, and not the stream
}
MAC_RATE = "30"  # frames per second of cameras on macOS: most refuse AVFoundation's default, 29.97
IMAGE_TYPES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WebP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
IMAGES_ONLY = ",".join(("image2", *_pyav.IMAGE_FORMATS))
"""FFmpeg's formats of the images of a folder, so that none of them is a list of other files."""
NUMBER = re.compile(r"%0?(\d*)d")


@explained_options
def open_source(
    name: Source,
    *,
    damaged: Damaged = "stop",
    extra_streams: Collection[str] = (),
    rate: float | Fraction | None = None,
    reconnect: float | None = 10.0,
    queue: int = 2,
    timeout: float = 10.0,
    device: str = "cpu",
    checked: bool = False,
) -> VideoReader | LiveReader | AnimationReader:
    """Open a video, images, a camera or a stream, as its name says.

    Parameters
    ----------
    name
        A file; a folder of images; an image sequence such as ``frames/%05d.png``; an address (``rtsp``, ``rtsps``,
        ``rtmp``, ``rtmps``, ``udp``, ``tcp``, ``srt``, ``http``, ``https``); or ``camera:0``, or ``camera:`` and the
        system's name of a camera. A path that exists is a file or folder, whatever its name looks like.
    damaged, extra_streams
        As for :class:`VideoReader`. Live sources always keep damaged frames.
    rate
        Frames per second of images (default 25) or of a camera (default: the camera's own).
    reconnect, queue, timeout
        As for :class:`LiveReader`; ``timeout`` also applies to videos on the web.
    device, checked
        As for :class:`VideoReader`; all but videos are decoded on the CPU.

    Returns
    -------
    VideoReader, LiveReader or AnimationReader
        The open reader; the last for animated images (GIF, APNG, WebP, AVIF). A web address is a video if its duration
        is known, and a stream otherwise.

    Raises
    ------
    VideoError, MissingDependencyError
        As for :class:`VideoReader`.
    OptionError
        If an option is out of range, or does not apply to the source.
    """
    text = os.fspath(name)
    text = text if text[:1] != "~" else str(user_path(text))
    scheme = _pyav.scheme(text)
    live: dict[str, Any] = {"extra_streams": extra_streams, "reconnect": reconnect, "queue": queue, "timeout": timeout}
    file: dict[str, Any] = {"extra_streams": extra_streams, "damaged": damaged}
    if is_camera(text):
        fps = None if rate is None else str(_checked_rate(rate))
        camera = find_camera(text.removeprefix("camera:"), sys.platform, _directshow_cameras, fps)
        if camera.container_format == "v4l2" and not Path(camera.source).exists():
            raise VideoError(f"{text}: there is no camera ({camera.source})")
        return LiveReader(camera.source, container_format=camera.container_format, options=camera.options, **live)
    if is_pattern(text) and not scheme:
        return _open_pattern(text, _checked_rate(rate), **file)
    if Path(text).is_dir():
        return _open_folder(Path(text), _checked_rate(rate), **file)
    if rate is not None:
        raise OptionError(f"{redact_password(text)}: rate applies only to images and cameras; this source has its own")
    if scheme and scheme not in _pyav.PROTOCOLS:
        choices = ", ".join(_pyav.PROTOCOLS)
        hint = "name the path alone" if scheme == "file" else f"use an address of one of: {choices}"
        raise VideoError(f"{scheme}:// is not supported; {hint}", subject=redact_password(text))
    if scheme in STREAM_SCHEMES:
        return LiveReader(text, options=STREAM_OPTIONS.get(scheme), **live)
    if scheme in WEB_SCHEMES:
        first = VideoReader(text, damaged="keep", extra_streams=extra_streams, live=True, timeout=timeout)
        if first.container.duration is None:
            return LiveReader(text, first=first, **live)  # some cameras accept one connection only
        first.close()
    animation = None if scheme else open_animation(text, damaged=damaged)
    return animation or VideoReader(text, timeout=timeout if scheme else None, device=device, checked=checked, **file)


def _checked_rate(rate: float | Fraction | None) -> Fraction:
    if rate is None:
        return DEFAULT_RATE
    if not 0 < rate < 100_000:
        raise OptionError(f"rate={rate}: must be above 0 and below 100000 frames per second")
    return Fraction(rate).limit_denominator(1001)


class Camera(NamedTuple):
    """A camera, as FFmpeg opens it."""

    container_format: str
    source: str
    options: dict[str, str]


def find_camera(which: str, platform: str, list_names: Callable[[], Sequence[str]], rate: str | None = None) -> Camera:
    """Return a camera by its number, from 0, or by the system's name of it; raise ``OptionError`` if there is none."""
    if not which:
        raise OptionError("camera: names no camera; name camera:0, or camera: and the device's name")
    options = {"framerate": rate} if rate else {}
    if platform.startswith("linux"):
        if not which.isdecimal() and not which.startswith("/"):
            raise OptionError(f"camera:{which}: use camera:0, camera:1, … or the path of a device")
        return Camera("v4l2", f"/dev/video{which}" if which.isdecimal() else which, options)
    if platform == "darwin":
        return Camera("avfoundation", f"{which}:none", {"framerate": MAC_RATE} | options)
    if platform != "win32":
        raise OptionError(f"camera:{which}: cameras are not supported on {platform}; name a file or an address")
    if which.isdecimal():
        names = list_names()
        if int(which) >= len(names):
            raise OptionError(f"camera:{which}: there is no such camera; the choices are: {', '.join(names) or 'none'}")
        which = names[int(which)]
    return Camera("dshow", f"video={which}", options)


def _directshow_cameras() -> list[str]:
    with _pyav.reading(lambda: "the cameras cannot be listed"):
        found = _pyav.load().enumerate_input_devices("dshow")
    return [device.name for device in found if "video" in device.media_types]


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern of image names, such as ``frames/%05d.png``."""
    return len(NUMBER.findall(Path(name).name)) == 1 and not Path(name).exists()


def _open_pattern(name: str, rate: Fraction, **reader_options: Any) -> VideoReader:
    """Open an image sequence from its lowest number; a missing number is an error, where FFmpeg would just end."""
    numbers = _numbers(Path(name))
    if not numbers:
        raise VideoError(f"{name}: no image matches this pattern")
    missing = next((last + 1 for last, number in pairwise(numbers) if number != last + 1), None)
    if missing is not None:
        raise VideoError(
            f"{name}: image {missing} is missing, but {numbers[-1]} exists; name the folder to use all images in it"
        )
    options = {"framerate": str(rate), "start_number": str(numbers[0])}
    pattern = Path(str(Path(name).parent).replace("%", "%%"), Path(name).name)
    return VideoReader(pattern, name=name, container_format="image2", options=options, **reader_options)


def _numbers(pattern: Path) -> list[int]:
    before, width, after = NUMBER.split(pattern.name)
    digits = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    if not pattern.parent.is_dir():
        return []
    found = (digits.fullmatch(path.name) for path in pattern.parent.iterdir())
    return sorted(int(one[1]) for one in found if one and one[1] == f"{int(one[1]):0{width or 0}}")


def _open_folder(folder: Path, rate: Fraction, **reader_options: Any) -> VideoReader:
    script = concat_script([path.resolve() for path in _images(folder)], rate)
    with temporary_folder() as place:
        path = place / "images.ffconcat"  # FFmpeg reads it only while it opens
        path.write_bytes(os.fsencode(script))
        options = {"safe": "0"}
        return VideoReader(path, name=os.fspath(folder), container_format="concat", options=options, **reader_options)


def _images(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of their names; they have to be of one type."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_TYPES and p.name[0] != "."]
    types = sorted({IMAGE_TYPES[path.suffix.lower()] for path in found})
    if len(types) != 1:
        found_types = f"images of several types, {', '.join(types)}; use one folder per type" if types else "no images"
        is_clips = any((mimetypes.guess_type(path.name)[0] or "").startswith("video/") for path in folder.iterdir())
        hint = "; a folder is one video of its images, so pass its video files one by one" if is_clips else ""
        raise VideoError(f"{folder}: there are {found_types}{hint}")
    return sorted(found, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort numbers in names by their value: ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(0, int(part), "") if at % 2 else (1, 0, part) for at, part in enumerate(parts)], path.name


def concat_script(paths: Sequence[Path], rate: Fraction) -> str:
    """Return a script for FFmpeg's concat demuxer; image2 cannot glob on Windows."""
    lines = ["ffconcat version 1.0"]
    for number, path in enumerate(paths):
        name = path.as_posix()
        if "\n" in name or "\r" in name or NUMBER.search(name):  # FFmpeg takes the last for a pattern
            raise VideoError(f"{name!r}: FFmpeg does not read images with such a name; rename it")
        # Frame starts are rounded to microseconds, and not durations, so that rounding does not add up.
        begin, end = (round(at * 1_000_000 / rate) for at in (number, number + 1))
        quoted = name.replace("'", "'\\''")
        lines += [f"file '{quoted}'", f"option framerate {rate}", f"option format_whitelist {IMAGES_ONLY}"]
        lines.append(f"duration {(end - begin) / 1e6:.6f}")
    return "\n".join([*lines, ""])
