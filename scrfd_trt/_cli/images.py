"""Read images, find their faces, and write their results and copies, all at the same time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._cli.batch import INPUT_ERRORS, Tally
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.decoders import MAX_BYTES, MAX_SLOT, Decoded, Decoders, OpenedImage
from scrfd_trt._cli.exits import add_location
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.options import ImageSettings
from scrfd_trt._cli.progress import image_progress
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import usable_cores
from scrfd_trt._doubtful import find_dropped
from scrfd_trt._image_files import ImageFile, ImageFrame
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs.profile import measured, measured_items
from scrfd_trt._jobs.stages import ByteBudget, OrderedMap, grouped, mapped
from scrfd_trt._passes import is_thin
from scrfd_trt.errors import DetectionsError, ScrfdError

Image = NDArray[np.uint8]
MAX_BATCH, MAX_AHEAD, PILE_BATCH = 1024, 64, 32


@dataclass(frozen=True)
class ModelFinder:
    """Detects faces, several images at a time; ``repeat`` measures so many repetitions of each detection."""

    detector: SCRFDDetector
    repeat: int = 0
    batch: int = 1
    """Number of images that are detected together."""

    @classmethod
    def of(cls, detector: SCRFDDetector, batch: int | None, repeat: int = 0) -> ModelFinder:
        """Choose the batch if there is none: the largest, but on the CPU one image per core."""
        return cls(detector, repeat, batch or (usable_cores() if detector.device == "cpu" else MAX_BATCH))

    def find(self, _source: Source, image: Image, _page: int) -> tuple[Detections, float | None, Timings | None]:
        """Return the faces of an image or of one of its pages, from 1 on, and the seconds that this took if known."""
        return time_detect(self.detector, image, self.repeat)

    def stream(self, images: Iterable[tuple[Source, Image]]) -> Iterator[Detections | ScrfdError]:
        """Yield the faces of each image, or why they cannot be found."""
        return self.detector.stream((image for _, image in images), batch=self.batch, on_error="return")

    def needs_turn(self, size: tuple[int, int]) -> bool:
        """Return whether an image of this size is detected with :meth:`find`, when no other is."""
        return self.repeat > 0 or is_thin(size, self.detector.scales)

    def dropped(self, _source: Source, image: Image, _page: int, faces: Detections) -> NDArray[np.bool_]:
        """Return for each face whether it is doubtful and a second look does not find it."""
        return find_dropped(self.detector, image, faces)


@dataclass(frozen=True)
class FileFinder:
    """Takes the faces of images from a detections file."""

    faces: ImageFaces
    batch: int = 1

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


@dataclass(frozen=True)
class ImageResult:
    """The faces of one image, or of one page of a file with several."""

    path: Path | str
    """Of the file, or the address."""
    faces: Detections
    seconds: float | None = None
    """Time of ``detect()``, the median of repetitions; None where several images are detected at the same time."""
    timings: Timings | None = None
    page: int | None = None
    """From 1 on; None if the file has one page."""
    json_faces: str | None = None
    """The faces in the text form of JSON lines, if another process has written them."""
    dropped: Sequence[int] = ()
    """Rows of faces that a second look dropped."""

    @property
    def name(self) -> str:
        """The path, and the page in the form of addresses."""
        return str(self.path) if self.page is None else f"{self.path}#page={self.page}"


ImageCallback = Callable[[OpenedImage, Iterator[tuple[ImageFrame, Detections]]], Callable[[], None]]
"""Takes the pages of an image with their faces, one by one, in any thread.

Returns what to do then where the images come in order.
"""


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
    use: ImageCallback | None = None,
    bar: bool,
    decoders: Decoders | None = None,
    as_json: bool = False,
) -> Iterator[Iterator[tuple[Source, ImageResult | str]]]:
    """Read images and find their faces; yield an iterator over each source with its result, or why it failed.

    A file of several pages has a result for each. Images are read, detected and written at the same time, and their
    results come in order.

    ``use`` draws and saves, for example, in several threads. If it fails, the image counts as failed, but there is a
    result. ``bar`` shows progress if stderr is a terminal. ``decoders`` work in the place of threads, and fill
    :attr:`ImageResult.json_faces` with ``as_json``.
    """
    job = _ImageJob(sources, finder, tally, settings, use, decoders, as_json)
    try:
        with redirected_stderr(), image_progress(len(sources), shown=bar) as advance, job.finished() as images:
            yield ((image.source, outcome) for image in images for outcome in job.outcomes(image, advance))
    except KeyboardInterrupt as stop:
        if len(sources) > 1:
            done = tally.images if use is None else len(job.written)
            add_location(stop, "", f"after {'writing ' if use else ''}{done} of {len(sources)} images")
        raise
    finally:
        tally.images_end = time.monotonic()


@dataclass
class _Job:
    """An image on its way through the stages."""

    source: Source
    image: OpenedImage | None = None
    """None if it cannot be opened, and when it is done."""
    frame: ImageFrame | None = None
    """The decoded image; None if it is decoded in its turn."""
    visible: Image | None = None
    size: int = 0
    """Bytes of the file and its pixels."""
    slot: int | None = None
    """Where another process put the pixels."""
    pages: int = 1
    damage: Sequence[str] = ()
    is_spherical: bool = False
    results: list[ImageResult] = field(default_factory=list)
    error: ScrfdError | MemoryError | None = None
    note: Callable[[], None] | None = None


@dataclass
class _ImageJob:
    """Reads, detects and writes images at the same time."""

    sources: Sequence[Source]
    finder: FaceFinder
    tally: Tally
    settings: ImageSettings
    use: ImageCallback | None
    decoders: Decoders | None
    as_json: bool
    written: list[object] = field(default_factory=list)
    """Images whose copies are complete."""

    def __post_init__(self) -> None:
        self._budget = ByteBudget(MAX_BYTES)
        self._turn = 0
        self._opened: deque[_Job] = deque()

    @contextmanager
    def finished(self) -> Iterator[Iterator[_Job]]:
        """Yield the images with their results, in order."""
        workers = min(self.settings.workers or usable_cores(), len(self.sources))
        workers = self.decoders.workers if self.decoders else workers
        group = self.decoders.group if self.decoders else 1
        ahead = (2 * workers + min(self.finder.batch, MAX_AHEAD)) // group
        with ExitStack() as stack:
            groups = enumerate(grouped(enumerate(self.sources), group))
            opened = stack.enter_context(mapped(self._open, groups, workers=workers, ahead=ahead))
            stack.enter_context(closing(self._budget))
            images: Iterator[_Job] = stack.enter_context(closing(self._detected(opened)))
            if self.use is not None:
                images = stack.enter_context(mapped(self._write, images, workers=workers, ahead=2 * workers))
            elif self._formats:
                several = mapped(self._format, grouped(images, group), workers=workers // 2, ahead=workers // 2)
                images = chain.from_iterable(stack.enter_context(several))
            yield images

    @property
    def _formats(self) -> bool:
        """Whether other processes write rows."""
        return self.decoders is not None and self.as_json

    def _open(self, item: tuple[int, Sequence[tuple[int, Source]]]) -> list[_Job]:
        """Open images; decode them, too, unless they are detected in their turn."""
        turn, numbered = item
        jobs = [_Job(source) for _, source in numbered]
        decoded: Sequence[Decoded | Exception | None] = [None] * len(jobs)
        try:
            if self.decoders is not None:
                self._budget.take(turn, self.decoders.slot_size * len(jobs))
                for job in jobs:
                    job.size = self.decoders.slot_size
                with measured("decode"):
                    decoded = self.decoders.decode([number for number, _ in numbered])
            for job, found in zip(jobs, decoded, strict=True):
                self._finish_opening(job, turn, found)
        finally:
            self._budget.take(turn, 0)
        return jobs

    def _finish_opening(self, job: _Job, turn: int, decoded: Decoded | Exception | None) -> None:
        """Take what another process has decoded, or decode the image if that was not possible."""
        try:
            with console.about(job.source.name):
                if isinstance(decoded, Exception):
                    raise decoded
                if decoded is None:
                    self._decode(job, turn)
                    return
                job.slot, job.visible, job.damage, job.is_spherical = decoded
                height, width = decoded.visible.shape[:2]
                if self.finder.needs_turn((width, height)):
                    job.visible = None
        except INPUT_ERRORS as error:
            job.error = error
            self._release(job)

    def _decode(self, job: _Job, turn: int) -> None:
        size = self._read(job).size
        self._budget.take(turn, size)
        job.size = job.size or size
        file = None if job.image is None or (self.decoders and size > MAX_SLOT) else job.image.file  # less is granted
        if file is not None and file.count == 1 and len(self.sources) > 1 and not self.finder.needs_turn(file.size):
            with measured("decode"):
                (job.frame,) = file.frames()
                job.visible = job.frame.visible()

    def _read(self, job: _Job) -> OpenedImage:
        """Read the file of an image."""
        with measured("read"):
            job.image = image = OpenedImage.open(job.source, self.settings)
        job.pages, job.damage = image.file.count, image.file.damage
        job.is_spherical = image.metadata.is_equirectangular
        return image

    def _format(self, jobs: list[_Job]) -> list[_Job]:
        """Let another process write faces as JSON."""
        several = [job for job in jobs if job.slot is not None and job.error is None and len(job.results) == 1]
        if self.decoders is not None and several:
            texts = self.decoders.json_faces([(job.slot or 0, job.results[0].faces) for job in several])
            for job, text in zip(several, texts, strict=True):
                job.results[0] = replace(job.results[0], json_faces=text)
        for job in jobs:
            self._release(job)
        return jobs

    def _detected(self, opened: OrderedMap[Any, list[_Job]]) -> Generator[_Job, None, None]:
        """Yield the images with their results, in streams that end before an image that needs their memory or turn."""
        waiting: deque[_Job] = deque()
        while self._opened or opened.head() is not None:
            # An error of several images is raised: then they are detected one by one.
            with suppress(*INPUT_ERRORS):
                for found in measured_items("detect", self.finder.stream(self._streamed(opened, waiting))):
                    while waiting[0].error is not None:
                        yield waiting.popleft()
                    if isinstance(found, ScrfdError):
                        waiting[0].error = found
                    else:
                        waiting[0].results.append(ImageResult(waiting[0].source.name, found))
                    if not (self.use or self._formats) or waiting[0].error is not None:
                        self._release(waiting[0])
                    yield waiting.popleft()
            while waiting:
                if waiting[0].error is None:
                    self._detect_in_turn(waiting[0])
                yield waiting.popleft()

    def _streamed(self, opened: OrderedMap[Any, list[_Job]], waiting: deque[_Job]) -> Iterator[tuple[Source, Image]]:
        """Yield images to detect together; add them, and those that failed, to ``waiting``."""
        while True:
            if not self._opened:
                if (head := opened.head()) is None:
                    return
                with measured(None):
                    if not self._budget.wait(self._turn, head) and waiting:
                        return
                    self._opened.extend(next(opened))
                self._turn += 1
            waiting.append(job := self._opened.popleft())
            if job.error is None:
                if job.visible is None:
                    return
                yield job.source, job.visible

    def _detect_in_turn(self, job: _Job) -> None:
        """Read, detect and use all pages of an image, one by one."""
        pages: Iterator[tuple[ImageFrame, Detections]] = iter(())
        try:
            with console.about(job.source.name):
                image = job.image or self._read(job)  # it may have been decoded elsewhere
                pages = self._find_pages(job, image.file)
                if self.use is not None:
                    job.note = self.use(image, pages)
                    self.written.append(job.source.name)
                deque(pages, 0)
        except INPUT_ERRORS as error:
            job.error = error
            with console.about(job.source.name), suppress(*INPUT_ERRORS):
                deque(pages, 0)  # where only writing failed, the faces are still reported
        finally:
            self._release(job)

    def _find_pages(self, job: _Job, file: ImageFile) -> Iterator[tuple[ImageFrame, Detections]]:
        """Yield the pages of an image with their faces, which are added to the results."""
        for number, frame in enumerate(measured_items("decode", file.frames()), 1):
            with measured("detect"):
                faces, seconds, timings = self.finder.find(job.source, frame.visible(), number)
            page = number if job.pages > 1 else None
            job.results.append(ImageResult(job.source.name, faces, seconds, timings, page))
            yield frame, faces

    def _write(self, job: _Job) -> _Job:
        """Use an image that was detected in the stream."""
        if self.use is not None and job.image is not None and job.frame is not None:
            try:
                with console.about(job.source.name):
                    job.note = self.use(job.image, iter([(job.frame, job.results[0].faces)]))
                self.written.append(job.source.name)
            except INPUT_ERRORS as error:
                job.error = error
            finally:
                self._release(job)
        return job

    def _release(self, job: _Job) -> None:
        job.image = job.frame = job.visible = None
        if self.decoders is not None and job.slot is not None:
            self.decoders.give(job.slot)
        self._budget.give(job.size)
        job.size, job.slot = 0, None

    def outcomes(self, job: _Job, advance: Callable[[], None]) -> Iterator[ImageResult | str]:
        """Count an image, print what is to be known of it, and yield its results, or why it failed."""
        tally = self.tally
        tally.inputs += 1
        reason = "" if job.error is None else tally.fail(job.source, job.error)
        if reason and len(job.results) < job.pages:
            yield reason
        else:
            if not reason:
                self._count(job)
            with console.about(job.source.name):
                for line in () if console.is_quiet() else job.damage:
                    console.warning(f"the image is damaged: {line}")
            yield from job.results
        job.source.finish(failed=bool(reason))
        advance()

    def _count(self, job: _Job) -> None:
        self.tally.add_image(sum(len(result.faces) for result in job.results), job.pages)
        if job.is_spherical:
            self.tally.spherical.append(job.source.name)
        if job.note is not None:
            job.note()
