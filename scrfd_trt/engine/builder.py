"""Engines built from ONNX files, by whichever TensorRT is installed."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from scrfd_trt._files import check_target, write_files
from scrfd_trt._version import __version__
from scrfd_trt.devices import Gpu
from scrfd_trt.engine import files, flavours, settings, timing
from scrfd_trt.engine.building import build_plan, gpu_for
from scrfd_trt.engine.compare import compare
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.graph import RECIPE, PreparedNetwork, prepare
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.engine.progress import NoProgress, Progress, stage

__all__ = ["Check", "build_plan", "write_engine"]

log = logging.getLogger("scrfd_trt")

Check = Callable[[bytes, PreparedNetwork, Flavour], None]


def write_engine(
    onnx: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    flavour: Flavour | None = None,
    device: int = 0,
    progress: Progress | None = None,
    overwrite: bool = False,
    check: Check | None = None,
) -> Path:
    """Build an engine from an ONNX file, and write it with a JSON beside it that says how it was made.

    Parameters
    ----------
    onnx
        Any SCRFD export.
    out
        Where the engine goes, ``face.plan`` say; the JSON is ``face.plan.json``. Neither is written before all went
        well, and what was there stays until then.
    options
        How to build; None takes all defaults.
    flavour
        What builds; None takes what is installed, see :func:`scrfd_trt.engine.flavours.choose`.
    device
        n of the GPU ``cuda:n`` to build on and for. TensorRT-RTX needs none.
    progress
        Is told how far it has come.
    overwrite
        Whether the engine may take the place of another file.
    check
        Called with the engine, the network it was made from and the flavour, before anything is written; what it
        raises ends the build.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    OptionError
        If an option makes no sense, this TensorRT cannot honour it, or ``out`` must not be written.
    ModelError
        If the file is no SCRFD network, or the one made from it does not find the same faces.
    MissingDependencyError, DeviceError
        If there is no TensorRT that builds, or no GPU for it.
    BackendError
        If TensorRT cannot build it.
    OutputError
        If it cannot be written.

    Notes
    -----
    Ctrl-C stops a build within seconds from TensorRT 10 on. Older ones cannot be stopped: the interruption is passed on
    at once, and TensorRT goes on for nothing until it has finished or the process ends.
    """
    source, target, told = Path(onnx), Path(out), progress or NoProgress()
    options = options or BuildOptions()
    record_path = files.record_path(target)
    for path in (target, record_path):
        check_target(path, overwrite=overwrite)
    flavour = flavour or flavours.choose(can_build=True)
    gpu = gpu_for(flavour, device)
    settings.check_supported(flavour, options, gpu)
    mark = files.mark_network(source)
    with stage(told, "preparing the network"):
        prepared = prepare(
            source,
            sizes=options.sizes,
            batch=options.batch,
            batch_one=options.batch_one_profile,
            precision=options.precision,
            io=options.io,
        )
    with stage(told, "comparing it with the original"):
        compare(source, prepared)
    log.info("building an engine of %s with %s%s", source.name, flavour, f" on {gpu}" if gpu else "")
    cache = options.timing_cache or timing.default_path(target.parent, flavour, gpu)
    begin = time.monotonic()
    plan = build_plan(
        prepared,
        options.model_copy(update={"timing_cache": cache}),
        flavour=flavour,
        device=device,
        progress=told,
    )
    seconds = time.monotonic() - begin
    if check is not None:
        with stage(told, "checking the engine"):
            check(plan, prepared, flavour)
    record = _record(prepared, flavour, gpu, plan=plan, name=target.name, onnx=mark, options=options, seconds=seconds)
    text = record.model_dump_json(indent=2) + "\n"
    for path in (target, record_path):
        check_target(path, overwrite=overwrite)
    write_files({target: plan, record_path: text.encode()})
    return target


def _record(
    prepared: PreparedNetwork,
    flavour: Flavour,
    gpu: Gpu | None,
    *,
    plan: bytes,
    name: str,
    onnx: files.FileMark,
    options: BuildOptions,
    seconds: float,
) -> files.EngineRecord:
    return files.EngineRecord(
        plan=files.FileMark(name=name, sha256=hashlib.sha256(plan).hexdigest()),
        onnx=onnx,
        flavour=flavour.name,
        version=flavour.version,
        gpu=gpu and files.GpuMark(name=gpu.name, compute_capability=gpu.compute_capability),
        options=options,
        input=prepared.input,
        outputs=prepared.outputs,
        ranges=prepared.ranges,
        notes=prepared.notes,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        scrfd_trt=__version__,
        recipe=RECIPE,
    )
