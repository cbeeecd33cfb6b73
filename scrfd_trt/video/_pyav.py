"""Import PyAV when it is first needed, and translate FFmpeg's errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from scrfd_trt.errors import MissingDependencyError, OutputError, VideoError


def load() -> ModuleType:
    try:
        import av  # noqa: PLC0415 - optional, and slow to import
        import av.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError('videos need PyAV: pip install "scrfd-trt[video]"') from error
    return av


@contextmanager
def reading(action: Callable[[], str], subject: str = "") -> Iterator[None]:
    """Translate FFmpeg's errors to ``VideoError``; ``action`` returns what failed, ``subject`` names the video."""
    av = load()
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        hint = "; copy or download it again" if isinstance(error, av.error.InvalidDataError) else ""
        raise VideoError(f"{action()}: {_message(error)}{hint}", subject=subject) from error


@contextmanager
def writing(action: Callable[[], str]) -> Iterator[None]:
    """Translate FFmpeg's errors to ``OutputError``; ``action`` returns what failed."""
    av = load()
    try:
        yield
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
