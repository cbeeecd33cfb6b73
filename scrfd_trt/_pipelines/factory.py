"""Turn a file and a device into a pipeline: the network itself on the processor, or an engine of it on a GPU."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scrfd_trt import _devices
from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.device import find
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import flavours
from scrfd_trt._engine.build import gpu_for, write_engine
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.cache import EngineKey, open_or_build
from scrfd_trt._engine.plan import RTX_CAPABILITIES, read_plan
from scrfd_trt._engine.progress import BuildProgress
from scrfd_trt._engine.runtime import opener
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines import HostPipeline, Pipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.verify import check_engine, check_prerequisites
from scrfd_trt.backends import Backend, OnnxBackend
from scrfd_trt.errors import DeviceError, MissingDependencyError, ModelFormatError, OptionError

log = logging.getLogger("scrfd_trt")


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
    progress: BuildProgress | None = None,
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
    number = _devices.parse(device)[1] or 0
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
    wanted = EngineKey.of(path, flavour, gpu_for(flavour, number), asked)
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
        Further arguments of :func:`scrfd_trt._engine.runtime.opener`.
    """
    reopen = opener(read_plan(path), device, **running)
    try:
        return CudaPipeline(reopen, options, stream=stream)
    except ModelFormatError as error:
        if error.subject:
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
    progress: BuildProgress | None = None,
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
        As :func:`scrfd_trt._engine.build.write_engine`.
    """
    options = options or BuildOptions()
    flavour = flavours.choose(can_build=True)
    check_prerequisites(flavour, options, device)
    return write_engine(
        onnx,
        out,
        options,
        flavour=flavour,
        device=device,
        progress=progress,
        overwrite=overwrite,
        check=lambda plan, prepared, _: check_engine(plan, prepared, device),
    )
