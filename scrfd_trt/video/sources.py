"""Open whatever a name names: a file, images, a camera, a stream."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

from scrfd_trt.errors import OptionError
from scrfd_trt.video.cameras import camera, directshow
from scrfd_trt.video.images import checked_rate, is_pattern, read_folder, read_pattern
from scrfd_trt.video.info import public_name
from scrfd_trt.video.live import LiveReader
from scrfd_trt.video.reading import Damaged, VideoReader

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
    others: Collection[str] = (),
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
    damaged, others
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
        return LiveReader(chosen.source, form=chosen.form, options=chosen.options, others=others, **patience)
    if is_pattern(text) and not scheme(text):
        return read_pattern(text, checked_rate(rate), damaged, others)
    if Path(text).is_dir():
        return read_folder(Path(text), checked_rate(rate), damaged, others)
    if rate is not None:
        raise OptionError(f"{public_name(text)}: rate is for images and cameras; this has its own")
    if scheme(text) in WEB:
        return _from_web(text, damaged, others, patience)
    if scheme(text) in STREAMS:
        return LiveReader(text, options=OPTIONS.get(scheme(text)), others=others, **patience)
    return VideoReader(text, damaged=damaged, others=others)


def scheme(name: str) -> str:
    """Return what stands before ``://``, in lower case; empty for files."""
    found = re.match(r"([a-z][a-z0-9+.-]*)://", name, re.IGNORECASE)
    return found[1].lower() if found else ""


def _from_web(
    name: str, damaged: Damaged, others: Collection[str], patience: dict[str, Any]
) -> VideoReader | LiveReader:
    timeout = patience["timeout"]
    first = VideoReader(name, damaged="keep", others=others, live=True, timeout=timeout)
    if first.container.duration is None:
        return LiveReader(name, others=others, first=first, **patience)  # some cameras take one connection only
    first.close()
    return VideoReader(name, damaged=damaged, others=others, timeout=timeout)
