"""One pass over many inputs: a failed input is recorded, and the others are processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, signals
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.console import count
from scrfd_trt._cli.exits import FAILED, add_location, error_text, memory_text
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.progress import image_progress
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import ImageFile, ImageFrame, Limits, open_image
from scrfd_trt._image_files.metadata import DROPPED_ORDER, Metadata, read_metadata
from scrfd_trt._image_files.metadata_blocks import FURTHER
from scrfd_trt._image_files.read import Damaged
from scrfd_trt.errors import (
    BackendError,
    DetectionsError,
    ImageError,
    MissingDependencyError,
    OptionError,
    OutputError,
    OverlayError,
    ScrfdError,
    VideoError,
)
from scrfd_trt.video import Summary

INPUT_ERRORS = (
    *(ImageError, VideoError, BackendError, DetectionsError, OutputError, OverlayError),
    *(OptionError, MemoryError),  # an option may not fit one of the inputs
    MissingDependencyError,  # videos and some formats of images require packages
)
"""Errors that concern one input only."""

FaceFinder = Callable[[Source, NDArray[np.uint8], int], tuple[Detections, float, Timings | None]]
"""Returns the faces of an image or of one of its pages, from 1 on, and how long their detection took in seconds."""


@dataclass(frozen=True)
class ImageResult:
    """The faces of one image, or of one page of a file with several."""

    path: Path
    faces: Detections
    seconds: float
    """Time of ``detect()``; the median of repetitions."""
    timings: Timings | None = None
    page: int | None = None
    """From 1 on; None if the file has one page."""

    @property
    def name(self) -> str:
        """The path, and the page in the form of addresses."""
        return str(self.path) if self.page is None else f"{self.path}#page={self.page}"


@dataclass(frozen=True)
class OpenedImage:
    """An image file that is being read."""

    source: Source
    file: ImageFile
    metadata: Metadata

    @classmethod
    def open(cls, source: Source, limits: Limits, damaged: Damaged) -> OpenedImage:
        """Read the header of an image file; raise ImageError if that fails."""
        source.check()
        file = open_image(source.path, limits=limits, damaged=damaged)
        metadata = read_metadata(file.data, file.kind)
        if file.count > 1:  # they are read, too
            metadata = replace(metadata, others=metadata.others - {FURTHER})
        return cls(source, file, metadata)


ImageCallback = Callable[[OpenedImage, Iterator[tuple[ImageFrame, Detections]]], None]
"""Takes the pages of an image with their faces, one by one."""


@dataclass
class Tally:
    """Counts of inputs, results and failures; ``empty`` counts images without faces."""

    alone: bool = False
    """Whether there is one input only."""
    inputs: int = 0
    images: int = 0
    pages: int = 0
    """Of images; as many as images if none has several."""
    faces: int = 0
    empty: int = 0
    left_out: int = 0
    """Faces of images that a selection leaves uncovered."""
    removed: dict[str, list[Path]] = field(default_factory=dict)
    """Images by what their copies lack."""
    changes: dict[str, list[Path]] = field(default_factory=dict)
    """Images by what reading or writing them changed."""
    spherical: list[Path] = field(default_factory=list)
    """Images that are projections of a sphere."""
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    """Path and reason."""

    def add_image(self, faces: int, pages: int) -> None:
        self.images += 1
        self.pages += pages
        self.faces += faces
        self.empty += not faces

    def add_changes(self, path: Path, removed: Iterable[str], changes: Iterable[str]) -> None:
        """Note what a copy lacks, and what was changed."""
        for names, by_name in ((removed, self.removed), (changes, self.changes)):
            for name in names:
                by_name.setdefault(name, []).append(path)

    def change_lines(self) -> list[str]:
        """Return a line on metadata that was removed, and lines on other changes."""
        changed = {path for paths in self.removed.values() for path in paths}
        names = sorted(self.removed, key=DROPPED_ORDER.index)
        lines = [f"metadata removed from {count(len(changed), 'image')}: {', '.join(names)}"] if names else []
        several = self.images > 1
        return lines + [
            f"{f'{len(paths)} of {self.images} images: ' if several else ''}{text}"
            for text, paths in self.changes.items()
        ]

    def warn_spherical(self) -> None:
        """Warn about images in which faces are distorted."""
        if self.spherical:
            others = f" and {len(self.spherical) - 1} more" if len(self.spherical) > 1 else ""
            console.warning(
                f"{console.printable(self.spherical[0])}{others}: this is a 360° image; faces are detected in the flat "
                "picture, where they are distorted or cut at the edges, and may be missed; review the result"
            )

    def add_video(self, summary: Summary) -> None:
        self.videos += 1
        self.frames += summary.frames
        self.tracks += len(summary.tracks)

    def fail(self, path: Path, error: ScrfdError | MemoryError) -> str:
        """Count a failed input; return the reason on one line. Raise the error if it concerns more than this input."""
        if signals.received() is not None or (self.alone and isinstance(error, OptionError)):
            raise error
        text = memory_text(error) if isinstance(error, MemoryError) else error_text(error)
        reason = console.printable(text)
        self.failures.append((path, reason))
        return reason

    def print_failures(self) -> None:
        failures = [(console.printable(path), reason) for path, reason in self.failures]
        paths: dict[str, list[str]] = {}
        for path, reason in failures:
            paths.setdefault(reason, []).append(path)
        lines = [
            reason if reason.startswith(names[0]) else f"{', '.join(names)}: {reason}"
            for reason, names in paths.items()
        ]
        rest = "the others succeeded" if self.images + self.videos else "none succeeded"
        if self.inputs > 1 and lines:
            console.listing("error", f"{len(failures)} of {self.inputs} inputs failed, {rest}", lines)
        elif lines:
            console.error(lines[0])

    @contextmanager
    def reported(self, left_out: LeftOut, *, strict: bool, quiet: bool) -> Iterator[None]:
        """Print failures after the block, however it ends, then what was left out; raise Exit if inputs failed.

        ``strict`` makes files and folders that were left out a failure.
        """
        try:
            yield
        finally:
            self.print_failures()
        left_out.report(failed=strict, quiet=quiet)
        if self.failures or (strict and left_out):
            raise typer.Exit(FAILED)

    def summary(self) -> str:
        pages = [count(self.pages, "page")] if self.pages > self.images else []
        images = [count(self.images, "image"), *pages, count(self.faces, "face")]
        videos = [count(self.videos, "video"), count(self.frames, "frame"), count(self.tracks, "track")]
        return ", ".join((images if self.images or not self.videos else []) + (videos if self.videos else []))


def detect_images(
    sources: Sequence[Source],
    find: FaceFinder,
    tally: Tally,
    *,
    use: ImageCallback | None,
    bar: bool,
    limits: Limits,
    damaged: Damaged,
) -> Iterator[tuple[Source, ImageResult | str]]:
    """Read images and find their faces; yield each source with its result, or with the reason of the failure.

    A file of several pages has a result for each.

    ``use`` draws and saves, for example. If it fails, the image counts as failed, but the result is yielded. ``bar``
    shows progress if stderr is a terminal. ``limits`` and ``damaged`` are those of ``open_image``.
    """
    with image_progress(len(sources), shown=bar) as advance:
        for source in sources:
            tally.inputs += 1
            try:
                with console.about(source.path):
                    outcomes = _detect_image(
                        source, find, tally, use, partial(OpenedImage.open, limits=limits, damaged=damaged)
                    )
            except KeyboardInterrupt as stop:
                if len(sources) > 1:
                    add_location(stop, "", f"after {'writing ' if use else ''}{tally.images} of {len(sources)} images")
                raise
            yield from ((source, outcome) for outcome in outcomes)
            advance()


def detector_finder(detector: SCRFDDetector, repeat: int = 0) -> FaceFinder:
    """Return a function that detects the faces of an image, and measures so many repetitions of each detection."""
    return lambda _, image, __: time_detect(detector, image, repeat)


def file_finder(faces: ImageFaces) -> FaceFinder:
    """Return a function that takes the faces of an image from a detections file."""
    return lambda source, image, page: (faces.find(source, image, page), 0.0, None)


def _detect_image(
    source: Source, find: FaceFinder, tally: Tally, use: ImageCallback | None, opener: Callable[[Source], OpenedImage]
) -> list[ImageResult | str]:
    """Find the faces of all pages; return their results, or the reason of a failure."""
    try:
        image = opener(source)
    except INPUT_ERRORS as error:
        return [tally.fail(source.path, error)]
    results: list[ImageResult] = []
    pages = _find_pages(image, find, results)
    try:
        if use is not None:
            use(image, pages)
        deque(pages, 0)
    except INPUT_ERRORS as error:
        reason = tally.fail(source.path, error)
        with suppress(*INPUT_ERRORS):
            deque(pages, 0)  # where only writing failed, the faces are still reported
        if len(results) < image.file.count:
            return [reason]
    else:
        tally.add_image(sum(len(result.faces) for result in results), len(results))
        if image.metadata.is_equirectangular:
            tally.spherical.append(source.path)
    for line in image.file.damage:
        console.warning(f"the image is damaged: {line}")
    return [*results]


def _find_pages(
    image: OpenedImage, find: FaceFinder, results: list[ImageResult]
) -> Iterator[tuple[ImageFrame, Detections]]:
    """Yield the pages of an image with their faces, which are added to the results."""
    for number, frame in enumerate(image.file.frames(), 1):
        faces, seconds, timings = find(image.source, frame.visible(), number)
        page = number if image.file.count > 1 else None
        results.append(ImageResult(image.source.path, faces, seconds, timings, page))
        yield frame, faces


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
