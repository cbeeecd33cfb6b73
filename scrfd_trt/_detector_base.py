"""What a detector is besides its detection: how it opens a pipeline, describes it, and closes it."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scrfd_trt import _devices, models
from scrfd_trt._heads import HeadLayout
from scrfd_trt._pipelines import HostPipeline, Pipeline
from scrfd_trt.backends import Backend
from scrfd_trt.errors import ClosedError, OptionError, ScrfdError, memory_errors, shown

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from typing_extensions import Self

    from scrfd_trt._engine.build_options import BuildOptions
    from scrfd_trt._engine.progress import BuildProgress
    from scrfd_trt._options import DetectorOptions


class DetectorBase:
    """Base of :class:`~scrfd_trt.SCRFDDetector`: opens a pipeline, and closes it."""

    _has_own_options = False  # others than the pipeline's

    def __init__(self, pipeline: Pipeline, options: DetectorOptions, *, device: str) -> None:
        self._pipeline = pipeline
        self._closed = False
        self.options = options
        self.device = device

    @classmethod
    @memory_errors("opening the model")
    def from_pretrained(
        cls,
        name: str = "500m_bnkps",
        *,
        device: str = "auto",
        build: BuildOptions | None = None,
        progress: BuildProgress | None = None,
        stream: Any = None,
        **options: Any,
    ) -> Self:
        """Open a model by name; download it if it is not on this machine.

        Parameters
        ----------
        name
            Name of a model in ``scrfd_trt.models.list_models()``.
        device
            ``cpu``, ``cuda``, ``cuda:n``, or ``auto``, which selects a GPU if it can be used, else the CPU, and logs
            the choice. ``cuda:all`` spreads batches over all GPUs of this machine. The first use of a model on a kind
            of GPU builds an engine, which takes minutes, and caches it.
        build
            Build options of the engine; None: the defaults, for the sizes in ``scales``.
        progress
            Build-progress callback.
        stream
            CUDA stream to run in: an object with ``__cuda_stream__``, or a handle as int. All runs are queued in it.
            None: the detector creates a stream for each concurrent run.
        **options
            Fields of :class:`~scrfd_trt.DetectorOptions`: threshold, iou, scales, min_face, rotations, max_faces,
            color, max_batch.

        Raises
        ------
        OptionError
            If the name or an option is invalid.
        ModelError
            If the model cannot be found or downloaded, or its engine does not find the same faces.
        DeviceError
            If the device does not exist or cannot be used.
        BackendError
            If the engine cannot be built or opened.
        MissingDependencyError
            If a required package is not installed.
        """
        checked = _validated(options)
        factory = _factory()
        where = _devices.choose(device, factory.cuda_problem)
        pipeline = factory.open_onnx(models.fetch(name), checked, where, build, progress=progress, stream=stream)
        return cls(pipeline, checked, device=where)

    @classmethod
    @memory_errors("opening the model")
    def from_onnx(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        build: BuildOptions | None = None,
        progress: BuildProgress | None = None,
        stream: Any = None,
        **options: Any,
    ) -> Self:
        """Open a model in an ONNX file.

        Parameters
        ----------
        path
            Any SCRFD export; the head layout is detected from its outputs.
        device, build, progress, stream, **options
            As for :meth:`from_pretrained`.

        Raises
        ------
        ModelNotFoundError
            If the file does not exist.
        ModelFormatError
            If it is not a SCRFD model.
        OptionError, DeviceError, BackendError, MissingDependencyError
            As for :meth:`from_pretrained`.
        """
        checked = _validated(options)
        factory = _factory()
        where = _devices.choose(device, factory.cuda_problem)
        pipeline = factory.open_onnx(Path(path), checked, where, build, progress=progress, stream=stream)
        return cls(pipeline, checked, device=where)

    @classmethod
    @memory_errors("opening the engine")
    def from_engine(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "cuda",
        stream: Any = None,
        lean_runtime: str | os.PathLike[str] | None = None,
        allow_host_code: bool = False,
        **options: Any,
    ) -> Self:
        """Open a TensorRT engine.

        Parameters
        ----------
        path
            The engine file (plan). Names, shapes, profiles and head layout are read from it.
        device
            ``cuda``, ``cuda:n``, or ``cuda:all``.
        stream
            As for :meth:`from_pretrained`.
        lean_runtime
            ``libnvinfer_lean.so.…`` of the release that built a version-compatible plan, if the installed TensorRT is
            newer; None: the environment variable ``TRT_LEAN_RUNTIME``.
        allow_host_code
            Whether CPU code inside the plan may run. Set it only if you trust the source of the plan.
        **options
            As for :meth:`from_pretrained`.

        Raises
        ------
        ModelNotFoundError
            If the file does not exist.
        ModelFormatError
            If it is not a plan, is damaged, or is not an engine of a SCRFD model.
        BackendError
            If this TensorRT or this GPU cannot run it.
        OptionError, DeviceError, MissingDependencyError
            As for :meth:`from_pretrained`.
        """
        checked = _validated(options)
        kind, number = _devices.parse(device)
        if kind not in ("cuda", "all"):
            raise OptionError(
                f"an engine requires a GPU: device must be cuda, cuda:n or cuda:all, not {shown(device)}",
                fields=["device"],
                value=device,
            )
        factory = _factory()
        how = {"stream": stream, "lean_runtime": lean_runtime, "allow_host_code": allow_host_code}
        open_on = partial(factory.open_engine, Path(path), checked, **how)
        if kind == "all":
            return cls(factory.open_on_all(open_on, stream), checked, device=device)
        return cls(open_on(number or 0), checked, device=f"cuda:{number or 0}")

    @classmethod
    def from_backend(cls, backend: Backend, *, device: str = "cpu", **options: Any) -> Self:
        """Open a detector with a custom backend, such as a recording.

        Parameters
        ----------
        backend
            Runs the model. The detector owns it and closes it.
        device
            Value of ``detector.device``.
        **options
            As for :meth:`from_pretrained`.

        Raises
        ------
        OptionError
            If an option is invalid, or the object is not a backend.
        ModelFormatError
            If it does not run a SCRFD model.
        """
        if not isinstance(backend, Backend):
            raise OptionError(
                f"backend must be an object with the attributes of scrfd_trt.backends.Backend, not {shown(backend)}",
                fields=["backend"],
                value=backend,
            )
        try:
            checked = _validated(options)
            return cls(HostPipeline(backend, checked), checked, device=device)
        except BaseException:
            backend.close()
            raise

    @property
    def _frame_device(self) -> str:
        """The GPU in whose memory the frames of the next video may lie; ``cpu`` if they have to be in host memory."""
        device: str = getattr(self._pipeline, "frame_device", "cpu")
        return device

    @property
    def _takes_looks(self) -> bool:
        """Whether images may have options of their own, as a :class:`~scrfd_trt._passes.Look`."""
        return getattr(self._pipeline, "takes_looks", False)

    @property
    def layout(self) -> HeadLayout:
        """Head layout of the model."""
        return self._pipeline.layout

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """Width and height in pixels of each pass over an image.

        On the CPU, models of free input size run without most of the padding, at smaller sizes: 640×384 for an image of
        16:9 in 640×640.
        """
        return self._pipeline.scales

    @property
    def description(self) -> str:
        """Device, runtime, head layout and sizes on one line."""
        sizes = " + ".join(f"{width}×{height}" for width, height in self.scales)
        limit = "up to " if self._pipeline.cuts_padding else ""
        return f"{self.device}: {self._pipeline.description}; {self.layout}; {limit}{sizes}"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the detector was closed; open a new one")

    def close(self) -> None:
        """Release all resources; a second call does nothing.

        Waits for running work. Calls of :meth:`submit` and :meth:`detect_async` that have not started raise
        ``ClosedError``.
        """
        if not self._closed:
            self._closed = True
            self._pipeline.close()

    def __reduce__(self) -> NoReturn:
        raise ScrfdError("a detector cannot be pickled or copied: open one in each process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SCRFDDetector {'closed' if self._closed else self.description}>"


def _validated(options: dict[str, Any]) -> DetectorOptions:
    from scrfd_trt._options import DetectorOptions  # noqa: PLC0415 - imports pydantic

    return DetectorOptions(**options)


def _factory() -> ModuleType:
    """Import the engine modules on first use: they double the import time."""
    return import_module("scrfd_trt._pipelines.factory")
