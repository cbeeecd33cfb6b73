"""The options of ``scrfd-trt build``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from scrfd_trt.cli.options import split_values
from scrfd_trt.engine.options import BuildOptions, Precision
from scrfd_trt.errors import OptionError

DEFAULTS = BuildOptions()
BATCH = ",".join(map(str, DEFAULTS.batch))
PORTABLE = "Options for engines that other machines run"
TUNING = "Options of TensorRT's search for fast kernels"

Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK", help="A name that 'scrfd-trt models' lists, or an .onnx file.", show_default=False
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the engine goes, face.plan say; face.plan.json beside it says how it was made.",
        show_default=False,
    ),
]
PrecisionName = Annotated[
    Precision,
    typer.Option(
        metavar="NAME",
        help="fp16 computes with 16-bit numbers, tf32 with 32-bit ones whose mantissa is rounded to 10 bits, fp32 with "
        "32-bit ones.",
    ),
]
Io = Annotated[
    Literal["float32", "float16"],
    typer.Option(metavar="NAME", help="Type of the engine's input and outputs: float32 or float16."),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="SIZE",
        help="Input size in pixels, a multiple of 32: 640 or 640x384. Several: 128,640, or give it again. "
        "Left out: the network's own size, or 128,640 where that is free.",
        show_default=False,
    ),
]
Batch = Annotated[
    str,
    typer.Option(
        metavar="COUNTS",
        help="Images at once: the fewest, the number to tune for, and the most; one number fixes it.",
    ),
]
NoBatchOneProfile = Annotated[
    bool,
    typer.Option(
        "--no-batch-one-profile",
        help="Do not tune for single images, too; a smaller engine, slower there.",
        rich_help_panel=TUNING,
    ),
]
Level = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=5,
        metavar="N",
        help="How long to look.",
        show_default="TensorRT's own, 3",
        rich_help_panel=TUNING,
    ),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="MIB",
        help="Most GPU memory that a layer may use.",
        show_default="all",
        rich_help_panel=TUNING,
    ),
]
VersionCompatible = Annotated[
    bool,
    typer.Option(
        "--version-compatible",
        help="Newer releases of TensorRT run it, too; a little slower.",
        rich_help_panel=PORTABLE,
    ),
]
LeanRuntimeInside = Annotated[
    bool,
    typer.Option(
        "--lean-runtime-inside",
        help="Put the lean runtime that they need into it; it is code, which they must then allow to run.",
        rich_help_panel=PORTABLE,
    ),
]
HardwareCompatible = Annotated[
    bool,
    typer.Option(
        "--hardware-compatible",
        help="All GPUs from compute capability 8.0 on run it; a little slower.",
        rich_help_panel=PORTABLE,
    ),
]
TimingCache = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Keeps what was measured, for the next build.",
        show_default="beside the engine",
        rich_help_panel=TUNING,
    ),
]
Capabilities = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        metavar="X.Y",
        help="TensorRT-RTX only: GPUs to build for. Several: 8.6,12.0, or give it again.",
        show_default="TensorRT-RTX's own: 8.0, 8.6, 8.9, 12.0 and newer",
        rich_help_panel=PORTABLE,
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="GPU to build on and for: cuda or cuda:N.")]


def parse_batch(text: str) -> tuple[int, int, int]:
    """Read the fewest, usual and most images of a batch: ``1,8,32``, or ``8`` for all three.

    Raises
    ------
    OptionError
        If they are no such numbers.
    """
    counts = [int(part) for part in text.split(",") if re.fullmatch(r"\s*\d{1,9}\s*", part)]
    few, usual, most = counts * 3 if len(counts) == 1 else counts if len(counts) == 3 else (0, 0, 0)
    if len(counts) != text.count(",") + 1:
        few = 0
    try:
        return BuildOptions(batch=(few, usual, most)).batch
    except OptionError as error:
        raise OptionError(
            f"--batch {text!r}: either one number, or the fewest, usual and most images such as 1,8,32; from 1 to 1024"
        ) from error


def parse_capabilities(texts: Iterable[str] | None) -> tuple[str, ...] | None:
    """Read compute capabilities: ``8.6`` or ``8.6,12.0``, each as often as wanted; None where there are none.

    Raises
    ------
    OptionError
        If one is no compute capability.
    """
    found = split_values(texts)
    for part in found:
        if not re.fullmatch(r"\d{1,2}\.\d", part):
            raise OptionError(f"--compute-capability {part!r}: two numbers with a dot, such as 8.6 or 12.0")
    return found or None
