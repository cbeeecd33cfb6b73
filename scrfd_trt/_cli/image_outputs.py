"""What ``detect`` makes of each image beside the results: a marked copy, pictures of faces, labels, a window."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli import outputs
from scrfd_trt._cli.inputs import Source
from scrfd_trt._detections import Detections
from scrfd_trt._formats import yolo_lines
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.write import is_writable, storable
from scrfd_trt._jobs.decoders import OpenedImage
from scrfd_trt._jobs.profile import measured
from scrfd_trt.errors import OptionError, OutputError

CROP_MARGIN = 0.2  # what pictures of faces show around the box, as a share of its sides
MAX_SHOWN = 10
Pages = Iterator[tuple[ImageFrame, Detections]]
_one_at_a_time = threading.Lock()


def check_show(images: Sequence[Source]) -> None:
    """Raise OptionError if there is no display, or too many images to show."""
    if images and sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise OptionError("--show requires a display, and there is none; use --annotate DIR")
    if len(images) > MAX_SHOWN:
        raise OptionError(f"--show opens at most {MAX_SHOWN} images, not {len(images)}; use --annotate DIR")


def plan_crops(sources: Sequence[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Choose the path of the first face of each image, as :func:`outputs.plan_folder` does."""
    targets = outputs.plan_folder(sources, folder, overwrite=overwrite, name=_first_crop)
    for source in targets:
        source.copy = source.copy if source.is_done else None  # an image without faces has none
    return targets


def plan_labels(sources: Sequence[Source], folder: Path, *, overwrite: bool) -> dict[Source, Path]:
    """Choose the path of YOLO's labels of each image."""
    return outputs.plan_folder(sources, folder, overwrite=overwrite, name=lambda path: path.with_suffix(outputs.LABELS))


def _first_crop(path: Path) -> Path:
    suffix = path.suffix if is_writable(path.suffix) and path.suffix.lower() != ".gif" else ".png"
    return path.with_name(f"{path.stem}_1{suffix}")


@dataclass(frozen=True)
class ImageOutputs:
    """Takes the pages of an image with their faces; each of the outputs may be empty."""

    crops: Mapping[Source, Path]
    labels: Mapping[Source, Path]
    copies: Mapping[Source, Path]
    show: bool
    quality: int
    replace: bool

    def __bool__(self) -> bool:
        return bool(self.crops or self.labels or self.copies or self.show)

    def __call__(self, image: OpenedImage, pages: Pages) -> Callable[[], None]:
        pages = self._used(image, pages)
        if self.copies:
            target = self.copies[image.source]
            kept = storable(image.metadata.kept(descriptive=False, location=False), target.suffix)
            self._save(image, _marked(pages), target, metadata=kept)
        deque(pages, 0)
        return lambda: None

    def _used(self, image: OpenedImage, pages: Pages) -> Pages:
        numbers = count(1)
        if self.labels:
            image.source.copy = None
        for page, (frame, faces) in enumerate(pages, 1):
            if self.crops:
                self._save_crops(image, faces.crop(frame.visible(), CROP_MARGIN), numbers)
            if self.labels:
                self._save_labels(image, page, yolo_lines(faces))
            if self.show:
                _show(frame, faces)
            yield frame, faces

    def _save(self, image: OpenedImage, frames: Iterable[ImageFrame], path: Path, **how: Any) -> None:
        outputs.save_image(frames, path, overwrite=self.replace, quality=self.quality, copy_of=image.file, **how)

    def _save_crops(self, image: OpenedImage, crops: Sequence[NDArray[np.uint8]], numbers: Iterator[int]) -> None:
        """Write faces to ``NAME_1``, ``NAME_2`` and so on; one outside of the image has no crop."""
        first = self.crops[image.source]
        for crop in (crop for crop in crops if crop.size):
            self._save(image, [ImageFrame(crop)], first.with_stem(f"{first.stem[:-1]}{next(numbers)}"))

    def _save_labels(self, image: OpenedImage, page: int, text: str) -> None:
        """Write YOLO's labels, of each page if there are several."""
        path = self.labels[image.source]
        outputs.make_folder(path.parent)
        path = path if image.file.count == 1 else path.with_stem(f"{path.stem}_page{page}")
        with outputs.atomic_output(path, kind="text", overwrite=self.replace) as file:
            file.write(text.encode())
        if text:  # an empty file is no sign that the image is done
            image.source.copy = path


def _show(frame: ImageFrame, faces: Detections) -> None:
    try:
        faces.show(frame.visible())
    except OutputError as error:
        raise OutputError("there is no program here that shows pictures; use --annotate DIR") from error


def _marked(pages: Pages) -> Iterator[ImageFrame]:
    import overlays  # noqa: PLC0415 - slow to import

    draw = overlays.create("landmarks")
    for frame, faces in pages:
        with _one_at_a_time, measured("draw"):  # threads would pass Python's lock around at each line and point
            marked = frame.drawn_on(draw(frame.visible(), faces))
        yield marked
