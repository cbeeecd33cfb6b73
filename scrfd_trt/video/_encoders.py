"""Encoders and their options."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal, get_args

from pydantic import Field, field_validator

from scrfd_trt._options import OptionsModel, whole_number
from scrfd_trt.errors import OptionError
from scrfd_trt.video import _pyav
from scrfd_trt.video._colors import LAYOUTS, NO_HDR, HdrMetadata
from scrfd_trt.video._reader import VideoInfo

Codec = Literal["auto", "h264", "hevc", "av1", "vp9", "mpeg4", "h264_nvenc", "hevc_nvenc", "av1_nvenc"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Audio = Literal["auto", "copy", "drop"]
AUDIO: tuple[Audio, ...] = get_args(Audio)
ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
SUFFIX_CODECS = {".webm": "vp9", ".avi": "mpeg4"}  # containers that cannot hold H.264, or no timestamps for it
DEFAULT_CRF = {"libx264": 18, "libx265": 20, "libsvtav1": 28, "libvpx-vp9": 28, "mpeg4": 3}
DEFAULT_PRESET = {"libx265": "veryfast"}  # takes about as long as the default of x264, for files of the same size
NVENC_CRF = 20
X264_PRESET = re.compile(r"(ultra|super|very)?fast|faster|medium|(very)?slow|slower|placebo|\d")
MPEG4_TIME_BASE = Fraction(1, 60_000)  # finer ones are not stored by MPEG-4
CAPTIONS = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc")  # encoders that write closed captions into frames
HDR_PARAMETERS = {"libx264": ("mastering-display", "cll"), "libx265": ("master-display", "max-cll")}
LARGE_PIXELS, LOOKAHEAD_PIXELS, MIN_LOOKAHEAD = 3_000_000, 50_000_000, 6
"""Frames above which the lookahead is shortened, to how many pixels in all and frames at least."""
_SLOW = {"slow": 50, "slower": 60, "veryslow": 60, "placebo": 60}
LOOKAHEAD = {
    "libx264": {"veryfast": 10, "faster": 20, "fast": 30, "medium": 40, **_SLOW},
    "libx265": {"superfast": 10, "veryfast": 15, "faster": 15, "fast": 15, "medium": 20, "slow": 25, "slower": 40,
                "veryslow": 40, "placebo": 60},
}  # fmt: skip
"""Frames that presets look ahead."""
NEEDS_EVEN_SIDES = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
"""Encoders that take 4:2:0 with even sides only; the others round up."""


class EncodeOptions(OptionsModel):
    """Encoder options.

    Attributes
    ----------
    codec
        ``auto`` is H.264, HEVC for more than 8 bits per component, VP9 for .webm, and MPEG-4 Part 2 for .avi. Names
        that end in ``_nvenc`` use an NVIDIA GPU.
    crf
        Quality from 0 (best) to 63, on the encoder's scale (MPEG-4: quantizer 1 to 31); None for the default.
    preset
        Above 3 megapixels, x264 and x265 look ahead fewer frames than their presets, to use less memory.
        ``ultrafast`` to ``veryslow`` for x264 and x265, ``p1`` to ``p7`` for NVENC, ``0`` to ``13`` for SVT-AV1.
    quality
        Of animated WebP and AVIF images, 1 to 100; the other options are for videos.
    pixel_format
        FFmpeg's name. None keeps the source's bit depth if possible, and takes 4:2:0 for browsers if sides are even.
    audio
        ``auto`` copies audio that players play in this container, and encodes other audio: as Opus for .webm, PCM for
        .avi, and AAC otherwise. ``copy`` raises an error instead. ``drop`` writes a video without audio.
    subtitles
        Whether subtitles are copied, or converted to a text format of the container. Others are left out. Closed
        captions of broadcasts stay in frames of H.264 and HEVC.
    """

    codec: Codec = "auto"
    crf: int | None = Field(None, ge=0, le=63)
    preset: str | None = Field(None, pattern=r"^[\w-]+$")
    quality: int = Field(95, ge=1, le=100)
    pixel_format: str | None = None
    audio: Audio = "auto"
    subtitles: bool = True

    @field_validator("crf", "quality", mode="before")
    @classmethod
    def _check_whole(cls, value: object) -> object:
        return whole_number(value)


def encoder_name(options: EncodeOptions, suffix: str, info: VideoInfo) -> str:
    """Return FFmpeg's name of the encoder for a file suffix; raise ``OptionError`` for a wrong preset."""
    codec: str = options.codec
    if codec == "auto":
        # H.264 keeps frames of two fields.
        is_hevc = info.bit_depth > 8 and not info.interlaced and has_encoder("libx265")
        codec = SUFFIX_CODECS.get(suffix.lower()) or ("hevc" if is_hevc else "h264")
    encoder, preset = ENCODERS.get(codec, codec), options.preset
    if encoder in HDR_PARAMETERS and preset and not X264_PRESET.fullmatch(preset):
        presets = "ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow"
        raise OptionError(f"{encoder} has no preset {preset!r}; the choices are: {presets}", fields=["preset"])
    if encoder == "mpeg4" and preset is not None:
        raise OptionError(f"mpeg4 has no presets, and preset is {preset!r}; leave it out", fields=["preset"])
    return encoder


def encoder_settings(
    options: EncodeOptions, encoder: str, hdr: HdrMetadata = NO_HDR, size: tuple[int, int] = (0, 0)
) -> dict[str, str]:
    """Return the options of an encoder, by FFmpeg's names; x264 and x265 also write HDR10 metadata."""
    crf = options.crf if options.crf is not None else DEFAULT_CRF.get(encoder, NVENC_CRF)
    settings = {"crf": str(crf)}
    if encoder.endswith("_nvenc"):
        settings = {"rc": "vbr", "cq": str(max(1, crf)), "b": "0"}  # 0 is the encoder's own choice
        settings["s12m_tc"] = "0"  # time codes may be times of day
    elif encoder == "mpeg4":
        quantizer = str(min(max(1, crf), 31))
        settings = {"qmin": quantizer, "qmax": quantizer}
    elif encoder == "libsvtav1":
        settings = {"svtav1-params": f"crf={crf}"}  # FFmpeg's own option takes 0 for unset
    elif encoder in HDR_PARAMETERS:
        settings |= _parameters(encoder, hdr, _lookahead(options, encoder, size))
    if encoder in CAPTIONS:
        settings["a53cc"] = str(int(options.subtitles))
    if encoder == "libvpx-vp9":
        settings |= {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": options.preset or "4"}
    elif encoder != "mpeg4" and (preset := options.preset or DEFAULT_PRESET.get(encoder)):
        settings["preset"] = preset
    return settings


def describe(options: EncodeOptions, encoder: str) -> str:
    """Return the options for messages: ``libx264, preset slow``."""
    gpu = " (requires an NVIDIA GPU; otherwise use h264)" if encoder.endswith("_nvenc") else ""
    preset = f", preset {options.preset}" if options.preset else ""
    return encoder + gpu + preset + ("" if options.crf is None else f", crf {options.crf}")


def choose_pixel_format(options: EncodeOptions, encoder: str, info: VideoInfo) -> str:
    """Return the pixel format to encode a video in; raise ``OptionError`` if the encoder does not support it."""
    supported = _pixel_formats(encoder)
    if options.pixel_format is not None:
        choices = [name for name in supported if name in LAYOUTS]
        if options.pixel_format not in choices:
            raise OptionError(
                f"{encoder} does not support {options.pixel_format!r}; the choices are: {', '.join(choices)}"
            )
        return options.pixel_format
    full = "j" if info.pixel_format.startswith("yuvj") else ""
    odd = (info.size[0] % 2, info.size[1] % 2) if encoder in NEEDS_EVEN_SIDES else (0, 0)
    chroma = "444p" if odd[0] else "422p" if odd[1] else "420p"
    ten_bits = "p010le" if encoder in {"hevc_nvenc", "av1_nvenc"} and not any(odd) else f"yuv{chroma}10le"
    wanted = (*((ten_bits,) if info.bit_depth > 8 else ()), f"yuv{full}{chroma}", f"yuv{chroma}", "yuv444p")
    found = next((name for name in wanted if name in supported), None)
    if found is None:
        raise OptionError(
            f"{encoder} supports none of: {', '.join(wanted)}; use another codec", fields=["codec"], value=encoder
        )
    return str(found)


def _lookahead(options: EncodeOptions, encoder: str, size: tuple[int, int]) -> int | None:
    """Return a shorter lookahead for large frames, of which x264 and x265 would hold more than a gigabyte."""
    own = LOOKAHEAD[encoder].get(options.preset or DEFAULT_PRESET.get(encoder, "medium"), 0)
    pixels = size[0] * size[1]
    wanted = max(MIN_LOOKAHEAD, LOOKAHEAD_PIXELS // max(1, pixels))
    return wanted if pixels > LARGE_PIXELS and wanted < own else None


def _parameters(encoder: str, hdr: HdrMetadata, lookahead: int | None) -> dict[str, str]:
    found = ["log-level=error"] if encoder == "libx265" else []
    found += [] if lookahead is None else [f"rc-lookahead={lookahead}"]
    found += [f"{name}={value}" for name, value in zip(HDR_PARAMETERS[encoder], hdr, strict=True) if value]
    return {encoder.removeprefix("lib") + "-params": ":".join(found)} if found else {}


def has_encoder(name: str) -> bool:
    """Return whether this FFmpeg has an encoder, by a name that no decoder has."""
    return name in _pyav.load().codecs_available


def _pixel_formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats that an encoder supports."""
    av = _pyav.load()
    try:
        codec = av.Codec(encoder, "w")
    except av.error.FFmpegError as error:
        raise OptionError(
            f"this FFmpeg has no encoder {encoder!r}; use codec='h264' or another one", fields=["codec"], value=encoder
        ) from error
    return tuple(str(one.name) for one in codec.video_formats or ())
