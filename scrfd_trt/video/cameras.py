"""What FFmpeg calls a webcam, by operating system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from scrfd_trt.errors import OptionError
from scrfd_trt.video import pyav

MAC_RATE = "30"
"""Frames a second where none were asked for: AVFoundation's own default, 29.97, is refused by most cameras."""


class Camera(NamedTuple):
    """FFmpeg's format, name and options of a camera."""

    form: str
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
    with pyav.reading(lambda: "the cameras cannot be listed"):
        found = pyav.load().enumerate_input_devices("dshow")
    return [device.name for device in found if "video" in device.media_types]
