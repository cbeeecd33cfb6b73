"""The edge to FFmpeg: PyAV imported when it is first needed, and its errors in our words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from scrfd_trt.errors import MissingDependencyError, OutputError, VideoError


def load() -> ModuleType:
    """Import PyAV.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import av  # noqa: PLC0415 - optional, and slow to import
        import av.logging  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError('videos need PyAV: pip install "scrfd-trt[video]"') from error
    return av


@contextmanager
def reading(what: Callable[[], str], subject: str = "") -> Iterator[None]:
    """Translate errors of FFmpeg while a video is read.

    Parameters
    ----------
    what
        Returns what fails, or where; called only when something went wrong.
    subject
        Name of the video.

    Raises
    ------
    VideoError
        For each of them.
    """
    av = load()
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError(f"{what()}: {reason(error)}", subject=subject) from error
    except OSError as error:
        raise VideoError(f"{what()}: {error.strerror or error}", subject=subject) from error


@contextmanager
def writing(what: Callable[[], str]) -> Iterator[None]:
    """Translate errors of FFmpeg while a video is written.

    Raises
    ------
    OutputError
        For each of them; ``what()`` says where.
    """
    av = load()
    try:
        yield
    except av.error.FFmpegError as error:
        raise OutputError(f"{what()}: {reason(error)}") from error
    except OSError as error:
        raise OutputError(f"{what()}: {error.strerror or error}") from error
    except ValueError as error:
        raise OutputError(f"{what()}: {error}") from error


def reason(error: Exception) -> str:
    """Put an error of FFmpeg into a few words, without the name of PyAV's function."""
    if isinstance(error, load().error.ExitError):
        return "nothing came in time"
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number is not None and 0 < number < 1000:
        return os.strerror(number)
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
