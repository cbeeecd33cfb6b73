"""Open images, and decode many of them in processes."""

from __future__ import annotations

import logging
import math
import mmap
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices
from scrfd_trt._cuda.memory import page_locked
from scrfd_trt._detections import Detections
from scrfd_trt._devices import usable_cores
from scrfd_trt._formats import columns, json_rows
from scrfd_trt._image_files import ImageFile, open_image
from scrfd_trt._image_files.frames import DEFAULT, Limits
from scrfd_trt._image_files.metadata import FURTHER, Metadata, read_metadata
from scrfd_trt._image_files.read import Damaged
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._jobs.processes import Calls, LostProcessError, forked
from scrfd_trt._jobs.stages import grouped
from scrfd_trt.errors import ImageError, ScrfdError

logger = logging.getLogger("scrfd_trt")

MAX_BYTES = 1 << 30  # of the images that are read and not yet detected and written
MIN_TO_FORK, MIN_FORKS, MAX_SLOT, SAMPLES, GROUP, BLOCK = 200, 6, 16_000_000, 8, 4, 1 << 25
"""Images and processes from which on processes decode, bytes of one image, images whose sizes are looked at, and
of a message, and bytes that are page-locked at a time."""


class ImageSource(Protocol):
    """An image of a job."""

    @property
    def name(self) -> Path | str:
        """What messages and results call it."""

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The image ``(H, W, 3)`` BGR, if it is decoded already."""

    def read(self) -> Path | bytes:
        """Return the path or the content of the file; raise ImageError if there is none."""


@dataclass(frozen=True)
class ImageSettings:
    """How images are read, and how many at a time."""

    limits: Limits = DEFAULT
    damaged: Damaged = "stop"
    workers: int | None = None
    """Number of threads that read, and of those that write; None: one per CPU core."""


@dataclass(frozen=True)
class OpenedImage:
    """An image file that is being read."""

    source: Any
    """The :class:`ImageSource`."""
    file: ImageFile
    metadata: Metadata

    @classmethod
    def open(cls, source: ImageSource, settings: ImageSettings) -> OpenedImage:
        """Read the header of an image file; raise ImageError if that fails."""
        file = open_image(source.read(), limits=settings.limits, damaged=settings.damaged)
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
    """Processes that decode images into shared memory: threads would wait for Python's lock most of the time.

    A message is about several images. Each process has its own slots as far as they suffice: to write to memory for the
    first time takes a process half as long as to decode.
    """

    def __init__(self, known: Sequence[ImageSource], settings: ImageSettings, slot_size: int, workers: int) -> None:
        slot_size = -(-slot_size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._known, self._settings, self.slot_size, self.workers = known, settings, slot_size, workers
        count = MAX_BYTES // slot_size
        self.group = min(GROUP, count)
        self._slots = np.frombuffer(mmap.mmap(-1, count * slot_size), np.uint8).reshape(count, slot_size)
        self._free = [[*range(first, count, workers)] for first in range(workers)]
        self._lock = threading.Lock()
        self._calls = Calls()
        self._begun: dict[int, Future[Sequence[Decoded | Exception | None]]] = {}
        self._has_warned = False

    @contextmanager
    def started(self) -> Iterator[Decoders]:
        """Fork the processes, which end with the block, and begin with the first images: to open a model takes time."""
        with forked(self._serve, self.workers) as self._calls, ExitStack() as stack:
            threads = ThreadPoolExecutor(self.workers, "scrfd-trt-job")
            stack.callback(threads.shutdown, cancel_futures=True)
            count = min(len(self._known), len(self._slots)) // self.group * self.group
            for numbers in grouped(range(count), self.group):
                self._begun[numbers[0]] = threads.submit(self._decode, numbers)
            yield self

    def page_locked(self, device: str) -> AbstractContextManager[None]:
        """Let a GPU copy images from the slots itself: other copies take this process twice as long as all else.

        The slots that are used first are locked first.
        """
        kind, gpu = _devices.parse(device)
        if kind == "cpu":
            return nullcontext()
        step = max(1, BLOCK // self.slot_size)
        blocks = [self._slots[max(0, end - step) : end].reshape(-1) for end in range(len(self._slots), 0, -step)]
        return page_locked(blocks, gpu or 0)

    def decode(self, numbered: Sequence[tuple[int, ImageSource]]) -> Sequence[Decoded | Exception | None]:
        """Decode images, numbered from 0 on; return the error of a bad one, None if this process must.

        Those that the processes do not know are pickled.
        """
        begun = self._begun.pop(numbered[0][0], None)
        if begun is not None:
            return begun.result()
        return self._decode([number if number < len(self._known) else source for number, source in numbered])

    def _decode(self, images: Sequence[int | ImageSource]) -> Sequence[Decoded | Exception | None]:
        slots: list[int] = []
        try:
            with self._calls.process() as process:
                if process is None:
                    return [None] * len(images)
                slots += self._take(process.number, len(images))
                answers = process.call("decode", images, slots)
        except LostProcessError as error:
            self._lose(error, slots)
            if error.in_call and len(images) == 1:
                return [ImageError(f"the process that decodes it ended with {error}; is there enough memory?")]
            return [one for image in images for one in self._decode([image])]
        return [self._decoded(*pair) for pair in zip(slots, answers, strict=True)]

    def _take(self, process: int, count: int) -> list[int]:
        """Return free slots, those of a process first."""
        with self._lock:
            return [(self._free[process] or max(self._free, key=len)).pop() for _ in range(count)]

    def _decoded(self, slot: int, answer: tuple[list[str], bool, tuple[int, ...]] | Exception | None) -> Any:
        if isinstance(answer, tuple):
            damage, is_spherical, shape = answer
            return Decoded(slot, self._slots[slot, : math.prod(shape)].reshape(shape), damage, is_spherical)
        self.give(slot)
        return answer

    def _lose(self, error: LostProcessError, slots: Sequence[int]) -> None:
        """Give slots of a process back that ended; warn at the first one."""
        for slot in slots:
            self.give(slot)
        if not self._has_warned:
            self._has_warned = True
            logger.warning("a process that decodes images ended with %s; the job goes on without it", error)

    def give(self, slot: int) -> None:
        """Give the slot of an image back."""
        self._free[slot % self.workers].append(slot)

    def json_faces(self, images: Sequence[tuple[int, Detections]]) -> list[str | None]:
        """Return the faces of images in slots, in place of the pixels, as JSON lines; None if this process must."""
        shapes = []
        for slot, faces in images:
            rows = columns(faces)
            if rows.nbytes > self.slot_size:
                return [None] * len(images)
            self._slots[slot, : rows.nbytes] = rows.reshape(-1).view(np.uint8)
            shapes.append(rows.shape)
        try:
            with self._calls.process() as process:
                slots = [slot for slot, _ in images]
                sizes = [0] * len(images) if process is None else process.call("format", slots, shapes)
        except LostProcessError as error:
            self._lose(error, ())
            return self.json_faces(images)
        pairs = zip(slots, sizes, strict=True)
        return [self._slots[slot, :size].tobytes().decode() if size else None for slot, size in pairs]

    def _serve(self, call: str, *arguments: Any) -> Any:
        with redirected_stderr():  # once for all
            return [*map(self._format if call == "format" else self._decode_into, *arguments)]

    def _decode_into(
        self, source: int | ImageSource, slot: int
    ) -> tuple[list[str], bool, tuple[int, ...]] | Exception | None:
        """Decode an image into a slot; return None if it does not fit."""
        try:
            source = self._known[source] if isinstance(source, int) else source
            image = OpenedImage.open(source, self._settings)
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

    def _format(self, slot: int, shape: tuple[int, int]) -> int:
        """Write the faces in a slot as JSON in their place; return its bytes, 0 if there is no room."""
        rows = self._slots[slot, : 4 * math.prod(shape)].view(np.float32).reshape(shape)
        text = np.frombuffer(json_rows(rows).encode(), np.uint8)
        if text.size > self.slot_size:
            return 0
        self._slots[slot, : text.size] = text
        return text.size


@contextmanager
def decoding_processes(
    known: Sequence[ImageSource], settings: ImageSettings, count: int | None = None
) -> Iterator[Decoders | None]:
    """Fork processes that decode images, before threads run; yield None where they are not worth it.

    ``known`` are the first of ``count`` images, or all, of which some tell how large they are.
    """
    count = len(known) if count is None else count
    workers = min(settings.workers or usable_cores(), count)
    size = 0
    if sys.platform == "linux" and count >= MIN_TO_FORK and workers >= MIN_FORKS:
        for source in known[:: -(-len(known) // SAMPLES)]:
            with suppress(ScrfdError, MemoryError):
                found = OpenedImage.open(source, settings).size
                size = max(size, found if found <= MAX_SLOT else 0)
    workers -= 0 if settings.workers else 2  # for the threads that feed the detector
    with ExitStack() as stack:
        decoders = None
        if size:
            with suppress(OSError):  # a limit of memory or processes: threads decode
                decoders = stack.enter_context(Decoders(known, settings, size, workers).started())
        yield decoders
