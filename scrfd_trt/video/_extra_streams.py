"""Audio and subtitles of an output: copied where players of its container play them, else encoded in another codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from scrfd_trt.errors import OptionError, VideoError
from scrfd_trt.video import _pyav
from scrfd_trt.video._completeness import STARTS_ANYWHERE
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._timestamps import format_time

PCM = {
    f"pcm_{name}"
    for name in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "u8", "alaw", "mulaw")
}
AUDIO = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"},
    ".mov": {"aac", "mp3", "mp2", "ac3", "eac3", "alac", *PCM},
    ".mkv": {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "dts", "truehd"}
    | PCM - {"pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_alaw", "pcm_mulaw"},
    ".webm": {"opus", "vorbis"},
    ".ts": {"aac", "aac_latm", "mp3", "mp2", "ac3", "eac3", "dts", "opus"},
    ".avi": {"mp3", "mp2", "ac3", "pcm_s16le", "pcm_s24le", "pcm_u8"},
}
"""Codecs that players play in a container, by FFmpeg's names. FFmpeg itself writes more of them, which few read."""
AUDIO_ENCODERS = {".webm": "libopus", ".avi": "pcm_s16le"}
"""Encoders for other codecs; AAC where none is named. AVI stores no timestamps for the delay of other encoders."""
NO_TIMES = (".mov", ".avi")  # containers that store no times of PCM: its gaps have to be filled
LOSSLESS = (".mov", ".mkv", ".avi")  # containers in which PCM of a kind that they cannot hold stays PCM

TEXT = ("subrip", "ass", "mov_text", "webvtt", "text")
SUBTITLES = {
    ".mp4": {"mov_text"},
    ".mov": {"mov_text"},
    ".mkv": {"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"},
    ".webm": {"webvtt"},
    ".ts": {"dvb_subtitle", "dvb_teletext"},
    ".avi": set[str](),
}
SUBTITLE_ENCODERS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "srt", ".webm": "webvtt"}
ENCODED_AS = {"libopus": "opus", "srt": "subrip"}  # codecs whose encoders have another name

ASS_SECTIONS = ("[script info]", "[v4 styles]", "[v4+ styles]", "[events]")
ASS_INFO = (
    *("scripttype", "playresx", "playresy", "layoutresx", "layoutresy", "wrapstyle", "scaledborderandshadow"),
    *("ycbcr matrix", "collisions", "timer", "kerning"),
)
"""What is kept of the head of ASS subtitles; the rest names authors and files, or embeds files."""

BIT_RATE = 96_000  # per channel
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Layouts of streams that declare only a number of channels."""
ENCODED_LAYOUTS = {"aac": ("3.0", "4.0", "5.0", "5.1", "7.1"), "libopus": ("quad", "5.1", "7.1")}
"""Layouts of more than two channels that players of a codec know. FFmpeg mixes up the channels of others in Opus."""
ZERO = Fraction(0)
MAX_STEP = Fraction(1, 25)  # seconds by which the times of decoded sound may be off before a gap is filled
MAX_GAP, MAX_OVERLAP = 3600, 1  # seconds; longer ones are damage
CHUNK = 1 << 16  # samples of silence that are made at once

Action = Literal["copy", "encode", "drop"]


class Plan(NamedTuple):
    """What becomes of a stream of the source: the codec that it has, and the encoder that writes it, if any."""

    source: Any
    action: Action
    codec: str
    encoder: str = ""

    @property
    def target(self) -> str:
        """The codec in the output."""
        return ENCODED_AS.get(self.encoder, self.encoder) or self.codec

    def __str__(self) -> str:
        """Name the stream, and the codec that it gets."""
        name = f"{'subtitles' if self.source.type == 'subtitle' else self.source.type} {self.codec}"
        return f"{name} as {self.target}" if self.action == "encode" else name


def kinds(options: EncodeOptions) -> tuple[str, ...]:
    """Return FFmpeg's names of the types of streams to read for an output."""
    return (*(("audio",) if options.audio != "drop" else ()), *(("subtitle",) if options.subtitles else ()))


def plan(streams: Iterable[Any], suffix: str, options: EncodeOptions, name: str) -> list[Plan]:
    """Decide what becomes of a source's audio and subtitles; OptionError for audio that cannot be copied."""
    suffix = {".m4v": ".mp4"}.get(suffix.lower(), suffix.lower())
    return [
        _plan_audio(one, suffix, options, name) if one.type == "audio" else _plan_subtitles(one, suffix, options)
        for one in streams
        if one.type in ("audio", "subtitle")
    ]


def _plan_audio(stream: Any, suffix: str, options: EncodeOptions, name: str) -> Plan:
    codec, context = _codec_name(stream), stream.codec_context
    if options.audio == "drop":
        return Plan(stream, "drop", codec)
    if context is None or not context.sample_rate or not context.layout.nb_channels:
        # FFmpeg cannot decode it, or found no sound where it looked: the microphone was off.
        return Plan(stream, "drop", f"{codec} without known format")
    if codec in AUDIO[suffix] and codec in PCM and suffix in NO_TIMES:
        return Plan(stream, "encode", codec, codec)  # without loss
    if codec in AUDIO[suffix] and not (suffix == ".avi" and _starts_late(stream)):
        return Plan(stream, "copy", codec)
    if options.audio == "copy":
        other = next((other for other in (".mkv", ".mov", ".mp4", ".ts") if codec in AUDIO[other]), None)
        raise OptionError(
            f"{name}: most players do not play {codec} audio in {suffix} files, so it cannot be copied; "
            f"use audio='auto', which encodes it again{f', or name a {other} file' if other else ''}",
            fields=["audio"],
            value="copy",
        )
    encoder = AUDIO_ENCODERS.get(suffix, "aac")
    if suffix in LOSSLESS and codec.startswith("pcm_"):
        encoder = "pcm_s24le" if context.format.bytes > 2 else "pcm_s16le"
    channels = context.layout.nb_channels
    if channels not in LAYOUTS and not encoder.startswith("pcm_"):
        raise OptionError(
            f"{name}: audio with {channels} channels cannot be encoded as {ENCODED_AS.get(encoder, encoder)}; "
            "name a .mov file, or use audio='drop'",
            fields=["audio"],
        )
    return Plan(stream, "encode", codec, encoder)


def _starts_late(stream: Any) -> bool:
    """Return whether the stream does not start with the first frame: AVI would move it there."""
    if stream.start_time is None:
        return False
    return bool(abs(stream.start_time * stream.time_base - first_frame(stream.container)) > MAX_STEP)


def first_frame(container: Any) -> Fraction:
    """Return the time at which the video of a file starts, in seconds."""
    video = next((one for one in container.streams.video if one.start_time is not None), None)
    return Fraction(0) if video is None else Fraction(video.start_time * video.time_base)


def _plan_subtitles(stream: Any, suffix: str, options: EncodeOptions) -> Plan:
    codec = _codec_name(stream)
    if options.subtitles and codec in SUBTITLES[suffix]:
        return Plan(stream, "copy", codec)
    encoder = SUBTITLE_ENCODERS.get(suffix)
    if options.subtitles and codec in TEXT and encoder is not None:
        return Plan(stream, "encode", codec, encoder)
    return Plan(stream, "drop", codec)


def _codec_name(stream: Any) -> str:
    codec = stream.codec_context
    name = "unknown" if codec is None else str(codec.codec.canonical_name)
    return {"srt": "subrip", "ssa": "ass"}.get(name, name)


class CopiedStream:
    """Passes the packets of a stream on."""

    def __init__(self, source: Any, container: Any) -> None:
        self.stream = container.add_stream_from_template(source)
        context, clean = self.stream.codec_context, CLEAN_HEADS.get(_codec_name(source))
        if clean is not None and context.extradata:
            context.extradata = clean(context.extradata)

    def convert(self, packet: Any) -> Sequence[Any]:
        """Return the packets to write for a packet of the source."""
        packet.stream = self.stream
        return (packet,)

    def finish(self) -> Iterable[Any]:
        """Return the packets that are left at the end."""
        return ()


def _without_names(head: bytes) -> bytes:
    """Return the head of ASS subtitles with what players need."""
    kept, section = [], ""
    for line in head.decode("utf-8", "replace").splitlines():
        text = line.strip()
        is_title = text.startswith("[")
        section = text.lower() if is_title else section
        name = text.partition(":")[0].rstrip().lower()
        if section in ASS_SECTIONS and (is_title or section != "[script info]" or name in ASS_INFO):
            kept.append(line)
    return "".join(f"{line}\r\n" for line in kept).encode()


def _without_comments(head: bytes) -> bytes:
    """Return the head of Vorbis, three packets with their sizes before them, with an empty packet of comments."""
    sizes, at = [0, 0], 1
    for number in range(2):
        while head[at : at + 1] == b"\xff":
            sizes[number], at = sizes[number] + 255, at + 1
        sizes[number], at = sizes[number] + sum(head[at : at + 1]), at + 1
    first, setup = head[at : at + sizes[0]], head[at + sum(sizes) :]
    comments = b"\3vorbis" + bytes(8) + b"\1"
    if head[:1] != b"\2" or len(first) > 254 or head[at + sizes[0] :][:7] != comments[:7]:
        return head
    return bytes([2, len(first), len(comments)]) + first + comments + setup


CLEAN_HEADS = {"ass": _without_names, "vorbis": _without_comments}
"""Remove what the head of a codec says about the recording."""


class EncodedAudio:
    """Decodes audio and encodes it in another codec, at the same times: gaps become silence."""

    def __init__(
        self,
        plan: Plan,
        container: Any,
        *,
        start: Fraction | None,
        keep_damaged: bool,
        name: str,
        origin: Fraction = ZERO,
    ) -> None:
        source = plan.source.codec_context
        av = _pyav.load()
        codec = av.Codec(plan.encoder, "w")
        self.stream = container.add_stream(plan.encoder, rate=_nearest_rate(codec, source.sample_rate))
        context = self.stream.codec_context
        context.layout = _target_layout(plan.encoder, source.layout)
        formats = [one.name for one in codec.audio_formats or ()]
        context.format = "flt" if "flt" in formats else formats[0]  # libopus takes 16 bits as well
        if not plan.encoder.startswith("pcm_"):
            context.bit_rate = BIT_RATE * context.layout.nb_channels
        self._rate: int = context.sample_rate
        context.time_base = self.stream.time_base = Fraction(1, self._rate)
        context.open()
        self._keep_damaged, self._name, self._origin = keep_damaged, name, origin
        self._next = None if start is None else round(start * self._rate)
        self._source: Any = None
        self._resampler: Any = None
        self._input: tuple[str, int, int] | None = None

    def convert(self, packet: Any) -> Iterator[Any]:
        """Yield the packets to write for a packet of the source."""
        self._source = packet.stream
        at = format_time(float((packet.dts if packet.pts is None else packet.pts) * packet.time_base - self._origin))
        try:
            with _pyav.reading(str, self._name):
                frames = packet.decode()
        except VideoError as error:
            is_cut = self._input is None and packet.stream.container.format.name in STARTS_ANYWHERE
            if self._keep_damaged or is_cut:
                return
            raise VideoError(
                f"the audio at {at} is damaged and cannot be decoded; damaged='keep' replaces it by silence",
                subject=self._name,
                fields=["damaged"],
            ) from error
        yield from self._encode(frames)

    def finish(self) -> Iterator[Any]:
        """Yield the packets that are left at the end."""
        if self._source is not None:
            yield from self._encode(self._source.codec_context.decode(None))
            yield from self._encode_resampled(None)
            yield from self.stream.encode(None)

    def _encode(self, frames: Iterable[Any]) -> Iterator[Any]:
        for frame in frames:
            kind = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
            if kind != self._input:  # as at a change of programme in a transport stream
                yield from self._encode_resampled(None)
                self._input = kind
                # Packed samples: PyAV does not read the planes of eight channels.
                context = self.stream.codec_context
                self._resampler = _pyav.load().AudioResampler(context.format.packed, context.layout, self._rate)
            yield from self._encode_resampled(_with_layout(frame))

    def _encode_resampled(self, frame: Any) -> Iterator[Any]:
        for resampled in self._resampler.resample(frame) if self._resampler is not None else ():
            for timed in self._timed(resampled):
                yield from self.stream.encode(timed)

    def _timed(self, frame: Any) -> Iterator[Any]:
        """Yield frames without gaps: silence before the frame, or the frame without what overlaps with the last."""
        at = None if frame.pts is None else round(frame.pts * frame.time_base * self._rate)
        if self._next is None:
            self._next = at or 0
        ahead = 0 if at is None else at - self._next
        if not -MAX_OVERLAP * self._rate <= ahead <= MAX_GAP * self._rate:
            self._report_jump(ahead)
            ahead = 0
        if abs(ahead) <= MAX_STEP * self._rate:
            yield self._placed(frame)
            return
        while ahead > 0:
            samples = min(ahead, CHUNK)
            yield self._placed(_silence(frame, samples))
            ahead -= samples
        if -ahead < frame.samples:
            yield self._placed(_without_start(frame, -ahead) if ahead else frame)

    def _report_jump(self, ahead: int) -> None:
        if not self._keep_damaged:
            assert self._next is not None  # noqa: S101 - for mypy
            at, to = (
                format_time(ticks / self._rate - float(self._origin)) for ticks in (self._next, self._next + ahead)
            )
            raise VideoError(
                f"the clock of the audio is damaged: it jumps from {at} to {to}; damaged='keep' ignores this",
                subject=self._name,
                fields=["damaged"],
            )

    def _placed(self, frame: Any) -> Any:
        assert self._next is not None  # noqa: S101 - for mypy
        frame.pts, frame.time_base, frame.sample_rate = self._next, Fraction(1, self._rate), self._rate
        self._next += frame.samples
        return frame


def _target_layout(encoder: str, source: Any) -> Any:
    """Return the layout to encode: the source's, or one with more channels, of which some are silent."""
    channels = source.nb_channels
    name = LAYOUTS.get(channels, source) if source.name.endswith(" channels") else source.name
    if encoder.startswith("pcm_"):
        return name
    if channels <= 2:
        return LAYOUTS[channels]
    name = name.removesuffix("(side)")
    return name if name in ENCODED_LAYOUTS[encoder] else "5.1" if channels <= 6 else "7.1"


def _nearest_rate(codec: Any, rate: int) -> int:
    """Return the lowest rate that an encoder takes and that loses nothing; its highest one if there is none."""
    rates = sorted(codec.audio_rates or (rate,))
    return int(next((one for one in rates if one >= rate), rates[-1]))


def _from_array(array: Any, frame: Any, layout: Any) -> Any:
    made = _pyav.load().AudioFrame.from_ndarray(array, frame.format.name, layout)
    made.pts, made.sample_rate = frame.pts, frame.sample_rate
    if frame.time_base is not None:
        made.time_base = frame.time_base
    return made


def _with_layout(frame: Any) -> Any:
    """Return a frame whose channels have places: those of MXF and AVI declare only their number."""
    layout = LAYOUTS.get(frame.layout.nb_channels)
    if layout is None or not frame.layout.name.endswith(" channels"):
        return frame
    return _from_array(frame.to_ndarray(), frame, layout)


def _silence(frame: Any, samples: int) -> Any:
    empty = np.zeros((1, samples * frame.layout.nb_channels), frame.to_ndarray().dtype)
    return _from_array(empty + (128 if frame.format.name == "u8" else 0), frame, frame.layout.name)


def _without_start(frame: Any, samples: int) -> Any:
    rest = frame.to_ndarray()[:, samples * frame.layout.nb_channels :]
    return _from_array(np.ascontiguousarray(rest), frame, frame.layout.name)


class EncodedSubtitles:
    """Converts subtitles from one text format to another."""

    def __init__(self, plan: Plan, container: Any, name: str, origin: Fraction = ZERO) -> None:
        self._name, self._origin = name, origin
        self._decoder = plan.source.codec_context
        self.stream = container.add_stream(plan.encoder)
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, 1000)
        self._decoder.open(strict=False)
        self.stream.codec_context.subtitle_header = self._decoder.subtitle_header
        self.stream.codec_context.open()

    def convert(self, packet: Any) -> Iterator[Any]:
        """Yield the packets to write for a packet of the source."""
        if packet.pts is None:
            return
        at = format_time(float(packet.pts * packet.time_base - self._origin))
        with _pyav.reading(lambda: f"the subtitle at {at} cannot be decoded", self._name):
            found = self._decoder.decode2(packet)
        if found is None or not len(found):
            return
        out = self.stream.codec_context.encode_subtitle(found)
        out.pts = out.dts = round(packet.pts * packet.time_base * 1000)
        out.duration = round((packet.duration or 0) * packet.time_base * 1000)
        out.time_base = Fraction(1, 1000)
        out.stream = self.stream
        yield out

    def finish(self) -> Iterable[Any]:
        """Return the packets that are left at the end."""
        return ()
