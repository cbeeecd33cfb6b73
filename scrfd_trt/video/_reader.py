"""Read videos frame by frame, with their own timestamps and upright."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import ClosedError, OptionError, VideoError
from scrfd_trt.video import _colors, _pyav
from scrfd_trt.video._colors import NO_LIGHT, Light, Turn
from scrfd_trt.video._timestamps import Splices, TruncationCheck, format_time

if TYPE_CHECKING:
    from typing_extensions import Self

RATE = Fraction(25)
"""Frames a second where a source does not say."""
BACK = 1
"""Seconds that a live source's clock may go back; after more, the source has begun anew."""

Damaged = Literal["stop", "keep"]


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video.

    Attributes
    ----------
    name
        Path or address.
    size
        Width and height in pixels, upright.
    rate
        Average frames a second.
    time_base
        Seconds a tick of the timestamps.
    frames
        How many the file claims, or what rate and duration make; None where neither is known.
    duration
        In seconds; None where unknown.
    pixel_format, bit_depth
        FFmpeg's name, and bits a component.
    color_tags
        Matrix, range, transfer and primaries: numbers of ITU-T H.273, and 1 for the limited range, 2 for the full one.
    pixel_aspect
        Width to height of a pixel, upright; None where unknown.
    codec
        FFmpeg's name of it.
    live
        Whether it is a camera or a stream without an end.
    interlaced
        Whether its frames are of two fields.
    hdr
        What HDR10 says of it.
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
    hdr: Light = NO_LIGHT


class Frame:
    """One frame of a video, upright.

    Attributes
    ----------
    number
        From 0.
    pts_seconds
        Seconds, as the file has it.
    picture
        The ``av.VideoFrame``, in the video's own pixel format.
    """

    __slots__ = ("_image", "number", "picture", "pts_seconds")

    def __init__(self, number: int, picture: Any) -> None:
        self.number = number
        self.picture = picture
        self.pts_seconds = float(picture.pts * picture.time_base)
        self._image: NDArray[np.uint8] | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 BGR; made when first asked for, and not to be written to."""
        if self._image is None:
            self._image = _colors.to_bgr(self.picture)
            self._image.flags.writeable = False
        return self._image


class VideoReader:
    """Reads a video.

    Where a file's clock goes back, as where transport streams were put end to end, frames and packets are given times
    that go on. That a file ends early is told by what it claims of itself; transport streams claim nothing.

    Parameters
    ----------
    source
        A file of any container that FFmpeg reads, an image sequence such as ``frames/%05d.png``, or an address.
    damaged
        ``stop`` raises at the first frame that is damaged or lost. ``keep`` takes what the decoder makes of it, and
        leaves out what it cannot decode; ``lost`` counts both.
    container_format
        FFmpeg's name of the container or device, where it cannot be told from the source.
    options
        For FFmpeg's reading of the container.
    extra_streams
        Kinds of other streams whose packets are wanted too: ``audio``, ``subtitle``. Of several streams of pictures,
        such as the front and the rear of a dashcam, the first is read, and ``unread_streams`` tells of the others.
    live
        A source without an end: nothing is expected of its length, and few frames are held back.
    timeout
        Seconds to wait for the source to open, and for each packet; None waits for ever.
    name
        What messages call it; None takes the source, without its password.

    Raises
    ------
    VideoError
        If it cannot be opened, or has no frame.
    MissingDependencyError
        If PyAV is not installed.

    Attributes
    ----------
    info : VideoInfo
        What is known of it.
    extra_streams : tuple
        The ``av`` streams whose packets come along.
    container : av.container.InputContainer
        The open file.
    unread_streams : int
        Streams of moving pictures beside the one that is read.
    lost : int
        Frames that were damaged, or could not be decoded.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        damaged: Damaged = "stop",
        container_format: str | None = None,
        options: Mapping[str, str] | None = None,
        extra_streams: Collection[str] = (),
        live: bool = False,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        if damaged not in ("stop", "keep"):
            raise OptionError(
                f"damaged={damaged!r}: the choices are: stop, keep",
                fields=["damaged"],
                value=damaged,
                choices=["stop", "keep"],
            )
        self.name = name or redact_password(os.fspath(source))
        self.lost = 0
        self._keep = damaged == "keep"
        self._live = live
        self._closed = False
        with _pyav.reading(lambda: "cannot be read as a video", self.name):
            self.container: Any = _pyav.load().open(
                os.fspath(source),
                "r",
                format=container_format,
                options=dict(options or {}),
                timeout=timeout,
                metadata_errors="replace",
            )
        try:
            self._begin(extra_streams)
        except BaseException:
            self.close()
            raise

    def _begin(self, extra_streams: Collection[str]) -> None:
        self._stream, *more = _pictures(self.container, self.name)
        self.unread_streams = len(more)
        self._stream.thread_type = "SLICE" if self._live else "AUTO"
        self.extra_streams: tuple[Any, ...] = tuple(s for s in self.container.streams if s.type in extra_streams)
        self._ending = TruncationCheck(self.container, self._stream)
        self._splices = Splices()
        self._count = 0
        self._last: int | None = None
        self._turn = Turn()
        self._pending: list[Any] = []
        self._items = self._decoded()
        for item in self._items:
            self._pending.append(item)
            if isinstance(item, Frame):
                break
        else:
            raise VideoError("there is no frame in it that can be decoded", subject=self.name)
        self.info = self._describe(self._pending[-1].picture)

    def _describe(self, first: Any) -> VideoInfo:
        stream, size = self._stream, (first.width, first.height)
        rate = stream.average_rate or stream.guessed_rate or RATE
        duration = self._ending.seconds
        frames = stream.frames or (None if duration is None else round(duration * rate))
        aspect = stream.sample_aspect_ratio
        return VideoInfo(
            name=self.name,
            size=size,
            rate=Fraction(rate),
            time_base=Fraction(stream.time_base),
            frames=None if self._live else frames,
            duration=None if self._live else duration,
            pixel_format=first.format.name,
            bit_depth=max(part.bits for part in first.format.components),
            color_tags=(first.colorspace, _colors.tagged_range(first), first.color_trc, first.color_primaries),
            pixel_aspect=1 / aspect if aspect and self._turn.transpose else aspect,
            codec=stream.codec_context.name,
            live=self._live,
            interlaced=first.interlaced_frame and not self._turn,
            hdr=self._light,
        )

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self.items() if isinstance(item, Frame))

    def items(self) -> Iterator[Any]:
        """Read on to the end.

        Yields
        ------
        Frame or av.Packet
            Frames in the order they are shown, and packets of the other streams, as they come.

        Raises
        ------
        VideoError
            If a frame is damaged (unless that is to be kept) or the video ends before its end; the message says where.
        ClosedError
            After ``close()``.
        """
        while self._pending:
            yield self._pending.pop(0)
        for item in self._items:  # noqa: UP028 - yield from would end them for good where a caller stops early
            yield item

    def _decoded(self) -> Iterator[Any]:
        # All streams of a file are read: also those that nobody wants tell where it ends, and where its clock jumps.
        packets = self.container.demux([self._stream, *self.extra_streams] if self._live else [])
        wanted = {stream.index for stream in self.extra_streams}
        while True:
            if self._closed:
                raise ClosedError("the video was closed; open it anew")
            with _pyav.reading(self._where, self.name):
                packet = next(packets, None)
            if packet is None:
                break
            follows = self._live or self._splices.place(packet)
            self._ending.saw(packet)
            if packet.stream is self._stream:
                yield from self._frames(packet)
            elif packet.stream.index in wanted and follows and (packet.dts is not None or packet.pts is not None):
                yield packet
        if not self._keep and not self._live:
            self._ending.check(self.name, self._count)

    def _frames(self, packet: Any) -> Iterator[Frame]:
        try:
            with _pyav.reading(self._where, self.name):
                pictures = packet.decode()
        except VideoError:
            if not self._keep:
                raise
            self.lost += 1
            return
        for picture in pictures:
            if picture.is_corrupt:
                if not self._keep:
                    raise VideoError(
                        f"{self._where()}: the frame is damaged; damaged='keep' takes it as it is",
                        subject=self.name,
                        fields=["damaged"],
                    )
                self.lost += 1
            yield self._upright(picture)

    def _upright(self, picture: Any) -> Frame:
        if picture.pts is None or picture.time_base is None:
            picture.time_base = self._stream.time_base
            step = 1 / ((self._stream.average_rate or RATE) * picture.time_base)
            picture.pts = round(self._count * step) if self._last is None else self._last + max(1, round(step))
        if self._live and self._last is not None and (self._last - picture.pts) * picture.time_base > BACK:
            raise VideoError(f"{self._where()}: the source's clock went back", subject=self.name)
        if self._last is not None and picture.pts <= self._last:
            picture.pts = self._last + 1  # two frames at one time: encoders want them apart
        self._last = picture.pts
        self._turn = Turn.of(picture)
        if not self._count:
            self._light = Light.of(picture)
        if self._turn:
            picture = _colors.turned(picture, self._turn)
        frame = Frame(self._count, picture)
        if self._count and (picture.width, picture.height) != self.info.size:
            raise VideoError(
                f"{self._where()}: the pictures change from {self.info.size[0]}×{self.info.size[1]} to "
                f"{picture.width}×{picture.height}; cut the video there first",
                subject=self.name,
            )
        self._count += 1
        return frame

    def _where(self) -> str:
        at = "" if self._last is None else f", after {format_time(float(self._last * self._stream.time_base))}"
        return f"frame {self._count}{at}"

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pictures(container: Any, name: str) -> list[Any]:
    """Find the streams of moving pictures; a cover picture is none."""
    cover = _pyav.load().stream.Disposition.attached_pic
    found = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not found:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"there is no video in it, only {kinds}", subject=name)
    return found


def is_file(name: str) -> bool:
    """Tell whether a source is a file, and no address, device or pattern."""
    return Path(name).is_file()


def redact_password(source: str) -> str:
    """Return a path or address as messages may show it: without the password before the host."""
    return re.sub(r"^([a-z][\w+.-]*://[^/@:]*):[^/]*@", r"\1:***@", source, flags=re.IGNORECASE)
