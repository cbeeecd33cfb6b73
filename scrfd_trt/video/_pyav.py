"""Import PyAV when it is first needed, open what comes from outside, and translate FFmpeg's errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

from scrfd_trt.errors import MissingDependencyError, OutputError, ScrfdError, VideoError, VideoNotFoundError

OLDEST, TOO_NEW = (17, 1), (19,)  # releases of PyAV
IMAGE_FORMATS = ("bmp_pipe", "jpeg_pipe", "png_pipe", "tiff_pipe", "webp_pipe")
FORMATS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "asf", "flv", "live_flv", "mxf", "ogg"),
    *("gif", "apng", "jpegxl_anim", "yuv4mpegpipe", "dv", "mjpeg", "mjpeg_2000", "mpjpeg", "smjpeg", "ivf", "nut"),
    *("h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "m4v", "mpegvideo", "vc1", "cavsvideo", "avs2"),
    *("avs3", "dirac", "dnxhd", "rm", "wtv", "dhav", "gxf", "lxf", "nsv", "nuv", "swf", "flic", "cine", "ser", "roq"),
    *("aac", "ac3", "aiff", "flac", "mp3", "wav", *IMAGE_FORMATS),
)
"""FFmpeg's formats that contain their data. Playlists and the like name other files, which FFmpeg would open."""
PLAYLISTS = {".m3u8": "hls", ".mpd": "dash"}  # FFmpeg's formats of playlists by the suffix of a web address
_WEB, _RTSP = ("http", "https", "tcp", "tls", "httpproxy", "crypto"), ("rtp", "srtp", "udp", "tcp", "tls")
_RTMP = ("rtmp", "rtmps", "tcp", "tls")
PROTOCOLS = {
    "http": _WEB, "https": _WEB, "rtsp": _RTSP, "rtsps": _RTSP, "rtmp": _RTMP, "rtmps": _RTMP, "udp": ("udp",),
    "tcp": ("tcp",), "srt": ("srt",),
}  # fmt: skip
"""Protocols that FFmpeg may use for an address, by its scheme."""


@cache
def load() -> ModuleType:
    try:
        import av  # noqa: PLC0415 - optional, and slow to import
        import av.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError('videos need PyAV: pip install "scrfd-trt[video]"') from error
    release = tuple(map(int, re.findall(r"\d+", av.__version__)[:2]))
    if not OLDEST <= release < TOO_NEW:
        problem = "too old" if release < OLDEST else "too new"
        hint = f'pip install "av>={OLDEST[0]}.{OLDEST[1]},<{TOO_NEW[0]}"'
        raise MissingDependencyError(f"PyAV {av.__version__} is {problem}: {hint}")
    return av


def scheme(name: str) -> str:
    """Return what precedes ``://`` in an address, in lower case; empty for a file that exists, and for other names."""
    found = re.match(r"([a-z][a-z0-9+.-]*)://", name, re.IGNORECASE)
    return found[1].lower() if found and not os.path.exists(name) else ""  # noqa: PTH110 - takes any text


def file_url(path: str | os.PathLike[str]) -> str:
    """Return a path as FFmpeg has to be given it: it takes ``12:30.mp4`` for an address otherwise."""
    text = os.fspath(path)
    if "\0" in text:
        raise VideoError("there is no such file: its name contains a zero byte", subject=text.replace("\0", "\\0"))
    return f"file:{text}"


def open_input(
    source: str | os.PathLike[str],
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout: float | None = None,
    hwaccel: Any = None,
) -> Any:
    """Open a file or address in PyAV: only formats with their own data, unless named; addresses never lead to files."""
    text = os.fspath(source)
    kind = scheme(text)
    text = kind + text[len(kind) :]  # FFmpeg knows lower case only
    formats = [*FORMATS, *filter(None, (container_format,))]
    if kind in ("http", "https"):
        formats += (form for suffix, form in PLAYLISTS.items() if re.split("[?#]", text)[0].lower().endswith(suffix))
    elif kind in ("rtsp", "rtsps"):
        formats.append("rtsp")
    if kind or "%" not in text or not os.path.exists(text):  # noqa: PTH110 - takes any text
        formats.append("image2")  # a single image, or a pattern of image names
    limits = {
        "format_whitelist": ",".join(formats),
        "protocol_whitelist": ",".join(PROTOCOLS.get(kind, ("file", "crypto") if container_format else ("file",))),
    }
    av = load()
    is_file = kind not in PROTOCOLS and not _is_device(container_format)
    if is_file and container_format is None and _holds_jpegs(text):
        container_format = "jpeg_pipe"
    try:
        return av.open(
            file_url(text) if is_file else text,
            "r",
            format=container_format,
            options={**limits, **(options or {})},
            timeout=timeout,
            metadata_errors="replace",
            **({} if hwaccel is None else {"hwaccel": hwaccel}),
        )
    except av.error.ArgumentError as error:
        if not is_file or container_format is not None:
            raise
        raise VideoError(
            "this is no video; playlists and other lists of files are not opened, so name the video itself",
            subject=text,
        ) from error


def decode(packet: Any) -> list[Any]:
    """Return the frames, as ``av.VideoFrame``, that a packet completes."""
    return list(packet.decode())


def _holds_jpegs(path: str) -> bool:
    """Return whether a file begins with a JPEG image and is named like one: FFmpeg would read the first image only."""
    if not path.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif")):
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the name may be any text
            return file.read(2) == b"\xff\xd8"
    except (OSError, ValueError):
        return False


def _is_device(container_format: str | None) -> bool:
    """Return whether a format is that of devices, which have names of their own."""
    if container_format in (None, "image2"):
        return False
    av = load()
    return bool(av.ContainerFormat(container_format, "r").flags & av.format.Flags.no_file.value)


@contextmanager
def reading(action: Callable[[], str], subject: str = "") -> Iterator[None]:
    """Translate FFmpeg's errors to ``VideoError``; ``action`` returns what failed, ``subject`` names the video."""
    av = load()
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        hint = "; copy or download it again" if isinstance(error, av.error.InvalidDataError) else ""
        kind = VideoNotFoundError if isinstance(error, FileNotFoundError) else VideoError
        raise kind(f"{action()}: {_message(error)}{hint}", subject=subject) from error


@contextmanager
def writing(action: Callable[[], str]) -> Iterator[None]:
    """Translate FFmpeg's errors to ``OutputError``; ``action`` returns what failed."""
    av = load()
    try:
        yield
    except ScrfdError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise OutputError(f"{action()}: {_message(error)}") from error


def _message(error: Exception) -> str:
    if isinstance(error, load().error.FFmpegError):
        return reason(error)
    return str(getattr(error, "strerror", None) or error)


def reason(error: Exception) -> str:
    """Return FFmpeg's message in a few words, without the name of PyAV's function."""
    if isinstance(error, load().error.ExitError):
        return "no data arrived in time"
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number is not None and 0 < number < 1000:
        return os.strerror(number)
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
