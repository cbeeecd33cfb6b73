"""Open images, and decode many of them in processes."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._cli.inputs import Source
from scrfd_trt._cli.options import ImageSettings
from scrfd_trt._detections import Detections
from scrfd_trt._devices import usable_cores
from scrfd_trt._formats import json_faces
from scrfd_trt._image_files import ImageFile, open_image
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt._image_files.metadata_blocks import FURTHER
from scrfd_trt._jobs.processes import Calls, LostProcessError, forked
from scrfd_trt.errors import ScrfdError

MAX_BYTES = 1 << 30
"""Of the images that are read and not yet detected and written."""
MIN_TO_FORK, MIN_FORKS, MAX_SLOT, SAMPLES = 200, 6, 16_000_000, 8
"""Images and processes from which on processes decode, bytes of one image, and images whose sizes are looked at."""


@dataclass(frozen=True)
class OpenedImage:
    """An image file that is being read."""

    source: Source
    file: ImageFile
    metadata: Metadata

    @classmethod
    def open(cls, source: Source, settings: ImageSettings) -> OpenedImage:
        """Read the header of an image file; raise ImageError if that fails."""
        source.check()
        file = open_image(source.path, limits=settings.limits, damaged=settings.damaged)
        metadata = read_metadata(file.data, file.kind)
        if file.count > 1:  # they are read, too
            metadata = replace(metadata, others=metadata.others - {FURTHER})
        return cls(source, file, metadata)

    @property
    def size(self) -> int:
        """Bytes of the file and its pixels."""
        return len(self.file.data) + 4 * self.file.size[0] * self.file.size[1]


class Decoded(NamedTuple):
    """What a process has decoded; ``visible`` is in a slot of shared memory."""

    slot: int
    visible: NDArray[np.uint8]
    damage: Sequence[str]
    is_spherical: bool


class Decoders:
    """Processes that decode images into shared memory: threads would wait for Python's lock most of the time."""

    def __init__(self, sources: Sequence[Source], settings: ImageSettings, slot_size: int, workers: int) -> None:
        self._sources, self._settings, self.slot_size, self.workers = sources, settings, slot_size, workers
        count = MAX_BYTES // slot_size
        self._slots = np.frombuffer(mmap.mmap(-1, count * slot_size), np.uint8).reshape(count, slot_size)
        self._free = [*range(count)]
        self._calls: Calls | None = None

    @contextmanager
    def started(self) -> Iterator[Decoders]:
        """Fork the processes, which end with the block."""
        with forked(self._serve, self.workers) as self._calls:
            yield self

    def _call(self, *arguments: Any) -> Any:
        with suppress(LostProcessError):
            return None if self._calls is None else self._calls(*arguments)
        return None

    def decode(self, number: int) -> Decoded | None:
        """Decode image ``number``, from 0 on; return None if this process must. Raises the error of a bad image."""
        slot = self._free.pop()
        answer = self._call("decode", number, slot)
        if isinstance(answer, tuple):
            damage, is_spherical, shape = answer
            return Decoded(slot, self._slots[slot, : math.prod(shape)].reshape(shape), damage, is_spherical)
        self.give(slot)
        if isinstance(answer, Exception):
            raise answer
        return None

    def give(self, slot: int) -> None:
        """Give the slot of an image back."""
        self._free.append(slot)

    def json_faces(self, faces: Detections) -> str | None:
        """Return faces in the form of JSON lines; None if this process must write them."""
        text: str | None = self._call("format", faces)
        return text

    def _serve(self, call: str, *arguments: Any) -> Any:
        return json_faces(*arguments) if call == "format" else self._decode_into(*arguments)

    def _decode_into(self, number: int, slot: int) -> tuple[list[str], bool, tuple[int, ...]] | Exception | None:
        """Decode an image into a slot; return None if it does not fit."""
        try:
            image = OpenedImage.open(self._sources[number], self._settings)
            if image.file.count > 1 or image.size > 2 * self.slot_size:
                return None
            (frame,) = image.file.frames()
            visible = frame.visible()
        except (ScrfdError, MemoryError) as error:
            return error
        if visible.size > self.slot_size:
            return None
        self._slots[slot, : visible.size] = visible.ravel()
        return [*image.file.damage], image.metadata.is_equirectangular, visible.shape


@contextmanager
def decoding_processes(sources: Sequence[Source], settings: ImageSettings) -> Iterator[Decoders | None]:
    """Fork processes that decode images; yield None for few or large images, few cores, or little memory.

    Enter it before a GPU is used and threads run, which a forked process cannot use.
    """
    workers = min(settings.workers or usable_cores(), len(sources))
    size = 0
    if sys.platform == "linux" and len(sources) >= MIN_TO_FORK and workers >= MIN_FORKS:
        for source in sources[:: -(-len(sources) // SAMPLES)]:
            with suppress(ScrfdError, MemoryError):
                found = OpenedImage.open(source, settings).size
                size = max(size, found if found <= MAX_SLOT else 0)
    workers -= 0 if settings.workers else 2  # for the threads that feed the detector
    with ExitStack() as stack:
        decoders = None
        if size:
            with suppress(OSError):  # a limit of memory or processes: threads decode
                decoders = stack.enter_context(Decoders(sources, settings, size, workers).started())
        yield decoders
