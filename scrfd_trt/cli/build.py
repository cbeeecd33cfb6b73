"""``scrfd-trt build``: make a TensorRT engine of a network."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

from scrfd_trt import devices, models, opening
from scrfd_trt.cli import build_options as asked
from scrfd_trt.cli import messages, options, outputs, stdout
from scrfd_trt.cli.build_bar import build_progress
from scrfd_trt.cli.inputs import same_file_key
from scrfd_trt.cli.network import gpu_number, is_engine, is_file, parse_scales
from scrfd_trt.engine.files import EngineRecord, read_record, record_path
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.engine.report import profile_reports
from scrfd_trt.errors import OptionError

MIB = 2**20


def build(
    network: asked.Network,
    *,
    output: asked.Output,
    precision: asked.PrecisionName = asked.DEFAULTS.precision,
    size: asked.Sizes = None,
    batch: asked.Batch = asked.BATCH,
    no_batch_one_profile: asked.NoBatchOneProfile = False,
    io: asked.Io = asked.DEFAULTS.io,
    level: asked.Level = None,
    workspace: asked.Workspace = None,
    version_compatible: asked.VersionCompatible = False,
    lean_runtime_inside: asked.LeanRuntimeInside = False,
    hardware_compatible: asked.HardwareCompatible = False,
    timing_cache: asked.TimingCache = None,
    compute_capability: asked.Capabilities = None,
    device: asked.Device = "cuda",
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
    with messages.logged(quiet=quiet, verbose=verbose):
        if lean_runtime_inside and not version_compatible:
            raise OptionError("--lean-runtime-inside is for version compatible engines; add --version-compatible")
        wanted = BuildOptions(
            precision=precision,
            io=io,
            sizes=parse_scales(size, "--size"),
            batch=asked.parse_batch(batch),
            batch_one_profile=not no_batch_one_profile,
            optimization_level=level,
            workspace_mib=workspace,
            version_compatible=version_compatible,
            lean_runtime_inside=lean_runtime_inside,
            hardware_compatible=hardware_compatible,
            timing_cache=timing_cache,
            compute_capabilities=asked.parse_capabilities(compute_capability),
        )
        seconds = _build(network, output, wanted, gpu_number(device), overwrite=overwrite, quiet=quiet)
        if as_json:
            stdout.write(as_line(output, seconds))
        elif not quiet:
            _report(output, seconds)


def _build(network: str, output: Path, wanted: BuildOptions, gpu: int, *, overwrite: bool, quiet: bool) -> float:
    """Build, and return the seconds that it took."""
    for path in (output, record_path(output)):
        outputs.check_free(path, overwrite=overwrite)
    source = _find(network, output)
    start = time.monotonic()
    with build_progress(quiet=quiet) as progress:
        opening.build_engine(source, output, wanted, device=gpu, progress=progress, overwrite=overwrite)
    return time.monotonic() - start


def _find(network: str, output: Path) -> Path:
    """Return the network's file, after it was fetched where it is known by name."""
    if not is_file(network):
        return models.fetch(network)
    source = Path(network).expanduser()
    if is_engine(source):
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
    stdout.line(
        f"{messages.printable(plan)}: {plan.stat().st_size / MIB:.1f} MiB, {_duration(seconds)}"
        + (f" with {record.flavour} {record.version}" if record else ""),
        style="bold",
    )
    if record is not None:
        for text in _about(record):
            stdout.line(f"  {messages.printable(text)}", style="dim")
    stdout.line(f"How it was made: {messages.printable(record_path(plan))}")
    stdout.write("\n")
    command = f"scrfd-trt detect photo.jpg --model {shlex.quote(str(plan))}"
    if devices.driver().gpus:
        stdout.line(f"Next: {command}")
    else:
        stdout.line(f"Next, once both files are on a machine with such a GPU: {command}")


def _about(record: EngineRecord) -> list[str]:
    where = f" on {record.gpu.name}" if record.gpu else ""
    shapes = [f"profile {number}: {shapes}" for number, shapes in enumerate(profile_reports(record.ranges))]
    return [f"{record.options.precision} of {record.onnx.name}{where}", *shapes]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
