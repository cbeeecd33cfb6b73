"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from scrfd_trt.errors import OptionError
from scrfd_trt.options import DetectorOptions

Text = TypeVar("Text", bound=str)

THRESHOLD: float = DetectorOptions.model_fields["threshold"].default
IOU: float = DetectorOptions.model_fields["iou"].default

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Image and video files, folders, and globs such as 'photos/*.jpg'.",
        show_default=False,
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders, too.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A name that 'scrfd-trt models' lists, an .onnx file of your own, or an engine of 'scrfd-trt build'.",
    ),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="What to run on: auto, cpu, cuda or cuda:N. Doctor tells what there is.")
]
Threshold = Annotated[
    float, typer.Option("--threshold", "-t", min=0.0, max=1.0, metavar="NUMBER", help="Lowest score of a face.")
]
Iou = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, metavar="NUMBER", help="Two boxes that overlap by more than this are one face."),
]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        metavar="SIZE",
        help="Size of a pass in pixels, a multiple of 32: 640 or 640x384. Several: 128,640, or give it again. "
        "Left out: the network's own size, or 128,640 where that is free.",
        show_default=False,
    ),
]
MaxFaces = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Keep the N best faces of an image.", show_default="all")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Quality = Annotated[
    int, typer.Option(min=1, max=100, metavar="NUMBER", help="Quality of JPEG and WebP files that are written.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only, and no progress bar.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell what was chosen, and why.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]

LeanRuntime = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="libnvinfer_lean.so.N of the release that built a version compatible engine, where TensorRT here is a "
        "newer one. Left out: what TRT_LEAN_RUNTIME names.",
        show_default=False,
    ),
]
AllowHostCode = Annotated[
    bool,
    typer.Option(
        "--allow-host-code",
        help="Let code for the processor that is inside the engine run; only if you trust where it comes from.",
    ),
]

DEFAULT_MODEL = "500m_bnkps"


def split_values(texts: Iterable[str] | None) -> tuple[str, ...]:
    """Return the values of an option that may be repeated and holds several, separated by commas."""
    return tuple(part.strip() for text in texts or () for part in text.split(","))


def parse_choice(option: str, text: str, choices: Collection[Text]) -> Text:
    """Return the choice that a text names.

    Raises
    ------
    OptionError
        If it names none.
    """
    for choice in choices:
        if choice == text:
            return choice
    raise OptionError(f"{option} {text}: the choices are: {', '.join(choices)}")
