"""Clips written with PyAV, the contents of files, and a server for streams."""

from __future__ import annotations

import io
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from scrfd_trt.video import _colors

Image = NDArray[np.uint8]


def picture(number: int, size: tuple[int, int]) -> Image:
    """A frame that shows its number: a ramp, and a bar that moves."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(40, 200, width, dtype=np.uint8)[None]
    image[..., 1] = np.linspace(60, 180, height, dtype=np.uint8)[:, None]
    image[..., 2] = 90
    left = (number * 3) % max(1, width - 8)
    image[:, left : left + 8] = (30, 200, 220)
    return image


class Clip(NamedTuple):
    """Properties of a clip; ``times`` has one value per frame, in ticks of ``time_base``."""

    size: tuple[int, int] = (64, 48)
    frames: int = 30
    rate: Fraction = Fraction(30000, 1001)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = {}  # noqa: RUF012 - never written to
    times: Sequence[int] | None = None
    time_base: Fraction | None = None
    audio: float = 0.0
    audio_codec: str = "aac"
    rotation: int = 0
    colours: tuple[int, int, int, int] = (1, 1, 1, 1)
    metadata: dict[str, str] = {}  # noqa: RUF012
    subtitles: str = ""
    draw: Callable[[int, tuple[int, int]], Image] = picture


def write_clip(path: Path, **how: Any) -> Path:
    """Write a clip with PyAV only."""
    av = pytest.importorskip("av")
    clip = Clip(**how)
    base = clip.time_base or 1 / clip.rate
    times = list(clip.times or range(clip.frames))
    with ExitStack() as stack:
        container = stack.enter_context(av.open(str(path), "w"))
        stream = container.add_stream(clip.codec, rate=clip.rate, options=clip.options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pixel_format
        context = stream.codec_context
        context.time_base = base
        context.colorspace, context.color_range, context.color_trc, context.color_primaries = clip.colours
        container.metadata.update(clip.metadata)
        sound = container.add_stream(clip.audio_codec, rate=48000) if clip.audio else None
        subtitles = (
            stack.enter_context(av.open(io.BytesIO(clip.subtitles.encode()), format="srt")) if clip.subtitles else None
        )
        captions = container.add_stream_from_template(subtitles.streams[0]) if subtitles else None
        for number, ticks in enumerate(times):
            frame = av.VideoFrame.from_ndarray(clip.draw(number, clip.size), "bgr24")
            frame = _colors.reformat(
                frame, format=clip.pixel_format, dst_colorspace=clip.colours[0], dst_color_range=clip.colours[1] or 1
            )
            frame.pts, frame.time_base = ticks, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            container.mux(sine(av, sound, clip.audio))
        for packet in subtitles.demux() if subtitles else ():
            if packet.pts is not None:
                packet.stream = captions
                container.mux(packet)
    if clip.rotation:
        set_rotation(path, clip.rotation)
    return path


def sine(av: Any, stream: Any, seconds: float) -> list[Any]:
    """Encode a tone."""
    packets = []
    for start in range(0, round(seconds * 48000), 1024):
        wave = (np.sin(np.arange(start, start + 1024) * 0.05) * 0.3).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def set_rotation(path: Path, degrees: int) -> None:
    """Turn an MP4 clockwise by its display matrix, in degrees."""
    set_matrix(path, {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees])


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into the first track of an MP4 (ISO/IEC 14496-12)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))


class Stream(NamedTuple):
    """A stream of a file; packets as time and duration in seconds, and data."""

    kind: str
    codec: str
    packets: list[tuple[float, float, bytes]]


class Probed(NamedTuple):
    """The contents of a file."""

    duration: float
    streams: list[Stream]
    times: list[float]
    frames: list[Any]
    metadata: dict[str, str]

    def of(self, kind: str) -> list[Stream]:
        return [stream for stream in self.streams if stream.kind == kind]


def probe(path: Path) -> Probed:
    """Read all packets and frames of a file with PyAV only."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        held: dict[int, list[tuple[float, float, bytes]]] = {stream.index: [] for stream in container.streams}
        for packet in container.demux():
            if packet.pts is not None:
                base = packet.time_base
                held[packet.stream.index].append(
                    (float(packet.pts * base), float((packet.duration or 0) * base), bytes(packet))
                )
        streams = [Stream(s.type, s.codec_context.name, held[s.index]) for s in container.streams]
        metadata = dict(container.metadata)
        duration = container.duration / 1e6
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return Probed(duration, streams, [frame.time for frame in frames], frames, metadata)


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write clips to an empty folder."""

    def write(name: str = "clip.mp4", **how: Any) -> Path:
        return write_clip(tmp_path / name, **how)

    return write


@pytest.fixture
def captioned(clip: Callable[..., Path]) -> Path:
    """H.264 with closed captions (ATSC A/53), and data of an unknown program, before each frame."""
    path = clip("captions.h264", frames=4, options={"x264-params": "bframes=0:aud=1"})
    unit = b"\xb5\x00\x31GA94\x03\x42\xff\xfc\xc8\xc9\xfd\x80\x80\xff"
    messages = b"\0\0\0\1\x06\x04" + bytes([len(unit)]) + unit + b"\x05\x17" + b"\x55" * 16 + b"unknown\x80"
    path.write_bytes(re.sub(rb"(?s)\x00\x00\x00\x01\x09.", lambda found: found[0] + messages, path.read_bytes()))
    return path


@pytest.fixture
def probed() -> Callable[[Path], Probed]:
    return probe


@pytest.fixture
def turn() -> Callable[[Path, tuple[int, int, int, int]], None]:
    return set_matrix


@pytest.fixture
def rotate() -> Callable[[Path, int], None]:
    return set_rotation


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reply(NamedTuple):
    """What the server does with a connection: send data in pieces, then close it, or hold it open."""

    data: bytes = b""
    hold: bool = False
    pause: float = 0.002
    head: bytes = b""


class FakeServer:
    """A server on loopback that gives one reply per connection, and stops after the last one."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.stop = Event()
        self.connections = 0
        self._acts = replies
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._socket:
            for reply in self._acts:
                connection = self._accept()
                if connection is None:
                    return
                with connection, suppress(OSError):
                    self.connections += 1
                    self._send(connection, reply)

    def _accept(self) -> socket.socket | None:
        while not self.stop.is_set():
            with suppress(TimeoutError):
                connection, _ = self._socket.accept()
                connection.settimeout(60)
                return connection
        return None

    def _send(self, connection: socket.socket, reply: Reply) -> None:
        if reply.head:
            connection.recv(4096)
            connection.sendall(reply.head)
        for at in range(0, len(reply.data), 1316):
            if self.stop.wait(reply.pause):
                return
            piece = reply.data[at : at + 1316]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.head == HTTP else piece)
        if reply.head == HTTP:
            connection.sendall(b"0\r\n\r\n")
        if reply.hold:
            connection.settimeout(0.05)
            while not self.stop.is_set():
                with suppress(TimeoutError):
                    if not connection.recv(1):
                        return

    def close(self) -> None:
        self.stop.set()
        self._thread.join(120)


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Start servers that end with the test; a reply is its data, or the fields of Reply."""
    opened: list[FakeServer] = []

    def open_one(*replies: bytes | dict[str, Any]) -> FakeServer:
        opened.append(FakeServer([Reply(**reply) if isinstance(reply, dict) else Reply(reply) for reply in replies]))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def http_head() -> bytes:
    return HTTP
