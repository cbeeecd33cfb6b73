"""Record the outputs of a model in a small file, and play them back where the model cannot run."""

from __future__ import annotations

import json
import operator
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _forks
from scrfd_trt._files import check_readable
from scrfd_trt._heads import HeadLayout, recognize
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends._base import Backend
from scrfd_trt.errors import BackendError, ClosedError, ModelFormatError, one_line

FORMAT = 1
INVALID = (
    *(AttributeError, EOFError, LookupError, MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""Errors of reading a file that is not a recording."""


class Recorder:
    """A backend that forwards each run to another backend and records its outputs.

    Parameters
    ----------
    backend
        The backend that runs. The caller keeps ownership: ``close()`` of the recorder leaves it open.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.input = backend.input
        self.outputs = tuple(backend.outputs)
        self.ranges = tuple(backend.ranges)
        self.description = f"recorder of {backend.description}"
        self._runs: list[tuple[tuple[int, ...], list[NDArray[Any]]]] = []

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the other backend and record its outputs; see :meth:`scrfd_trt.backends.Backend.run`."""
        outputs = self._backend.run(blob)
        self._runs.append((blob.shape, list(outputs)))
        return outputs

    def close(self) -> None:
        """Do nothing: the caller owns the other backend."""

    def save(self, path: str | Path, *, threshold: float = 0.0) -> None:
        """Write the recorded runs to a file.

        Parameters
        ----------
        path
            The ``.npz`` file to write; values are rounded to float16 and compressed.
        threshold
            Minimum score of the rows to store, 0 to 1. Other rows become zeros, so that the file is small and they
            play back as no face.
        """
        layout = recognize(self.outputs)
        about = {
            "format": FORMAT,
            "description": self._backend.description,
            "input": asdict(self.input),
            "outputs": [asdict(tensor) for tensor in self.outputs],
            "ranges": [asdict(accepted) for accepted in self.ranges],
            "runs": [list(shape) for shape, _ in self._runs],
        }
        arrays = {
            f"run{number}_{index}": output.astype(np.float16)
            for number, (_, outputs) in enumerate(self._runs)
            for index, output in enumerate(_zero_below(layout, outputs, threshold))
        }
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type,unused-ignore]


class RecordedBackend:
    """A backend that plays back recorded runs in their order, again and again. Several threads may use it.

    Parameters
    ----------
    path
        A file that :meth:`Recorder.save` wrote.

    Raises
    ------
    ModelNotFoundError
        If the file does not exist.
    ModelFormatError
        If the file is not a recording.
    """

    def __init__(self, path: str | Path) -> None:
        check_readable(Path(path))
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                self.input = _tensor(about["input"])
                self.outputs = tuple(_tensor(values) for values in about["outputs"])
                self.ranges = tuple(_range(values) for values in about.get("ranges", ()))
                self._runs = [
                    (tuple(shape), [_numbers(file[f"run{number}_{index}"]) for index in range(len(self.outputs))])
                    for number, shape in enumerate(about["runs"])
                ]
                self.description = f"recording of {about['description']}"
        except INVALID as error:
            raise ModelFormatError(
                f"{path}: this is not a recording of a model's outputs ({one_line(error)})"
            ) from error
        self._next = 0
        self._lock = _forks.Lock()
        self._closed = False

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Return the outputs of the next recorded run, as float32; see :meth:`scrfd_trt.backends.Backend.run`.

        Raises
        ------
        BackendError
            If the next run was recorded with an input of another shape.
        """
        if self._closed:
            raise ClosedError("the recording was closed; open it again")
        with self._lock:
            if not self._runs:
                raise BackendError("the recording contains no run")
            shape, outputs = self._runs[self._next]
            if shape != blob.shape:
                raise BackendError(f"run {self._next} was recorded with input {shape}, not {blob.shape}")
            self._next = (self._next + 1) % len(self._runs)
        return [output.astype(np.float32) for output in outputs]

    def close(self) -> None:
        """Refuse further runs."""
        self._closed = True


def _zero_below(layout: HeadLayout, outputs: list[NDArray[Any]], threshold: float) -> list[NDArray[Any]]:
    """Return the outputs with zeros in all rows of a lower score."""
    kept = list(outputs)
    groups = [layout.scores, layout.boxes, *([] if layout.landmarks is None else [layout.landmarks])]
    for score, *others in zip(*groups, strict=True):
        above = outputs[score].astype(np.float32, copy=False) >= np.float32(threshold)
        for index in (score, *others):
            # In a grid, the values of an anchor are adjacent channels; otherwise they are the last axis.
            values = outputs[index].shape[1] // layout.anchors if layout.kind == "grid" else 1
            kept[index] = outputs[index] * np.repeat(above, values, axis=1)
    return kept


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "f":
        raise TypeError(f"values of type {array.dtype} instead of floats")
    return array


def _tensor(values: dict[str, Any]) -> TensorSpec:
    shape = tuple(None if side is None else operator.index(side) for side in values["shape"])
    return TensorSpec(str(values["name"]), shape, str(values["dtype"]))


def _range(values: dict[str, Any]) -> ShapeRange:
    return ShapeRange(*(tuple(map(operator.index, values[end])) for end in ("min", "opt", "max")))
