"""Find the faces of images of the command line, and count and report what becomes of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import console
from scrfd_trt._cli.batch import Tally
from scrfd_trt._cli.bench_cpu import Timings, time_detect
from scrfd_trt._cli.exits import add_location
from scrfd_trt._cli.image_faces import ImageFaces
from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.progress import image_progress
from scrfd_trt._detections import Detections
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs import images
from scrfd_trt._jobs.decoders import Decoders, ImageSettings
from scrfd_trt._jobs.images import PILE_BATCH, Image, ImageJob, ImageResult, ImageWork, UseImage
from scrfd_trt.errors import DetectionsError, ScrfdError


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

    A file of several pages has a result for each. Images are read, detected and written at the same time, and their
    results come in order.

    ``use`` draws and saves, for example, in several threads. If it fails, the image counts as failed, but there is a
    result. ``bar`` shows progress if stderr is a terminal. ``decoders`` work in the place of threads, and fill
    :attr:`ImageResult.json_faces` with ``as_json``.
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
