"""360° and stereoscopic videos: how their frames are laid out, which PyAV reads but has no way to write."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from scrfd_trt.video import _pyav

EQUIRECTANGULAR, CUBEMAP, EQUIRECTANGULAR_TILE = range(3)  # FFmpeg's ``libavutil/spherical.h``
STEREO_MODES = {1: 2, 2: 1}  # FFmpeg's side by side and top and bottom, as in ``st3d``
SAMPLE_ENTRIES = {"h264": b"avc1", "hevc": b"hvc1", "av1": b"av01", "vp9": b"vp09", "mpeg4": b"mp4v"}
CONTAINERS = ("mp4", "mov", "matroska", "webm")


@dataclass(frozen=True)
class Spherical:
    """The projection of a 360° video and the layout of a stereoscopic one, in FFmpeg's numbers."""

    projection: int | None  # None for a flat stereoscopic video
    pose: tuple[int, int, int] = (0, 0, 0)  # yaw, pitch and roll in degrees times 65536
    bounds: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, top, right and bottom of a tile, as shares times 2³²
    padding: int = 0  # pixels around each face of a cube map
    stereo: int = 0  # as in ``st3d``: 0 for one picture, 1 for top and bottom, 2 for left and right

    @classmethod
    def from_side_data(cls, data: Mapping[str, bytes]) -> Spherical | None:
        """Read the side data of a frame; None for an ordinary video."""
        mode = STEREO_MODES.get(struct.unpack_from("=i", data["STEREO3D"])[0], 0) if "STEREO3D" in data else 0
        if "SPHERICAL" not in data:
            return cls(None, stereo=mode) if mode else None
        projection, yaw, pitch, roll, *bounds, padding = struct.unpack_from("=4i5I", data["SPHERICAL"])
        return cls(projection, (yaw, pitch, roll), tuple(bounds), padding, mode)

    @property
    def is_writable(self) -> bool:
        """Whether there are boxes for the projection."""
        return self.projection in (None, EQUIRECTANGULAR, CUBEMAP, EQUIRECTANGULAR_TILE)

    def boxes(self) -> bytes:
        """Return the boxes ``st3d`` and ``sv3d`` of Spherical Video V2."""
        found = _full_box(b"st3d", bytes([self.stereo])) if self.stereo else b""
        if self.projection is None:
            return found
        left, top, right, bottom = self.bounds
        if self.projection == CUBEMAP:
            layout = _full_box(b"cbmp", struct.pack(">2I", 0, self.padding))
        else:
            layout = _full_box(b"equi", struct.pack(">4I", top, bottom, left, right))
        pose = _full_box(b"prhd", struct.pack(">3i", *self.pose))
        return found + _box(b"sv3d", _full_box(b"svhd", b"scrfd_trt\0") + _box(b"proj", pose + layout))


def set_side_data(stream: Any, spherical: Spherical) -> None:
    """Give an output stream, before it is configured, side data that PyAV copies from a file of one empty frame."""
    av = _pyav.load()
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        frame = container.add_mux_stream("mjpeg", width=16, height=16)
        frame.time_base = Fraction(1, 25)
        packet = av.Packet(b"\0")
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream = frame.time_base, frame
        container.mux(packet)
    entry = SAMPLE_ENTRIES[stream.codec_context.codec.canonical_name]
    data = insert_boxes(file.getvalue().replace(b"jpeg", entry, 1), spherical.boxes())
    with av.open(io.BytesIO(data), format="mov") as container:
        av.bitstream.BitStreamFilterContext("null", container.streams.video[0], stream)


def finish_file(path: Path, container_format: str, spherical: Spherical) -> None:
    """Change the index of a finished MP4 (hide ``vexu``, which has no pose) or QuickTime file (add the boxes)."""
    if container_format not in ("mp4", "mov"):
        return
    with path.open("r+b") as file:
        at = 0
        while True:
            file.seek(at)
            head = file.read(16)
            size, kind = struct.unpack_from(">I4s", head)
            if kind == b"moov":
                break
            at += struct.unpack_from(">Q", head, 8)[0] if size == 1 else size
        file.seek(at)
        index = file.read(size)
        file.seek(at)
        if container_format == "mov":
            file.write(insert_boxes(index, spherical.boxes()))
        else:
            start = index.index(b"stsd") - 4
            end = start + struct.unpack_from(">I", index, start)[0]
            file.write(index[:start] + index[start:end].replace(b"vexu", b"free", 1))


def insert_boxes(data: bytes, boxes: bytes) -> bytes:
    """Insert boxes at the end of the first sample entry of the first track (ISO/IEC 14496-12)."""
    changed, at = bytearray(data), 0
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", None):
        while name is not None and bytes(changed[at + 4 : at + 8]) != name:
            at += struct.unpack_from(">I", changed, at)[0]
        (size,) = struct.unpack_from(">I", changed, at)
        struct.pack_into(">I", changed, at, size + len(boxes))
        end, at = at + size, at + (16 if name == b"stsd" else 8)
    return bytes(changed[:end] + boxes + changed[end:])


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def _full_box(kind: bytes, data: bytes) -> bytes:
    return _box(kind, bytes(4) + data)
