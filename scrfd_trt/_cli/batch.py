"""One pass over many inputs: a failed input is recorded, and the others are processed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from scrfd_trt._cli import console, signals
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.console import count
from scrfd_trt._cli.detections_files import ImageFaces
from scrfd_trt._cli.exits import FAILED, add_location, error_text, memory_text
from scrfd_trt._cli.folders import LeftOut
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.outputs import TAKEN
from scrfd_trt._cli.progress import image_progress, several_videos
from scrfd_trt._detections import Detections
from scrfd_trt._image_files.metadata import DROPPED_ORDER
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs import images
from scrfd_trt._jobs.decoders import Decoders, ImageSettings
from scrfd_trt._jobs.images import INPUT_ERRORS, PILE_BATCH, Image, ImageJob, ImageResult, ImageWork, UseImage
from scrfd_trt._jobs.stages import mapped
from scrfd_trt.errors import DetectionsError, OptionError, ScrfdError
from scrfd_trt.video import Summary

MANY = 100  # inputs of jobs whose speed is printed


@dataclass
class Tally:
    """Counts of inputs, results and failures; ``empty`` counts images without faces."""

    alone: bool = False  # whether there is one input only
    skipped: int = 0  # inputs that were done before this run
    images_end: float | None = None  # when the last image was done; videos follow
    inputs: int = 0
    images: int = 0
    pages: int = 0  # of images; as many as images if none has several
    faces: int = 0
    empty: int = 0
    left_out: int = 0  # faces of images that a selection leaves uncovered
    uncovered: int = 0  # faces that the last search of a copy found without a cover
    removed: dict[str, list[Path | str]] = field(default_factory=dict)  # images by what their copies lack
    changes: dict[str, list[Path | str]] = field(default_factory=dict)  # images by what reading or writing them changed
    spherical: list[Path | str] = field(default_factory=list)  # images that are projections of a sphere
    videos: int = 0
    frames: int = 0
    tracks: int = 0
    failures: list[tuple[Path | str, str]] = field(default_factory=list)  # path and reason

    def add_image(self, faces: int, pages: int) -> None:
        self.images += 1
        self.pages += pages
        self.faces += faces
        self.empty += not faces

    def add_changes(self, path: Path | str, removed: Iterable[str], changes: Iterable[str]) -> None:
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

    def fail(self, source: Source, error: ScrfdError | MemoryError) -> str:
        """Count a failed input; return the reason on one line. Raise the error if it concerns more than this input."""
        if signals.received() is not None or (self.alone and isinstance(error, OptionError)):
            raise error
        text = memory_text(error) if isinstance(error, MemoryError) else error_text(error)
        reason = console.printable(text.replace(str(source.path), str(source.name)) if source.address else text)
        self.failures.append((source.name, reason))
        return reason

    def print_failures(self) -> None:
        failures = [(console.printable(path), reason) for path, reason in self.failures]
        paths: dict[str, list[str]] = {}
        for path, reason in failures:
            paths.setdefault(reason, []).append(path)
        taken = [reason for reason in paths if TAKEN in reason]
        if len(taken) > 1:
            paths = {reason: names for reason, names in paths.items() if reason not in taken}
        lines = [
            reason if reason.startswith(names[0]) else f"{', '.join(names)}: {reason}"
            for reason, names in paths.items()
        ]
        if len(taken) > 1:
            how = "add --overwrite to replace them, or --resume to continue a job that was begun with it"
            if "in place of" in taken[0]:
                how = "or use --overwrite in place of --resume: no run with --resume wrote them"
            first = taken[0].partition(TAKEN)[0]
            lines.append(f"{len(taken)} copies already exist, such as {first}; name another folder, {how}")
        rest = "the others succeeded" if self.images + self.videos else "none succeeded"
        if self.inputs > 1 and lines:
            heading = f"{len(failures)} of {self.inputs} inputs failed, {rest}{self.earlier()}"
            console.listing("error", heading, lines)
        elif lines:
            console.error(lines[0])

    @contextmanager
    def reported(self, left_out: LeftOut, *, strict: bool, quiet: bool) -> Iterator[None]:
        """Print failures after the block, and what was left out (``strict``: a failure); raise Exit for failures."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.print_failures()
            if not quiet:
                self._print_speed(start, time.monotonic())
        left_out.report(failed=strict, quiet=quiet)
        if self.failures or self.uncovered or (strict and left_out):
            raise typer.Exit(FAILED)

    def _print_speed(self, start: float, end: float) -> None:
        """Print how many images and frames of a large job were processed a second, each kind in its own time."""
        middle = self.images_end or start
        parts = []
        if self.images:
            parts.append(f"{count(self.images, 'image')} ({self.images / (middle - start):,.1f} images/s)")
        if self.videos:
            parts.append(f"{count(self.videos, 'video')} ({self.frames / (end - middle):,.1f} frames/s)")
        lines = [f"processed {' and '.join(parts)} in {end - start:,.1f} s"] if parts else []
        if self.skipped:
            lines.append(f"skipped {count(self.skipped, 'input')} done before")
        if self.skipped or self.images + self.videos >= MANY:
            console.plain("; ".join(lines))

    def earlier(self) -> str:
        """Return a text after the counts of this run on what was done before, if anything was."""
        return f" in this run; {self.skipped:,} done before" if self.skipped else ""

    def summary(self) -> str:
        pages = [count(self.pages, "page")] if self.pages > self.images else []
        images = [count(self.images, "image"), *pages, count(self.faces, "face")]
        videos = [count(self.videos, "video"), count(self.frames, "frame"), count(self.tracks, "track")]
        parts = (images if self.images or not self.videos else []) + (videos if self.videos else [])
        return ", ".join(parts) + self.earlier()


def process_videos(
    sources: Sequence[Source], tally: Tally, process: Callable[[Source], Summary], jobs: int = 1
) -> Iterator[tuple[Source, Summary]]:
    """Process videos, ``jobs`` at the same time; yield each source that succeeds with its summary, in order."""
    finished: list[Source] = []

    def attempt(source: Source) -> Summary | ScrfdError | MemoryError:
        try:
            source.check()
            with console.about(source.name):
                summary = process(source)
        except INPUT_ERRORS as error:
            return error
        source.finish()
        finished.append(source)
        return summary

    several = mapped(attempt, sources, workers=jobs, ahead=len(sources)) if jobs > 1 else None
    try:
        bars = nullcontext() if several is None else several_videos()
        with bars, several or nullcontext(map(attempt, sources)) as outcomes:
            for source, outcome in zip(sources, outcomes, strict=False):
                tally.inputs += 1
                if isinstance(outcome, Summary):
                    tally.videos += 1
                    tally.frames += outcome.frames
                    tally.tracks += len(outcome.tracks)
                    yield source, outcome
                else:
                    tally.fail(source, outcome)
    except KeyboardInterrupt as stop:
        if several is not None:
            add_location(stop, "", f"after {len(finished)} of {len(sources)} videos")
        raise


@dataclass(frozen=True)
class ModelFinder(images.ModelFinder):
    """Detects faces, several images at a time; ``repeat`` measures so many repetitions of each detection."""

    repeat: int = 0

    def find(self, _source: Source, image: Image, _page: int) -> tuple[Detections, float | None, Timings | None]:
        return time_detect(self.detector, image, self.repeat)

    def needs_turn(self, size: tuple[int, int]) -> bool:
        return self.repeat > 0 or super().needs_turn(size)


@dataclass(frozen=True)
class FileFinder:
    """Takes the faces of images from a detections file."""

    faces: ImageFaces
    batch: int = 1
    device: str = "cpu"

    def find(self, source: Source, image: Image, page: int) -> tuple[Detections, float | None, Timings | None]:
        return self.faces.find(source, image, page), None, None

    def stream(self, images: Iterable[tuple[Source, Image]]) -> Iterator[Detections | ScrfdError]:
        for source, image in images:
            yield self._find(source, image)

    def _find(self, source: Source, image: Image) -> Detections | ScrfdError:
        try:
            return self.faces.find(source, image)
        except DetectionsError as error:
            return error

    def needs_turn(self, _size: tuple[int, int]) -> bool:
        return False

    def dropped(self, source: Source, _image: Image, page: int, _faces: Detections) -> NDArray[np.bool_]:
        return self.faces.dropped(source, page)


FaceFinder = ModelFinder | FileFinder


def run_size(batch: int | None, sources: Sequence[Source]) -> int | None:
    """Return the images per run of the model to open it for: more for many images; None for the default."""
    return batch or (PILE_BATCH if len(sources) > 1 and not any(source.is_video for source in sources) else None)


@contextmanager
def detect_images(
    sources: Sequence[Source],
    finder: FaceFinder,
    tally: Tally,
    settings: ImageSettings,
    *,
    use: UseImage | None = None,
    bar: bool,
    decoders: Decoders | None = None,
    as_json: bool = False,
) -> Iterator[Iterator[tuple[Source, ImageResult | str]]]:
    """Read images and find their faces; yield an iterator over each source with its result, or why it failed.

    A file of several pages has a result for each. ``bar`` shows progress if stderr is a terminal; the other parameters
    are those of :class:`ImageJob`.
    """
    job = ImageJob(sources, len(sources), finder, settings, use, decoders, as_json, console.about)
    try:
        with redirected_stderr(), image_progress(len(sources), shown=bar) as advance, job.finished() as finished:
            yield ((image.source, outcome) for image in finished for outcome in _outcomes(image, tally, advance))
    except KeyboardInterrupt as stop:
        if len(sources) > 1:
            done = tally.images if use is None else len(job.written)
            add_location(stop, "", f"after {'writing ' if use else ''}{done} of {len(sources)} images")
        raise
    finally:
        tally.images_end = time.monotonic()


def _outcomes(work: ImageWork, tally: Tally, advance: Callable[[], None]) -> Iterator[ImageResult | str]:
    """Count an image, print what is to be known of it, and yield its results, or why it failed."""
    tally.inputs += 1
    reason = "" if work.error is None else tally.fail(work.source, work.error)
    if reason and len(work.results) < work.pages:
        yield reason
    else:
        if not reason:
            _count(work, tally)
        with console.about(work.source.name):
            for line in () if console.is_quiet() else work.damage:
                console.warning(f"the image is damaged: {line}")
        yield from work.results
    work.source.finish(failed=bool(reason))
    advance()


def _count(work: ImageWork, tally: Tally) -> None:
    tally.add_image(sum(len(result.faces) for result in work.results), work.pages)
    if work.is_spherical:
        tally.spherical.append(work.source.name)
    if work.note is not None:
        work.note()
