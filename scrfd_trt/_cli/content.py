"""Tell images, videos and other files apart by their names and first bytes; nothing is decoded."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from scrfd_trt._engine.plan import ONNX_START, peek
from scrfd_trt._image_files.read import TARGA_END, image_kind, unsupported_kind
from scrfd_trt.errors import MissingDependencyError, ScrfdError, VideoError
from scrfd_trt.video import _pyav

Kind = Literal["image", "unsupported image", "video", "model", "parquet", "text", "empty", "unknown"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".divx", ".m2v", ".dv", ".qt"),
    *(".mjpeg", ".mjpg", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu"),
)
RAW_SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".cr2", ".cr3", ".pef", ".rwl", ".3fr", ".iiq", ".srw"),
    *(".kdc", ".dcr", ".erf", ".mef", ".mos", ".orf", ".raf", ".rw2"),
)
"""Files of cameras whose TIFF part is a small preview."""
TARGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")  # files that need not have any known bytes
SHARED_SUFFIXES = (".ts", ".mts")  # of videos and of TypeScript; the content decides
START_BYTES = 1024
NOT_VIDEO_FORMATS = ("tty", "image2")  # FFmpeg's formats for text and for single images
VIDEO_PREFIXES = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"FLV\1",
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG video
    b"\0\0\1\xb0",  # MPEG-4 video
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"YUV4MPEG2 ",
    b"\x1f\x07\0",  # DV
    b".RMF",
    b"DKIF",  # IVF
    b"BBCD\0",  # Dirac
    b"nut/multimedia container\0",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    *(b"\0\0\0\1" + unit for unit in (b"\x67", b"\x27", b"\x47", b"\x09", b"\x40\x01", b"\x46\x01")),  # H.264, HEVC
)
AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")
QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Boxes that QuickTime files of the time before ``ftyp`` begin with."""
OGG_VIDEO = (b"\x80theora", b"BBCD\0", b"\1video", b"OVP80")
TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # size of the packets of transport streams, and where their sync byte is
SYNC = b"\x47"
MIN_JPEGS, MAX_JPEGS, JPEG_HEADERS = 6, 1 << 26, 1 << 17
"""Pictures that make a video of JPEG images, and bytes that are searched for them and for what a photograph lists."""
NEXT_JPEG = b"\xff\xd9\xff\xd8\xff"  # end of a picture, and start of the next
PLAYLISTS = (b"#EXTM3U", b"ffconcat ", b"[playlist]", b"<MPD")
PNM_HEADER = re.compile(rb"P[1-7](\s|#[^\n]*\n)+(\d|WIDTH)")


class Content(NamedTuple):
    """What a file holds; ``name`` is that of an image format which is not read."""

    kind: Kind
    name: str = ""


def identify(path: Path) -> Content:
    """Return what a file holds. Only regular files are opened; raise OSError if that fails."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return Content("unknown")
    if not status.st_size:  # reading files of /proc may block
        return Content("empty")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
        file.seek(-min(len(TARGA_END), status.st_size), os.SEEK_END)
        end = file.read(len(TARGA_END))
    return identify_bytes(start, end)


def identify_bytes(start: bytes, end: bytes = b"") -> Content:
    """Return what a file holds by its first 1024 bytes and its last 18."""
    if name := "Targa" if end == TARGA_END else unsupported_kind(start):
        return Content("unsupported image", name)
    kind = image_kind(start[:64])
    is_text = (kind == "bmp" and _is_text(start)) or (kind == "pnm" and not PNM_HEADER.match(start))
    if kind and not is_text:  # one that begins with the few letters of a format
        return Content("image", kind)
    if is_video(start):
        return Content("video")
    if peek(start) is not None or start.startswith(ONNX_START):
        return Content("model")
    if start.startswith(b"PAR1"):
        return Content("parquet")
    return Content("text" if _is_text(start) else "unknown")


def look(path: Path) -> tuple[bool, str]:
    """Return whether a file is an image or a video by its content, and why it cannot be read."""
    suffix = path.suffix.lower()
    try:
        kind, name = identify(path)
        is_media = has_video_stream(path) if kind == "video" else kind == "image"
    except FileNotFoundError:  # a link without a target, or deleted meanwhile
        return False, ""
    except OSError as error:
        return False, f"cannot be read: {error.strerror}"
    except MissingDependencyError:  # reported when the video is read, once for all
        return kind == "video", ""
    except ScrfdError as error:
        return True, str(error)
    if (kind == "unknown" or name == "tiff") and suffix in RAW_SUFFIXES:
        name = "camera raw"
    elif kind == "unknown" and suffix in TARGA_SUFFIXES:
        name = "Targa"
    elif kind != "unsupported image":
        return is_media, ""
    return True, f"{name} is not supported"


def not_media(path: Path) -> str:
    """Return why a file is neither an image nor a video, or an empty string. It is known to be no video."""
    try:
        if (kind := identify(path).kind) not in {"text", "model", "parquet", "unknown"}:
            return ""
        with path.open("rb") as file:
            start = file.read(START_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:  # reported when the file is read
        return ""
    if start.startswith(PLAYLISTS) or (start.startswith(b"<?xml") and b"<MPD" in start):
        return "this is a playlist, and playlists are not opened: name the video itself"
    return f"not an image or a video{'; if this is a list of paths, use --files-from' if kind == 'text' else ''}"


def is_video(start: bytes) -> bool:
    """Return whether a file may hold video by its first bytes; some containers may hold audio alone."""
    if start.startswith(VIDEO_PREFIXES):
        return True
    if start[4:8] == b"ftyp":
        return start[8:12] not in AUDIO_BRANDS
    if start[4:8] in QUICKTIME_BOXES:
        return True
    if start.startswith(b"RIFF"):
        return start[8:12] in {b"AVI ", b"AMV "}
    if start.startswith(b"OggS"):
        return any(codec in start[:200] for codec in OGG_VIDEO)
    return any(start[at::size][:4] == 4 * SYNC for size, at in TS_PACKETS)


def is_motion_jpeg(path: Path) -> bool:
    """Return whether a file is JPEG images one after another, as of cameras, and no photograph with further ones."""
    with path.open("rb") as file:
        size = min(os.fstat(file.fileno()).st_size, MAX_JPEGS)
        data = file.read(2 * size // MIN_JPEGS)
        if not data.startswith(b"\xff\xd8") or NEXT_JPEG not in data:  # the first one would be twice the average
            return False
        data += file.read(size - len(data))
    return data.count(NEXT_JPEG) >= MIN_JPEGS - 1 and b"MPF\0" not in data[:JPEG_HEADERS]


def has_video_stream(path: Path) -> bool:
    """Return whether FFmpeg finds a video stream; the cover image of an audio file is none."""
    av = _pyav.load()
    try:
        with _pyav.open_input(path) as container:
            name = container.format.name
            if name in NOT_VIDEO_FORMATS or name.endswith("_pipe"):
                return False
            cover = av.stream.Disposition.attached_pic
            return any(not stream.disposition & cover for stream in container.streams.video)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"cannot be read as a video: {_pyav.reason(error)}") from error


def _is_text(start: bytes) -> bool:
    if b"\0" in start:
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a character is cut
    return True
