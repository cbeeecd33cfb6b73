"""Engines built from ONNX files, by whichever TensorRT is installed."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from scrfd_trt import _devices
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import build_options, cache, flavours, logs
from scrfd_trt._engine import cache as timing
from scrfd_trt._engine import record as files
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.flavours import Api, Flavour
from scrfd_trt._engine.onnx.prepare import prepare
from scrfd_trt._engine.onnx.prepared import RECIPE, PreparedNetwork
from scrfd_trt._engine.onnx.verify import compare
from scrfd_trt._engine.progress import STEPS, BuildProgress, NoProgress, Phases, monitor_for, stage
from scrfd_trt._files import check_target, write_files
from scrfd_trt._version import __version__
from scrfd_trt.errors import BackendError, DeviceError, ModelFormatError

if TYPE_CHECKING:
    import tensorrt

Result = TypeVar("Result")

PAUSE = 0.1
INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C ended: 128 + 2."""


class _Work(threading.Thread, Generic[Result]):
    def __init__(self, work: Callable[[], Result]) -> None:
        super().__init__(name="scrfd_trt build", daemon=True)
        self._do = work
        self.result: list[Result] = []
        self.error: BaseException | None = None
        # An interrupted join() takes the thread for ended in Python 3.12 and before; this does not.
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self.result.append(self._do())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self.error = error
        finally:
            self.ended.set()


def wait_for(
    work: Callable[[], Result], *, tell: Callable[[], None], cancel: Callable[[], None], stops: Callable[[], bool]
) -> Result:
    """Do some work in another thread and wait for its result.

    Parameters
    ----------
    work
        What to do.
    tell
        Called several times a second while it is done.
    cancel
        Asks the work to stop, when the wait is interrupted or ``tell`` has failed.
    stops
        Whether work that was asked to stop will do so soon. Then the interruption is passed on once it has; otherwise
        at once, and the work goes on in the background for nothing.

    Returns
    -------
    Result
        Of the work. Its errors are raised here.
    """
    thread = _Work(work)
    thread.start()
    try:
        going_on = True
        while going_on:
            going_on = not thread.ended.wait(PAUSE)
            tell()
    except BaseException:
        cancel()
        atexit.register(_leave, thread.ended)
        if stops():
            thread.ended.wait()
        raise
    if thread.error is not None:
        raise thread.error
    return thread.result[0]


def _leave(ended: threading.Event) -> None:
    """End the process here if work that nobody waits for is still in native code.

    Python's own end would take away what that code stands on, and crash.
    """
    if not ended.is_set():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(INTERRUPTED)


MOST_ERRORS = 3


def build_plan(
    prepared: PreparedNetwork,
    options: BuildOptions | None = None,
    *,
    flavour: Flavour | None = None,
    device: int = 0,
    progress: BuildProgress | None = None,
) -> bytes:
    """Build an engine from a prepared network.

    Parameters
    ----------
    prepared
        The network, and the shapes to tune it for.
    options
        How to build; what concerns the network (precision, io, sizes, batch) is in it already, but for TF32. Without
        ``timing_cache`` there is none.
    flavour, device, progress
        As for :func:`scrfd_trt._engine.build.write_engine`.

    Returns
    -------
    bytes
        The serialized engine, which TensorRT calls a plan.

    Raises
    ------
    OptionError
        If this TensorRT cannot honour an option.
    ModelFormatError
        If TensorRT cannot read the network; the message tells its own reason.
    MissingDependencyError, DeviceError, BackendError
        As for :func:`scrfd_trt._engine.build.write_engine`.
    """
    options = options or BuildOptions()
    told = progress or NoProgress()
    chosen = flavour or flavours.choose(can_build=True)
    gpu = gpu_for(chosen, device)
    build_options.check_supported(chosen, options, gpu)
    phases, cancelled = Phases(), threading.Event()
    work = _Build(prepared, options, chosen, device if gpu else None, phases, cancelled)

    def tell() -> None:
        fraction, detail = phases.read()
        told.step(int(fraction * STEPS), detail)

    with stage(told, f"building with {chosen}", STEPS if work.supports_progress else None):
        return wait_for(work.run, tell=tell, cancel=cancelled.set, stops=lambda: work.supports_progress)


def gpu_for(flavour: Flavour, device: int) -> Gpu | None:
    """Return the GPU that a flavour builds on; None for TensorRT-RTX, which needs none.

    Raises
    ------
    DeviceError
        If there is no such GPU.
    """
    if flavour.is_rtx:
        return None
    driver = _devices.driver()
    found = next((gpu for gpu in driver.gpus if gpu.index == device), None)
    if found is None:
        reason = driver.problem or f"there is no cuda:{device}; the GPUs are: {', '.join(map(str, driver.gpus))}"
        advice = "" if driver.gpus else "; without one, tensorrt_rtx builds: pip install tensorrt-rtx-cu13"
        raise DeviceError(f"{flavour} builds on an NVIDIA GPU only: {reason}{advice}")
    return found


@dataclass
class _Build:
    """One build, done on a thread of its own from the builder's making to the plan."""

    prepared: PreparedNetwork
    options: BuildOptions
    flavour: Flavour
    device: int | None
    phases: Phases
    cancelled: threading.Event

    @property
    def api(self) -> Api:
        """The flavour's module."""
        return cast("Api", self.flavour.module)

    @property
    def supports_progress(self) -> bool:
        """Whether TensorRT reports progress and can be cancelled."""
        return hasattr(self.flavour.module, "IProgressMonitor")

    def run(self) -> bytes:
        """Build; see :func:`build_plan`."""
        with _current(self.device), logs.listen(self.flavour.module) as messages:
            logger = logs.logger(self.flavour.module)
            try:
                builder = self.api.Builder(logger)
            # The bindings raise this where TensorRT gave them nothing.
            except TypeError as error:
                raise DeviceError(f"{self.flavour} does not start: {messages.reason(str(error))}") from error
            network = builder.create_network(build_options.network_flags(self.flavour))
            # The weights are the parser's: it must live until the engine is built.
            parser = self._parse(network, logger, messages)
            config = self._configure(builder)
            if self.cancelled.is_set():
                raise BackendError("the build was stopped before it began")
            plan = builder.build_serialized_network(network, config)
            del parser
            if plan is None:
                raise BackendError(f"{self.flavour} could not build the engine: {messages.reason()}")
            if self.options.timing_cache is not None:
                cache.save(config, self.options.timing_cache)
            return bytes(cast("bytes", plan))

    def _parse(
        self, network: tensorrt.INetworkDefinition, logger: tensorrt.ILogger, messages: logs.Messages
    ) -> tensorrt.OnnxParser:
        parser = self.api.OnnxParser(network, logger)
        if not parser.parse(self.prepared.model):
            errors = [_describe(parser.get_error(index)) for index in range(min(parser.num_errors, MOST_ERRORS))]
            more = f" (and {parser.num_errors - MOST_ERRORS} more)" if parser.num_errors > MOST_ERRORS else ""
            reason = "; ".join(errors) or messages.reason()
            raise ModelFormatError(f"{self.flavour} cannot read the network: {reason}{more}")
        inputs = [network.get_input(index).name for index in range(network.num_inputs)]
        outputs = {network.get_output(index).name for index in range(network.num_outputs)}
        if inputs != [self.prepared.input.name] or outputs != {output.name for output in self.prepared.outputs}:
            raise ModelFormatError(
                f"{self.flavour} read another network than was meant: inputs {inputs}, outputs {sorted(outputs)}"
            )
        return parser

    def _configure(self, builder: tensorrt.Builder) -> tensorrt.IBuilderConfig:
        config = builder.create_builder_config()
        build_options.configure(config, self.flavour, self.options)
        if None in self.prepared.input.shape:
            build_options.add_profiles(builder, config, self.flavour, self.prepared.input.name, self.prepared.ranges)
        if self.options.timing_cache is not None:
            cache.load(config, self.options.timing_cache)
        module = self.flavour.module
        if hasattr(module, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            config.progress_monitor = monitor_for(module.IProgressMonitor, self.phases, self.cancelled)
        return config


def _current(device: int | None) -> AbstractContextManager[None]:
    """Make a GPU the calling thread's; a new thread's is the first one anyhow."""
    if not device:
        return nullcontext()
    from scrfd_trt._cuda.device import Device  # noqa: PLC0415 - needs cuda-python, which building on the first GPU does not

    return Device(device).current()


def _describe(error: tensorrt.ParserError) -> str:
    """Say on one line what a parser does not like, and where."""
    node = [str(error.node())] if error.node() >= 0 else []
    if hasattr(error, "node_name") and hasattr(error, "node_operator"):
        node += [str(error.node_name()), str(error.node_operator())]
    where = " ".join(part for part in node if part)
    return (f"node {where}: " if where else "") + logs.clean(str(error.desc()))


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
    progress: BuildProgress | None = None,
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
        What builds; None takes what is installed, see :func:`scrfd_trt._engine.flavours.choose`.
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
    build_options.check_supported(flavour, options, gpu)
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
