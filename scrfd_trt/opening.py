"""Turn a file and a device into a pipeline: the network itself on the processor, or an engine of it on a GPU."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scrfd_trt import devices, samples
from scrfd_trt.agreement import differences
from scrfd_trt.backends import Backend, OnnxBackend
from scrfd_trt.backends.tensorrt import TensorRTBackend
from scrfd_trt.cuda import driver, kernels
from scrfd_trt.cuda.device import find
from scrfd_trt.devices import Gpu
from scrfd_trt.engine import flavours
from scrfd_trt.engine.builder import write_engine
from scrfd_trt.engine.building import gpu_for
from scrfd_trt.engine.cache import Wanted, open_or_build
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.engine.graph import PreparedNetwork
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.engine.plan import RTX_CAPABILITIES, read_header
from scrfd_trt.engine.plan_file import read_plan
from scrfd_trt.engine.progress import Progress
from scrfd_trt.engine.runners import check_gpu
from scrfd_trt.engine.runtime import opener
from scrfd_trt.errors import BackendError, DeviceError, MissingDependencyError, ModelFormatError, OptionError
from scrfd_trt.options import DetectorOptions
from scrfd_trt.pipelines import HostPipeline, Pipeline
from scrfd_trt.pipelines.cuda import CudaPipeline

log = logging.getLogger("scrfd_trt")

THRESHOLD = 0.5
MARGIN = 0.05
"""Faces whose score is this near to the threshold may come and go with the rounding."""


def cuda_problem(gpu: Gpu) -> str:
    """Tell why no engine of a network can be built here and run on a GPU; empty if it can."""
    try:
        flavour = flavours.choose(can_build=True)
        if flavour.is_rtx and gpu.compute_capability not in RTX_CAPABILITIES:
            return f"{flavour} runs no engines on {gpu}; {flavours.remedy()}"
        for module, extra in (
            ("cuda.bindings", "cuda"),
            ("cuda.core", "cuda"),
            ("onnx", "build"),
            ("onnxruntime", "cpu"),
        ):
            if not _is_installed(module):
                return f'{module} is not installed: pip install "scrfd-trt[{extra}]"'
        kernels.nvrtc_release()
    except (DeviceError, MissingDependencyError, OptionError) as error:
        return str(error)
    return ""


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def open_onnx(
    path: Path,
    options: DetectorOptions,
    device: str,
    build_options: BuildOptions | None,
    *,
    progress: Progress | None = None,
    **running: Any,
) -> Pipeline:
    """Open a network on the processor, or the engine of it that is kept for this GPU.

    Parameters
    ----------
    path
        The ONNX file.
    options
        Of the detector. Its ``scales`` are the sizes that the engine is built for.
    device
        ``cpu`` or ``cuda:n``.
    build_options
        How to build an engine; None takes the defaults.
    progress
        Is told how far the build of an engine has come.
    **running
        Further arguments of :func:`open_engine`.
    """
    if device == "cpu":
        if running.get("stream") is not None:
            raise OptionError(
                "stream: a CUDA stream is of no use on the processor; leave it out, or choose device cuda"
            )
        if build_options is not None:
            log.info("build: no engine is built, since the network runs on the processor")
        return pipeline(OnnxBackend(path), options, path)
    number = devices.parse(device)[1] or 0
    asked = build_options or BuildOptions()
    if asked.sizes is None and options.scales is not None:
        asked = asked.model_copy(update={"sizes": options.scales})
    if asked.lean_runtime_inside:
        raise OptionError(
            "build: lean_runtime_inside is for engines that other machines run; leave it out here",
            fields=["lean_runtime_inside"],
            value=True,
        )
    flavour = flavours.choose(can_build=True)
    if flavour.is_rtx and asked.compute_capabilities is None:
        own = ".".join(map(str, find(number).compute_capability))
        asked = asked.model_copy(update={"compute_capabilities": (own,)})
    wanted = Wanted.of(path, flavour, gpu_for(flavour, number), asked)
    return open_or_build(
        wanted,
        lambda plan: build_engine(path, plan, asked, device=number, progress=progress, overwrite=True),
        lambda plan: open_engine(plan, options, number, **running),
    )


def open_engine(
    path: Path, options: DetectorOptions, device: int, *, stream: Any = None, **running: Any
) -> CudaPipeline:
    """Open an engine for a detector.

    Parameters
    ----------
    path, options, device, stream
        As for :class:`~scrfd_trt.SCRFDDetector`.
    **running
        Further arguments of :func:`scrfd_trt.engine.runtime.opener`.
    """
    reopen = opener(read_plan(path), device, **running)
    try:
        return CudaPipeline(reopen, options, stream=stream)
    except ModelFormatError as error:
        if str(path) in str(error):
            raise
        raise error.within(path) from error


def pipeline(backend: Backend, options: DetectorOptions, path: Path) -> HostPipeline:
    """Put a pipeline around a backend, which is closed if that fails.

    Raises
    ------
    ModelFormatError
        If it is no SCRFD network; the message names the file.
    """
    try:
        return HostPipeline(backend, options)
    except ModelFormatError as error:
        backend.close()
        raise error.within(path) from error
    except BaseException:
        backend.close()
        raise


def build_engine(
    onnx: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    device: int = 0,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Build a TensorRT engine of a SCRFD network, check that it finds the same faces, and write it.

    The network is made ready for TensorRT and compared with the original on ONNX Runtime first. Where there is a GPU,
    the engine is run on the drawn scene and must find the faces that the original finds; an engine that TensorRT-RTX
    builds on a machine without a GPU cannot be run there, and is written unchecked.

    Parameters
    ----------
    onnx
        Any SCRFD export.
    out
        Where the engine goes, ``face.plan`` say; ``face.plan.json`` beside it says how it was made.
    options
        How to build; None takes all defaults.
    device
        n of the GPU ``cuda:n`` to build on and for.
    progress
        Is told how far it has come.
    overwrite
        Whether other files may be replaced.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ModelError
        If the network is no SCRFD network, or its engine finds other faces.
    OptionError, MissingDependencyError, DeviceError, BackendError, OutputError
        As :func:`scrfd_trt.engine.builder.write_engine`.
    """

    def check(plan: bytes, prepared: PreparedNetwork, flavour: Flavour) -> None:  # noqa: ARG001 - part of the protocol
        _check(plan, prepared, device)

    if devices.driver().gpus:
        driver.bindings()  # the check after a build of minutes needs it
    return write_engine(onnx, out, options, device=device, progress=progress, overwrite=overwrite, check=check)


def _check(plan: bytes, prepared: PreparedNetwork, device: int) -> None:
    header = read_header(plan)
    try:
        check_gpu(header.capabilities, find(device), unlisted=header.unlisted)
    except (BackendError, DeviceError) as error:
        log.warning("the engine is not checked, since it cannot run here: %s", error)
        return
    with ExitStack() as closing:
        reference = OnnxBackend(prepared.model)
        closing.callback(reference.close)
        # Lean runtimes are put inside by this build itself, so their code may run.
        backend = TensorRTBackend(plan, device=device, allow_host_code=True)
        closing.callback(backend.close)
        verify(backend, reference)


def verify(backend: Backend, reference: Backend) -> None:
    """Check that two backends find the same faces on the drawn scene and portrait, in each size.

    Parameters
    ----------
    backend, reference
        Of one network. Both stay the caller's to close.

    Raises
    ------
    ModelFormatError
        If the faces differ; the message tells the first difference.
    """
    options = DetectorOptions(threshold=THRESHOLD - MARGIN)
    checked = HostPipeline(backend, options)
    exact = HostPipeline(reference, options.model_copy(update={"scales": checked.scales}))
    images = [samples.load(name).image for name in ("group", "portrait")]
    lines = []
    # Together and alone: a batch and a single image may have optimization profiles of their own.
    for group in (images, images[:1], images[1:]):
        pairs = zip(*(one.detect(group, options.threshold, None) for one in (checked, exact)), strict=True)
        lines += [line for found, wanted in pairs for line in differences(found, wanted, above=THRESHOLD + MARGIN)]
    if lines:
        raise ModelFormatError(
            f"the engine does not find the faces that the network finds ({len(lines)} differences; the first: "
            f"{lines[0]}); build it with precision fp32, and report this"
        )
