"""Compare a finished video with what was written to it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from scrfd_trt.errors import OutputError
from scrfd_trt.video import _colors, _pyav
from scrfd_trt.video._colors import LIMITED
from scrfd_trt.video._spherical import Spherical

MAX_DRIFT = 0.2  # seconds by which the times of other streams may differ: containers split and join their packets
MAX_FRAME_DRIFT = 0.01  # seconds, of frames: containers round times to milliseconds
MAX_STRETCH = 0.01  # by which the pixel aspect ratio may differ: Matroska stores whole pixels
COLOR_TAGS = ("colorspace", "color_range", "color_trc", "color_primaries")
NO_COLOR_TAGS = ("mpeg4",)  # codecs that do not store all of them
UNSPECIFIED = 2  # in ITU-T H.273; FFmpeg's ranges have 0


@dataclass
class StreamRecord:
    """What was written to a stream, or read from it: times in seconds, and the number of packets with data."""

    kind: str
    codec: str
    language: str = "und"
    start: float | None = None
    end: float = 0.0
    packets: int = 0

    def add(self, packet: Any) -> None:
        """Note a packet."""
        if not packet.size:
            return
        self.packets += 1
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is not None:
            start = float(ticks * packet.time_base)
            # Containers make up the duration of the last frame.
            duration = 0.0 if self.kind == "video" else float((packet.duration or 0) * packet.time_base)
            self.start = start if self.start is None else min(self.start, start)
            self.end = max(self.end, start + duration)


def verify(
    path: Path,
    name: str,
    expected: list[StreamRecord],
    size: tuple[int, int],
    context: Any,
    *,
    pixel_aspect: Fraction | None,
    chapters: bool,
    spherical: Spherical | None,
) -> tuple[dict[str, str], list[str]]:
    """Read a finished video, and raise OutputError if it differs; return metadata, and what is not stored."""
    with (
        _pyav.writing(lambda: f"cannot write {name}: the finished file cannot be read"),
        _pyav.open_input(path) as container,
    ):
        streams = [one for one in container.streams if not (chapters and one.type == "data")]
        found = {one.index: StreamRecord(one.type, _codec(one), one.metadata.get("language", "und")) for one in streams}
        for packet in container.demux(streams):
            found[packet.stream.index].add(packet)
        pairs = [one for one in expected if one.packets], [one for one in found.values() if one.packets]
        difference = _difference(*pairs) or _picture_difference(streams[0].codec_context, size, context)
        metadata, aspect = dict(container.metadata), streams[0].sample_aspect_ratio or Fraction(1)
        if spherical is not None and not difference:
            container.seek(0)
            if Spherical.from_side_data(_colors.side_data(next(container.decode(video=0)))) != spherical:
                difference = "has not the 360° projection of the source"
    if difference:
        raise OutputError(f"cannot write {name}: the finished file {difference}; name a .mkv file")
    lost = [
        f"language of {one.kind} ({one.language})"
        for one, read in zip(*pairs, strict=True)
        if one.language not in ("und", read.language)
    ]
    if pixel_aspect and abs(pixel_aspect / aspect - 1) > MAX_STRETCH:
        lost.append(f"pixel aspect ratio ({pixel_aspect.numerator}:{pixel_aspect.denominator})")
    return metadata, lost


def _codec(stream: Any) -> str:
    return "unknown" if stream.codec_context is None else str(stream.codec_context.codec.canonical_name)


def _difference(expected: list[StreamRecord], found: list[StreamRecord]) -> str:
    """Return how streams with packets differ, which are the only ones of some containers; nothing if they do not."""
    kinds = [[(one.kind, one.codec) for one in streams] for streams in (expected, found)]
    if kinds[0] != kinds[1]:
        written, read = (", ".join(f"{kind} {codec}" for kind, codec in side) for side in kinds)
        return f"has the streams {read or 'none'}, not {written}"
    video, read_video = expected[0], found[0]
    if read_video.packets != video.packets:
        return f"has {read_video.packets} frames, not {video.packets}"
    for number, (wanted, one) in enumerate(zip(expected, found, strict=True)):
        if wanted.kind == "subtitle" or wanted.start is None or one.start is None:
            continue
        slack = MAX_DRIFT if number else MAX_FRAME_DRIFT
        times = [
            (stream.start - (first.start or 0.0), stream.end - (first.start or 0.0))
            for stream, first in ((wanted, video), (one, read_video))
            if stream.start is not None
        ]
        if any(abs(a - b) > slack for a, b in zip(*times, strict=True)):
            written, read = (f"from {start:.2f} to {end:.2f} s" for start, end in times)
            return f"has {wanted.kind} {read} in stream {number}, not {written}"
    return ""


def _picture_difference(found: Any, size: tuple[int, int], context: Any) -> str:
    if (found.width, found.height) != size:
        return f"has frames of {found.width}×{found.height} pixels, not {size[0]}×{size[1]}"
    if found.codec.canonical_name in NO_COLOR_TAGS:
        return ""
    for tag in COLOR_TAGS:
        wanted, read = int(getattr(context, tag)), int(getattr(found, tag))
        default = (0, LIMITED) if tag == "color_range" else (UNSPECIFIED,)  # which encoders do not store
        if read != wanted and wanted not in default:
            return f"has {tag} {read}, not {wanted}"
    return ""
