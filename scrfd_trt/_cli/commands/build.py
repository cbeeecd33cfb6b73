"""``scrfd-trt build``: build a TensorRT engine from a model."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from scrfd_trt import _devices, models
from scrfd_trt._cli import console, options, outputs
from scrfd_trt._cli.detector import gpu_number, parse_scales
from scrfd_trt._cli.inputs import same_file_key
from scrfd_trt._cli.option_rules import BATCH_RANGE, DETECTING, check_options
from scrfd_trt._cli.option_table import COMPLETIONS, option
from scrfd_trt._cli.options import split_values
from scrfd_trt._cli.progress import build_progress
from scrfd_trt._engine import flavours
from scrfd_trt._engine.build_options import BuildOptions, Precision
from scrfd_trt._engine.plan import is_engine_file, is_model_path, read_record, record_path
from scrfd_trt._files import user_path
from scrfd_trt._pipelines import factory
from scrfd_trt.errors import OptionError

DEFAULTS = BuildOptions()
BATCH = ",".join(map(str, DEFAULTS.batch))

MODEL_HELP = "Model name ('scrfd-trt models') or .onnx file."
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=COMPLETIONS["MODEL"])]
Output = Annotated[Path, option("FILE", "Engine file; FILE.json beside it records how it was built.", "--output", "-o")]
Device = Annotated[str, option("DEVICE", "GPU to use: cuda or cuda:N.", panel="Build tuning")]
BATCH_HELP = "Batch size: min,opt,max, or one number for all three."


@dataclass(frozen=True)
class BuildArgs:
    """How an engine is built."""

    precision: Precision = DEFAULTS.precision
    calibration: Path | None = None
    max_face_change: float = DEFAULTS.max_face_change
    size: options.Texts = None
    batch: Annotated[str, option("COUNTS", BATCH_HELP, panel="Build tuning")] = BATCH
    no_batch_one_profile: bool = False
    io: Literal["float32", "float16"] = DEFAULTS.io
    level: int | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    lean_runtime_inside: bool = False
    hardware_compatible: bool = False
    compute_capability: options.Texts = None

    def parse(self) -> BuildOptions:
        """Return the build options; raise OptionError if one is invalid."""
        if self.lean_runtime_inside and not self.version_compatible:
            raise OptionError("--lean-runtime-inside requires --version-compatible")
        if self.precision != "int8" and (self.calibration or self.max_face_change != DEFAULTS.max_face_change):
            raise OptionError("--calibration and --max-face-change require --precision int8")
        return BuildOptions(
            precision=self.precision,
            calibration=self.calibration and user_path(self.calibration),
            max_face_change=self.max_face_change,
            io=self.io,
            sizes=parse_scales(self.size, "--size"),
            batch=parse_batch(self.batch),
            batch_one_profile=not self.no_batch_one_profile,
            optimization_level=self.level,
            workspace_mib=self.workspace,
            version_compatible=self.version_compatible,
            lean_runtime_inside=self.lean_runtime_inside,
            hardware_compatible=self.hardware_compatible,
            timing_cache=self.timing_cache,
            compute_capabilities=parse_capabilities(self.compute_capability),
        )


def build(
    context: typer.Context,
    model: ModelArgument,
    *,
    output: Output,
    args: BuildArgs,
    device: Device = "cuda",
    overwrite: bool = False,
    as_json: bool = False,
    messages: options.MessageArgs,
) -> None:
    """Build a TensorRT engine from a model, or an INT8 model for CPUs.

    Takes minutes with TensorRT, seconds with TensorRT-RTX. If the engine
    runs on this machine, it is verified against the model on drawn images,
    and written only if the results agree. If it cannot run here, it is
    written unverified, with a warning. Ctrl-C stops the build and writes
    nothing. TensorRT 8.6 then continues in the background until it is done.
    With --precision int8, an output .onnx is an INT8 model for the CPU.

    For example:
      scrfd-trt build 500m_bnkps -o face.plan
      scrfd-trt build my.onnx -o face.plan --size 640 --batch 1
      scrfd-trt build 500m_bnkps -o int8.plan --precision int8 --calibration photos
      scrfd-trt detect photo.jpg --model face.plan
    """
    with console.logged(quiet=messages.quiet, verbose=messages.verbose):
        build_options, gpu = args.parse(), gpu_number(device)
        minimum, _, maximum = build_options.batch
        check_options(context, {DETECTING} if minimum == maximum else {DETECTING, BATCH_RANGE})
        outputs.check_free(output, kind="model", overwrite=overwrite)
        for_cpu = output.suffix.lower() == ".onnx"
        if not for_cpu:
            outputs.check_free(record_path(output), kind="text", overwrite=overwrite)
        onnx = _find_onnx(model, output, for_cpu=for_cpu)
        start = time.monotonic()
        with build_progress(quiet=messages.quiet) as progress:
            factory.build_engine(onnx, output, build_options, device=gpu, progress=progress, overwrite=overwrite)
        seconds = time.monotonic() - start
        if as_json:
            console.write_json(_as_dict(output, seconds), indent=None)
        elif not messages.quiet:
            _report(output, seconds)


def parse_batch(text: str) -> tuple[int, int, int]:
    """Return min, opt and max of ``1,8,32``, or of ``8`` for all three; raise OptionError for other texts."""
    counts = tuple(int(part) for part in text.split(",") if re.fullmatch(r"\s*\d{1,9}\s*", part))
    if len(counts) != text.count(",") + 1 or len(counts) not in (1, 3):
        counts = (0,)
    try:
        return BuildOptions(batch=counts * 3 if len(counts) == 1 else counts).batch
    except OptionError as error:
        raise OptionError(
            f"--batch {text!r}: give one number, or min,opt,max such as 1,8,32; from 1 to 1024"
        ) from error


def parse_capabilities(texts: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the compute capabilities in texts such as ``8.6,12.0``, or None; raise OptionError for other texts."""
    capabilities = split_values(texts)
    for part in capabilities:
        if not re.fullmatch(r"\d{1,2}\.\d", part):
            raise OptionError(f"--compute-capability {part!r}: give two numbers with a dot, such as 8.6 or 12.0")
    return capabilities or None


def _find_onnx(model: str, output: Path, *, for_cpu: bool) -> Path:
    """Return the path of an ONNX file, downloaded if the model is given by name."""
    if not is_model_path(model):
        if models.find(model) is None and not for_cpu:
            flavours.choose(can_build=True)  # a missing TensorRT is reported before a download
        return models.fetch(model)
    path = user_path(model)
    if is_engine_file(path):
        raise OptionError(f"{path} is an engine already; name the .onnx file that it was built from")
    if same_file_key(path) in {same_file_key(output), same_file_key(record_path(output))}:
        raise OptionError(f"{path} is the model; name another file for the engine")
    return path


def _as_dict(plan: Path, seconds: float) -> dict[str, object]:
    record = read_record(plan)
    return {
        "engine": str(plan),
        "size": plan.stat().st_size,
        "seconds": round(seconds, 1),
        "record": None if record is None else record.model_dump(mode="json"),
    }


def _report(plan: Path, seconds: float) -> None:
    record = read_record(plan)
    minutes, rest = divmod(round(seconds), 60)
    duration = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    flavour = f" with {record.flavour} {record.version}" if record else ""
    size = plan.stat().st_size / 2**20
    console.print_line(f"{console.printable(plan)}: {size:.1f} MiB, {duration}{flavour}", style="bold")
    if record is not None:
        gpu = f" on {record.gpu.name}" if record.gpu else ""
        shapes = [f"profile {number}: {shapes}" for number, shapes in enumerate(record.ranges)]
        for text in (f"{record.options.precision} of {record.onnx.name}{gpu}", *shapes):
            console.print_line(f"  {console.printable(text)}", style="dim")
        console.print_line(f"Build record: {console.printable(record_path(plan))}")
    console.write("\n")
    command = f"scrfd-trt detect photo.jpg --model {shlex.quote(str(plan))}{'' if record else ' --device cpu'}"
    here = record is None or _devices.driver().gpus
    where = "" if here else ", after copying both files to a machine with such a GPU"
    console.print_line(f"Next{where}: {command}")
