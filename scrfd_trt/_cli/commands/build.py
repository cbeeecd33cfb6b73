"""``scrfd-trt build``: make a TensorRT engine of a network."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from scrfd_trt import _devices, models
from scrfd_trt._cli import console, options, outputs
from scrfd_trt._cli.detector import gpu_number, parse_scales
from scrfd_trt._cli.inputs import same_file_key
from scrfd_trt._cli.options import split_values
from scrfd_trt._cli.progress import build_progress
from scrfd_trt._engine.build_options import BuildOptions, Precision
from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._engine.record import EngineRecord, read_record, record_path
from scrfd_trt._pipelines import factory
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


MIB = 2**20


def build(
    network: Network,
    *,
    output: Output,
    precision: PrecisionName = DEFAULTS.precision,
    size: Sizes = None,
    batch: Batch = BATCH,
    no_batch_one_profile: NoBatchOneProfile = False,
    io: Io = DEFAULTS.io,
    level: Level = None,
    workspace: Workspace = None,
    version_compatible: VersionCompatible = False,
    lean_runtime_inside: LeanRuntimeInside = False,
    hardware_compatible: HardwareCompatible = False,
    timing_cache: TimingCache = None,
    compute_capability: Capabilities = None,
    device: Device = "cuda",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a TensorRT engine of a network, for NVIDIA GPUs.

    It takes minutes with TensorRT, seconds with TensorRT-RTX. Where it can
    run, the engine is compared with the network on drawn pictures, and
    written only if it finds the same faces; elsewhere a warning says that it
    was not checked. After Ctrl-C nothing is written.

    For example:
      scrfd-trt build 500m_bnkps -o face.plan
      scrfd-trt build my.onnx -o face.plan --size 640 --batch 1
      scrfd-trt detect photo.jpg --model face.plan
    """
    with console.logged(quiet=quiet, verbose=verbose):
        if lean_runtime_inside and not version_compatible:
            raise OptionError("--lean-runtime-inside is for version compatible engines; add --version-compatible")
        wanted = BuildOptions(
            precision=precision,
            io=io,
            sizes=parse_scales(size, "--size"),
            batch=parse_batch(batch),
            batch_one_profile=not no_batch_one_profile,
            optimization_level=level,
            workspace_mib=workspace,
            version_compatible=version_compatible,
            lean_runtime_inside=lean_runtime_inside,
            hardware_compatible=hardware_compatible,
            timing_cache=timing_cache,
            compute_capabilities=parse_capabilities(compute_capability),
        )
        seconds = _build(network, output, wanted, gpu_number(device), overwrite=overwrite, quiet=quiet)
        if as_json:
            console.write(as_line(output, seconds))
        elif not quiet:
            _report(output, seconds)


def _build(network: str, output: Path, wanted: BuildOptions, gpu: int, *, overwrite: bool, quiet: bool) -> float:
    """Build, and return the seconds that it took."""
    for path in (output, record_path(output)):
        outputs.check_free(path, overwrite=overwrite)
    source = _find(network, output)
    start = time.monotonic()
    with build_progress(quiet=quiet) as progress:
        factory.build_engine(source, output, wanted, device=gpu, progress=progress, overwrite=overwrite)
    return time.monotonic() - start


def _find(network: str, output: Path) -> Path:
    """Return the network's file, after it was fetched where it is known by name."""
    if not is_model_path(network):
        return models.fetch(network)
    source = Path(network).expanduser()
    if is_engine_file(source):
        raise OptionError(f"{source} is an engine already; name the network (.onnx) that it was made of")
    if same_file_key(source) in {same_file_key(path) for path in (output, record_path(output))}:
        raise OptionError(f"{source} is the network; name another file for the engine")
    return source


def as_line(plan: Path, seconds: float) -> str:
    """Return what was built as one line of JSON.

    Parameters
    ----------
    plan
        The engine.
    seconds
        What the whole of it took.
    """
    record = read_record(plan)
    about = {
        "engine": str(plan),
        "size": plan.stat().st_size,
        "seconds": round(seconds, 1),
        "record": None if record is None else record.model_dump(mode="json"),
    }
    return json.dumps(about) + "\n"


def _report(plan: Path, seconds: float) -> None:
    record = read_record(plan)
    console.print_line(
        f"{console.printable(plan)}: {plan.stat().st_size / MIB:.1f} MiB, {_duration(seconds)}"
        + (f" with {record.flavour} {record.version}" if record else ""),
        style="bold",
    )
    if record is not None:
        for text in _about(record):
            console.print_line(f"  {console.printable(text)}", style="dim")
    console.print_line(f"How it was made: {console.printable(record_path(plan))}")
    console.write("\n")
    command = f"scrfd-trt detect photo.jpg --model {shlex.quote(str(plan))}"
    if _devices.driver().gpus:
        console.print_line(f"Next: {command}")
    else:
        console.print_line(f"Next, once both files are on a machine with such a GPU: {command}")


def _about(record: EngineRecord) -> list[str]:
    where = f" on {record.gpu.name}" if record.gpu else ""
    shapes = [f"profile {number}: {shapes}" for number, shapes in enumerate(record.ranges)]
    return [f"{record.options.precision} of {record.onnx.name}{where}", *shapes]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
