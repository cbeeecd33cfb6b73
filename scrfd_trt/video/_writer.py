"""Write videos: encode frames, and copy other streams packet by packet; the file appears when it is complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._crops import drawn_by
from scrfd_trt._detections import Detections
from scrfd_trt._files import atomic_path, check_not_input
from scrfd_trt._jobs.profile import measured
from scrfd_trt._option_names import explained_options
from scrfd_trt.errors import ClosedError, OptionError, OutputError
from scrfd_trt.video import _colors, _extra_streams, _metadata, _pyav, _spherical
from scrfd_trt.video._canvas import Canvas, OverlayFunction
from scrfd_trt.video._encoders import (
    CAPTIONS,
    HDR_PARAMETERS,
    MPEG4_TIME_BASE,
    EncodeOptions,
    choose_pixel_format,
    describe,
    encoder_name,
    encoder_settings,
)
from scrfd_trt.video._live_reader import Reader
from scrfd_trt.video._reader import Frame, Source, VideoInfo, VideoReader
from scrfd_trt.video._timestamps import ConstantFrameRate, format_time
from scrfd_trt.video._verify import StreamRecord, verify

if TYPE_CHECKING:
    from typing_extensions import Self

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
HVC1 = (".mp4", ".m4v", ".mov")  # containers in which Apple's players take HEVC with this tag only
CHAPTERS = ("mp4", "mov", "matroska", "webm")  # containers that store chapters
INTERLACED = ("libx264",)  # encoders that encode interlaced frames, if their height is a multiple of 4

_OutputStream = _extra_streams.CopiedStream | _extra_streams.EncodedAudio | _extra_streams.EncodedSubtitles


Watch = Callable[[Any, float], None]
"""Takes each picture once it is encoded, an ``av.VideoFrame`` or an image, and the width of its pixels for height 1."""


class OutputWriter(ABC):
    """What the writers of videos and of animations share: the file appears when it is complete."""

    path: Path
    converted: list[str]
    omitted: list[str]
    frames = 0
    inspect: Callable[[Path], None] | None = None
    """Takes the finished file before it gets its name; if it raises an error, no file is left."""
    watch: Watch | None = None
    _part: Path
    _closed = False
    _stack: ExitStack

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the video was closed; open a new one")

    def write(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> None:
        """Write a frame at its own time; raise ``OutputError`` if that fails.

        Parameters
        ----------
        frame
            The frame as read; its picture may be modified.
        image
            ``(H, W, 3)`` uint8 BGR: the frame's image with an overlay. Of videos, only pixels that differ from the
            frame's image are copied into the picture; all others are encoded as they were read.
        """
        self.encode(frame, self.prepare(frame, image))

    @abstractmethod
    def prepare(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> Any:
        """Return a frame, or the image that takes its place, as the encoder takes it."""

    @abstractmethod
    def encode(self, frame: Frame, picture: Any) -> None:
        """Write a frame and what :meth:`prepare` returned for it; raise ``OutputError`` if that fails."""

    def prepare_drawn(self, frame: Frame, overlay: OverlayFunction, detections: Detections) -> Any:
        """Draw an overlay on a frame, and do what :meth:`prepare` does."""
        with measured("draw"):
            return self.prepare(frame, drawn_by(overlay, frame.image, detections))

    @abstractmethod
    def _finish(self) -> None:
        """Write what is left at the end."""

    def close(self) -> None:
        """Complete the file and move it to its path; a second call does nothing."""
        if not self._closed:
            self._closed = True
            with self._stack:
                if not self.frames:
                    raise OutputError(f"cannot write {self.path}: there is no frame to write")
                self._finish()
                if self.inspect is not None:
                    self.inspect(self._part)

    def discard(self) -> None:
        """Close the writer and delete the unfinished file."""
        if not self._closed:
            self._closed = True
            with suppress(_DiscardedError), self._stack:
                raise _DiscardedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


@explained_options
class VideoWriter(OutputWriter):
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
        Whether an existing file may be replaced; the video of ``reader`` never is.
    keep_metadata
        Whether title, artist, copyright, credit, date, camera, lens and the titles of streams and chapters are copied.
        The language of audio and subtitles and the times of chapters always are; live sources have none of these.
    keep_location
        Whether the place of the recording is copied.

    Attributes
    ----------
    frames
        Number of frames written.
    converted, omitted
        Streams that are encoded in another codec, and what is left out: streams, and names of metadata, which are
        known once the file is complete.

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
        If the file cannot be written. Encoder and container are opened here, so that such errors are raised before the
        first frame. The finished file is read again: if it has other streams, frames, times, sizes or colour tags
        than were written, ``close()`` raises an error, and no file is left.
    """

    def __init__(
        self,
        path: Source,
        reader: Reader,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
        keep_metadata: bool = False,
        keep_location: bool = False,
    ) -> None:
        self.path = Path(path)
        self._reader = reader
        self._canvas = Canvas()
        check_suffix(self.path)
        check_not_input(self.path, reader.name)
        options = options or EncodeOptions()
        plans = _extra_streams.plan(reader.extra_streams, self.path.suffix, options, str(self.path))
        source = reader.container.metadata if isinstance(reader, VideoReader) else {}
        name = CONTAINER_FORMATS[self.path.suffix.lower()]
        chosen = _metadata.choose(source, keep=keep_metadata, keep_location=keep_location)
        metadata, by_key = _metadata.for_container(chosen, name)
        how = dict(CONTAINER_OPTIONS.get(name, {}))
        sphere = reader.info.spherical
        self._spherical = sphere if sphere and sphere.is_writable and name in _spherical.CONTAINERS else None
        if self._spherical is not None:
            how["strict"] = "unofficial"  # as FFmpeg takes what it writes of 360° videos
            if name == "mov":
                how.pop("movflags")  # the index is at the end, where it can grow
        if by_key:
            how["movflags"] = how.get("movflags", "") + "+use_metadata_tags"
        with ExitStack() as stack:
            self._part = stack.enter_context(atomic_path(self.path, overwrite=overwrite))
            with _pyav.writing(lambda: f"cannot write {self.path}"):
                self._container: Any = _pyav.load().open(
                    _pyav.file_url(self._part), "w", format=name, container_options=how
                )
            stack.callback(self._close_container)
            self.constant_rate = ConstantFrameRate(str(self.path), reader.info.rate) if name == "avi" else None
            self._add_video(reader.info, options)
            self._extra = {
                one.source.index: self._add_extra(one, keep_metadata) for one in plans if one.action != "drop"
            }
            self._container.metadata.update(metadata)
            chapters = reader.container.chapters() if isinstance(reader, VideoReader) else []
            if chapters and name in CHAPTERS:
                self._container.set_chapters(_metadata.untitled(chapters, keep=keep_metadata))
            self._has_chapters = bool(chapters) and name in ("mp4", "mov")
            with _pyav.writing(lambda: f"cannot write {self.path} with {self._encoder}"):
                self._container.start_encoding()
            self.converted = [str(one) for one in plans if one.action == "encode" and one.codec != one.target]
            self.omitted = [*(str(one) for one in plans if one.action == "drop"), *_unread(reader)]
            self.omitted += self._lost_of_picture(reader.info, subtitles=options.subtitles)
            if chapters and name not in CHAPTERS:
                self.omitted.append("chapters")
            elif _metadata.loses_titles(chapters, keep=keep_metadata):
                self.omitted.append("chapter titles")
            self._stack = stack.pop_all()

    def _add_video(self, info: VideoInfo, options: EncodeOptions) -> None:
        encoder = encoder_name(options, self.path.suffix, info)
        self._format = choose_pixel_format(options, encoder, info)
        self._edit_format = _colors.planar_format(self._format, 10 if "10" in self._format else 8)
        if self.constant_rate is not None and encoder != "mpeg4":
            raise OptionError(
                f"{self.path}: AVI stores no timestamps for {encoder}; name a .mkv or .mp4 file, or use mpeg4"
            )
        self._encoder = describe(options, encoder)
        with _pyav.writing(lambda: f"cannot write {self.path} with {self._encoder}"):
            rate = info.rate if self.constant_rate is None else self.constant_rate.rate
            settings = encoder_settings(options, encoder, info.hdr, info.size)
            self._stream = stream = self._container.add_stream(encoder, rate=rate, options=settings)
            if self._spherical is not None and self._container.format.name != "mov":
                _spherical.set_side_data(stream, self._spherical)
                stream.codec_context.framerate = rate
            stream.width, stream.height = info.size
            stream.pix_fmt = self._format
            context = stream.codec_context
            base = info.time_base if self.constant_rate is None else 1 / rate
            context.time_base = stream.time_base = max(base, MPEG4_TIME_BASE) if encoder == "mpeg4" else base
            if info.interlaced and encoder in INTERLACED and info.size[1] % 4 == 0:
                flags = _pyav.load().codec.context.Flags
                context.flags |= flags.interlaced_dct | flags.interlaced_me
            if info.pixel_aspect:
                context.sample_aspect_ratio = info.pixel_aspect
            matrix, color_range, context.color_trc, context.color_primaries = info.color_tags
            self._to_limited = encoder in NO_RANGE_TAG and color_range == _colors.FULL
            context.color_range = _colors.LIMITED if self._to_limited else color_range
            context.colorspace = _colors.BT601 if matrix == _colors.RGB else matrix
            if stream.codec_context.codec.canonical_name == "hevc" and self.path.suffix.lower() in HVC1:
                context.codec_tag = "hvc1"
            context.open()
        self._records = {stream.index: StreamRecord("video", context.codec.canonical_name)}

    def _lost_of_picture(self, info: VideoInfo, *, subtitles: bool) -> list[str]:
        """Name what the encoder or the container does not keep of the frames."""
        encoder = self._stream.codec_context.codec.name
        has_captions = encoder in CAPTIONS and info.pixel_format == self._format
        is_deep = "10" in self._format
        lost = {
            "360° projection": info.spherical is not None and self._spherical is None,
            "HDR10 metadata": any(info.hdr) and encoder not in HDR_PARAMETERS,
            "closed captions": info.has_captions and subtitles and not has_captions,
            f"{info.bit_depth} bits per component": info.bit_depth > (10 if is_deep else 8),
            "alpha channel": info.has_alpha,
        }
        return [*(name for name, is_lost in lost.items() if is_lost), *info.dynamic_hdr]

    def _add_extra(self, plan: _extra_streams.Plan, keep_metadata: bool) -> _OutputStream:
        source = plan.source
        with _pyav.writing(lambda: f"cannot write {self.path} with {plan}"):
            made: _OutputStream
            origin = getattr(self._reader, "start", _extra_streams.ZERO)
            if plan.action == "copy":
                made = _extra_streams.CopiedStream(source, self._container)
            elif source.type == "subtitle":
                made = _extra_streams.EncodedSubtitles(plan, self._container, self._reader.name, origin)
            else:
                made = _extra_streams.EncodedAudio(
                    plan,
                    self._container,
                    start=None if self.constant_rate is None else _extra_streams.first_frame(source.container),
                    keep_damaged=getattr(self._reader, "damaged", "keep") == "keep",
                    name=self._reader.name,
                    origin=origin,
                )
        name = CONTAINER_FORMATS[self.path.suffix.lower()]
        made.stream.metadata.update(_metadata.of_stream(source.metadata, name, keep=keep_metadata))
        made.stream.disposition = source.disposition
        language = made.stream.metadata.get("language", "und")
        self._records[made.stream.index] = StreamRecord(source.type, plan.target, language)
        return made

    def prepare(self, frame: Frame, image: NDArray[np.uint8] | None = None) -> Any:
        """Do the part of :meth:`write` that another thread can do while earlier frames are encoded.

        Return an ``av.VideoFrame``, the argument of :meth:`encode`.
        """
        return self._prepare(frame, [] if image is None else [_colors.Patch(0, 0, frame.image, image)])

    def prepare_drawn(self, frame: Frame, overlay: OverlayFunction, detections: Detections) -> Any:
        """Draw an overlay on a frame, and do what :meth:`prepare` does.

        Of an overlay with ``used_boxes``, only these are converted.
        """
        with measured("draw"), self._canvas.drawn(frame, overlay, detections) as patches:
            return self._prepare(frame, patches)

    def _prepare(self, frame: Frame, patches: Sequence[_colors.Patch]) -> Any:
        with self._writing(frame):
            # Frames on a GPU are copied from it here, with their closed captions and the order of their fields.
            picture = _colors.convert(frame.picture, self._edit_format)
            picture = _colors.paste_changes(picture, patches)
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
        with measured("encode"), self._writing(frame):
            self._mux(self._stream.encode(picture))
        self.frames += 1
        if self.watch is not None:
            self.watch(picture, float(self._stream.codec_context.sample_aspect_ratio or 1))

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._records[packet.stream_index].add(packet)
            self._container.mux(packet)

    def _writing(self, frame: Frame) -> AbstractContextManager[None]:
        return _pyav.writing(
            lambda: f"cannot write {self.path}: frame {frame.number} at {format_time(frame.pts_seconds)}"
        )

    def copy(self, packet: Any) -> None:
        """Write a packet of one of the reader's extra streams, encoded in another codec if the container needs it.

        Raises
        ------
        OutputError
            If it cannot be written.
        VideoError
            If it cannot be decoded, unless the reader keeps what is damaged.
        """
        self._check_open()
        extra = self._extra.get(packet.stream.index)
        if extra is None:
            return
        kind = packet.stream.type
        with _pyav.writing(lambda: f"cannot write {self.path}: a packet of {kind} after frame {self.frames}"):
            self._mux(extra.convert(packet))

    def _finish(self) -> None:
        with _pyav.writing(lambda: f"cannot write {self.path}: at its end, after frame {self.frames - 1}"):
            for extra in self._extra.values():
                self._mux(extra.finish())
            self._mux(self._stream.encode(None))
            self._container.close()
            if self._spherical is not None:
                name = CONTAINER_FORMATS[self.path.suffix.lower()]
                _spherical.finish_file(self._part, name, self._spherical)
        self._verify()

    def _verify(self) -> None:
        info = self._reader.info
        metadata, lost = verify(
            self._part,
            str(self.path),
            list(self._records.values()),
            info.size,
            self._stream.codec_context,
            pixel_aspect=info.pixel_aspect,
            chapters=self._has_chapters,
            spherical=self._spherical,
        )
        self.omitted += lost
        if isinstance(self._reader, VideoReader) and (
            names := _metadata.dropped(self._reader.container.metadata, metadata)
        ):
            self.omitted.append(f"metadata ({_metadata.listed(names)})")

    def _close_container(self) -> None:
        # Errors of an unfinished file would hide the one that is on its way.
        with suppress(Exception):
            self._container.close()


def _unread(reader: Reader) -> list[str]:
    """Name the streams of a file that are never copied: they may show faces, or say where it was recorded."""
    if not isinstance(reader, VideoReader):
        return []
    cover = _pyav.load().stream.Disposition.attached_pic
    container = reader.container
    kinds = Counter("cover picture" if one.disposition & cover else one.type for one in container.streams)
    kinds["video"] -= 1
    if container.format.name.startswith("mov") and container.chapters():
        kinds["data"] -= 1  # the titles of the chapters
    names = {
        "video": "further video stream",
        "cover picture": "cover picture",
        "data": "data stream",
        "attachment": "attachment",
    }
    return [name if kinds[kind] == 1 else f"{kinds[kind]} {name}s" for kind, name in names.items() if kinds[kind] > 0]


class _DiscardedError(Exception):
    pass


def check_suffix(path: Path) -> None:
    """Raise ``OptionError`` if no video is written to files with this suffix."""
    if path.suffix.lower() not in CONTAINER_FORMATS:
        raise OptionError(
            f"{path}: videos are not written as {path.suffix or 'files without a suffix'}; use one of: "
            f"{', '.join(SUFFIXES)}"
        )
