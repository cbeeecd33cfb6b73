"""Write animated images (GIF, APNG, WebP, AVIF) with the alpha, durations and loops of their source."""

from __future__ import annotations

import queue
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._files import atomic_file, check_not_input
from scrfd_trt._image_files import ImageFrame
from scrfd_trt._image_files.metadata import Metadata, read_metadata
from scrfd_trt._image_files.write import ANIMATION_SUFFIXES, errors_about, format_suffix, storable, write_image
from scrfd_trt._image_files.write_animation import check_animation
from scrfd_trt.video._animation_reader import AnimationFrame, AnimationReader
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._reader import Frame, Source
from scrfd_trt.video._writer import OutputWriter, VideoWriter

WAITING = 2  # frames that wait to be encoded


def open_writer(
    path: Source, reader: Reader, options: EncodeOptions | None = None, **kept: bool
) -> VideoWriter | AnimationWriter:
    """Open the writer for a path and the video that is copied; parameters and errors as for :class:`VideoWriter`."""
    if isinstance(reader, AnimationReader) and Path(path).suffix.lower() in ANIMATION_SUFFIXES:
        return AnimationWriter(path, reader, options, **kept)
    writer = VideoWriter(path, reader, options, **kept)
    if isinstance(reader, AnimationReader):
        writer.omitted += _metadata_line(read_metadata(reader.file.data, reader.file.kind), Metadata())
    return writer


def _metadata_line(found: Metadata, kept: Metadata) -> list[str]:
    removed = found.removed(kept)
    return [f"metadata ({', '.join(removed)})"] if removed else []


class AnimationWriter(OutputWriter):
    """Write an animated image as :class:`VideoWriter` writes videos; a thread encodes while frames are drawn."""

    constant_rate = None

    def __init__(
        self,
        path: Source,
        reader: AnimationReader,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
        keep_metadata: bool = False,
        keep_location: bool = False,
    ) -> None:
        self.path = Path(path)
        check_not_input(path, reader.name)
        with errors_about(self.path):
            check_animation(format_suffix(self.path.suffix), reader.file.size)
        self._file, self._quality = reader.file, (options or EncodeOptions()).quality
        found = read_metadata(self._file.data, self._file.kind)
        kept = found.kept(descriptive=keep_metadata, location=keep_location)
        self._metadata = storable(kept, self.path.suffix)
        self.converted = []
        self.omitted = _metadata_line(found, self._metadata)
        self._queue: queue.Queue[ImageFrame | None] = queue.Queue(WAITING)
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        with ExitStack() as stack:
            self._output = stack.enter_context(atomic_file(self.path, overwrite=overwrite))
            self._part = Path(self._output.name)
            stack.callback(self._end_thread)
            self._stack = stack.pop_all()

    def prepare(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> ImageFrame:
        """Return the frame to encode, the argument of :meth:`encode`."""
        if not isinstance(frame, AnimationFrame):
            return ImageFrame(frame.image if image is None else image)
        return frame.source if image is None else frame.source.drawn_on(image)

    def encode(self, frame: Frame, picture: ImageFrame) -> None:  # noqa: ARG002 - as of VideoWriter
        """Write what :meth:`prepare` returned for a frame; raise OutputError if that fails."""
        self._check_open()
        if self._thread is None:
            self._thread = Thread(target=self._run, name="scrfd-trt-animation", daemon=True)
            self._thread.start()
        while self._error is None:
            with suppress(queue.Full):
                self._queue.put(picture, timeout=0.1)
                self.frames += 1
                if self.watch is not None:
                    self.watch(picture, 1.0)
                return
        raise self._error

    def copy(self, packet: Any) -> None:
        """Do nothing: animations have no other streams."""

    def _run(self) -> None:
        file = self._file
        try:
            with errors_about(self.path):
                write_image(
                    self._output,
                    iter(self._queue.get, None),
                    self.path.suffix,
                    quality=self._quality,
                    color=file.color,
                    metadata=self._metadata,
                    animation=True,
                    loops=file.loops,
                    count=file.count,
                )
        except BaseException as error:  # noqa: BLE001 - raised where the frames come from
            self._error = error

    def _finish(self) -> None:
        self._end_thread()
        if self._error is not None:
            raise self._error
        self._output.flush()

    def _end_thread(self) -> None:
        while self._thread is not None and self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join(0.1)


Writer = VideoWriter | AnimationWriter
