"""The detector: opens a pipeline, checks what comes in, and closes it again."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices, models
from scrfd_trt._detections import Detections
from scrfd_trt._heads import HeadLayout
from scrfd_trt._pipelines import HostPipeline, Pipeline
from scrfd_trt._pipelines.streaming import in_order
from scrfd_trt.backends import Backend
from scrfd_trt.errors import ClosedError, ImageError, OptionError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from typing_extensions import Self

    from scrfd_trt._engine.build_options import BuildOptions
    from scrfd_trt._engine.progress import BuildProgress
    from scrfd_trt._options import DetectorOptions
    from scrfd_trt._pipelines.cuda import DeviceDetections


class SCRFDDetector:
    """Finds faces with a SCRFD network.

    Open one with :meth:`from_pretrained`, :meth:`from_onnx`, :meth:`from_engine` or :meth:`from_backend`, and close it
    with ``close()`` or a ``with`` block.

    Parameters
    ----------
    pipeline
        The way from images to detections. It belongs to the detector from now on and is closed with it.
    options
        How to look at images.
    device
        What the pipeline runs on.

    Attributes
    ----------
    device : str
        ``cpu`` or ``cuda:n``.
    options : DetectorOptions
        As given.

    Notes
    -----
    Several threads may use one detector at the same time; results are the same as from one thread.
    """

    def __init__(self, pipeline: Pipeline, options: DetectorOptions, *, device: str) -> None:
        self._pipeline = pipeline
        self._closed = False
        self.options = options
        self.device = device

    @classmethod
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
        """Open a network that is known by name, and fetch it where it is not there yet.

        Parameters
        ----------
        name
            The name of one of ``scrfd_trt.models.list_models()``.
        device
            ``cpu``, ``cuda``, ``cuda:n``, or ``auto``, which takes what works and says so in the log. On a GPU an
            engine is built when the network is first opened, which takes minutes, and kept.
        build
            How to build the engine; None takes the defaults, at the sizes of ``scales``.
        progress
            Is told how far the build of an engine has come.
        stream
            A CUDA stream to work in: anything with ``__cuda_stream__``, or a handle as an int. Runs go one after the
            other in it, behind what else is in it. None makes one for each run that goes on at the same time.
        **options
            Fields of :class:`~scrfd_trt._options.DetectorOptions`: threshold, iou, scales, max_faces, color, max_batch.

        Raises
        ------
        OptionError
            If the name or an option is not known.
        ModelError
            If the network cannot be found or fetched, or its engine finds other faces.
        DeviceError
            If the device is not there or cannot be used.
        BackendError
            If no engine can be built or opened.
        MissingDependencyError
            If a package is needed that is not installed.
        """
        checked = _validated(options)
        opening = _opening()
        where = _devices.choose(device, opening.cuda_problem)
        pipeline = opening.open_onnx(models.fetch(name), checked, where, build, progress=progress, stream=stream)
        return cls(pipeline, checked, device=where)

    @classmethod
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
        """Open a network of an ONNX file.

        Parameters
        ----------
        path
            Any SCRFD export; the head layout is recognised from the network itself.
        device, build, progress, stream, **options
            As for :meth:`from_pretrained`.

        Raises
        ------
        ModelNotFoundError
            If there is no such file.
        ModelFormatError
            If it is no SCRFD network.
        OptionError, DeviceError, BackendError, MissingDependencyError
            As for :meth:`from_pretrained`.
        """
        checked = _validated(options)
        opening = _opening()
        where = _devices.choose(device, opening.cuda_problem)
        pipeline = opening.open_onnx(Path(path), checked, where, build, progress=progress, stream=stream)
        return cls(pipeline, checked, device=where)

    @classmethod
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
            The plan. Names, shapes, profiles and head layout are read from it.
        device
            ``cuda`` or ``cuda:n``.
        stream
            As for :meth:`from_pretrained`.
        lean_runtime
            ``libnvinfer_lean.so.…`` of the release that built a version compatible plan, where TensorRT here is a newer
            one; None takes it from the environment variable ``TRT_LEAN_RUNTIME``.
        allow_host_code
            Whether code for the processor that is inside the plan may run. Allow it only if you trust where the plan
            comes from.
        **options
            As for :meth:`from_pretrained`.

        Raises
        ------
        ModelNotFoundError
            If there is no such file.
        ModelFormatError
            If it is no plan, a damaged one, or one of another network.
        BackendError
            If this TensorRT or this GPU cannot run it.
        OptionError, DeviceError, MissingDependencyError
            As for :meth:`from_pretrained`.
        """
        checked = _validated(options)
        kind, number = _devices.parse(device)
        if kind != "cuda":
            raise OptionError(
                f"an engine runs on a GPU: device must be cuda or cuda:n, not {device!r}",
                fields=["device"],
                value=device,
            )
        pipeline = _opening().open_engine(
            Path(path), checked, number or 0, stream=stream, lean_runtime=lean_runtime, allow_host_code=allow_host_code
        )
        return cls(pipeline, checked, device=f"cuda:{number or 0}")

    @classmethod
    def from_backend(cls, backend: Backend, *, device: str = "cpu", **options: Any) -> Self:
        """Open a detector around a backend of one's own, a recording say.

        Parameters
        ----------
        backend
            It belongs to the detector from now on and is closed with it.
        device
            What to say in ``detector.device``.
        **options
            As for :meth:`from_pretrained`.
        """
        try:
            checked = _validated(options)
            return cls(HostPipeline(backend, checked), checked, device=device)
        except BaseException:
            backend.close()
            raise

    @property
    def layout(self) -> HeadLayout:
        """The head layout that was recognised."""
        return self._pipeline.layout

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """Width and height in pixels of each pass over an image."""
        return self._pipeline.scales

    @property
    def description(self) -> str:
        """What runs, and how, on one line."""
        sizes = " + ".join(f"{width}×{height}" for width, height in self.scales)
        return f"{self.device}: {self._pipeline.description}; {self.layout}; {sizes}"

    def detect(self, image: Any, *, threshold: float | None = None, max_faces: int | None = None) -> Detections:
        """Find the faces of one image.

        Parameters
        ----------
        image
            ``(H, W, 3)`` uint8, BGR as OpenCV reads it (RGB with ``color="rgb"``), of any size from 1×1 up. Grey, with
            alpha, or float from 0 to 1 is converted; see :func:`scrfd_trt._images.as_color`. It is never written to. A
            detector on a GPU also takes arrays that lie there, with DLPack or ``__cuda_array_interface__``: ``(H, W,
            3)`` uint8 with any strides, read where they are, behind the work of the library that made them.
        threshold
            Lowest score, 0 to 1, in place of the detector's own.
        max_faces
            Keep only so many faces, in place of the detector's own, which None keeps.

        Returns
        -------
        Detections
            By falling score, in pixels of this image. Boxes of faces that are cut by the border may reach beyond it.

        Raises
        ------
        ImageError
            If the image cannot be understood.
        OptionError
            If threshold or max_faces is out of range.
        BackendError
            If the network cannot be run, or gives numbers that are no faces.
        ModelFormatError
            If it gives another number of rows than SCRFD does.
        ClosedError
            After ``close()``.
        """
        self._check_open()
        return self._detect([self._pipeline.take(image)], threshold, max_faces)[0]

    def detect_batch(
        self, images: Iterable[Any], *, threshold: float | None = None, max_faces: int | None = None
    ) -> list[Detections]:
        """Find the faces of several images, which may differ in size.

        They go through the network ``max_batch`` at a time where it has a batch axis, else one by one; the results are
        the same.

        Parameters
        ----------
        images
            Each as for :meth:`detect`.
        threshold, max_faces
            As for :meth:`detect`.

        Returns
        -------
        list of Detections
            One an image, in order.

        Raises
        ------
        ImageError
            If one cannot be understood; the message gives its number, from 0.
        OptionError, BackendError, ClosedError
            As for :meth:`detect`.
        """
        return self._detect(self._take_all(images, "detect_batch"), threshold, max_faces)

    def detect_on_gpu(
        self, images: Iterable[Any], *, threshold: float | None = None, max_faces: int | None = None
    ) -> list[DeviceDetections]:
        """Find the faces of several images, and leave them in the GPU's memory.

        Parameters
        ----------
        images, threshold, max_faces
            As for :meth:`detect_batch`.

        Returns
        -------
        list of DeviceDetections
            One an image, in order; its columns have DLPack.

        Raises
        ------
        OptionError
            If the detector does not run on a GPU.
        BackendError
            As for :meth:`detect`; and if an image has more candidates than can be finished on the GPU, 4,096.
        ImageError, ClosedError
            As for :meth:`detect_batch`.
        """
        on_gpu = getattr(self._pipeline, "detect_on_gpu", None)
        if on_gpu is None:
            raise OptionError(
                "detect_on_gpu needs a detector on a GPU; open one with device cuda, or call detect_batch"
            )
        found: list[DeviceDetections] = on_gpu(
            self._take_all(images, "detect_on_gpu"), *self._limits(threshold, max_faces)
        )
        return found

    def submit(
        self, images: Iterable[Any], *, threshold: float | None = None, max_faces: int | None = None
    ) -> Future[list[Detections]]:
        """Do what :meth:`detect_batch` does while the caller goes on.

        Parameters
        ----------
        images, threshold, max_faces
            As for :meth:`detect_batch`. The images must not be changed until the future is done.

        Returns
        -------
        concurrent.futures.Future
            Its ``result()`` is what :meth:`detect_batch` would return, or raises what it would raise. On a GPU up to
            three go on at a time.

        Raises
        ------
        ImageError, OptionError, ClosedError
            As for :meth:`detect_batch`.
        """
        return self._pipeline.submit(self._take_all(images, "submit"), *self._limits(threshold, max_faces))

    async def detect_async(
        self, image: Any, *, threshold: float | None = None, max_faces: int | None = None
    ) -> Detections:
        """Do what :meth:`detect` does, in an asyncio program."""
        import asyncio  # noqa: PLC0415 - slow to import

        future = self.submit([image], threshold=threshold, max_faces=max_faces)
        return (await asyncio.wrap_future(future))[0]

    def stream(
        self,
        images: Iterable[Any],
        *,
        batch: int | None = None,
        in_flight: int = 3,
        threshold: float | None = None,
        max_faces: int | None = None,
    ) -> Iterator[Detections]:
        """Find the faces of images that come one after the other, of a video say, and keep the whole machine busy.

        While some images are on the GPU, the next are read and copied, and results of those before are handed out.

        Parameters
        ----------
        images
            Each as for :meth:`detect`. They are read as they are needed, and must not be changed until their result
            is there.
        batch
            How many go through the network at a time, up to ``max_batch``, which None stands for, and to what the
            network takes.
        in_flight
            How many batches may be under way.
        threshold, max_faces
            As for :meth:`detect`.

        Yields
        ------
        Detections
            One an image, in order.

        Raises
        ------
        ImageError
            If an image cannot be understood; the message gives its number, from 0.
        OptionError, BackendError, ClosedError
            As for :meth:`detect`.
        """
        self._check_open()
        asked = self.options.max_batch if batch is None else _count("batch", batch)
        size = min(asked, self._pipeline.images_at_once)
        limits = self._limits(threshold, max_faces)
        taken = self._numbered(_each(images, "stream"))
        return in_order(lambda group: self._pipeline.start(group, *limits), taken, size, _count("in_flight", in_flight))

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Make an array to read a frame into, from where the GPU takes it without the processor's help.

        Parameters
        ----------
        shape
            ``(height, width, 3)``, or any other.

        Returns
        -------
        numpy.ndarray
            ``shape`` uint8 in page-locked memory, with anything in it. The memory is given back when nobody uses the
            array any more. On the processor it is ordinary memory.

        Raises
        ------
        BackendError
            If there is not enough memory.
        ClosedError
            After ``close()``.
        """
        self._check_open()
        return self._pipeline.pinned(shape)

    def _take_all(self, images: Iterable[Any], name: str) -> list[Any]:
        self._check_open()
        return list(self._numbered(_each(images, name)))

    def _numbered(self, images: Iterable[Any]) -> Iterator[Any]:
        return (self._take(number, image) for number, image in enumerate(images))

    def _take(self, number: int, image: Any) -> Any:
        try:
            return self._pipeline.take(image)
        except ImageError as error:
            raise ImageError(f"image {number}: {error}") from error

    def _limits(self, threshold: float | None, max_faces: int | None) -> tuple[float, int | None]:
        options = self.options
        return (
            options.threshold if threshold is None else _in_range("threshold", threshold, 0.0, 1.0),
            options.max_faces if max_faces is None else _count("max_faces", max_faces),
        )

    def _detect(self, images: list[Any], threshold: float | None, max_faces: int | None) -> list[Detections]:
        return self._pipeline.detect(images, *self._limits(threshold, max_faces))

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the detector was closed; open a new one")

    def close(self) -> None:
        """Give back what the detector holds; a second call does nothing.

        What runs is waited for. Futures of :meth:`submit` and :meth:`detect_async` that have not begun are cancelled:
        take their results before.
        """
        if not self._closed:
            self._closed = True
            self._pipeline.close()

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


def _opening() -> ModuleType:
    """Import what opens networks and engines when one is opened; it takes as long as all the rest together."""
    return import_module("scrfd_trt._pipelines.factory")


def _each(images: Any, name: str) -> Iterator[Any]:
    """Check that these are several images."""
    if hasattr(images, "ndim") and images.ndim < 4:
        raise ImageError(f"{name} takes several images, not one array; for one image call detect(image)")
    try:
        each: Iterator[Any] = iter(images)
    except TypeError as error:
        raise ImageError(f"{name} takes several images, not {type(images).__name__}") from error
    return each


def _in_range(name: str, value: float, low: float, high: float) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise OptionError(
            f"{name} must be a number between {low:g} and {high:g}, not {value!r}", fields=[name], value=value
        )
    return value


def _count(name: str, value: int) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name} must be a whole number of at least 1, not {value!r}", fields=[name], value=value)
    return int(value)
