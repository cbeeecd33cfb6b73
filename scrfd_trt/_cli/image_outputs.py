"""What ``detect`` makes of each image beside the results: a marked copy, pictures of faces, labels, a window."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import outputs
from scrfd_trt._cli.decoders import OpenedImage
from scrfd_trt._cli.images import ImageCallback
from scrfd_trt._cli.inputs import Source
from scrfd_trt._detections import Detections
from scrfd_trt._formats import yolo_lines
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.write import is_writable, storable
from scrfd_trt._jobs.profile import measured
from scrfd_trt.errors import OptionError, OutputError

CROP_MARGIN = 0.2  # what pictures of faces show around the box, as a share of its sides
MAX_SHOWN = 10
Pages = Iterator[tuple[ImageFrame, Detections]]
_one_at_a_time = threading.Lock()
Step = Callable[[OpenedImage, Pages], Pages]
"""Does something with each page of an image and its faces, and passes them on."""


class ImageOutputs:
    """Folders for marked copies, pictures of faces and YOLO's labels, each of which may be None."""

    def __init__(
        self, annotate: Path | None, crops: Path | None, labels: Path | None, *, show: bool, quality: int
    ) -> None:
        self.annotate, self.crops, self.labels, self.show, self.quality = annotate, crops, labels, show, quality
        if show and sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            raise OptionError("--show requires a display, and there is none; use --annotate DIR")

    def plan(
        self, sources: Sequence[Source], *, overwrite: bool, replace: bool
    ) -> tuple[ImageCallback | None, dict[Source, Path]]:
        """Return what takes the images, None if there is nothing to do, and the pictures to write.

        Raises the errors of :func:`outputs.plan_folder`. ``replace`` lets the files of an unfinished job be replaced.
        """
        plan = partial(outputs.plan_folder, sources, overwrite=overwrite)
        crops = {} if self.crops is None else plan(self.crops, name=_first_crop)
        for source in crops:
            source.copy = source.copy if source.is_done else None  # an image without faces has none
        copies = {} if self.annotate is None else plan(self.annotate)
        labels = {} if self.labels is None else plan(self.labels, name=lambda path: path.with_suffix(outputs.LABELS))
        if self.show and (count := sum(not source.is_done for source in sources)) > MAX_SHOWN:
            raise OptionError(f"--show opens at most {MAX_SHOWN} images, not {count}; use --annotate DIR")
        steps: dict[Step, object] = {
            partial(_save_crops, crops, self.quality, replace): crops,
            partial(_save_labels, labels, replace): labels,
            _show: self.show,
            partial(_annotate, copies, self.quality, replace): copies,
        }
        used = [step for step, wanted in steps.items() if wanted]
        return partial(_take, used) if used else None, crops | copies


def _take(steps: Sequence[Step], image: OpenedImage, pages: Pages) -> Callable[[], None]:
    for step in steps:
        pages = step(image, pages)
    deque(pages, 0)
    return lambda: None


def _show(_image: OpenedImage, pages: Pages) -> Pages:
    for frame, faces in pages:
        try:
            faces.show(frame.visible())
        except OutputError as error:
            raise OutputError("there is no program here that shows pictures; use --annotate DIR") from error
        yield frame, faces


def _first_crop(path: Path) -> Path:
    suffix = path.suffix if is_writable(path.suffix) and path.suffix.lower() != ".gif" else ".png"
    return path.with_name(f"{path.stem}_1{suffix}")


def _save_crops(targets: dict[Source, Path], quality: int, replace: bool, image: OpenedImage, pages: Pages) -> Pages:
    """Write the faces of all pages to ``NAME_1``, ``NAME_2`` and so on, highest scores of a page first."""
    first, number = targets[image.source], 0
    for frame, faces in pages:
        for crop in faces.crop(frame.visible(), CROP_MARGIN):
            if not crop.size:  # the box is outside of the image
                continue
            number += 1
            path = first.with_name(f"{first.stem[:-1]}{number}{first.suffix}")
            outputs.save_image([ImageFrame(crop)], path, overwrite=replace, quality=quality, copy_of=image.file)
        yield frame, faces


def _save_labels(targets: dict[Source, Path], replace: bool, image: OpenedImage, pages: Pages) -> Pages:
    """Write YOLO's labels, of each page if there are several."""
    target = targets[image.source]
    outputs.make_folder(target.parent)
    for page, (frame, faces) in enumerate(pages, 1):
        path = target if image.file.count == 1 else target.with_stem(f"{target.stem}_page{page}")
        with outputs.atomic_output(path, kind="text", overwrite=replace) as file:
            file.write(yolo_lines(faces).encode())
        yield frame, faces


def _annotate(targets: dict[Source, Path], quality: int, replace: bool, image: OpenedImage, pages: Pages) -> Pages:
    """Write a copy with the faces marked; this is the last step, as it passes no page on."""
    target = targets[image.source]
    outputs.save_image(
        _drawn(pages),
        target,
        overwrite=replace,
        quality=quality,
        copy_of=image.file,
        metadata=storable(image.metadata.kept(descriptive=False, location=False), target.suffix),
    )
    return iter(())


@cache
def _landmarks() -> Callable[..., NDArray[np.uint8]]:
    import overlays  # noqa: PLC0415 - slow to import

    return overlays.create("landmarks")


def _drawn(pages: Pages) -> Iterator[ImageFrame]:
    draw = _landmarks()
    for frame, faces in pages:
        with _one_at_a_time, measured("draw"):  # threads would pass Python's lock around at each line and point
            marked = frame.drawn_on(draw(frame.visible(), faces))
        yield marked
