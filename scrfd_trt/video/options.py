"""How a video is written."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from scrfd_trt.errors import OptionError
from scrfd_trt.options import OptionsModel
from scrfd_trt.video import pyav
from scrfd_trt.video.pixels import LAYOUTS

Codec = Literal["auto", "h264", "hevc", "av1", "vp9", "h264_nvenc", "hevc_nvenc", "av1_nvenc"]
CODECS: tuple[Codec, ...] = get_args(Codec)
ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
DEFAULT_CRF = {"libx264": 18, "libx265": 20, "libsvtav1": 28, "libvpx-vp9": 28}
NVENC_CRF = 20
SQUARE_ONLY = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "av1_nvenc")
"""Encoders that take 4:2:0 for even sides only; the others round up."""


class EncodeOptions(OptionsModel):
    """How a video is written.

    Attributes
    ----------
    codec
        ``auto`` is H.264, and VP9 for .webm; those that end in ``_nvenc`` run on an NVIDIA GPU.
    crf
        Quality, 0 to 63 and best at 0, as the encoder counts it; None for a good one.
    preset
        The encoder's own: ``ultrafast`` to ``veryslow`` of x264 and x265, ``p1`` to ``p7`` of NVENC, ``0`` to ``13`` of
        SVT-AV1.
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
            codec = "vp9" if suffix.lower() == ".webm" else "h264"
        return ENCODERS.get(codec, codec)

    def settings(self, encoder: str) -> dict[str, str]:
        """Return the encoder's own options."""
        chosen: dict[str, str] = {}
        if encoder.endswith("_nvenc"):
            chosen = {"rc": "vbr", "cq": str(NVENC_CRF if self.crf is None else self.crf), "b": "0"}
        else:
            chosen["crf"] = str(DEFAULT_CRF[encoder] if self.crf is None else self.crf)
        if encoder == "libvpx-vp9":
            chosen |= {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": self.preset or "4"}
        elif self.preset:
            chosen["preset"] = self.preset
        if encoder == "libx265":
            chosen["x265-params"] = "log-level=error"
        return chosen

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
        odd = (size[0] % 2, size[1] % 2) if encoder in SQUARE_ONLY else (0, 0)
        chroma = "444p" if odd[0] else "422p" if odd[1] else "420p"
        deep = ["p010le"] if encoder in {"hevc_nvenc", "av1_nvenc"} and not any(odd) else [f"yuv{chroma}10le"]
        wanted = (*(deep if depth > 8 else ()), f"yuv{full}{chroma}", f"yuv{chroma}", "yuv444p")
        found = next((name for name in wanted if name in taken), None)
        if found is None:
            raise OptionError(f"{encoder} writes none of: {', '.join(wanted)}; take another codec")
        return str(found)


def formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats that an encoder takes.

    Raises
    ------
    OptionError
        If this FFmpeg has no such encoder.
    """
    av = pyav.load()
    try:
        codec = av.Codec(encoder, "w")
    except av.error.FFmpegError as error:
        raise OptionError(f"this FFmpeg has no encoder {encoder!r}; take --codec h264 or another one") from error
    return tuple(str(one.name) for one in codec.video_formats or ())
