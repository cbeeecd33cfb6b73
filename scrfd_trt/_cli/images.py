"""Go through many images: one that fails is noted and the others are done all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scrfd_trt._cli import console
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.exits import worded
from scrfd_trt._cli.inputs import Source, read_image
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import (
    BackendError,
    DetectionsError,
    ImageError,
    OutputError,
    OverlayError,
    ScrfdError,
    VideoError,
)
from scrfd_trt.video import Summary

OF_ONE_INPUT = (ImageError, VideoError, BackendError, DetectionsError, OutputError, OverlayError)
"""Errors that say nothing about the next input."""

Use = Callable[[Source, NDArray[np.uint8], Detections], None]


@dataclass(frozen=True)
class Seen:
    """What was found in one image.

    Attributes
    ----------
    path
        As it was named.
    faces
        The detections.
    seconds
        What the detector took; the median, if it was asked to do it again.
    pace
        What came of doing it again; None if that was not asked for.
    """

    path: Path
    faces: Detections
    seconds: float
    pace: Timings | None = None


@dataclass
class Tally:
    """What has been done so far.

    Attributes
    ----------
    inputs
        How many there were.
    images, faces, empty
        How many images were done, the faces in them, and the images without any.
    videos, frames, tracks
        How many videos were done, their frames, and the tracks in them.
    failures
        Path and reason of each input that could not be done.
    """

    inputs: int = 0
    images: int = 0
    faces: int = 0
    empty: int = 0
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        """Count an image that is done."""
        self.images += 1
        self.faces += len(seen.faces)
        self.empty += not len(seen.faces)

    def add_video(self, summary: Summary) -> None:
        """Count a video that is done."""
        self.videos += 1
        self.frames += summary.frames
        self.tracks += len(summary.tracks)

    @property
    def done(self) -> int:
        """How many inputs were done."""
        return self.images + self.videos

    def fail(self, path: Path, error: ScrfdError) -> str:
        """Count an image that could not be done; return the reason, on one line."""
        reason = console.printable(worded(error))
        self.failures.append((path, reason))
        return reason

    def tell_failures(self) -> None:
        """List what failed on stderr, with the reasons."""
        if self.inputs > 1 and self.failures:
            rest = "the others are done" if self.done else "nothing was done"
            console.error(f"{len(self.failures)} of {self.inputs} inputs failed, {rest}:")
        for path, reason in self.failures:
            if self.inputs > 1:
                console.plain(f"- {_about(path, reason)}")
            else:
                console.error(_about(path, reason))

    def summary(self) -> str:
        """Return what was done in a few words."""
        images = [count(self.images, "image"), count(self.faces, "face")]
        videos = [count(self.videos, "video"), count(self.frames, "frame"), count(self.tracks, "track")]
        return ", ".join((images if self.images or not self.videos else []) + (videos if self.videos else []))


def _about(path: Path, reason: str) -> str:
    """Put the path before the reason, unless that begins with it."""
    return reason if reason.startswith(console.printable(path)) else f"{path}: {reason}"


def count(number: int, noun: str) -> str:
    """Write ``1 face`` or ``2 faces``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def each(
    sources: Sequence[Source],
    detector: SCRFDDetector,
    use: Use | None,
    tally: Tally,
    *,
    bar: bool,
    repeat: int = 0,
) -> Iterator[tuple[Source, Seen | str]]:
    """Read images, find the faces and use them.

    Parameters
    ----------
    sources
        The images.
    detector
        Finds the faces.
    use
        What to do with source, image and faces; draw and save, say. Where it fails, what was found is yielded all the
        same.
    tally
        Counts them.
    bar
        Show a progress bar if stderr is a terminal and there is more than one image.
    repeat
        How often to find the faces of each image again, on the clock.

    Yields
    ------
    tuple
        The source, and what was found or, where nothing could be looked for, the reason.
    """
    with _progress(len(sources), wanted=bar) as advance:
        for source in sources:
            tally.inputs += 1
            with console.about(source.path):
                outcome = _one(source, detector, use, tally, repeat)
            yield source, outcome
            advance()


def _one(source: Source, detector: SCRFDDetector, use: Use | None, tally: Tally, repeat: int) -> Seen | str:
    try:
        source.check()
        image = read_image(source.path)
        faces, seconds, pace = time_detect(detector, image, repeat)
        seen = Seen(source.path, faces, seconds, pace)
    except OF_ONE_INPUT as error:
        return tally.fail(source.path, error)
    try:
        if use is not None:
            use(source, image, seen.faces)
    except OF_ONE_INPUT as error:
        tally.fail(source.path, error)
    else:
        tally.add(seen)
    return seen


@contextmanager
def _progress(total: int, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar; yield what moves it on."""
    if not wanted or total < 2 or not console.STDERR.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn by this thread alone: one of its own would write while stderr is turned away to catch native notes.
    # What goes to stdout is not for this console, which rich would turn it to.
    with Progress(
        *columns, console=console.STDERR, transient=True, auto_refresh=False, redirect_stdout=False
    ) as progress:
        task = progress.add_task("", total=total)

        def advance() -> None:
            progress.advance(task)
            progress.refresh()

        yield advance
