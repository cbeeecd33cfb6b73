"""Engines built from prepared networks, by whichever TensorRT is installed."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from scrfd_trt import devices
from scrfd_trt.devices import Gpu
from scrfd_trt.engine import flavours, logs, settings, timing
from scrfd_trt.engine.bindings import Api
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.graph import PreparedNetwork
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.engine.progress import STEPS, NoProgress, Phases, Progress, monitor_for, stage
from scrfd_trt.engine.waiting import wait_for
from scrfd_trt.errors import BackendError, DeviceError, ModelFormatError

if TYPE_CHECKING:
    import tensorrt

MOST_ERRORS = 3


def build_plan(
    prepared: PreparedNetwork,
    options: BuildOptions | None = None,
    *,
    flavour: Flavour | None = None,
    device: int = 0,
    progress: Progress | None = None,
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
        As for :func:`scrfd_trt.engine.builder.write_engine`.

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
        As for :func:`scrfd_trt.engine.builder.write_engine`.
    """
    options = options or BuildOptions()
    told = progress or NoProgress()
    chosen = flavour or flavours.choose(can_build=True)
    gpu = gpu_for(chosen, device)
    settings.check_supported(chosen, options, gpu)
    phases, cancelled = Phases(), threading.Event()
    work = _Build(prepared, options, chosen, device if gpu else None, phases, cancelled)

    def tell() -> None:
        fraction, detail = phases.read()
        told.step(int(fraction * STEPS), detail)

    with stage(told, f"building with {chosen}", STEPS if work.tells else None):
        return wait_for(work.run, tell=tell, cancel=cancelled.set, stops=lambda: work.tells)


def gpu_for(flavour: Flavour, device: int) -> Gpu | None:
    """Return the GPU that a flavour builds on; None for TensorRT-RTX, which needs none.

    Raises
    ------
    DeviceError
        If there is no such GPU.
    """
    if flavour.is_rtx:
        return None
    driver = devices.driver()
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
    def tells(self) -> bool:
        """Whether TensorRT tells how far it has come, and can be stopped."""
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
            network = builder.create_network(settings.network_flags(self.flavour))
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
                timing.save(config, self.options.timing_cache)
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
        settings.configure(config, self.flavour, self.options)
        if None in self.prepared.input.shape:
            settings.add_profiles(builder, config, self.flavour, self.prepared.input.name, self.prepared.ranges)
        if self.options.timing_cache is not None:
            timing.load(config, self.options.timing_cache)
        module = self.flavour.module
        if hasattr(module, "IProgressMonitor") and hasattr(config, "progress_monitor"):
            config.progress_monitor = monitor_for(module.IProgressMonitor, self.phases, self.cancelled)
        return config


def _current(device: int | None) -> AbstractContextManager[None]:
    """Make a GPU the calling thread's; a new thread's is the first one anyhow."""
    if not device:
        return nullcontext()
    from scrfd_trt.cuda import Device  # noqa: PLC0415 - needs cuda-python, which building on the first GPU does not

    return Device(device).current()


def _describe(error: tensorrt.ParserError) -> str:
    """Say on one line what a parser does not like, and where."""
    node = [str(error.node())] if error.node() >= 0 else []
    if hasattr(error, "node_name") and hasattr(error, "node_operator"):
        node += [str(error.node_name()), str(error.node_operator())]
    where = " ".join(part for part in node if part)
    return (f"node {where}: " if where else "") + logs.clean(str(error.desc()))
