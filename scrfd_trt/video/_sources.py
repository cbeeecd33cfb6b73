"""Open whatever a name names: a file, images, a camera, a stream."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import _pyav
from scrfd_trt.video._live import LiveReader
from scrfd_trt.video._reader import Damaged, VideoReader, redact_password

MAC_RATE = "30"
"""Frames a second where none were asked for: AVFoundation's own default, 29.97, is refused by most cameras."""


class Camera(NamedTuple):
    """FFmpeg's format, name and options of a camera."""

    container_format: str
    source: str
    options: dict[str, str]


def camera(which: str, platform: str, devices: Callable[[], Sequence[str]], rate: str | None = None) -> Camera:
    """Choose how a camera is opened.

    Parameters
    ----------
    which
        A number from 0, or the system's own name.
    platform
        As ``sys.platform``.
    devices
        Names of the cameras, asked for only where a number is no name.
    rate
        Frames a second, as FFmpeg writes it.

    Raises
    ------
    OptionError
        If there is no such camera, or the system is not known.
    """
    if not which:
        raise OptionError("camera: names no camera; take camera:0, or camera: and the device's name")
    options = {"framerate": rate} if rate else {}
    if platform.startswith("linux"):
        return Camera("v4l2", f"/dev/video{which}" if which.isdecimal() else which, options)
    if platform == "darwin":
        return Camera("avfoundation", f"{which}:none", {"framerate": MAC_RATE} | options)
    if platform == "win32":
        return Camera("dshow", f"video={_numbered(int(which), devices()) if which.isdecimal() else which}", options)
    raise OptionError(f"camera:{which}: cameras are not known on {platform}; name a file or an address")


def _numbered(number: int, names: Sequence[str]) -> str:
    if number < len(names):
        return names[number]
    raise OptionError(f"camera:{number}: there is no such camera; the choices are: {', '.join(names) or 'none'}")


def directshow() -> list[str]:
    """List Windows' cameras.

    Raises
    ------
    VideoError
        If FFmpeg cannot list them.
    """
    with _pyav.reading(lambda: "the cameras cannot be listed"):
        found = _pyav.load().enumerate_input_devices("dshow")
    return [device.name for device in found if "video" in device.media_types]


KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
NUMBER = re.compile(r"%0?(\d*)d")


def is_pattern(name: str) -> bool:
    """Tell whether a name is a pattern of image names, such as ``frames/%05d.png``."""
    return len(NUMBER.findall(Path(name).name)) == 1 and not Path(name).exists()


def numbers(pattern: Path) -> list[int]:
    """Return the numbers of the files that a pattern names, sorted."""
    before, width, after = NUMBER.split(pattern.name)
    digits = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    if not pattern.parent.is_dir():
        return []
    found = (digits.fullmatch(path.name) for path in pattern.parent.iterdir())
    return sorted(int(one[1]) for one in found if one and one[1] == f"{int(one[1]):0{width or 0}}")


def read_pattern(name: str, rate: Fraction, damaged: Damaged, extra_streams: Collection[str]) -> VideoReader:
    """Read an image sequence by its pattern, from its lowest number.

    Raises
    ------
    VideoError
        If there are no such images, or one is missing between others: FFmpeg would end there without a word.
    """
    found = numbers(Path(name))
    if not found:
        raise VideoError(f"{name}: there is no image of that name")
    missing = next((last + 1 for last, number in pairwise(found) if number != last + 1), None)
    if missing is not None:
        raise VideoError(
            f"{name}: image {missing} is missing, {found[-1]} is there; name the folder to take what there is"
        )
    options = {"framerate": str(rate), "start_number": str(found[0])}
    return VideoReader(name, damaged=damaged, container_format="image2", options=options, extra_streams=extra_streams)


def natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort numbers in names by their value: ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [(0, int(part), "") if at % 2 else (1, 0, part) for at, part in enumerate(parts)], path.name


def in_folder(folder: Path) -> list[Path]:
    """Return the images of a folder, in the order of their names.

    Raises
    ------
    VideoError
        If there are none, or of several kinds, which cannot be one video.
    """
    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in KINDS and p.name[0] != "."), key=natural)
    kinds = sorted({KINDS[path.suffix.lower()] for path in found})
    if len(kinds) != 1:
        what = f"images of several kinds, {', '.join(kinds)}; put them into folders" if kinds else "no images"
        raise VideoError(f"{folder}: there are {what}")
    return found


def read_folder(folder: Path, rate: Fraction, damaged: Damaged, extra_streams: Collection[str]) -> VideoReader:
    """Read the images of a folder as a video.

    Raises
    ------
    VideoError
        If there are none, of several kinds or sizes, or one cannot be read.
    """
    listed = listing([path.resolve() for path in in_folder(folder)], rate)
    with tempfile.TemporaryDirectory(prefix="scrfd-trt-") as place:
        script = Path(place, "images.ffconcat")  # FFmpeg reads it when it opens it, and never again
        script.write_bytes(os.fsencode(listed))
        return VideoReader(
            script,
            name=os.fspath(folder),
            damaged=damaged,
            container_format="concat",
            options={"safe": "0"},
            extra_streams=extra_streams,
        )


def listing(paths: Sequence[Path], rate: Fraction) -> str:
    """Write a script for FFmpeg's concat demuxer: image2's globs are not there on Windows.

    Raises
    ------
    VideoError
        If a name has a line's end in it, or one that image2 takes for a pattern.
    """
    lines = ["ffconcat version 1.0"]
    for number, path in enumerate(paths):
        name = path.as_posix()
        if "\n" in name or "\r" in name or "%" in name:
            raise VideoError(f"{name!r}: FFmpeg does not take such a name for an image; rename it")
        # Microseconds are rounded where frames begin, so that nothing adds up.
        begin, end = (round(at * 1_000_000 / rate) for at in (number, number + 1))
        quoted = name.replace("'", "'\\''")
        lines += [f"file '{quoted}'", f"option framerate {rate}", f"duration {(end - begin) / 1e6:.6f}"]
    return "\n".join([*lines, ""])


def checked_rate(rate: float | Fraction | None) -> Fraction:
    """Return frames a second as a fraction, 25 for None.

    Raises
    ------
    OptionError
        If it is not above 0.
    """
    if rate is None:
        return Fraction(25)
    if not 0 < rate < 100_000:
        raise OptionError(f"rate={rate}: take frames a second, above 0")
    return Fraction(rate).limit_denominator(1001)


STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "srt")
WEB = ("http", "https")
OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},  # UDP loses packets without a word
    "rtsps": {"rtsp_transport": "tcp"},
    "udp": {"overrun_nonfatal": "1"},  # who is late loses packets, and not the stream
}


def open_source(
    name: str | os.PathLike[str],
    *,
    damaged: Damaged = "stop",
    extra_streams: Collection[str] = (),
    rate: float | Fraction | None = None,
    reconnect: float | None = 10.0,
    queue: int = 2,
    timeout: float = 10.0,
) -> VideoReader | LiveReader:
    """Open a video, images, a camera or a stream, by what the name is.

    Parameters
    ----------
    name
        ``camera:0`` or ``camera:`` and the system's name of one; an address (``rtsp``, ``rtsps``, ``rtmp``, ``rtmps``,
        ``udp``, ``tcp``, ``srt``, ``http``, ``https``); an image sequence such as ``frames/%05d.png``; a folder of
        images; or a file.
    damaged, extra_streams
        As :class:`VideoReader` takes them. Live sources are taken as they come, damaged or not.
    rate
        Frames a second of images (None: 25), or asked of a camera (None: its own).
    reconnect, queue, timeout
        As :class:`LiveReader` takes them; ``timeout`` is for videos on the web, too.

    Returns
    -------
    VideoReader or LiveReader
        Open. An address of a video whose duration is known is no stream.

    Raises
    ------
    VideoError
        If it cannot be opened, or has no frame.
    OptionError
        If an option is out of its range, or does not fit the source.
    MissingDependencyError
        If PyAV is not installed.
    """
    text = os.fspath(name)
    patience: dict[str, Any] = {"reconnect": reconnect, "queue": queue, "timeout": timeout}
    if text.startswith("camera:"):
        chosen = camera(
            text[len("camera:") :], sys.platform, directshow, None if rate is None else str(checked_rate(rate))
        )
        return LiveReader(
            chosen.source,
            container_format=chosen.container_format,
            options=chosen.options,
            extra_streams=extra_streams,
            **patience,
        )
    if is_pattern(text) and not scheme(text):
        return read_pattern(text, checked_rate(rate), damaged, extra_streams)
    if Path(text).is_dir():
        return read_folder(Path(text), checked_rate(rate), damaged, extra_streams)
    if rate is not None:
        raise OptionError(f"{redact_password(text)}: rate is for images and cameras; this has its own")
    if scheme(text) in WEB:
        return _from_web(text, damaged, extra_streams, patience)
    if scheme(text) in STREAMS:
        return LiveReader(text, options=OPTIONS.get(scheme(text)), extra_streams=extra_streams, **patience)
    return VideoReader(text, damaged=damaged, extra_streams=extra_streams)


def scheme(name: str) -> str:
    """Return what stands before ``://``, in lower case; empty for files."""
    found = re.match(r"([a-z][a-z0-9+.-]*)://", name, re.IGNORECASE)
    return found[1].lower() if found else ""


def _from_web(
    name: str, damaged: Damaged, extra_streams: Collection[str], patience: dict[str, Any]
) -> VideoReader | LiveReader:
    timeout = patience["timeout"]
    first = VideoReader(name, damaged="keep", extra_streams=extra_streams, live=True, timeout=timeout)
    if first.container.duration is None:
        return LiveReader(
            name, extra_streams=extra_streams, first=first, **patience
        )  # some cameras take one connection only
    first.close()
    return VideoReader(name, damaged=damaged, extra_streams=extra_streams, timeout=timeout)
