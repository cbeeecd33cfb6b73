"""Compare what was read of a file with what the file promises, at its start, at its end and in between."""

from __future__ import annotations

import heapq
import os
import re
from typing import Any

from scrfd_trt.errors import VideoError
from scrfd_trt.video._timestamps import format_time

ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # ASF specification, 3.2
END_OF_SEQUENCE = (b"\1\x48\1", b"\1\x4a\1", b"\2\x48\1", b"\2\x4a\1")
"""Last bytes of an HEVC packet after which decoding starts again: NAL units of types 36 and 37."""
STARTS_ANYWHERE = ("mpegts", "mpeg")  # formats of broadcasts, whose recordings start within a frame
MAX_OGG_PAGE = 27 + 255 + 255 * 255  # bytes
BROADCAST = 1  # flag of ASF files whose sizes are not valid


class TruncationCheck:
    """Compares the declared duration (None: unknown, as of transport streams) with the packets that were read."""

    SLACK_SECONDS, SLACK_FRAMES = 0.5, 1.5  # tolerance of the container's duration, and of the video stream's own

    def __init__(self, container: Any, stream: Any) -> None:
        self._stream = stream
        # Programs count the duration of Matroska files from 0, or from the first packet: the shorter one is meant.
        is_matroska = container.format.name == "matroska,webm"
        self._start: float = 0.0 if is_matroska else (container.start_time or 0) / 1e6
        self._duration: float | None = None if container.duration is None else container.duration / 1e6
        self._tagged_end = _tagged_end(stream)
        own = None if stream.duration is None else float(stream.duration * stream.time_base)
        if own is None and self._tagged_end is not None:
            own = self._tagged_end - float((stream.start_time or 0) * stream.time_base)
        self.seconds: float | None = own if own is not None else self._duration
        self._format = container.format.name
        self._name = container.name.removeprefix("file:")
        self._packets = 0
        self._end = self._video_end = 0.0

    def add(self, packet: Any) -> None:
        """Note a packet of any stream."""
        end = 0.0
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        self._end = max(self._end, end)
        if packet.stream is self._stream and packet.size:
            self._packets += 1
            self._video_end = max(self._video_end, end)

    def check(self, name: str, frames: int) -> None:
        """Raise ``VideoError`` if the video ended early."""
        declared = self._stream.frames
        if _is_cut_off(self._name, self._format):
            message = f"the file is cut off or damaged at its end, after frame {frames - 1}"
        elif (expected := self._expected_end(declared)) is not None:
            rest = f" of {declared}" if declared else ""
            ends = f"at {format_time(self._video_end)} of {format_time(expected)}"
            message = f"the video ends early, after frame {frames - 1}{rest}, {ends}"
        else:
            return
        message += "; copy it again, or read it with damaged='keep'"
        raise VideoError(message, subject=name, fields=["damaged"])

    def _expected_end(self, declared: int) -> float | None:
        """Return when the video should have ended; None if it did."""
        slack = self.SLACK_FRAMES / float(self._stream.average_rate or 25)
        if self._end <= 0 or self._format == "asf":  # whose duration counts what precedes the first packet, too
            return None
        if self._tagged_end is not None and self._tagged_end - self._video_end > slack:
            return self._tagged_end
        if self._duration is None:
            return None
        if self._start + self._duration - self._end > self.SLACK_SECONDS:
            return self._start + self._duration
        own = min(self._duration, self.seconds if self.seconds is not None else self._duration)
        short = own - (self._video_end - self._start)
        return self._start + own if self._packets < declared and short > slack else None


def _tagged_end(stream: Any) -> float | None:
    """Return the end of the last frame in seconds, which FFmpeg stores as a tag in Matroska; None without a tag."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)\0*", stream.metadata.get("DURATION", ""))
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _is_cut_off(path: str, container_format: str) -> bool:
    """Return whether the start or the end of a file of Windows Media or Ogg says that it is not whole."""
    if container_format not in ("asf", "ogg"):
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the name may be any text
            head, size = file.read(1 << 16), file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_OGG_PAGE))
            return _is_short_asf(head, size) if container_format == "asf" else _has_bad_page(file.read())
    except (OSError, ValueError):  # not a file
        return False


def _is_short_asf(head: bytes, size: int) -> bool:
    """Return whether a file of Windows Media is shorter than it declares."""
    at = head.find(ASF_PROPERTIES)
    if at < 0 or int.from_bytes(head[at + 88 : at + 92], "little") & BROADCAST:
        return False
    return size < int.from_bytes(head[at + 40 : at + 48], "little")


def _has_bad_page(data: bytes) -> bool:
    """Return whether one of the last pages of an Ogg file is incomplete, or its checksum is wrong (RFC 3533)."""
    at = data.find(b"OggS")
    while at >= 0:
        page = data[at : at + 27 + data[at + 26]] if at + 26 < len(data) else b""
        end = at + len(page) + sum(page[27:])
        if not page or end > len(data) or _ogg_checksum(data[at:end]) != int.from_bytes(page[22:26], "little"):
            return True
        at = data.find(b"OggS", end)
    return False


def _ogg_checksum(page: bytes) -> int:
    checksum = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (0x104C11DB7 if checksum & 0x80000000 else 0)
    return checksum


class FrameCheck:
    """Finds the packets of the video stream that gave no frame, although a player shows one for each of them.

    Without one are: packets that an edit list hides; frames that only later frames refer to; the second field of a
    frame; the pictures before the first key frame, and those that refer to pictures before it. Codecs that are not in
    ``CODECS`` are not checked.
    """

    CODECS = (
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "theora"),
        *("mjpeg", "prores", "dnxhd", "ffv1", "dvvideo"),
    )
    LATEST = 32  # frames by which a decoder may output a frame late
    HEAD, MAX_UNITS = 8192, 32
    """Bytes and NAL units in which a picture has to begin; packets may consist of parameters and messages only."""
    MAX_DELIMITERS = 32  # bytes of a packet without picture, parameters and messages
    MAX_UNCODED = 19  # bytes of an MPEG-4 picture that is not coded: the one before it is shown again

    def __init__(self, container: Any, stream: Any) -> None:
        self.missing = 0
        self.first_missing: int | None = None  # its time, in ticks of the stream
        self.starts_late = False  # whether there are packets that cannot be decoded before the first key frame
        codec = stream.codec_context
        self._codec = codec.codec.canonical_name if codec is not None else ""
        self._is_checked = self._codec in self.CODECS
        self._starts_anywhere = container.format.name in (*STARTS_ANYWHERE, self._codec, "m4v", "mpegvideo")
        self._nal_size = _nal_length_size(self._codec, codec.extradata) if codec is not None else 0
        self._waiting: dict[int, int] = {}  # places in the order of decoding, by time
        self._heap: list[int] = []
        self._shown: list[int] = []
        self._order = self._packets = self.frames = self._matched = 0
        self._piece = 1
        self._start: int | None = None  # time of the key frame at which decoding starts
        self._last_theora: int | None = None

    def add(self, packet: Any, piece: int) -> None:
        """Note a packet of the video stream before it is decoded; a file may be put together of several pieces."""
        if not self._is_checked or packet.is_discard:
            return
        if piece != self._piece:
            self._piece, self._start = piece, None
        if self._codec == "theora":
            self._add_theora(packet)
        if not packet.size:
            return
        data = memoryview(packet)
        if self._start is None and not self._is_start(packet, data):
            self.starts_late = True
            return
        pts = packet.pts if packet.pts is not None else -1
        self._start = pts if self._start is None else self._start
        self._order += 1
        if pts < self._start or not self._is_shown(data):
            return
        self._packets += 1
        if packet.pts is not None and pts not in self._waiting:
            self._waiting[pts] = self._order
            heapq.heappush(self._heap, pts)
        if self._codec == "hevc" and bytes(data[-3:]) in END_OF_SEQUENCE:
            self._start = None

    def show(self, picture: Any) -> None:
        """Note a decoded frame, with its time as decoded."""
        self.frames += 1
        if picture.pts is None:
            return
        place = self._waiting.pop(picture.pts, None)
        self._matched += place is not None
        if place is not None and picture.interlaced_frame and self._codec == "h264":
            self._drop_second_field(picture.pts, place)
        heapq.heappush(self._shown, picture.pts)
        if len(self._shown) > self.LATEST:
            self._count_before(heapq.heappop(self._shown))

    def finish(self) -> None:
        """Note the end of the stream."""
        if self._heap:
            self._count_before(max(self._heap) + 1)
        if not self._has_times():
            self.missing = max(0, self._packets - self.frames - 1)

    def _has_times(self) -> bool:
        """Return whether frames have the times of their packets; those of AVI and of streams alone have none."""
        return 2 * self._matched > self.frames

    def _count_before(self, pts: int) -> None:
        while self._heap and self._heap[0] < pts:
            late = heapq.heappop(self._heap)
            if self._waiting.pop(late, None) is not None and self._has_times():
                self._count(late)

    def _count(self, pts: int, frames: int = 1) -> None:
        self.missing += frames
        self.first_missing = pts if self.first_missing is None else self.first_missing

    def _drop_second_field(self, pts: int, place: int) -> None:
        later = [other for other, at in self._waiting.items() if at == place + 1 and other > pts]
        for other in later:
            del self._waiting[other]

    def _add_theora(self, packet: Any) -> None:
        """Theora has a packet for each frame, and a constant rate; a damaged page of its container is left out."""
        if packet.pts is None:
            return
        step = packet.duration or 1
        if self._last_theora is None:
            if not packet.is_keyframe:
                self._count(packet.pts)
        elif packet.pts - self._last_theora > step:
            self._count(self._last_theora + step, (packet.pts - self._last_theora) // step - 1)
        self._last_theora = packet.pts

    def _is_start(self, packet: Any, data: memoryview) -> bool:
        """Return whether decoding starts with a packet; recordings of broadcasts start anywhere."""
        if not self._starts_anywhere:
            return bool(packet.is_keyframe)
        kinds = set(self._nal_kinds(data)) if self._codec in ("h264", "hevc") else set()
        if self._codec == "h264":
            return 5 in kinds or (7 in kinds and not kinds & {1, 2, 3, 4})
        if self._codec == "hevc":
            return bool(kinds & {*range(16, 22), 32, 33, 34})
        return bool(packet.is_keyframe)

    def _is_shown(self, data: memoryview) -> bool:
        """Return whether a packet has a picture that is shown, as far as that is easy to see."""
        if self._codec == "vp8":
            return bool(data[0] & 16)
        if self._codec == "vp9":
            is_superframe = data[-1] & 0xE0 == 0xC0
            return bool(is_superframe or data[0] & 0b1010 or data[0] >> 4 & 3 == 3)
        if self._codec == "mpeg4":
            return len(data) > self.MAX_UNCODED
        if self._codec in ("mpeg1video", "mpeg2video"):
            return b"\0\0\1\0" in bytes(data[: self.HEAD])
        if self._codec in ("h264", "hevc"):
            kinds, delimiters, others = set(self._nal_kinds(data)), {9, 10, 11}, set(range(6, 16))
            if self._codec == "hevc":
                delimiters, others = {35, 36, 37}, set(range(32, 41))
            # Damage may hide the start of a picture; delimiters are short.
            return not kinds <= others or (kinds <= delimiters and len(data) > self.MAX_DELIMITERS)
        return True

    def _nal_kinds(self, data: memoryview) -> list[int]:
        """Return the types of the NAL units of a packet, to its first slice."""
        shift, mask, slices = (0, 31, range(1, 6)) if self._codec == "h264" else (1, 63, range(32))
        head = b"" if self._nal_size else bytes(data[: self.HEAD])
        kinds: list[int] = []
        at = 0
        while len(kinds) < self.MAX_UNITS and not (kinds and kinds[-1] in slices):
            if self._nal_size:
                start = at + self._nal_size
                at = start + int.from_bytes(data[at:start], "big")
            else:
                start = at = head.find(b"\0\0\1", at) + 3
            if start >= len(data) or (not self._nal_size and start < 3):
                break
            kinds.append(data[start] >> shift & mask)
        return kinds


def _nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Return the size of the lengths before NAL units; 0 if start codes separate them (ISO/IEC 14496-15)."""
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or not extradata or extradata[0] != 1 or len(extradata) <= at:
        return 0
    return int(extradata[at] & 3) + 1
