"""Write videos: encode frames, and copy other streams packet by packet; the file appears when it is complete."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._files import atomic_path
from scrfd_trt.errors import ClosedError, OptionError, OutputError
from scrfd_trt.video import _colors, _pyav
from scrfd_trt.video._encoders import EncodeOptions, choose_pixel_format, describe, encoder_name, encoder_settings
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._reader import Frame, Source, VideoInfo, VideoReader
from scrfd_trt.video._timestamps import ConstantFrameRate, format_time

CONTAINER_FORMATS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts",
}  # fmt: skip
SUFFIXES = tuple(CONTAINER_FORMATS)
CONTAINER_OPTIONS = {
    "mp4": {"movflags": "+faststart"},
    "mov": {"movflags": "+faststart"},
    # Sound that starts slightly before 0 would shift the frames by one.
    "avi": {"avoid_negative_ts": "disabled"},
}
NO_RANGE_TAG = ("mpeg4",)  # encoders that do not store the range
INTERLACED = ("libx264",)  # encoders that encode interlaced frames, if their height is a multiple of 4


class VideoWriter:
    """Write a video with the properties of another one.

    Use it as a context manager: the file exists once the block has ended without an error. Until then it has a hidden
    name in the same folder; after an error nothing is left. ``frames`` is the number of frames written.

    Parameters
    ----------
    path
        The file; its suffix selects the container.
    reader
        The video whose frames are written: its size, times, colours and extra streams are used.
    overwrite
        Whether an existing file may be replaced.
    keep_metadata
        Whether title, place, device and the like are copied, and chapters; live sources have none. The language of
        audio and subtitles is always copied.

    Notes
    -----
    Interlaced frames stay interlaced with x264; HDR10 metadata is kept with x264 and x265. Other encoders lose them,
    and HDR10+ and Dolby Vision are always lost. AVI stores no timestamps: frames are written at a constant rate, and
    only with codecs that store frames in presentation order.

    Raises
    ------
    OptionError
        If the suffix or an option does not fit the encoder, or the file exists already.
    OutputError
        If the file cannot be written, or the container cannot hold one of the streams. Encoder and container are opened
        here, so that such errors are raised before the first frame.
    """

    def __init__(
        self,
        path: Source,
        reader: Reader,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
        keep_metadata: bool = False,
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        self._closed = False
        check_suffix(self.path)
        with ExitStack() as stack:
            part = stack.enter_context(atomic_path(self.path, overwrite=overwrite))
            name = CONTAINER_FORMATS[self.path.suffix.lower()]
            with _pyav.writing(lambda: f"cannot write {self.path}"):
                self._container: Any = _pyav.load().open(
                    _pyav.file_url(part), "w", format=name, container_options=CONTAINER_OPTIONS.get(name, {})
                )
            stack.callback(self._close_container)
            self.constant_rate = ConstantFrameRate(str(self.path), reader.info.rate) if name == "avi" else None
            self._add_video(reader.info, options or EncodeOptions())
            self._copies = {stream.index: self._add_copy(stream, keep_metadata) for stream in reader.extra_streams}
            if keep_metadata and isinstance(reader, VideoReader):
                self._container.metadata.update(reader.container.metadata)
                with suppress(NotImplementedError):
                    self._container.set_chapters(reader.container.chapters())
            with _pyav.writing(lambda: f"cannot write {self.path} with {self._encoder}"):
                self._container.start_encoding()
            self._stack = stack.pop_all()

    def _add_video(self, info: VideoInfo, options: EncodeOptions) -> None:
        encoder = encoder_name(options, self.path.suffix)
        self._format = choose_pixel_format(options, encoder, info)
        self._edit_format = _colors.planar_format(self._format, 10 if "10" in self._format else 8)
        if self.constant_rate is not None and encoder != "mpeg4":
            raise OptionError(
                f"{self.path}: AVI stores no timestamps for {encoder}; name a .mkv or .mp4 file, or use mpeg4"
            )
        self._encoder = describe(options, encoder)
        with _pyav.writing(lambda: f"cannot write {self.path} with {self._encoder}"):
            rate = info.rate if self.constant_rate is None else self.constant_rate.rate
            settings = encoder_settings(options, encoder, info.hdr)
            self._stream = stream = self._container.add_stream(encoder, rate=rate, options=settings)
            stream.width, stream.height = info.size
            stream.pix_fmt = self._format
            context = stream.codec_context
            context.time_base = stream.time_base = info.time_base if self.constant_rate is None else 1 / rate
            if info.interlaced and encoder in INTERLACED and info.size[1] % 4 == 0:
                flags = _pyav.load().codec.context.Flags
                context.flags |= flags.interlaced_dct | flags.interlaced_me
            if info.pixel_aspect:
                context.sample_aspect_ratio = info.pixel_aspect
            matrix, color_range, context.color_trc, context.color_primaries = info.color_tags
            self._to_limited = encoder in NO_RANGE_TAG and color_range == _colors.FULL
            context.color_range = _colors.LIMITED if self._to_limited else color_range
            context.colorspace = _colors.BT601 if matrix == _colors.RGB else matrix
            context.open()

    def _add_copy(self, source: Any, keep_metadata: bool) -> Any:
        codec = source.codec_context
        names = {"unknown"} if codec is None else {codec.name, codec.codec.canonical_name}
        # FFmpeg does not list the codecs that a transport stream can hold.
        if self.path.suffix.lower() != ".ts" and not names & set(self._container.supported_codecs):
            kind = "unknown" if codec is None else codec.codec.canonical_name
            raise OptionError(
                f"{self.path}: {self.path.suffix} files cannot hold {source.type} of codec {kind}; name a .mkv file, "
                f"or leave {source.type!r} out of keep_streams",
                fields=[f"keep_streams.{source.type}"],
            )
        with _pyav.writing(lambda: f"cannot copy the {source.type} into {self.path}"):
            stream = self._container.add_stream_from_template(source)
        # A title may name the person, device or place of the recording.
        tags = ("language", "title") if keep_metadata else ("language",)
        stream.metadata.update({key: source.metadata[key] for key in tags if key in source.metadata})
        stream.disposition = source.disposition
        return stream

    def write(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> None:
        """Write a frame at its own time; raise ``OutputError`` if that fails.

        Parameters
        ----------
        frame
            The frame as read; its picture may be modified.
        image
            ``(H, W, 3)`` uint8 BGR: the frame's image with an overlay. Only pixels that differ from the frame's image
            are copied into the picture; all others are encoded as they were read.
        """
        self.encode(frame, self.prepare(frame, image))

    def prepare(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> Any:
        """Do the part of :meth:`write` that another thread can do while earlier frames are encoded.

        Return an ``av.VideoFrame``, the argument of :meth:`encode`.
        """
        with self._writing(frame):
            picture = _colors.convert(frame.picture, self._edit_format)
            if image is not None and image is not frame.image:
                picture = _colors.paste_changes(picture, frame.image, image)
            picture = _colors.convert(picture, self._format)
            if self._to_limited:
                picture = _colors.to_limited_range(picture)
            picture.pict_type = 0
        return picture

    def encode(self, frame: Frame, picture: Any) -> None:
        """Write a frame and the picture that :meth:`prepare` returned for it; raise ``OutputError`` if that fails."""
        self._check_open()
        if self.constant_rate is not None:
            picture.pts = self.constant_rate.slot(frame.number, frame.pts_seconds)
            picture.time_base = self._stream.codec_context.time_base
        with self._writing(frame):
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        self.frames += 1

    def _writing(self, frame: Frame) -> AbstractContextManager[None]:
        return _pyav.writing(
            lambda: f"cannot write {self.path}: frame {frame.number} at {format_time(frame.pts_seconds)}"
        )

    def copy(self, packet: Any) -> None:
        """Copy a packet of one of the reader's extra streams."""
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
        """Complete the file and move it to its path; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._stack:
            if not self.frames:
                raise OutputError(f"cannot write {self.path}: there is no frame to write")
            with _pyav.writing(lambda: f"cannot write {self.path}: at its end, after frame {self.frames - 1}"):
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
                self._container.close()

    def discard(self) -> None:
        """Close the writer and delete the unfinished file."""
        if not self._closed:
            self._closed = True
            with suppress(_DiscardedError), self._stack:
                raise _DiscardedError

    def _close_container(self) -> None:
        # Errors of an unfinished file would hide the one that is on its way.
        with suppress(Exception):
            self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _DiscardedError(Exception):
    pass


def check_suffix(path: Path) -> None:
    """Raise ``OptionError`` if no video is written to files with this suffix."""
    if path.suffix.lower() not in CONTAINER_FORMATS:
        raise OptionError(
            f"{path}: videos are not written as {path.suffix or 'files without a suffix'}; use one of: "
            f"{', '.join(SUFFIXES)}"
        )
