"""A whole clip drawn over and written, with its faces followed, as ``scrfd-trt overlay`` does it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path

import overlays
from scrfd_trt.cli.studio.media import Media
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.errors import MissingDependencyError, VideoError
from scrfd_trt.video import FollowOptions, overlay_video

Told = Callable[[str], None]

MISSING = 'clips are written by packages that are not installed: pip install "scrfd-trt[video]"'
FAINT = float(FollowOptions.model_fields["low"].default)

_WRITTEN = {".mov": ".mov", ".webm": ".mkv", ".mkv": ".mkv", ".avi": ".mkv"}


def is_missing() -> bool:
    """Tell whether what writes clips is not installed."""
    return any(util.find_spec(name) is None for name in ("av", "scipy"))


def suffix(name: str) -> str:
    """Return the suffix of the file that a clip becomes: of a container that takes H.264 and the clip's own sound."""
    return _WRITTEN.get(Path(name).suffix.lower(), ".mp4")


def follow_options(threshold: float) -> dict[str, float]:
    """Return the options of :class:`scrfd_trt.video.FollowOptions` that belong to a threshold."""
    return {"threshold": threshold} | ({"low": threshold} if threshold < FAINT else {})


def write(
    media: Media, target: Path, detector: SCRFDDetector, draw: overlays.Compose, *, threshold: float, told: Told
) -> None:
    """Write a clip with all its frames and its sound; frames are never all in memory.

    Parameters
    ----------
    media
        The clip.
    target
        The file to write, in a folder of its own.
    detector, draw, threshold
        As for a picture.
    told
        Told how far it is. What it raises stops the work.

    Raises
    ------
    MissingDependencyError
        If the extra ``video`` is not installed.
    ScrfdError
        If the clip cannot be read or written.
    """
    if is_missing():
        raise MissingDependencyError(MISSING)
    stages = {"finding": "Looking for faces", "drawing": "Drawing"}

    def progress(stage: str, done: int, total: int | None) -> None:
        told(f"{stages[stage]}: frame {done}" + (f" of {total}" if total else ""))

    try:
        overlay_video(
            media.path or "",
            target,
            detector,
            draw,
            follow=FollowOptions(**follow_options(threshold)),
            faces_file=target.with_name("clip.faces.jsonl"),
            progress=progress,
        )
    except VideoError as error:  # its source is the file in which the page keeps the clip
        raise VideoError(error.reason, source=media.name) from error
