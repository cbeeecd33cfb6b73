"""Read videos frame by frame, upright and with their own timestamps."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._files import user_path
from scrfd_trt._image_arrays import YUVImage
from scrfd_trt._jobs.stages import prefetched
from scrfd_trt._option_names import Explained, explained_options
from scrfd_trt.errors import ClosedError, OptionError, ScrfdError, VideoError, redact_password
from scrfd_trt.video import _colors, _nvdec, _pyav
from scrfd_trt.video._colors import NO_HDR, HdrMetadata, Orientation
from scrfd_trt.video._completeness import FrameCheck, TruncationCheck
from scrfd_trt.video._spherical import Spherical
from scrfd_trt.video._timestamps import DiscontinuityCorrector, format_time

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("scrfd_trt")

ZERO = Fraction(0)
DEFAULT_RATE = Fraction(25)  # frames per second if a source declares none
START_TOLERANCE = Fraction(1, 100_000)  # seconds; containers round their start to microseconds
REPEATING = ("theora",)  # codecs whose packets without data show the frame before again, for their own duration
LARGE_PIXELS, LARGE_THREADS = 3_000_000, 6  # frames above which FFmpeg decodes on fewer threads: each has its frame
UNUSUAL = -1
CHECK_GROUP, GROUPS_AHEAD = 16, 4  # frames that the CPU checks between two reports, and reports that may wait for NVDEC
MAX_STEP_BACK = 1  # seconds that the clock of a live source may go back; more is a new start of the source

Source = str | os.PathLike[str]
Damaged = Literal["stop", "keep"]


@dataclass(frozen=True)
class VideoInfo(Explained):
    """Properties of a video.

    Attributes
    ----------
    name
        Path or address.
    size, pixel_aspect
        Width and height in pixels, and width to height of a pixel (None if unknown), upright.
    rate, time_base
        Average frames per second, and seconds per tick of the timestamps.
    frames, duration
        Number of frames as declared, or as computed from rate and duration; seconds. None if unknown.
    codec, pixel_format, bit_depth
        FFmpeg's names, and bits per component.
    color_tags
        Matrix, range, transfer and primaries: numbers of ITU-T H.273; range 1 is limited, 2 full.
    live, interlaced
        Whether the source is a camera or a stream without an end, and whether frames consist of two fields.
    hdr, dynamic_hdr
        HDR10 metadata, and names of the kinds that differ between frames: Dolby Vision, HDR10+.
    spherical
        Projection of a 360° video and layout of a stereoscopic one; None for others.
    has_captions
        Whether the frames contain closed captions.
    """

    name: str
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    frames: int | None
    duration: float | None
    pixel_format: str
    bit_depth: int
    color_tags: tuple[int, int, int, int]
    pixel_aspect: Fraction | None
    codec: str
    live: bool = False
    interlaced: bool = False
    hdr: HdrMetadata = NO_HDR
    dynamic_hdr: tuple[str, ...] = ()
    spherical: Spherical | None = None
    has_captions: bool = False

    @property
    def frame_bytes(self) -> int:
        """About the bytes of a frame, in 4:2:0. An image in BGR takes up to twice as many."""
        return -(-self.size[0] * self.size[1] * 3 // (1 if self.bit_depth > 8 else 2))

    @property
    def has_alpha(self) -> bool:
        """Whether the frames have an alpha channel."""
        return self.pixel_format.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya"))


class Frame(Explained):
    """One frame of a video, upright: its number from 0, its time, and its ``av.VideoFrame`` in the video's format.

    The time counts from the start of the video, as in players; ``picture.pts`` is the time in the file.
    """

    __slots__ = ("_image", "_yuv", "number", "picture", "pts_seconds")

    def __init__(self, number: int, picture: Any, start: Fraction = ZERO) -> None:
        self.number = number
        self.picture = picture
        self.pts_seconds = float(picture.pts * picture.time_base - start)
        self._image: NDArray[np.uint8] | None = None
        self._yuv: YUVImage | None = None

    @property
    def is_on_gpu(self) -> bool:
        """Whether ``picture`` is in the memory of a GPU."""
        return _nvdec.is_on_gpu(self.picture)

    @property
    def yuv(self) -> YUVImage:
        """The planes of ``picture`` where they are on a GPU; made on first access."""
        if self._yuv is None:
            self._yuv = _nvdec.yuv_image(self.picture)
        return self._yuv

    @property
    def image(self) -> NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 BGR; converted on first access, if need be copied from the GPU, and read-only."""
        if self._image is None:
            self._image = _colors.to_bgr(self.picture)
            self._image.flags.writeable = False
        return self._image


class FrameReader(Explained, ABC):
    """What readers of all sources share: iteration over frames, and closing."""

    @abstractmethod
    def items(self) -> Iterator[Any]:
        """Yield frames, and packets of other streams."""

    @abstractmethod
    def close(self) -> None:
        """Close the source; a second call does nothing."""

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self.items() if isinstance(item, Frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_camera(name: str) -> bool:
    """Return whether a name is that of a camera, and of no file."""
    return name.startswith("camera:") and not os.path.exists(name)  # noqa: PTH110 - takes any text


@explained_options
class VideoReader(FrameReader):
    """Read a video.

    Where the timestamps of a file go back, as in concatenated transport streams, those of frames and packets are
    shifted to continue. Files that are cut off are recognised by the duration, the number of frames or the size that
    they declare; transport streams declare none. A packet that gives no frame is damage, unless an edit list or the
    codec hides it.

    Parameters
    ----------
    source
        A file in any container that FFmpeg reads, an image sequence such as ``frames/%05d.png``, or an address. A path
        that exists is a file, whatever its name looks like.
    damaged
        ``stop`` raises an error at the first damaged or lost frame. ``keep`` keeps damaged frames as they are decoded,
        and skips those that cannot be decoded; ``lost`` counts both.
    container_format
        FFmpeg's name of the container or device, if the source does not determine it. Playlists and other files that
        name files (``concat``, ``hls``, ``sdp``, …) are read only if their format is named here.
    options
        Options of FFmpeg's demuxer.
    extra_streams
        Types of other streams whose packets are read, too: ``audio``, ``subtitle``. Of several video streams, such as
        front and rear of a dashcam, only the first is read; ``unread_streams`` counts the others.
    live
        Whether the source has no end: its length is not checked, and decoding adds as little delay as possible.
    timeout
        Seconds to wait for the source to open, and for each packet; None waits for ever.
    name
        Name in messages; by default the source without its password.
    device
        ``cpu``, or ``cuda:n`` to decode with NVDEC and leave the frames in the GPU's memory. What NVDEC cannot decode
        is decoded on the CPU, and the reason is logged. So are damaged videos that are kept: NVDEC conceals damage.
    checked
        Whether the CPU decodes as well, to find damage within pictures, which NVDEC conceals.

    Raises
    ------
    VideoError
        If the source cannot be opened, or has no frame.
    OptionError, MissingDependencyError
        If ``damaged`` is invalid; if PyAV is not installed.

    Attributes
    ----------
    info
        Properties of the video.
    container, extra_streams
        The open ``av.container.InputContainer``, and those of its streams whose packets are read.
    start
        Time in the file at which players start, in seconds; the times of frames count from it.
    unread_streams, lost
        Number of further video streams, and of frames that were damaged or could not be decoded.
    device
        Where frames are decoded: ``cpu`` or ``cuda:n``.
    """

    def __init__(
        self,
        source: Source,
        *,
        damaged: Damaged = "stop",
        container_format: str | None = None,
        options: Mapping[str, str] | None = None,
        extra_streams: Collection[str] = (),
        live: bool = False,
        timeout: float | None = None,
        name: str | None = None,
        device: str = "cpu",
        checked: bool = False,
    ) -> None:
        if damaged not in ("stop", "keep"):
            message = f"damaged={damaged!r}: the choices are: stop, keep"
            raise OptionError(message, fields=["damaged"], value=damaged, choices=["stop", "keep"])
        if is_camera(text := os.fspath(source)):
            raise OptionError(f"open_source({text!r}) opens a camera", fields=["source"], value=source)
        source = text = text if text[:1] != "~" else str(user_path(text))
        self.name = name or redact_password(text)
        self.damaged = damaged
        self._keep_damaged = damaged == "keep"
        self._live = live
        self._closed = False
        self._open = partial(
            _pyav.open_input, source, container_format=container_format, options=options, timeout=timeout
        )
        self.container: Any = None
        self.device = "cpu"
        self._checks: Iterator[int] = iter(())
        self._checked: int | None = None  # frames that the CPU has decoded, too
        self._checking = ExitStack()
        if device == "cpu" or self._keep_damaged or not self._begin_on_gpu(device, extra_streams):
            self._begin(extra_streams)
        elif checked:
            how = {"container_format": container_format, "options": options, "timeout": timeout, "name": name}
            self._reopen = partial(VideoReader, source, **how)  # type: ignore[arg-type]
            self._checks = self._checking.enter_context(prefetched(self._check(), GROUPS_AHEAD))

    def _check(self) -> Iterator[int]:
        """Decode on the CPU, too; yield the number of frames at times, and UNUSUAL at the end after what may be damage.

        Little Python runs for each: it takes the lock from the threads that decode and detect on the GPU.
        """
        frames = 0
        try:
            with _pyav.reading(self._position, self.name), self._open() as container:
                stream = _video_streams(container, self.name)[0]
                _use_threads(stream)
                for packet in container.demux(stream):
                    for picture in packet.decode() if packet.size or packet.pts is None else ():
                        if picture.is_corrupt:
                            yield UNUSUAL
                            return
                        frames += 1
                        if frames % CHECK_GROUP == 0:
                            yield frames
        except ScrfdError:
            yield UNUSUAL
        else:
            yield frames

    def _check_again(self) -> None:
        """Raise the error of a reader that decodes on the CPU."""
        self._checked = None
        with self._reopen() as reader:
            deque(reader, 0)

    def _begin_on_gpu(self, device: str, extra_streams: Collection[str]) -> bool:
        """Begin with NVDEC; return False, and log why, if that is not possible."""
        self.device = device
        try:
            self._begin(extra_streams, _nvdec.accelerator(device))
        except (ScrfdError, RuntimeError) as error:
            reason = error.reason if isinstance(error, ScrfdError) else "NVDEC does not support its codec"
            logger.info("%s is decoded on the CPU, and not with NVDEC: %s", self.name, reason)
            self.device = "cpu"
            return False
        return True

    def _begin(self, extra_streams: Collection[str], accelerator: Any = None) -> None:
        with _nvdec.context(self.device), _pyav.reading(lambda: "cannot be read as a video", self.name):
            self.container = self._open(hwaccel=accelerator)
        try:
            self._read_first(extra_streams)
        except BaseException:
            self.container.close()
            raise

    def _read_first(self, extra_streams: Collection[str]) -> None:
        self._stream, *others = _video_streams(self.container, self.name)
        self.unread_streams = len(others)
        context = self._stream.codec_context
        if context is None:  # PyAV 17 crashes when it decodes
            raise VideoError("FFmpeg has no decoder for its codec", subject=self.name)
        # NVDEC has threads of its own; those of FFmpeg would only take more of its surfaces.
        _use_threads(self._stream, "SLICE" if self._live or self._is_on_gpu else "AUTO")
        self._wants_extra = bool(extra_streams)
        self.extra_streams: tuple[Any, ...] = tuple(s for s in self.container.streams if s.type in extra_streams)
        self._truncation = TruncationCheck(self.container, self._stream)
        self._completeness = FrameCheck(self.container, self._stream)
        self._repeats: deque[int] = deque()  # times at which the frame before is shown again
        self._last_picture: Any = None
        self.start = ZERO  # seconds
        self._discontinuities = DiscontinuityCorrector()
        self._damaged = self._failed = self._count = 0
        self._last_pts: int | None = None
        self._pending: list[Any] = []
        self._items = self._decode()
        for item in self._items:
            self._pending.append(item)
            if isinstance(item, Frame):
                break
        else:
            raise VideoError("it contains no frame that can be decoded", subject=self.name)
        self.info = self._describe(self._pending[-1].picture)

    @property
    def _is_on_gpu(self) -> bool:
        return self.device != "cpu"

    def _describe(self, first: Any) -> VideoInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        duration = self._truncation.seconds
        frames = stream.frames or (None if duration is None else round(duration * rate))
        aspect, codec = stream.sample_aspect_ratio, stream.codec_context.name
        return VideoInfo(
            name=self.name,
            size=(first.width, first.height),
            rate=Fraction(rate),
            time_base=Fraction(stream.time_base),
            frames=None if self._live else frames,
            duration=None if self._live else duration,
            pixel_format=_nvdec.planar_name(first, codec) if _nvdec.is_on_gpu(first) else first.format.name,
            bit_depth=_colors.bit_depth(first),
            color_tags=(first.colorspace, _colors.tagged_range(first), first.color_trc, first.color_primaries),
            pixel_aspect=1 / aspect if aspect and self._orientation.transpose else aspect,
            codec=codec,
            live=self._live,
            interlaced=first.interlaced_frame and not self._orientation,
            hdr=HdrMetadata.from_side_data(self._side_data),
            dynamic_hdr=_colors.dynamic_hdr(self._side_data),
            spherical=Spherical.from_side_data(self._side_data),
            has_captions="A53_CC" in self._side_data,
        )

    def items(self) -> Iterator[Any]:
        """Yield frames in presentation order to the end, and packets (``av.Packet``) of the extra streams as read.

        Raises
        ------
        VideoError
            If a frame is damaged (unless ``damaged="keep"``), or the video ends early; the message names the frame.
        ClosedError
            After ``close()``, and after the end or an error: open the video again.
        """
        if not self._pending:
            check_unread(self._items)
        while self._pending:
            yield self._pending.pop(0)
        for item in self._items:  # noqa: UP028 - yield from would end them for good where a caller stops early
            yield item

    def _decode(self) -> Iterator[Any]:
        # Files are read with all streams: each shows where the file ends, and where its clock goes back.
        packets = self.container.demux([self._stream, *self.extra_streams] if self._live else [])
        extra = {stream.index for stream in self.extra_streams}
        while True:
            if self._closed:
                raise ClosedError("the video was closed; open it again")
            try:
                with _pyav.reading(self._position, self.name):
                    packet = next(packets, None)
            except IndexError:  # PyAV fails at the end if streams appeared while it read; those known are complete
                if self._wants_extra:
                    logger.warning("%s: a stream that begins later than the others is not read", self.name)
                break
            if packet is None:
                break
            in_order = self._live or self._discontinuities.correct(packet)
            self._truncation.add(packet)
            if packet.stream is self._stream:
                if not self._live:
                    self._completeness.add(packet, self._discontinuities.pieces)
                yield from self._frames(packet)
            elif packet.stream.index in extra and in_order and (packet.dts is not None or packet.pts is not None):
                yield packet
        yield from self._repeated(None)
        self._checked = next(reversed([self._checked, *self._checks]))
        if self._checked not in (None, self._completeness.frames):
            self._check_again()
        if not self._live:
            self._completeness.finish()
            self._check_missing()
            if not self._keep_damaged:
                self._truncation.check(self.name, self._count)

    @property
    def lost(self) -> int:
        """Number of frames that were damaged or could not be decoded."""
        return self._damaged + max(self._failed, self._completeness.missing)

    def _frames(self, packet: Any) -> Iterator[Frame]:
        if not packet.size and packet.pts is not None:  # the same frame again
            self._repeats.append(packet.pts)
            return
        try:
            with _pyav.reading(self._position, self.name):
                pictures = _pyav.decode(packet)
        except VideoError as error:
            if not self._count and self._completeness.starts_late:
                return
            if not self._keep_damaged or isinstance(error.__cause__, MemoryError):
                raise
            self._failed += 1
            return
        for picture in pictures:
            if self._is_on_gpu and not self._count:
                _nvdec.check_first(picture)
            if picture.is_corrupt:
                if not self._keep_damaged:
                    raise VideoError(
                        f"{self._position()}: the frame is damaged; damaged='keep' keeps it",
                        subject=self.name,
                        fields=["damaged"],
                    )
                self._damaged += 1
            if self._count % CHECK_GROUP == 0:
                self._checked = next(self._checks, self._checked)
                if self._checked == UNUSUAL:
                    self._check_again()
            if not self._live:
                self._completeness.show(picture)
                self._check_missing()
            yield from self._repeated(picture.pts)
            yield self._frame(picture)

    def _repeated(self, until: int | None) -> Iterator[Frame]:
        """Yield the last frame again for each packet without data before a time."""
        while self._repeats and (until is None or self._repeats[0] < until):
            pts = self._repeats.popleft()
            if self._last_picture is not None:
                picture = self._last_picture
                picture.pts = pts
                yield self._frame(picture, is_upright=True)

    def _check_missing(self) -> None:
        missing = self._completeness.first_missing
        if self._completeness.missing and not self._keep_damaged:
            when = "" if missing is None else f" at {self._time(missing)}"
            raise VideoError(
                f"{self._position()}: the frame{when} is damaged and cannot be decoded; copy the video again, or read "
                "it with damaged='keep'",
                subject=self.name,
                fields=["damaged"],
            )

    def _frame(self, picture: Any, *, is_upright: bool = False) -> Frame:
        self._correct_pts(picture)
        if not is_upright:
            data = _colors.side_data(picture)
            self._orientation = Orientation.from_side_data(data)
            if not self._count:
                self._side_data = data
            if self._orientation:
                picture = _colors.turn_upright(picture, self._orientation)
        if self._count and (picture.width, picture.height) != self.info.size:
            raise VideoError(
                f"{self._position()}: the frame size changes from {self.info.size[0]}×{self.info.size[1]} to "
                f"{picture.width}×{picture.height}; split the video there",
                subject=self.name,
            )
        if not self._count:
            self.start = _start(self.container, picture.pts * picture.time_base)
        self._count += 1
        if self._stream.codec_context.name in REPEATING:
            self._last_picture = _colors.copy(picture)  # the caller may draw into the frame
        return Frame(self._count - 1, picture, self.start)

    def _correct_pts(self, picture: Any) -> None:
        """Make the times of frames strictly increase, as encoders require; compute missing ones from the rate."""
        if picture.pts is None or picture.time_base is None:
            picture.time_base = self._stream.time_base
            step = 1 / ((self._stream.average_rate or DEFAULT_RATE) * picture.time_base)
            picture.pts = round(self._count * step) if self._last_pts is None else self._last_pts + max(1, round(step))
        if self._last_pts is not None:
            if self._live and (self._last_pts - picture.pts) * picture.time_base > MAX_STEP_BACK:
                raise VideoError(f"{self._position()}: the clock of the source went back", subject=self.name)
            picture.pts = max(picture.pts, self._last_pts + 1)
        self._last_pts = picture.pts

    def _position(self) -> str:
        if self._last_pts is None:
            return f"frame {self._count}"
        return f"frame {self._count}, after {self._time(self._last_pts)}"

    def _time(self, pts: int) -> str:
        return format_time(float(pts * self._stream.time_base - self.start))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self.container.close()
            self._checking.close()


def check_unread(items: Any) -> None:
    """Raise ClosedError if a generator has ended: a second loop over a reader would see no frame."""
    if items.gi_frame is None:
        raise ClosedError("the video has been read to its end; open it again to read it again")


def _start(container: Any, first: Fraction) -> Fraction:
    """Return the time at which players start, in seconds: transport streams start late, and sound before pictures."""
    start = first if container.start_time is None else Fraction(max(container.start_time, 0), 1_000_000)
    return first if start > first - START_TOLERANCE else start


def _video_streams(container: Any, name: str) -> list[Any]:
    """Return the video streams, without cover pictures."""
    cover = _pyav.load().stream.Disposition.attached_pic
    found = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not found:
        types = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"it contains no video, only {types}", subject=name)
    return found


def _use_threads(stream: Any, kind: str = "AUTO") -> None:
    stream.thread_type = kind
    if stream.codec_context.width * stream.codec_context.height > LARGE_PIXELS:
        stream.thread_count = min((os.cpu_count() or 1) + 1, LARGE_THREADS)
