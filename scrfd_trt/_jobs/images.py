"""Read images, find their faces, and use them, all at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._devices import usable_cores
from scrfd_trt._doubtful import find_dropped
from scrfd_trt._image_files import ImageFile, ImageFrame
from scrfd_trt._jobs.decoders import (
    MAX_BYTES,
    MAX_SLOT,
    Decoded,
    Decoders,
    ImageSettings,
    ImageSource,
    OpenedImage,
)
from scrfd_trt._jobs.profile import measured, measured_items
from scrfd_trt._jobs.stages import ByteBudget, OrderedMap, grouped, mapped
from scrfd_trt._passes import is_thin
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

if TYPE_CHECKING:
    from typing_extensions import Self

Image = NDArray[np.uint8]
MAX_BATCH, MAX_AHEAD, PILE_BATCH = 1024, 64, 32
INPUT_ERRORS = (
    *(ImageError, VideoError, BackendError, DetectionsError, OutputError, OverlayError),
    *(OptionError, MemoryError),  # an option may not fit one of the inputs
    MissingDependencyError,  # videos and some formats of images require packages
)
"""Errors that concern one input only."""


class Finder(Protocol):
    """Finds the faces of images; ``batch`` is the number of those that are in work together, on ``device``."""

    @property
    def batch(self) -> int: ...

    @property
    def device(self) -> str: ...

    def find(self, source: Any, image: Image, page: int, /) -> tuple[Detections, float | None, Any]:
        """Return the faces of an image or of one of its pages, from 1 on, and the seconds that this took if known."""

    def stream(self, images: Iterable[tuple[Any, Image]], /) -> Iterator[Detections | ScrfdError]:
        """Yield the faces of each image, or why they cannot be found."""

    def needs_turn(self, size: tuple[int, int], /) -> bool:
        """Return whether an image of this size is detected with :meth:`find`, when no other is."""


@dataclass(frozen=True)
class ModelFinder:
    """Detects faces, several images at a time."""

    detector: Any
    """An ``SCRFDDetector``."""
    batch: int = 1
    """Number of images that are detected together."""

    @property
    def device(self) -> str:
        return str(self.detector.device)

    @classmethod
    def of(cls, detector: Any, batch: int | None, **more: Any) -> Self:
        """Choose the batch if there is none: the largest, but on the CPU one image per core."""
        return cls(detector, batch or (usable_cores() if detector.device == "cpu" else MAX_BATCH), **more)

    def find(self, _source: Any, image: Image, _page: int) -> tuple[Detections, float | None, Any]:
        return self.detector.detect(image), None, None

    def stream(self, images: Iterable[tuple[Any, Image]]) -> Iterator[Detections | ScrfdError]:
        found: Iterator[Detections | ScrfdError] = self.detector.stream(
            (image for _, image in images), batch=self.batch, on_error="return"
        )
        return found

    def needs_turn(self, size: tuple[int, int]) -> bool:
        return is_thin(size, self.detector.scales)

    def dropped(self, _source: Any, image: Image, _page: int, faces: Detections) -> NDArray[np.bool_]:
        """Return for each face whether it is doubtful and a second look does not find it."""
        return find_dropped(self.detector, image, faces)


@dataclass(frozen=True)
class ImageResult:
    """The faces of one image, or of one page of a file with several."""

    path: Path | str
    """Of the file, or the address."""
    faces: Detections
    seconds: float | None = None
    """Time of ``detect()``, the median of repetitions; None where several images are detected at the same time."""
    timings: Any = None
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


UseImage = Callable[[OpenedImage, Iterator[tuple[ImageFrame, Detections]]], Callable[[], None]]
"""Takes the pages of an image with their faces, one by one, in any thread.

Returns what to do then where the images come in order.
"""


@dataclass
class ImageWork:
    """An image on its way through the stages."""

    source: Any
    """The :class:`ImageSource`."""
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
class ImageJob:
    """Reads and detects images, and uses them, at the same time.

    ``use`` draws and saves, for example, in several threads. If it fails, the image counts as failed, but there is a
    result. ``decoders`` work in the place of threads, and fill :attr:`ImageResult.json_faces` with ``as_json``.
    ``about`` opens a block in which messages are about an image.
    """

    sources: Iterable[ImageSource]
    count: int
    """Number of sources; at least 2 if it is not known."""
    finder: Finder
    settings: ImageSettings
    use: UseImage | None = None
    decoders: Decoders | None = None
    as_json: bool = False
    about: Callable[[object], AbstractContextManager[Any]] = nullcontext
    written: list[object] = field(default_factory=list)
    """Images whose copies are complete."""

    def __post_init__(self) -> None:
        self._budget = ByteBudget(MAX_BYTES)
        self._turn = 0
        self._opened: deque[ImageWork] = deque()

    @contextmanager
    def finished(self) -> Iterator[Iterator[ImageWork]]:
        """Yield the images with their results, in order."""
        workers = min(self.settings.workers or usable_cores(), self.count)
        workers = self.decoders.workers if self.decoders else workers
        group = self.decoders.group if self.decoders else 1
        ahead = (2 * workers + min(self.finder.batch, MAX_AHEAD)) // group
        with ExitStack() as stack:
            if self.decoders is not None:
                stack.enter_context(self.decoders.page_locked(self.finder.device))
            groups = enumerate(grouped(enumerate(self.sources), group))
            opened = stack.enter_context(mapped(self._open, groups, workers=workers, ahead=ahead))
            stack.enter_context(closing(self._budget))
            images: Iterator[ImageWork] = stack.enter_context(closing(self._detected(opened)))
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

    def _open(self, item: tuple[int, Sequence[tuple[int, ImageSource]]]) -> list[ImageWork]:
        """Open images; decode them, too, unless they are detected in their turn."""
        turn, numbered = item
        jobs = [ImageWork(source) for _, source in numbered]
        decoded: Sequence[Decoded | Exception | None] = [None] * len(jobs)
        try:
            if self.decoders is not None:
                self._budget.take(turn, self.decoders.slot_size * len(jobs))
                for job in jobs:
                    job.size = self.decoders.slot_size
                with measured("decode"):
                    decoded = self.decoders.decode(numbered)
            for job, found in zip(jobs, decoded, strict=True):
                self._finish_opening(job, turn, found)
        finally:
            self._budget.take(turn, 0)
        return jobs

    def _finish_opening(self, job: ImageWork, turn: int, decoded: Decoded | Exception | None) -> None:
        """Take what is decoded, or what another process has decoded; decode the image if it is not."""
        try:
            with self.about(job.source.name):
                if isinstance(decoded, Exception):
                    raise decoded
                job.visible = job.source.pixels
                if decoded is None:
                    if job.visible is None:
                        self._decode(job, turn)
                    return
                job.slot, job.visible, job.damage, job.is_spherical = decoded
                height, width = decoded.visible.shape[:2]
                if self.finder.needs_turn((width, height)):
                    job.visible = None
        except INPUT_ERRORS as error:
            job.error = error
            self._release(job)

    def _decode(self, job: ImageWork, turn: int) -> None:
        size = self._read(job).size
        self._budget.take(turn, size)
        job.size = job.size or size
        file = None if job.image is None or (self.decoders and size > MAX_SLOT) else job.image.file  # less is granted
        if file is not None and file.count == 1 and self.count > 1 and not self.finder.needs_turn(file.size):
            with measured("decode"):
                (job.frame,) = file.frames()
                job.visible = job.frame.visible()

    def _read(self, job: ImageWork) -> OpenedImage:
        """Read the file of an image."""
        with measured("read"):
            job.image = image = OpenedImage.open(job.source, self.settings)
        job.pages, job.damage = image.file.count, image.file.damage
        job.is_spherical = image.metadata.is_equirectangular
        return image

    def _format(self, jobs: list[ImageWork]) -> list[ImageWork]:
        """Let another process write faces as JSON."""
        several = [job for job in jobs if job.slot is not None and job.error is None and len(job.results) == 1]
        if self.decoders is not None and several:
            texts = self.decoders.json_faces([(job.slot or 0, job.results[0].faces) for job in several])
            for job, text in zip(several, texts, strict=True):
                job.results[0] = replace(job.results[0], json_faces=text)
        for job in jobs:
            self._release(job)
        return jobs

    def _detected(self, opened: OrderedMap[Any, list[ImageWork]]) -> Generator[ImageWork, None, None]:
        """Yield the images with their results, in streams that end before an image that needs their memory or turn."""
        waiting: deque[ImageWork] = deque()
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

    def _streamed(
        self, opened: OrderedMap[Any, list[ImageWork]], waiting: deque[ImageWork]
    ) -> Iterator[tuple[ImageSource, Image]]:
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

    def _detect_in_turn(self, job: ImageWork) -> None:
        """Read, detect and use all pages of an image, one by one."""
        pages: Iterator[tuple[ImageFrame, Detections]] = iter(())
        try:
            with self.about(job.source.name):
                image = job.image or self._read(job)  # it may have been decoded elsewhere
                pages = self._find_pages(job, image.file)
                if self.use is not None:
                    job.note = self.use(image, pages)
                    self.written.append(job.source.name)
                deque(pages, 0)
        except INPUT_ERRORS as error:
            job.error = error
            with self.about(job.source.name), suppress(*INPUT_ERRORS):
                deque(pages, 0)  # where only writing failed, the faces are still reported
        finally:
            self._release(job)

    def _find_pages(self, job: ImageWork, file: ImageFile) -> Iterator[tuple[ImageFrame, Detections]]:
        """Yield the pages of an image with their faces, which are added to the results."""
        for number, frame in enumerate(measured_items("decode", file.frames()), 1):
            with measured("detect"):
                faces, seconds, timings = self.finder.find(job.source, frame.visible(), number)
            page = number if job.pages > 1 else None
            job.results.append(ImageResult(job.source.name, faces, seconds, timings, page))
            yield frame, faces

    def _write(self, job: ImageWork) -> ImageWork:
        """Use an image that was detected in the stream."""
        if self.use is not None and job.image is not None and job.frame is not None:
            try:
                with self.about(job.source.name):
                    job.note = self.use(job.image, iter([(job.frame, job.results[0].faces)]))
                self.written.append(job.source.name)
            except INPUT_ERRORS as error:
                job.error = error
            finally:
                self._release(job)
        return job

    def _release(self, job: ImageWork) -> None:
        job.image = job.frame = job.visible = None
        if self.decoders is not None and job.slot is not None:
            self.decoders.give(job.slot)
        self._budget.give(job.size)
        job.size, job.slot = 0, None
