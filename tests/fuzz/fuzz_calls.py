"""Public functions and methods, called with values that make no sense, and with arrays of any kind and layout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutations import edge_numbers, json_values
from worker import attempt

import scrfd_trt
from scrfd_trt import BackendError, Detections, SCRFDDetector, models, samples
from scrfd_trt.backends import OnnxBackend, RecordedBackend

SECONDS = 20
MEBIBYTES = 256
RECORDING = Path(__file__).parents[1] / "data" / "recorded" / "500m_fp16.npz"
KINDS = ["u1", "i1", "u2", "i4", "f2", "f4", "f8", "c8", "?", "U1", "M8[s]", "V4"]
IMAGE = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
FACES = Detections([[0, 0, 4, 4]], [0.5], [[[0, 0], [3, 0], [1, 1], [0, 3], [3, 3]]], image_size=(6, 8))
OPTIONS = ("threshold", "iou", "scales", "max_faces", "color", "max_batch")


class Foreign:
    """An array of another library, whose protocols raise an error or return any value."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in self.__dict__["values"]:
            raise AttributeError(name)
        value = self.__dict__["values"].get(name)
        if isinstance(value, type) and issubclass(value, Exception):
            raise value("of another\nlibrary")
        return value

    def __reduce__(self) -> Any:
        return Foreign, (self.values,)


def foreign() -> st.SearchStrategy[Foreign]:
    """Return foreign arrays."""
    errors = st.sampled_from([RuntimeError, KeyError, ValueError, BufferError, AttributeError, OSError])
    sides = st.lists(edge_numbers(), max_size=4).map(tuple)
    interface = st.fixed_dictionaries(
        {"shape": sides, "strides": st.one_of(st.none(), sides), "typestr": st.sampled_from(["|u1", "<f4", "x"])},
        optional={"data": st.tuples(edge_numbers(), st.booleans()), "version": edge_numbers()},
    )
    names = ("__cuda_array_interface__", "__array_interface__", "__dlpack_device__", "__dlpack__", "ndim", "shape")
    values = st.one_of(errors, interface, json_values(), sides)
    return st.dictionaries(st.sampled_from(names), values, max_size=4).map(Foreign)


@st.composite
def images(draw: st.DrawFn) -> Any:
    """Return an array in any layout: views with steps, broadcast axes, Fortran order, other byte order."""
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6))
    shape = draw(st.one_of(st.just((8, 6, 3)), st.just(shape)))
    kind = draw(st.one_of(st.just("u1"), st.sampled_from(KINDS)))
    array = draw(arrays.arrays(kind, shape, fill=st.nothing())) if kind != "V4" else np.zeros(shape, kind)
    for change in draw(st.lists(st.sampled_from(sorted(LAYOUTS)), max_size=2)):
        array = LAYOUTS[change](array)
    return array


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "mirrored": lambda array: array[::-1] if array.ndim else array,
    "every second": lambda array: array[..., ::2] if array.ndim else array,
    "turned": lambda array: array.T,
    "columns first": np.asfortranarray,
    "one row": lambda array: np.broadcast_to(array[:1], array.shape) if array.ndim and len(array) else array,
    "swapped bytes": lambda array: array.view(array.dtype.newbyteorder()),
    "masked": np.ma.masked_array,
    "objects": lambda array: array.astype(object),
    "matrix": lambda array: array.view(np.recarray) if array.dtype.names else array,
    "read-only": _read_only,
}


def values() -> st.SearchStrategy[Any]:
    """Return values that make no sense."""
    large = st.sampled_from([10**4000, -(10**4000), 2**63, 1e308, b"\xff", "\ud800", "a\0b", "x" * 5000, (), 1j, type])
    return st.one_of(images(), foreign(), json_values(), edge_numbers(), large, st.lists(images(), max_size=3))


@lru_cache
def recording() -> RecordedBackend:
    """Return a recording, which is read once; its copies are closed."""
    return RecordedBackend(RECORDING)


@lru_cache
def detector() -> SCRFDDetector:
    """Return a detector that plays a recording back."""
    return SCRFDDetector.from_backend(recording(), max_batch=4)


def _options(value: Any, name: str) -> None:
    SCRFDDetector.from_backend(copy(recording()), **{name: value}).close()


def _pin(shape: Any) -> None:
    with suppress(BackendError):  # whoever asks for an array may ask for more memory than there is
        detector().pinned(shape)


def _path(call: Callable[[Any], object], value: Any) -> None:
    """Call a function with a path; pathlib itself raises TypeError for what is none."""
    if isinstance(value, str):
        call(value if value.startswith("/") else f"missing/{value}")


CALLS: dict[str, Callable[[Any], object]] = {
    "detect": lambda value: detector().detect(value),
    "detect_async": lambda value: asyncio.run(detector().detect_async(value)),
    "detect_batch": lambda value: detector().detect_batch(value),
    "detect_batch of two": lambda value: detector().detect_batch([IMAGE, value]),
    "submit": lambda value: detector().submit([value]).result(10),
    "stream": lambda value: list(detector().stream([value])),
    "stream of it": lambda value: list(detector().stream(value)),
    "detect_on_gpu": lambda value: detector().detect_on_gpu(value),
    "threshold": lambda value: detector().detect(IMAGE, threshold=value),
    "max_faces": lambda value: detector().detect(IMAGE, max_faces=value),
    "batch": lambda value: list(detector().stream([], batch=value)),
    "in_flight": lambda value: list(detector().stream([], in_flight=value)),
    "pinned": _pin,
    "pinned side": lambda value: _pin((value, 2, 3)),
    **{f"option {name}": partial(_options, name=name) for name in OPTIONS},
    "backend": SCRFDDetector.from_backend,
    "device": lambda value: SCRFDDetector.from_onnx("missing/a.onnx", device=value),
    "engine device": lambda value: SCRFDDetector.from_engine("missing/a.plan", device=value),
    "onnx": partial(_path, lambda path: SCRFDDetector.from_onnx(path, device="cpu")),
    "engine": partial(_path, SCRFDDetector.from_engine),
    "backend of": partial(_path, OnnxBackend),
    "recording": partial(_path, RecordedBackend),
    "inspect": partial(_path, scrfd_trt.inspect_engine),
    "build": partial(_path, lambda path: scrfd_trt.build_engine(path, "missing/out.plan")),
    "build sizes": lambda value: scrfd_trt.BuildOptions(sizes=value),
    "build batch": lambda value: scrfd_trt.BuildOptions(batch=value),
    "model": models.get,
    "find": models.find,
    "fetch": lambda value: models.fetch(value, download=False),
    "retries": lambda value: models.fetch("10g", download=False, retries=value),
    "status": models.status,
    "scene": samples.load,
    "crop image": FACES.crop,
    "crop margin": lambda value: FACES.crop(IMAGE, value),
    "align image": FACES.align,
    "align size": lambda value: FACES.align(IMAGE, value),
    "supervision": lambda value: Detections.from_supervision(value, (6, 8)),
    "plot": FACES.plot,
    "color": lambda value: FACES.plot(IMAGE, color=value),
    "region": FACES.inside,
    "nms": FACES.nms,
    "concat": Detections.concat,
    "rows": lambda value: Detections.from_rows(value, (6, 8)),
    "row": lambda value: scrfd_trt.Detection(box=value, score=value),
    "equal": FACES.__eq__,
}


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return the name of a call, and its argument."""
    return st.tuples(st.sampled_from(sorted(CALLS)), values())


def check(case: tuple[str, Any]) -> None:
    """Make the call."""
    name, value = case
    before = value.copy() if type(value) is np.ndarray and value.dtype == np.uint8 else None
    attempt(CALLS[name], value)
    assert before is None or np.array_equal(before, value), "the argument was modified"
    assert len(detector().detect(IMAGE)) >= 0
