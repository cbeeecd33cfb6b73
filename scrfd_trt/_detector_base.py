"""What a detector is besides its detection: how it is opened, described, sent to other processes, and closed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from scrfd_trt import _devices, _forks, models
from scrfd_trt._files import user_path
from scrfd_trt._heads import HeadLayout
from scrfd_trt._option_names import READ_ONLY, DetectorKeywords, Explained, explained_options, listed_options
from scrfd_trt._pipelines import HostPipeline, Pipeline
from scrfd_trt.backends import Backend
from scrfd_trt.errors import ClosedError, OptionError, ScrfdError, memory_errors, shown

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from scrfd_trt._engine.build_options import BuildOptions
    from scrfd_trt._engine.progress import BuildProgress
    from scrfd_trt._options import DetectorOptions

Opened = tuple[Pipeline, str]  # and its device


class SharedModel:
    """A pipeline that all copies of a detector share, and that another process opens again by the same recipe.

    Without ``opened``, the pipeline is opened at its first use. ``recipe`` opens it, or says why there is none.
    """

    def __init__(self, recipe: Any, opened: Opened | None = None, key: bytes = b"") -> None:
        self._recipe, self._opened, self._key = recipe, opened, key or os.urandom(16)
        self._lock, self.is_closed = _forks.Lock(), False
        _shared[self._key] = self

    @property
    def opened(self) -> Opened:
        if self._opened is None:
            with self._lock:
                self.check_open()
                self._opened = self._opened or self._recipe()
        return self._opened

    def check_open(self) -> None:
        if self.is_closed:
            raise ClosedError("the detector was closed; open a new one")

    def close(self) -> None:
        with self._lock:
            opened, self.is_closed = None if self.is_closed else self._opened, True
        if opened:
            opened[0].close()

    def __reduce__(self) -> tuple[Callable[..., SharedModel], tuple[bytes, Callable[[], Opened]]]:
        self.check_open()
        if isinstance(self._recipe, str):
            raise ScrfdError(f"a detector with {self._recipe} cannot be pickled or copied: open one in each process")
        return _in_this_process, (self._key, self._recipe)


_shared: WeakValueDictionary[bytes, SharedModel] = WeakValueDictionary()  # those open in this process
_received: deque[SharedModel] = deque(maxlen=4)  # they stay open after their detectors are gone
_lock = _forks.Lock()


def _in_this_process(key: bytes, recipe: Callable[[], Opened]) -> SharedModel:
    """Return the model with this key; a new one if this process has none, or closed it."""
    with _lock:
        model = _shared.get(key)
        if model is None or model.is_closed:
            model = SharedModel(recipe, key=key)
            _received.append(model)
    return model


class OpenKeywords(DetectorKeywords, total=False):
    """Keywords of the functions that open models."""

    device: str | int
    build: BuildOptions | None
    progress: BuildProgress | None
    stream: Any


class DetectorBase(Explained):
    """Base of :class:`~scrfd_trt.SCRFDDetector`: opens a model, describes it, and closes it."""

    options: DetectorOptions
    """Options of the detection."""
    _has_own_options = False  # others than the pipeline's
    if not TYPE_CHECKING:  # type checkers know what is read-only

        def __setattr__(self, name: str, value: Any) -> None:
            if name in READ_ONLY or (name == "options" and name in vars(self)):
                what = f"{name} of a detector is read-only: open another, or pass threshold and max_faces to detect(…)"
                raise OptionError(what, fields=[name], value=value)
            super().__setattr__(name, value)

    @explained_options
    @listed_options(OpenKeywords)
    def __init__(self, name: str | os.PathLike[str] = models.DEFAULT_MODEL, **options: Unpack[OpenKeywords]) -> None:
        if name in ("cpu", "gpu", "auto") or str(name).startswith("cuda"):
            raise OptionError(f"pass the device by name: device={name!r}", fields=["device"], value=name)
        if PurePath(str(name)).suffix.lower() in (".pt", ".pth"):
            raise OptionError(f"{name} is a checkpoint of PyTorch: export it to ONNX", fields=["name"], value=name)
        how: dict[str, Any] = {".onnx": self.from_onnx, ".engine": self.from_engine, ".plan": self.from_engine}
        if open_file := how.get(PurePath(str(name)).suffix.lower()):
            vars(self).update(vars(open_file(name, **options)))
        else:
            self._open_model(models.fetch, name, **options)

    @classmethod
    @listed_options(OpenKeywords)
    def from_pretrained(cls, name: str = models.DEFAULT_MODEL, **options: Unpack[OpenKeywords]) -> Self:
        """Open a model by name: the same as ``SCRFDDetector(name, …)``."""
        return cls(name, **options)

    @classmethod
    @explained_options
    @listed_options(OpenKeywords)
    def from_onnx(cls, path: str | os.PathLike[str], **options: Unpack[OpenKeywords]) -> Self:
        """Open a model in an ONNX file.

        Parameters
        ----------
        path
            Any SCRFD export; the head layout is detected from its outputs.
        **options
            As for :class:`SCRFDDetector`.

        Raises
        ------
        ModelNotFoundError
            If the file does not exist.
        ModelFormatError
            If it is not a SCRFD model.
        OptionError, DeviceError, BackendError, MissingDependencyError
            As for :class:`SCRFDDetector`.
        """
        return cls.__new__(cls)._open_model(Path, _path(path), **options)

    @classmethod
    @explained_options
    @listed_options(DetectorKeywords)
    def from_engine(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str | int = "cuda",
        stream: Any = None,
        lean_runtime: str | os.PathLike[str] | None = None,
        allow_host_code: bool = False,
        **options: Unpack[DetectorKeywords],
    ) -> Self:
        """Open a TensorRT engine.

        Parameters
        ----------
        path
            The engine file (plan). Names, shapes, profiles and head layout are read from it.
        device
            ``cuda``, ``cuda:n``, or ``cuda:all``.
        stream
            As for :class:`SCRFDDetector`.
        lean_runtime
            ``libnvinfer_lean.so.…`` of the release that built a version-compatible plan, if the installed TensorRT is
            newer; None: the environment variable ``TRT_LEAN_RUNTIME``.
        allow_host_code
            Whether CPU code inside the plan may run. Set it only if you trust the source of the plan.
        **options
            As for :class:`SCRFDDetector`.

        Raises
        ------
        ModelNotFoundError
            If the file does not exist.
        ModelFormatError
            If it is not a plan, is damaged, or is not an engine of a SCRFD model.
        BackendError
            If this TensorRT or this GPU cannot run it.
        OptionError, DeviceError, MissingDependencyError
            As for :class:`SCRFDDetector`.
        """
        checked = _validated(options)
        how = {"lean_runtime": lean_runtime, "allow_host_code": allow_host_code}
        recipe = partial(_open_engine, _path(path), checked, device, **how)
        return cls.__new__(cls)._open(recipe, checked, stream=stream)

    @classmethod
    @listed_options(DetectorKeywords)
    def from_backend(cls, backend: Backend, *, device: str = "cpu", **options: Unpack[DetectorKeywords]) -> Self:
        """Open a detector with a custom backend, such as a recording.

        Parameters
        ----------
        backend
            Runs the model. The detector owns it and closes it.
        device
            Value of ``detector.device``.
        **options
            As for :class:`SCRFDDetector`.

        Raises
        ------
        OptionError
            If an option is invalid, or the object is not a backend.
        ModelFormatError
            If it does not run a SCRFD model.
        """
        if not isinstance(backend, Backend):
            raise invalid("backend", "an object with the attributes of scrfd_trt.backends.Backend", backend)
        try:
            checked = _validated(options)
            return cls._of(HostPipeline(backend, checked), checked, device=device)
        except BaseException:
            backend.close()
            raise

    @classmethod
    def _of(cls, pipeline: Pipeline, options: DetectorOptions, *, device: str) -> Self:
        """Return a detector with an open pipeline, which it owns and closes."""
        detector = cls.__new__(cls)
        detector._model, detector.options = SharedModel("a backend of its own", (pipeline, device)), options
        return detector

    def _open_model(
        self,
        find: Callable[[Any], Path],
        source: Any,
        *,
        device: str | int = "auto",
        build: BuildOptions | None = None,
        progress: BuildProgress | None = None,
        stream: Any = None,
        **options: Unpack[DetectorKeywords],
    ) -> Self:
        checked = _validated(options)
        recipe = partial(_open_model, find, source, checked, device, build_options=build)
        return self._open(recipe, checked, progress=progress, stream=stream)

    def _open(self, recipe: partial[Opened], options: DetectorOptions, *, stream: Any, **how: Any) -> Self:
        opened = recipe(stream=stream, **how)
        places = [each.absolute() if isinstance(each, Path) else each for each in recipe.args]
        again = "a CUDA stream of its own" if stream is not None else partial(recipe.func, *places, **recipe.keywords)
        self._model, self.options = SharedModel(again, opened), options
        return self

    @property
    def _pipeline(self) -> Pipeline:
        return self._model.opened[0]

    @property
    def device(self) -> str:
        """``cpu``, ``cuda:n`` or ``cuda:all``."""
        return self._model.opened[1]

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
        self._model.check_open()

    def close(self) -> None:
        """Release all resources; a second call does nothing.

        Waits for running work. Calls of :meth:`submit` and :meth:`detect_async` that have not started raise
        ``ClosedError``.
        """
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = self._model
        state = "closed" if model.is_closed else self.description if model._opened else "not opened yet in this process"
        return f"<SCRFDDetector {state}>"


def invalid(name: str, what: str, value: object, choices: Iterable[str] = ()) -> OptionError:
    """Return the error for the value of an option; ``what`` says what it must be."""
    return OptionError(f"{name} must be {what}, not {shown(value)}", fields=[name], value=value, choices=choices)


def _path(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise invalid("path", "the path of a model's file", path)
    return user_path(Path(path))


def _validated(options: DetectorKeywords) -> DetectorOptions:
    from scrfd_trt._options import DetectorOptions  # noqa: PLC0415 - imports pydantic

    return DetectorOptions(**options)


@memory_errors("opening the model")
def _open_model(find: Callable[[Any], Path], source: Any, options: Any, device: str | int, **how: Any) -> Opened:
    from scrfd_trt._pipelines import factory  # noqa: PLC0415 - the engine modules double the import time

    where = _devices.choose(device, factory.cuda_problem)
    return factory.open_onnx(find(source), options, where, **how), where


@memory_errors("opening the engine")
def _open_engine(path: Path, options: DetectorOptions, device: str | int, *, stream: Any = None, **how: Any) -> Opened:
    kind, number = _devices.parse(device)
    if kind not in ("cuda", "all"):
        raise invalid("device", "cuda, cuda:n or cuda:all for an engine", device)
    from scrfd_trt._pipelines import factory  # noqa: PLC0415 - as above

    open_on: Callable[[int], Pipeline] = partial(factory.open_engine, path, options, stream=stream, **how)
    if kind == "all":
        return factory.open_on_all(open_on, stream), _devices.ALL
    return open_on(number or 0), f"cuda:{number or 0}"
