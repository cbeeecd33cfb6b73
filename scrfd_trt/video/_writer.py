"""Write videos: frames are coded anew, other streams copied packet by packet, and a file is whole or not there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._files import atomic_path
from scrfd_trt.errors import ClosedError, OptionError, OutputError
from scrfd_trt.video import _colors, _pyav
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._live import LiveReader
from scrfd_trt.video._reader import Frame, VideoInfo, VideoReader
from scrfd_trt.video._timestamps import ConstantFrameRate, format_time

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts")
"""Of the containers that are written."""
FORMS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
}
FLAGS = {
    "mp4": {"movflags": "+faststart"},
    "mov": {"movflags": "+faststart"},
    # Sound that begins a little before 0 would move the pictures by a frame.
    "avi": {"avoid_negative_ts": "disabled"},
}
STREAM_TAGS = ("language",)
"""Of copied streams, in any case: a title may tell who recorded it, with what and where."""
UNTAGGED = ("mpeg4",)
"""Encoders that do not say which range they have."""
INTERLACING = ("libx264",)
"""Encoders that code two fields where a frame has them, at heights of whole blocks of both."""


class VideoWriter:
    """Writes a video like another one.

    Used as a context manager: the file is there when the block has ended well, and not at all when an error has left
    it. Until then it lies beside its place under a hidden name.

    Parameters
    ----------
    path
        Where to; the suffix names the container.
    reader
        The video whose frames are written: its size, times, colours, and the streams that it reads beside.
    options
        How the pictures are coded.
    overwrite
        Whether another file may be replaced.
    keep_metadata
        Whether title, place, device and the like are taken over, and chapters; live sources have none. The language of
        sound and subtitles is in any case.

    Attributes
    ----------
    path : pathlib.Path
        Where to.
    frames : int
        That were written.
    even : Even or None
        Where frames go in a container that holds no times.

    Notes
    -----
    Two fields to a frame stay two with H.264 of x264, and HDR10's mastering display and light levels stay with x264 and
    x265; other encoders lose them, and HDR10+ and Dolby Vision are lost with all. AVI holds no times: frames go to
    their places at a constant rate, and only codecs that show frames in the order they stand in are written there.

    Raises
    ------
    OptionError
        If the suffix or an option fits no encoder, or a file is there already.
    OutputError
        If the file cannot be written, or the container cannot hold one of the streams. Encoder and container are begun
        here, so that what cannot work is told before the first frame.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        reader: VideoReader | LiveReader,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
        keep_metadata: bool = False,
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        self._last: float | None = None
        self._closed = False
        check_suffix(self.path)
        with ExitStack() as stack:
            self._place = stack.enter_context(atomic_path(self.path, overwrite=overwrite))
            form = FORMS[self.path.suffix.lower()]
            flags = FLAGS.get(form, {})
            with _pyav.writing(lambda: f"cannot write {self.path}"):
                self._container: Any = _pyav.load().open(
                    os.fspath(self._place), "w", format=form, container_options=flags
                )
            stack.callback(self._discard)
            self.even = ConstantFrameRate(str(self.path), reader.info.rate) if form == "avi" else None
            self._add_pictures(reader.info, options or EncodeOptions())
            self._copies = {other.index: self._add_copy(other, keep_metadata) for other in reader.extra_streams}
            if keep_metadata and isinstance(reader, VideoReader):
                self._container.metadata.update(reader.container.metadata)
                with suppress(NotImplementedError):
                    self._container.set_chapters(reader.container.chapters())
            with _pyav.writing(lambda: f"cannot write {self.path} with {self._encoder}"):
                self._container.start_encoding()
            self._stack = stack.pop_all()

    def _add_pictures(self, info: VideoInfo, options: EncodeOptions) -> None:
        encoder = options.encoder(self.path.suffix)
        self._format = options.pixels(encoder, info.pixel_format, info.bit_depth, info.size)
        self._working = _colors.planar(self._format, 10 if "10" in self._format else 8)
        if self.even is not None and encoder != "mpeg4":
            raise OptionError(f"{self.path}: AVI holds no times for {encoder}; name a .mkv or .mp4 file, or take mpeg4")
        settings = options.settings(encoder, info.hdr)
        with _pyav.writing(lambda: f"cannot write {self.path} with {options.describe(encoder)}"):
            rate = info.rate if self.even is None else self.even.rate
            stream = self._container.add_stream(encoder, rate=rate, options=settings)
            stream.width, stream.height = info.size
            stream.pix_fmt = self._format
            context = stream.codec_context
            context.time_base = stream.time_base = info.time_base if self.even is None else 1 / rate
            if info.interlaced and encoder in INTERLACING and info.size[1] % 4 == 0:
                flags = _pyav.load().codec.context.Flags
                context.flags |= flags.interlaced_dct | flags.interlaced_me
            if info.pixel_aspect:
                context.sample_aspect_ratio = info.pixel_aspect
            matrix, level, transfer, primaries = info.color_tags
            self._narrow = encoder in UNTAGGED and level == _colors.FULL
            level = _colors.LIMITED if self._narrow else level
            context.colorspace = _colors.BT601 if matrix == _colors.RGB else matrix
            context.color_range, context.color_trc, context.color_primaries = level, transfer, primaries
            context.open()
        self._encoder, self._stream = options.describe(encoder), stream

    def _add_copy(self, other: Any, keep_metadata: bool) -> Any:
        name = other.codec_context.name if other.codec_context is not None else "unknown"
        codec = other.codec_context.codec.canonical_name if other.codec_context is not None else "unknown"
        taken = self._container.supported_codecs
        # FFmpeg cannot tell what a transport stream holds before it is tried.
        if self.path.suffix.lower() != ".ts" and name not in taken and codec not in taken:
            raise OptionError(
                f"{self.path}: {self.path.suffix} files hold no {other.type} of the kind {codec}; name a .mkv file, or "
                f"leave {other.type!r} out of keep_streams",
                fields=[f"keep_streams.{other.type}"],
            )
        with _pyav.writing(lambda: f"cannot copy the {other.type} into {self.path}"):
            stream = self._container.add_stream_from_template(other)
        tags = (*STREAM_TAGS, *(("title",) if keep_metadata else ()))
        stream.metadata.update({key: other.metadata[key] for key in tags if key in other.metadata})
        stream.disposition = other.disposition
        return stream

    def write(self, frame: Frame, drawn: NDArray[np.uint8] | None = None) -> None:
        """Write a frame, at its own time.

        Parameters
        ----------
        frame
            As it was read; its picture may be written to.
        drawn
            ``(H, W, 3)`` uint8 BGR: the frame's image with something drawn over it. Pixels that differ from the frame's
            image are put into the picture; the others go to the encoder as they were read.

        Raises
        ------
        OutputError
            If it cannot be written; the message says which frame.
        """
        self.encode(frame, self.prepare(frame, drawn))

    def prepare(self, frame: Frame, drawn: NDArray[np.uint8] | None = None) -> Any:
        """Do the part of :meth:`write` that another thread may do while frames before are encoded.

        Parameters
        ----------
        frame, drawn
            As for :meth:`write`.

        Returns
        -------
        av.VideoFrame
            What :meth:`encode` takes.
        """
        with self._writing(frame):
            picture = _colors.convert(frame.picture, self._working)
            if drawn is not None and drawn is not frame.image:
                picture = _colors.paste(picture, frame.image, drawn)
            picture = _colors.convert(picture, self._format)
            if self._narrow:
                picture = _colors.narrowed(picture)
            picture.pict_type = 0
        return picture

    def encode(self, frame: Frame, picture: Any) -> None:
        """Write a frame that was prepared.

        Parameters
        ----------
        frame
            As for :meth:`write`.
        picture
            What :meth:`prepare` returned for it.

        Raises
        ------
        OutputError
            As :meth:`write`.
        """
        self._check_open()
        with self._writing(frame):
            if self.even is not None:
                place = self.even.place(frame.number, frame.pts_seconds)
                picture.pts, picture.time_base = place, self._stream.codec_context.time_base
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        self.frames += 1

    def _writing(self, frame: Frame) -> AbstractContextManager[None]:
        return _pyav.writing(
            lambda: f"cannot write {self.path}: frame {frame.number} at {format_time(frame.pts_seconds)}"
        )

    def copy(self, packet: Any) -> None:
        """Copy a packet of one of the reader's other streams."""
        self._check_open()
        with _pyav.writing(
            lambda: f"cannot write {self.path}: a packet of {packet.stream.type} after frame {self.frames}"
        ):
            packet.stream = self._copies[packet.stream.index]
            self._container.mux(packet)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the video was closed; open a new one")

    def close(self) -> None:
        """Write what is left and put the file into its place; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._stack:
            if not self.frames:
                raise OutputError(f"cannot write {self.path}: there was no frame to write")
            with _pyav.writing(lambda: f"cannot write {self.path}: at its end, after frame {self.frames - 1}"):
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
                self._container.close()

    def discard(self) -> None:
        """Give up: nothing is left of the file."""
        if not self._closed:
            self._closed = True
            with suppress(_GivenUpError), self._stack:
                raise _GivenUpError

    def _discard(self) -> None:
        # What cannot be finished is thrown away, so that errors on the way out say nothing new.
        with suppress(Exception):
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _GivenUpError(Exception):
    pass


def check_suffix(path: Path) -> None:
    """Refuse a file name that no video goes by.

    Raises
    ------
    OptionError
        If its suffix is none of :data:`SUFFIXES`.
    """
    if path.suffix.lower() not in FORMS:
        raise OptionError(
            f"{path}: videos are not written as {path.suffix or 'files without a suffix'}; take one of: "
            f"{', '.join(SUFFIXES)}"
        )
