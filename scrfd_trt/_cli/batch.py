"""One pass over many inputs: a failed input is recorded, and the others are processed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.console import count
from scrfd_trt._cli.exits import add_location, error_text
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.inputs import Source, read_image
from scrfd_trt._cli.progress import image_progress
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

INPUT_ERRORS = (ImageError, VideoError, BackendError, DetectionsError, OutputError, OverlayError)
"""Errors that concern one input only."""

ImageCallback = Callable[[Source, NDArray[np.uint8], Detections], None]
FaceFinder = Callable[[Source, NDArray[np.uint8]], tuple[Detections, float, Timings | None]]
"""Returns the faces of an image, and how long their detection took in seconds."""


@dataclass(frozen=True)
class ImageResult:
    """The faces of one image."""

    path: Path
    faces: Detections
    seconds: float
    """Time of ``detect()``; the median of repetitions."""
    timings: Timings | None = None


@dataclass
class Tally:
    """Counts of inputs, results and failures; ``empty`` counts images without faces."""

    inputs: int = 0
    images: int = 0
    faces: int = 0
    empty: int = 0
    left_out: int = 0
    """Faces of images that a selection leaves uncovered."""
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    """Path and reason."""

    def add_image(self, faces: Detections) -> None:
        self.images += 1
        self.faces += len(faces)
        self.empty += not len(faces)

    def add_video(self, summary: Summary) -> None:
        self.videos += 1
        self.frames += summary.frames
        self.tracks += len(summary.tracks)

    def fail(self, path: Path, error: ScrfdError) -> str:
        """Count a failed input; return the reason on one line."""
        reason = console.printable(error_text(error))
        self.failures.append((path, reason))
        return reason

    def print_failures(self) -> None:
        failures = [(console.printable(path), reason) for path, reason in self.failures]
        lines = [reason if reason.startswith(path) else f"{path}: {reason}" for path, reason in failures]
        if self.inputs > 1 and lines:
            rest = "the others succeeded" if self.images + self.videos else "none succeeded"
            console.error(f"{len(lines)} of {self.inputs} inputs failed, {rest}:")
        for line in lines:
            if self.inputs > 1:
                console.plain(f"- {line}")
            else:
                console.error(line)

    def summary(self) -> str:
        images = [count(self.images, "image"), count(self.faces, "face")]
        videos = [count(self.videos, "video"), count(self.frames, "frame"), count(self.tracks, "track")]
        return ", ".join((images if self.images or not self.videos else []) + (videos if self.videos else []))


def detect_images(
    sources: Sequence[Source],
    find: FaceFinder,
    tally: Tally,
    *,
    use: ImageCallback | None,
    bar: bool,
) -> Iterator[tuple[Source, ImageResult | str]]:
    """Read images and find their faces; yield each source with its result, or with the reason of the failure.

    ``use`` draws and saves, for example. If it fails, the image counts as failed, but the result is yielded. ``bar``
    shows progress if stderr is a terminal.
    """
    with image_progress(len(sources), shown=bar) as advance:
        for source in sources:
            tally.inputs += 1
            try:
                with console.about(source.path):
                    outcome = _detect_image(source, find, tally, use)
            except KeyboardInterrupt as stop:
                if len(sources) > 1:
                    add_location(stop, "", f"after {'writing ' if use else ''}{tally.images} of {len(sources)} images")
                raise
            yield source, outcome
            advance()


def detector_finder(detector: SCRFDDetector, repeat: int = 0) -> FaceFinder:
    """Return a function that detects the faces of an image, and measures so many repetitions of each detection."""
    return lambda _, image: time_detect(detector, image, repeat)


def file_finder(faces: ImageFaces) -> FaceFinder:
    """Return a function that takes the faces of an image from a detections file."""
    return lambda source, image: (faces.find(source, image), 0.0, None)


def _detect_image(source: Source, find: FaceFinder, tally: Tally, use: ImageCallback | None) -> ImageResult | str:
    try:
        source.check()
        image = read_image(source.path).visible()
        faces, seconds, timings = find(source, image)
    except INPUT_ERRORS as error:
        return tally.fail(source.path, error)
    try:
        if use is not None:
            use(source, image, faces)
    except INPUT_ERRORS as error:
        tally.fail(source.path, error)
    else:
        tally.add_image(faces)
    return ImageResult(source.path, faces, seconds, timings)


def process_videos(
    sources: Sequence[Source], tally: Tally, process: Callable[[Source], Summary]
) -> Iterator[tuple[Source, Summary]]:
    """Process videos; yield each source that succeeds with its summary."""
    for source in sources:
        tally.inputs += 1
        try:
            source.check()
            with console.about(source.path):
                summary = process(source)
        except INPUT_ERRORS as error:
            tally.fail(source.path, error)
            continue
        tally.add_video(summary)
        yield source, summary
