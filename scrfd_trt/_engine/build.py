"""Build engines from ONNX files with the installed TensorRT."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from scrfd_trt import _devices
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import build_options, cache, flavours, logs
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.flavours import Api, Flavour, subclass
from scrfd_trt._engine.plan import RECIPE, EngineRecord, FileHash, GpuInfo, hash_model, record_path
from scrfd_trt._engine.progress import (
    STEPS,
    BuildProgress,
    NoProgress,
    PhaseMonitor,
    Phases,
    run_cancellable,
    stage,
    start,
)
from scrfd_trt._files import check_not_input, check_target, write_files
from scrfd_trt._tensors import ShapeRange
from scrfd_trt._version import __version__
from scrfd_trt.errors import BackendError, DeviceError, MissingDependencyError, ModelFormatError, OptionError

if TYPE_CHECKING:
    import tensorrt

    from scrfd_trt._engine.onnx.quantize import Target
    from scrfd_trt._engine.onnx.rewrite import PreparedModel

    Check: TypeAlias = Callable[[bytes, PreparedModel, Flavour], None]

log = logging.getLogger("scrfd_trt")

MAX_ERRORS = 3


def write_engine(
    onnx: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    flavour: Flavour | None = None,
    device: int = 0,
    progress: BuildProgress | None = None,
    overwrite: bool = False,
    check: Check | None = None,
) -> Path:
    """Build an engine, write it with its record once ``check`` has passed, and return ``out``; see ``build_engine``."""
    source, target, progress = Path(onnx), Path(out), progress or NoProgress()
    options = options or BuildOptions()
    targets = (target, record_path(target))
    for path in targets:
        check_target(path, overwrite=overwrite)
        check_not_input(path, onnx)
    flavour = flavour or flavours.choose(can_build=True)
    gpu = gpu_for(flavour, device)
    build_options.check_supported(flavour, options, gpu)
    source_hash = hash_model(source)
    typing: Target = "strongly typed" if build_options.is_strongly_typed(flavour) else "weakly typed"
    prepared = _prepare(source, options, progress, typing)
    log.info("building an engine of %s with %s%s", source.name, flavour, f" on {gpu}" if gpu else "")
    timing_cache = options.timing_cache or cache.timing_cache_path(target.parent, flavour, gpu)
    start = time.monotonic()
    cached = options.model_copy(update={"timing_cache": timing_cache})
    plan = build_plan(prepared, cached, flavour=flavour, device=device, progress=progress)
    seconds = time.monotonic() - start
    if check is not None:
        with stage(progress, "checking the engine"):
            check(plan, prepared, flavour)
    record = EngineRecord(
        plan=FileHash(name=target.name, sha256=hashlib.sha256(plan).hexdigest()),
        onnx=source_hash,
        flavour=flavour.name,
        version=flavour.version,
        gpu=gpu and GpuInfo(name=gpu.name, compute_capability=gpu.compute_capability),
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
    contents = (plan, f"{record.model_dump_json(indent=2)}\n".encode())
    write_files(dict(zip(targets, contents, strict=True)), overwrite=overwrite)
    return target


def write_quantized(
    onnx: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions,
    *,
    progress: BuildProgress | None = None,
    overwrite: bool = False,
) -> Path:
    """Quantize a model for ONNX Runtime on CPUs, write it, and return ``out``."""
    target = Path(out)
    check_target(target, overwrite=overwrite)
    check_not_input(target, onnx)
    if options.precision != "int8":
        message = f"{target.name} is a name for an ONNX model, which requires precision int8; engines are .plan files"
        raise OptionError(message, fields=["precision"], value=options.precision)
    prepared = _prepare(Path(onnx), options, progress or NoProgress(), "onnxruntime")
    write_files({target: prepared.model}, overwrite=overwrite)
    return target


def _prepare(source: Path, options: BuildOptions, progress: BuildProgress, target: Target) -> PreparedModel:
    if find_spec("onnx") is None:
        raise MissingDependencyError('building engines needs the onnx package: pip install "scrfd-trt[build]"')
    from scrfd_trt._engine.onnx.rewrite import prepare  # noqa: PLC0415 - needs onnx, which is optional
    from scrfd_trt._engine.onnx.verify_rewrite import compare  # noqa: PLC0415

    to_int8 = options.precision == "int8"
    with stage(progress, "preparing the model"):
        prepared = prepare(
            source,
            sizes=options.sizes,
            batch=options.batch,
            batch_one=options.batch_one_profile,
            precision=options.precision,
            io="float32" if to_int8 else options.io,
        )
    with stage(progress, "comparing it with the original"):
        compare(source, prepared)
    if not to_int8:
        return prepared
    from scrfd_trt._engine.onnx.quantize import quantize  # noqa: PLC0415 - slow to import

    return quantize(prepared, options, target, progress)


def build_plan(
    prepared: PreparedModel,
    options: BuildOptions | None = None,
    *,
    flavour: Flavour | None = None,
    device: int = 0,
    progress: BuildProgress | None = None,
) -> bytes:
    """Build a rewritten model, and return the serialized engine; raises as :func:`write_engine`."""
    options, progress = options or BuildOptions(), progress or NoProgress()
    flavour = flavour or flavours.choose(can_build=True)
    gpu = gpu_for(flavour, device)
    build_options.check_supported(flavour, options, gpu)
    phases, cancelled = Phases(), threading.Event()
    work = _Build(prepared, options, flavour, device if gpu else None, phases, cancelled)

    def show_progress() -> None:
        fraction, detail = phases.read()
        progress.step(int(fraction * STEPS), detail)

    with stage(progress, f"building with {flavour}", STEPS if work.supports_progress else None):
        return run_cancellable(work.run, poll=show_progress, cancel=cancelled.set, can_cancel=work.supports_progress)


def gpu_for(flavour: Flavour, device: int) -> Gpu | None:
    """Return the GPU that a flavour builds on, None for TensorRT-RTX; raise DeviceError if there is no such GPU."""
    if flavour.is_rtx:
        return None
    driver = _devices.driver()
    found = next((gpu for gpu in driver.gpus if gpu.index == device), None)
    if found is None:
        reason = driver.problem or f"there is no cuda:{device}; the GPUs are: {', '.join(map(str, driver.gpus))}"
        advice = "" if driver.gpus else "; without one, tensorrt_rtx builds: pip install tensorrt-rtx-cu13"
        raise DeviceError(f"{flavour} builds only on an NVIDIA GPU: {reason}{advice}")
    return found


class _Work(NamedTuple):
    """What a build needs; the parser owns the weights."""

    builder: tensorrt.Builder
    network: tensorrt.INetworkDefinition
    parser: tensorrt.OnnxParser
    config: tensorrt.IBuilderConfig


@dataclass
class _Build:
    """One build, on its own thread from the creation of the builder to the plan."""

    prepared: PreparedModel
    options: BuildOptions
    flavour: Flavour
    device: int | None
    phases: Phases
    cancelled: threading.Event

    @property
    def api(self) -> Api:
        return cast("Api", self.flavour.module)

    @property
    def untyped(self) -> bytes | None:
        """The model for a TensorRT that chooses the types itself, if there is one."""
        return None if build_options.is_strongly_typed(self.flavour) else self.prepared.untyped

    @property
    def supports_progress(self) -> bool:
        """Whether TensorRT reports progress and can be cancelled."""
        return hasattr(self.flavour.module, "IProgressMonitor")

    def run(self) -> bytes:
        ranges = self.prepared.ranges if None in self.prepared.input.shape else ()
        work = self._set_up(ranges, self._measure(ranges))
        plan = bytes(cast("bytes", self._build(work)))
        if self.options.timing_cache is not None:
            cache.save_timing_cache(cache.read_timing_cache(work.config), self.options.timing_cache)
        return plan

    def _measure(self, ranges: tuple[ShapeRange, ...]) -> list[bytes]:
        """Build an engine per profile, all at the same time, and return their timing caches."""
        # TensorRT 8.6 builds one profile after the other, on one core; level 0 measures nothing.
        options = self.options
        if len(ranges) < 2 or options.timing_cache is None or self.supports_progress or options.optimization_level == 0:
            return []
        # Bindings hold the GIL while TensorRT waits for its locks, and builds need the GIL for the logger. So nothing
        # is created, read or deleted here while a build runs.
        works = [self._set_up(ranges[:1])]
        works += [self._set_up((one,), [cache.read_timing_cache(works[0].config)]) for one in ranges[1:]]
        builds = [start(partial(self._build, work)) for work in works]
        wait(builds)
        for build in builds:
            build.result()
        return [cache.read_timing_cache(work.config) for work in works]

    def _set_up(self, ranges: tuple[ShapeRange, ...], timings: Sequence[bytes] = ()) -> _Work:
        """Create a builder, and a network with these profiles; ``timings`` replace the timing cache of the options."""
        with _current(self.device), logs.listen(self.flavour.module) as messages, logs.creating:
            logger = logs.logger(self.flavour.module)
            try:
                builder = self.api.Builder(logger)
            # The bindings raise TypeError when TensorRT returns a null pointer.
            except TypeError as error:
                raise DeviceError(f"{self.flavour} does not start: {messages.reason(str(error))}") from error
            network = builder.create_network(build_options.network_flags(self.flavour))
            parser = self._parse(network, logger, messages)
            config = self._configure(builder, ranges, timings)
            if self.untyped is not None:
                build_options.prefer_types(network, config, self.flavour, self.options.precision)
            return _Work(builder, network, parser, config)

    def _build(self, work: _Work) -> tensorrt.IHostMemory:
        """Return the serialized engine; the bindings release the GIL meanwhile."""
        if self.cancelled.is_set():
            raise BackendError("the build was cancelled before it began")
        with _current(self.device), logs.listen(self.flavour.module) as messages:
            plan = work.builder.build_serialized_network(work.network, work.config)
            if plan is None:
                raise BackendError(f"{self.flavour} could not build the engine: {messages.reason()}")
            return plan

    def _parse(
        self, network: tensorrt.INetworkDefinition, logger: tensorrt.ILogger, messages: logs.Messages
    ) -> tensorrt.OnnxParser:
        parser = self.api.OnnxParser(network, logger)
        if not parser.parse(self.untyped or self.prepared.model):
            errors = [_describe(parser.get_error(index)) for index in range(min(parser.num_errors, MAX_ERRORS))]
            more = f" (and {parser.num_errors - MAX_ERRORS} more)" if parser.num_errors > MAX_ERRORS else ""
            reason = "; ".join(errors) or messages.reason()
            raise ModelFormatError(f"{self.flavour} cannot read the model: {reason}{more}")
        inputs = [network.get_input(index).name for index in range(network.num_inputs)]
        outputs = {network.get_output(index).name for index in range(network.num_outputs)}
        if inputs != [self.prepared.input.name] or outputs != {output.name for output in self.prepared.outputs}:
            raise ModelFormatError(
                f"{self.flavour} parsed other inputs and outputs than the model has: {inputs}, {sorted(outputs)}"
            )
        return parser

    def _configure(
        self, builder: tensorrt.Builder, ranges: tuple[ShapeRange, ...], timings: Sequence[bytes]
    ) -> tensorrt.IBuilderConfig:
        config = builder.create_builder_config()
        build_options.configure(config, self.flavour, self.options)
        build_options.add_profiles(builder, config, self.flavour, self.prepared.input.name, ranges)
        if self.options.timing_cache is not None:
            cache.load_timing_cache(config, self.options.timing_cache, timings)
        module = self.flavour.module
        if hasattr(module, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            config.progress_monitor = subclass(PhaseMonitor, module.IProgressMonitor)(self.phases, self.cancelled)
        return config


def _current(device: int | None) -> AbstractContextManager[None]:
    """Make a GPU current in the calling thread; cuda:0 is current in a new thread."""
    if not device:
        return nullcontext()
    from scrfd_trt._cuda.driver import Device  # noqa: PLC0415 - needs cuda-python, unlike builds on the first GPU

    return Device(device).current()


def _describe(error: tensorrt.ParserError) -> str:
    """Return a parser's error and its node on one line."""
    node = [str(error.node())] if error.node() >= 0 else []
    if hasattr(error, "node_name") and hasattr(error, "node_operator"):
        node += [str(error.node_name()), str(error.node_operator())]
    where = " ".join(part for part in node if part)
    return (f"node {where}: " if where else "") + logs.clean(str(error.desc()))
