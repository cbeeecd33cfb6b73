"""How a video is written."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from scrfd_trt._options import OptionsModel
from scrfd_trt.errors import OptionError
from scrfd_trt.video import _pyav
from scrfd_trt.video._colors import LAYOUTS, NO_LIGHT, Light

Codec = Literal["auto", "h264", "hevc", "av1", "vp9", "mpeg4", "h264_nvenc", "hevc_nvenc", "av1_nvenc"]
CODECS: tuple[Codec, ...] = get_args(Codec)
ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
FOR_SUFFIX = {".webm": "vp9", ".avi": "mpeg4"}
"""What files are coded as that hold no H.264, or no times for it."""
DEFAULT_CRF = {"libx264": 18, "libx265": 20, "libsvtav1": 28, "libvpx-vp9": 28, "mpeg4": 3}
NVENC_CRF = 20
LIGHT_NAMES = {"libx264": ("mastering-display", "cll"), "libx265": ("master-display", "max-cll")}
NEEDS_EVEN_SIDES = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
"""Encoders that take 4:2:0 for even sides only; the others round up."""


class EncodeOptions(OptionsModel):
    """How a video is written.

    Attributes
    ----------
    codec
        ``auto`` is H.264, VP9 for .webm, and MPEG-4 Part 2 for .avi; those that end in ``_nvenc`` run on an NVIDIA GPU.
    crf
        Quality, 0 to 63 and best at 0, as the encoder counts it (MPEG-4's quantizer from 1 to 31); None for a good one.
    preset
        The encoder's own, where it has some: ``ultrafast`` to ``veryslow`` of x264 and x265, ``p1`` to ``p7`` of NVENC,
        ``0`` to ``13`` of SVT-AV1.
    pixel_format
        FFmpeg's name; None keeps the bits of the source where the encoder can, and takes 4:2:0 where the size is even,
        which browsers want.
    """

    codec: Codec = Field("auto", description="What the pictures are coded as.")
    crf: int | None = Field(None, ge=0, le=63, description="Quality, lower is better.")
    preset: str | None = Field(None, pattern=r"^[\w-]+$", description="The encoder's preset.")
    pixel_format: str | None = Field(None, description="FFmpeg's name of the pixel format.")

    def encoder(self, suffix: str) -> str:
        """Return FFmpeg's name of the encoder for a file with this suffix."""
        codec: str = self.codec
        if codec == "auto":
            codec = FOR_SUFFIX.get(suffix.lower(), "h264")
        return ENCODERS.get(codec, codec)

    def settings(self, encoder: str, light: Light = NO_LIGHT) -> dict[str, str]:
        """Return the encoder's own options.

        Parameters
        ----------
        encoder
            FFmpeg's name.
        light
            What HDR10 says of the video; x264 and x265 write it.
        """
        chosen: dict[str, str] = {}
        if encoder.endswith("_nvenc"):
            chosen = {"rc": "vbr", "cq": str(NVENC_CRF if self.crf is None else self.crf), "b": "0"}
        elif encoder == "mpeg4":
            quantizer = min(max(1, DEFAULT_CRF[encoder] if self.crf is None else self.crf), 31)
            chosen = {"qmin": str(quantizer), "qmax": str(quantizer)}
        else:
            chosen["crf"] = str(DEFAULT_CRF[encoder] if self.crf is None else self.crf)
        if encoder in LIGHT_NAMES:
            chosen |= _parameters(encoder, light)
        if encoder == "libvpx-vp9":
            chosen |= {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": self.preset or "4"}
        elif self.preset and encoder != "mpeg4":
            chosen["preset"] = self.preset
        return chosen

    def describe(self, encoder: str) -> str:
        """Return what was asked for in a few words, for messages: ``libx264, preset slow``."""
        return encoder + (f", preset {self.preset}" if self.preset else "") + (f", crf {self.crf}" if self.crf else "")

    def pixels(self, encoder: str, source: str, depth: int, size: tuple[int, int]) -> str:
        """Choose the pixel format.

        Parameters
        ----------
        encoder
            FFmpeg's name.
        source, depth
            Pixel format and bits of what is to be written.
        size
            Width and height.

        Raises
        ------
        OptionError
            If the encoder cannot write the one that was asked for.
        """
        taken = formats(encoder)
        if self.pixel_format is not None:
            known = [name for name in taken if name in LAYOUTS]
            if self.pixel_format not in known:
                raise OptionError(
                    f"{encoder} does not write {self.pixel_format!r}; the choices are: {', '.join(known)}"
                )
            return self.pixel_format
        full = "j" if source.startswith("yuvj") else ""
        odd = (size[0] % 2, size[1] % 2) if encoder in NEEDS_EVEN_SIDES else (0, 0)
        chroma = "444p" if odd[0] else "422p" if odd[1] else "420p"
        deep = ["p010le"] if encoder in {"hevc_nvenc", "av1_nvenc"} and not any(odd) else [f"yuv{chroma}10le"]
        wanted = (*(deep if depth > 8 else ()), f"yuv{full}{chroma}", f"yuv{chroma}", "yuv444p")
        found = next((name for name in wanted if name in taken), None)
        if found is None:
            raise OptionError(
                f"{encoder} writes none of: {', '.join(wanted)}; take another codec", fields=["codec"], value=encoder
            )
        return str(found)


def _parameters(encoder: str, light: Light) -> dict[str, str]:
    found = ["log-level=error"] if encoder == "libx265" else []
    found += [f"{name}={value}" for name, value in zip(LIGHT_NAMES[encoder], light, strict=True) if value]
    return {encoder.removeprefix("lib") + "-params": ":".join(found)} if found else {}


def formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats that an encoder takes.

    Raises
    ------
    OptionError
        If this FFmpeg has no such encoder.
    """
    av = _pyav.load()
    try:
        codec = av.Codec(encoder, "w")
    except av.error.FFmpegError as error:
        raise OptionError(
            f"this FFmpeg has no encoder {encoder!r}; take codec='h264' or another one", fields=["codec"], value=encoder
        ) from error
    return tuple(str(one.name) for one in codec.video_formats or ())
