"""Open a pipeline for a file and a device, and build engines."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from scrfd_trt import _devices
from scrfd_trt._cuda import kernels
from scrfd_trt._cuda.driver import find
from scrfd_trt._devices import Gpu
from scrfd_trt._engine import flavours
from scrfd_trt._engine.build import gpu_for, write_engine, write_quantized
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.cache import EngineKey, open_or_build
from scrfd_trt._engine.plan import RTX_CAPABILITIES, dotted, read_plan
from scrfd_trt._engine.progress import BuildProgress
from scrfd_trt._engine.runtime import opener
from scrfd_trt._option_names import explained_options
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.base import Pipeline
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.cuda.pipeline import SpreadPipeline
from scrfd_trt._pipelines.host import HostPipeline
from scrfd_trt._pipelines.verify_engine import check_engine, check_prerequisites
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import DeviceError, MissingDependencyError, ModelFormatError, OptionError, memory_errors

log = logging.getLogger("scrfd_trt")

REQUIRED = {"cuda.bindings": "cuda", "cuda.core": "cuda", "onnx": "build", "onnxruntime": "cpu"}
"""Modules that building and running an engine requires, and the extras that install them."""


def open_onnx(
    path: Path,
    options: DetectorOptions,
    device: str,
    build_options: BuildOptions | None,
    *,
    progress: BuildProgress | None = None,
    **engine_options: Any,
) -> Pipeline:
    """Open an ONNX model on ``cpu``, or its engine on ``cuda:n`` or ``cuda:all``; build one if none is cached."""
    if device == "cpu":
        if engine_options.get("stream") is not None:
            raise OptionError("stream: a CUDA stream cannot be used on the CPU; leave it out, or choose device cuda")
        if build_options is not None:
            log.info("build: ignored, since the model runs on the CPU without an engine")
        return _open_on_cpu(path, options)
    if device == _devices.ALL:
        return open_on_all(
            lambda index: open_onnx(path, options, f"cuda:{index}", build_options, progress=progress, **engine_options),
            engine_options.get("stream"),
        )
    index = _devices.parse(device)[1] or 0
    build_options = build_options or BuildOptions()
    if build_options.sizes is None and options.scales is not None:
        build_options = build_options.model_copy(update={"sizes": options.scales})
    if build_options.lean_runtime_inside:
        raise OptionError(
            "build: lean_runtime_inside is for engines that run on other machines; leave it out here",
            fields=["lean_runtime_inside"],
            value=True,
        )
    flavour = flavours.choose(can_build=True)
    if flavour.is_rtx and build_options.compute_capabilities is None:
        own = dotted(find(index).compute_capability)
        build_options = build_options.model_copy(update={"compute_capabilities": (own,)})
    return open_or_build(
        EngineKey.of(path, flavour, gpu_for(flavour, index), build_options),
        lambda plan: build_engine(path, plan, build_options, device=index, progress=progress, overwrite=True),
        lambda plan: open_engine(plan, options, index, **engine_options),
    )


def open_on_all(open_one: Callable[[int], Pipeline], stream: Any) -> Pipeline:
    """Open a pipeline on each GPU, by its number, as one."""
    if stream is not None:
        raise OptionError("stream: a CUDA stream belongs to one GPU; leave it out with device cuda:all")
    with ExitStack() as stack:
        pipelines = []
        for gpu in _devices.all_gpus():
            pipelines.append(cast("CudaPipeline", open_one(gpu.index)))
            stack.callback(pipelines[-1].close)
        spread = SpreadPipeline(pipelines)
        stack.pop_all()
    return spread


def _open_on_cpu(path: Path, options: DetectorOptions) -> HostPipeline:
    backend = OnnxBackend(path)
    try:
        return HostPipeline(backend, options)
    except ModelFormatError as error:
        backend.close()
        raise error.within(path) from error
    except BaseException:
        backend.close()
        raise


def open_engine(
    path: Path, options: DetectorOptions, device: int, *, stream: Any = None, **runtime_options: Any
) -> CudaPipeline:
    """Open an engine on GPU ``cuda:device``, in a CUDA stream of the caller if ``stream`` is one."""
    reopen = opener(read_plan(path), device, **runtime_options)
    try:
        return CudaPipeline(reopen, options, stream=stream)
    except ModelFormatError as error:
        if error.subject:
            raise
        raise error.within(path) from error


@explained_options
@memory_errors("building the engine")
def build_engine(
    onnx: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    device: int = 0,
    progress: BuildProgress | None = None,
    overwrite: bool = False,
) -> Path:
    """Build a TensorRT engine of a SCRFD model, verify it, and write it to a file.

    The model is first rewritten for TensorRT and compared with the original on ONNX Runtime. The engine then runs on
    two drawn images and must find the faces that the ONNX model finds. An engine of TensorRT-RTX that is built on a
    machine without a GPU cannot run there, and is written without this check.

    Parameters
    ----------
    onnx
        Any SCRFD export.
    out
        The engine file to write, for example ``face.plan``; ``face.plan.json`` beside it records how it was built. With
        the suffix ``.onnx`` and precision ``int8``, an INT8 model for ONNX Runtime on CPUs.
    options
        Build options; None for the defaults.
    device
        Number n of the GPU ``cuda:n`` to build on and for.
    progress
        Build-progress callback.
    overwrite
        Whether to replace existing files.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ModelError
        If the file is not a SCRFD model, or its engine finds other faces.
    OptionError
        If an option is not supported by this TensorRT or this model, or a file exists and ``overwrite`` is False.
    MissingDependencyError
        If a required package is not installed.
    DeviceError
        If the GPU does not exist or cannot be used.
    BackendError
        If TensorRT cannot build the engine, or the engine cannot be run.
    OutputError
        If a file cannot be written.
    """
    options = options or BuildOptions()
    if Path(out).suffix.lower() == ".onnx":
        return write_quantized(onnx, out, options, progress=progress, overwrite=overwrite)
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
        check=lambda plan, prepared, _: check_engine(plan, prepared, device, Path(onnx), options),
    )


def cuda_problem(gpu: Gpu) -> str:
    """Return why engines cannot be built and run on this GPU, one line; empty if they can."""
    try:
        flavour = flavours.choose(can_build=True)
        if flavour.is_rtx and gpu.compute_capability not in RTX_CAPABILITIES:
            return f"{flavour} does not support {gpu}; {flavours.remedy()}"
        for module, extra in REQUIRED.items():
            if not _is_installed(module):
                return f'{module} is not installed: pip install "scrfd-trt[{extra}]"'
        kernels.nvrtc_release()
    except (DeviceError, MissingDependencyError, OptionError) as error:
        return str(error)
    return ""


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that contains it is missing
        return False
