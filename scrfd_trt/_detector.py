"""The detector: checks images, and detects the faces in them."""

from __future__ import annotations

import numbers
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt._detector_base import DetectorBase, invalid
from scrfd_trt._inputs import (
    MAX_BATCH_BYTES,
    Picture,
    as_array,
    decoded_ahead,
    each_of,
    image_source,
    in_order_of,
    is_encoded,
    is_file,
    open_picture,
)
from scrfd_trt._option_names import explained_options
from scrfd_trt._passes import Look, as_look
from scrfd_trt._pipelines.base import Outcome, all_found
from scrfd_trt._pipelines.streaming import Pending, Runs, in_order
from scrfd_trt.errors import (
    BackendError,
    ImageError,
    OptionError,
    ScrfdError,
    is_out_of_memory,
    one_line,
    out_of_memory,
    redact_password,
    shown,
    without_frames,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from scrfd_trt._pipelines.cuda import DeviceDetections


Images = Iterable[Any] | os.PathLike[Any]
Raise = Literal["raise"]
Return = Literal["return"]


@explained_options
class SCRFDDetector(DetectorBase):
    """Face detector that runs a SCRFD model.

    ``SCRFDDetector()`` opens the default model, and downloads it if it is not on this machine. :meth:`from_onnx`,
    :meth:`from_engine` and :meth:`from_backend` open others. Close it with ``close()`` or a ``with`` block. Further
    keywords are the fields of :class:`~scrfd_trt.DetectorOptions`.

    Parameters
    ----------
    name
        Name of a model in ``scrfd_trt.models.list_models()``, or path of a file ``.onnx``, ``.engine`` or ``.plan``.
    device
        ``cpu``, ``cuda``, ``cuda:n`` or n, or ``auto``, which selects a GPU if it can be used, else the CPU, and logs
        the choice. ``cuda:all`` spreads batches over all GPUs of this machine. The first use of a model on a kind
        of GPU builds an engine, which takes minutes, and caches it.
    build
        Build options of the engine; None: the defaults, for the sizes in ``scales``.
    progress
        Build-progress callback.
    stream
        CUDA stream to run in: an object with ``__cuda_stream__``, or a handle as int. All runs are queued in it.
        None: the detector creates a stream for each concurrent run.

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

    Notes
    -----
    A detector is thread-safe; results do not depend on the number of threads.

    A forked process inherits a copy of the detector, which works on the CPU; on a GPU, its calls raise
    :class:`~scrfd_trt.ClosedError`. Another process opens a detector that is pickled at its first use, from the name or
    path, the device and the options; one that is closed or has a backend or a CUDA stream of its own raises ScrfdError.
    Copies within a process share the open model, and are closed with it. The page on other libraries has more.
    """

    def detect(self, image: Any, *, threshold: float | None = None, max_faces: int | None = None) -> Detections:
        """Return the faces in one image.

        Parameters
        ----------
        image
            A path, an ``http`` or ``https`` address (extra ``download``), the bytes of an image file, a binary file
            object, a PIL image, or a ``VideoFrame`` of PyAV: these know their colours, and are turned upright. Of a
            file with several pages or frames, only the first is used, with a warning in the log.

            Or an array ``(H, W, 3)`` uint8 of any size, BGR as OpenCV reads it, or RGB with ``color="rgb"``. A PIL
            image that was made an array is RGB. Grey arrays, arrays with alpha and floats from 0 to 1 are converted.
            Arrays are never modified.

            Or a tensor of PyTorch, JAX, CuPy or another library with DLPack, ``(H, W, 3)`` or ``(3, H, W)``, in the
            order of ``color``. Those in GPU memory require a detector on this GPU, and are uint8 with any strides, with
            DLPack or ``__cuda_array_interface__``. They are read in place, after the pending work of the library that
            created them. A :class:`~scrfd_trt.YUVImage` is a frame of two planes, on the CPU or the GPU.
        threshold
            Minimum score, 0 to 1; None: the detector's own.
        max_faces
            Maximum number of faces; None: the detector's own.

        Returns
        -------
        Detections
            Sorted by descending score, in pixels of this image. Boxes may extend beyond the image border.

        Raises
        ------
        ImageError
            If the image cannot be read or downloaded, or is not supported.
        MissingDependencyError
            If reading it requires a package that is not installed.
        OptionError
            If ``threshold`` or ``max_faces`` is out of range.
        BackendError
            If the model cannot be run, or returns invalid numbers.
        ModelFormatError
            If the model returns another number of rows than SCRFD does.
        ClosedError
            After ``close()``.
        """
        self._check_open()
        found = self._pipeline.detect([self._prepare(image)], *self._limits(threshold, max_faces))[0]
        return self._remember(image, found)

    def _remember(self, image: Any, found: Detections) -> Detections:
        """Note which image has these faces."""
        if type(image) is not np.ndarray and isinstance(image, (str, os.PathLike)):
            found.source = redact_password(os.fsdecode(image))
        found._source = image_source(image, self.options.color)
        return found

    def __call__(self, image: Any, *, threshold: float | None = None, max_faces: int | None = None) -> Detections:
        """Return the faces in one image: :meth:`detect`."""
        return self.detect(image, threshold=threshold, max_faces=max_faces)

    @overload
    def detect_batch(
        self, images: Images, *, threshold: float | None = ..., max_faces: int | None = ..., on_error: Raise = ...
    ) -> list[Detections]: ...

    @overload
    def detect_batch(
        self, images: Images, *, threshold: float | None = ..., max_faces: int | None = ..., on_error: Return
    ) -> list[Detections | ScrfdError]: ...

    def detect_batch(
        self,
        images: Images,
        *,
        threshold: float | None = None,
        max_faces: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Detections] | list[Outcome]:
        """Return the faces in several images, which may differ in size.

        On a GPU, ``max_batch`` images run together if the model has a batch axis, else one by one. On the CPU, each
        image runs on a core of its own. Results are the same.

        Parameters
        ----------
        images
            Images as for :meth:`detect`: a list or another iterable, an array ``(N, H, W, 3)``, an array or column of
            objects (NumPy, pandas), a folder (its images by their suffixes, without subfolders), or a glob
            such as ``photos/**/*.jpg``. Files of folders and patterns are sorted by name. Files are read in several
            threads while others are detected.
        threshold, max_faces
            As for :meth:`detect`.
        on_error
            As for :meth:`stream`.

        Returns
        -------
        list of Detections
            One per image, in order; with ``on_error="return"``, a ScrfdError in the place of each image that fails.

        Raises
        ------
        ImageError
            If an image is not supported; the message gives its index.
        OptionError, BackendError, ClosedError
            As for :meth:`detect`.
        """
        self._check_open()
        each, limits = each_of(images, "detect_batch"), self._limits(threshold, max_faces)
        return_errors, size, in_flight = _returns_errors(on_error), self._pipeline.max_batch, self._pipeline.parallel
        are_arrays = isinstance(images, (list, tuple, np.ndarray)) and not any(map(is_encoded, images))
        if return_errors or not are_arrays:  # then few images are in memory at a time
            return list(self._stream(each, size, in_flight, limits, return_errors=return_errors))
        arrays = list(each)
        found = self._pipeline.detect([self._prepare(image, number) for number, image in enumerate(arrays)], *limits)
        return [self._remember(*pair) for pair in zip(arrays, found, strict=True)]

    def detect_on_gpu(
        self, images: Images, *, threshold: float | None = None, max_faces: int | None = None
    ) -> list[DeviceDetections]:
        """Return the faces in several images as arrays in GPU memory.

        Parameters
        ----------
        images, threshold, max_faces
            As for :meth:`detect_batch`.

        Returns
        -------
        list of DeviceDetections
            One per image, in order; its columns support DLPack.

        Raises
        ------
        OptionError
            If the detector does not run on a GPU.
        BackendError
            As for :meth:`detect`, and if an image has more than 4,096 candidates.
        ImageError, ClosedError
            As for :meth:`detect_batch`.
        """
        on_gpu = getattr(self._pipeline, "detect_on_gpu", None)
        if on_gpu is None:
            what = "detect_on_gpu requires a detector on a GPU; open one with device cuda, or call detect_batch"
            raise OptionError(what)
        prepared = self._prepare_all(images, "detect_on_gpu")
        found: list[DeviceDetections] = on_gpu(prepared, *self._limits(threshold, max_faces))
        return found

    def submit(
        self, images: Images, *, threshold: float | None = None, max_faces: int | None = None
    ) -> Future[list[Detections]]:
        """Run :meth:`detect_batch` asynchronously; return a Future.

        Parameters
        ----------
        images, threshold, max_faces
            As for :meth:`detect_batch`. Files are read before this method returns. Do not modify the images until the
            future is done.

        Returns
        -------
        concurrent.futures.Future
            Its ``result()`` returns or raises what :meth:`detect_batch` would, and raises ``ClosedError`` if the
            detector is closed before the run starts. On a GPU, up to three run concurrently.

        Raises
        ------
        ImageError, OptionError, BackendError, ClosedError
            As for :meth:`detect_batch`.
        """
        return self._pipeline.submit(self._prepare_all(images, "submit"), *self._limits(threshold, max_faces))

    async def detect_async(
        self, image: Any, *, threshold: float | None = None, max_faces: int | None = None
    ) -> Detections:
        """Run :meth:`detect` in an asyncio program.

        Raises
        ------
        ImageError, OptionError, BackendError, ClosedError
            As for :meth:`submit`. Only a task that is cancelled raises ``CancelledError``.
        """
        import asyncio  # noqa: PLC0415 - slow to import

        self._check_open()
        limits = self._limits(threshold, max_faces)
        prepared = await asyncio.to_thread(self._prepare, image) if is_file(image) else self._prepare(image)
        return self._remember(image, (await asyncio.wrap_future(self._pipeline.submit([prepared], *limits)))[0])

    @overload
    def stream(
        self,
        images: Images,
        *,
        batch: int | None = None,
        in_flight: int = 3,
        threshold: float | None = None,
        max_faces: int | None = None,
        on_error: Raise = "raise",
    ) -> Iterator[Detections]: ...

    @overload
    def stream(
        self,
        images: Images,
        *,
        batch: int | None = None,
        in_flight: int = 3,
        threshold: float | None = None,
        max_faces: int | None = None,
        on_error: Return,
    ) -> Iterator[Detections | ScrfdError]: ...

    def stream(
        self,
        images: Images,
        *,
        batch: int | None = None,
        in_flight: int = 3,
        threshold: float | None = None,
        max_faces: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Iterator[Detections] | Iterator[Outcome]:
        """Yield the faces of a sequence of images, such as the frames of a video.

        While the model runs, the next images are read and copied, and earlier results are returned.

        Parameters
        ----------
        images
            As for :meth:`detect_batch`. They are taken on demand; files up to twice the number of cores and one batch
            ahead. Do not modify an image before its result is returned.
        batch
            Images per run of the model, limited by the model; None: ``max_batch``.
        in_flight
            Maximum number of batches whose images are held, on each GPU if there are several. At most three run at the
            same time on a GPU.
        threshold, max_faces
            As for :meth:`detect`.
        on_error
            ``raise`` ends the stream with the error of the first image that fails. ``return`` yields the ScrfdError in
            the image's place and goes on: ImageError if the image is not supported, BackendError if the model returns
            invalid numbers for it. An item that is a ScrfdError itself is then its own result. Errors that concern more
            than one image are raised.

        Yields
        ------
        Detections
            One per image, in order; with ``on_error="return"``, a ScrfdError in the place of each image that fails.

        Raises
        ------
        ImageError
            If an image is not supported; the message gives its index.
        OptionError, BackendError, ClosedError
            As for :meth:`detect`.
        """
        self._check_open()
        wanted = self.options.max_batch if batch is None else _count("batch", batch)
        size = min(wanted, self._pipeline.max_batch)
        limits = self._limits(threshold, max_faces)
        in_flight = _count("in_flight", in_flight) * self._pipeline.parallel
        each, return_errors = each_of(images, "stream"), _returns_errors(on_error)
        return self._stream(each, size, in_flight, limits, return_errors=return_errors)

    def _stream(
        self,
        images: Iterator[Any],
        batch: int,
        in_flight: int,
        limits: tuple[float, int | None],
        *,
        return_errors: bool,
    ) -> Iterator[Outcome]:
        sources: deque[str | None] = deque()

        def start(group: list[Any]) -> Pending[Outcome]:
            return self._pipeline.start(group, *limits)

        ordered = partial(in_order, return_errors=return_errors, max_bytes=MAX_BATCH_BYTES)
        with closing(self._prepared(images, batch, sources, return_errors=return_errors)) as prepared:
            for found in ordered(start, prepared, batch, in_flight):
                source = sources.popleft()
                yield found if isinstance(found, ScrfdError) else self._remember(source, found)

    def warmup(self, shape: tuple[int, ...] | None = None) -> Self:
        """Run the model once in each way, and return the detector; its first detection is then as fast as later ones.

        Parameters
        ----------
        shape
            That of the images to come; None: ``(720, 1280, 3)``, or ``(1080, 1280)`` for NV12.

        Raises
        ------
        ImageError, OptionError, BackendError, ClosedError
            As for :meth:`detect`.
        """
        image = self.pinned(shape or ((1080, 1280) if self.options.color == "nv12" else (720, 1280, 3)))
        image.fill(0)
        prepared = self._prepare(image)
        # On a GPU, three runs may be concurrent, and the second of each size is captured as a graph.
        concurrent, rounds = (1, 1) if self.device == "cpu" else (3 * self._pipeline.parallel, 2)
        for size in [*dict.fromkeys((1, self._pipeline.max_batch))] * rounds:
            places = [range(first, first + size) for first in range(0, concurrent * size, size)]
            runs = ((self._pipeline.start([prepared] * size, *self._limits(None, None)), each) for each in places)
            all_found(Runs(runs).result())
        return self

    def pinned(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array in page-locked memory, from which the GPU copies images fastest.

        Parameters
        ----------
        shape
            Usually ``(height, width, 3)``.

        Returns
        -------
        numpy.ndarray
            uint8, uninitialised. The memory is freed with the last array that uses it. For a detector on the CPU, it is
            ordinary memory.

        Raises
        ------
        OptionError
            If the shape is not a tuple of whole numbers of at least 1.
        BackendError
            If there is not enough memory.
        ClosedError
            After ``close()``.
        """
        self._check_open()
        sides = _shape(shape)
        try:
            return self._pipeline.pinned(sides)
        except (MemoryError, ValueError) as error:  # ValueError: more than an address can count
            raise BackendError(f"there is not enough memory for an array of shape {shown(sides)}") from error

    def _looking(self, min_face: float | None, rotations: tuple[int, ...]) -> SCRFDDetector:
        """Return a detector with the same pipeline, which its owner closes, and these options for each image."""
        if not self._takes_looks:
            return self
        other = object.__new__(type(self))
        options = self.options.model_copy(update={"min_face": min_face, "rotations": rotations})
        vars(other).update(vars(self), options=options, _has_own_options=True)
        return other

    def _prepare_all(self, images: Images, name: str) -> list[Any]:
        self._check_open()
        return list(self._prepared(each_of(images, name), 1, deque()))

    def _prepared(
        self, images: Iterator[Any], batch: int, sources: deque[str | None], *, return_errors: bool = False
    ) -> Generator[Any, None, None]:
        """Yield each image ready for the pipeline, or its error; add its path or address to the sources."""
        with closing(decoded_ahead(images, batch)) as ahead:
            for number, image in enumerate(ahead):
                sources.append(image.source if isinstance(image, Picture) else None)
                try:
                    prepared = self._prepare(image, None if return_errors else number)
                except ScrfdError as error:
                    if not return_errors:
                        raise
                    prepared = without_frames(error)
                yield prepared

    def _prepare(self, image: Any, number: int | None = None) -> Any:
        try:
            if self._has_own_options:
                image = as_look(image, self.options)
            if isinstance(image, Look) and self._takes_looks:
                return replace(image, image=self._convert(image.image))
            return self._convert(image)
        except ImageError as error:
            if number is None:
                raise
            raise ImageError(f"image {number}: {error}") from error
        except (MemoryError, cv2.error) as error:
            what = "the image" if number is None else f"image {number}"
            if is_out_of_memory(error):
                raise out_of_memory(f"converting {what}") from error
            raise ImageError(f"{what} cannot be converted: {one_line(error)}") from error

    def _convert(self, image: Any) -> Any:
        if type(image) is np.ndarray:
            return self._pipeline.prepare_image(image)
        if isinstance(image, Exception):
            raise image
        picture = image if isinstance(image, Picture) else open_picture(image)
        if picture is None:
            return self._pipeline.prepare_image(as_array(image, self.options.color))
        return in_order_of(picture.decode(), self.options.color)

    def _limits(self, threshold: float | None, max_faces: int | None) -> tuple[float, int | None]:
        options = self.options
        return (
            options.threshold if threshold is None else _in_range("threshold", threshold, 0.0, 1.0),
            options.max_faces if max_faces is None else _count("max_faces", max_faces),
        )


def _returns_errors(on_error: str) -> bool:
    choices = ("raise", "return")
    if not isinstance(on_error, str) or on_error not in choices:
        raise invalid("on_error", "raise or return", on_error, choices)
    return on_error == "return"


def _in_range(name: str, value: float, low: float, high: float) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise invalid(name, f"a number between {low:g} and {high:g}", value)
    return float(value)


def _count(name: str, value: int) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise invalid(name, "a whole number of at least 1", value)
    return int(value)


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        sides = tuple(_count("shape", side) for side in shape)
    except (TypeError, OptionError):
        sides = ()
    if not sides:
        raise invalid("shape", "a tuple of whole numbers of at least 1", shape)
    return sides
