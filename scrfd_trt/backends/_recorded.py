"""Record what a network gave, in a small file, and play it back where the network cannot run."""

from __future__ import annotations

import json
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt._heads import HeadLayout, recognize
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends._base import Backend
from scrfd_trt.errors import BackendError, ClosedError, ModelFormatError, ModelNotFoundError

FORMAT = 1


class Recorder:
    """A backend that passes each run on to another one and keeps what came back.

    Parameters
    ----------
    backend
        The one that runs. It stays the caller's: ``close()`` here leaves it open.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.input = backend.input
        self.outputs = tuple(backend.outputs)
        self.ranges = tuple(backend.ranges)
        self.description = f"recorder of {backend.description}"
        self._runs: list[tuple[tuple[int, ...], list[NDArray[Any]]]] = []

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the other backend and keep its outputs."""
        outputs = self._backend.run(blob)
        self._runs.append((blob.shape, list(outputs)))
        return outputs

    def close(self) -> None:
        """Do nothing: the other backend is the caller's."""

    def save(self, path: str | Path, *, threshold: float = 0.0) -> None:
        """Write the runs kept so far.

        Parameters
        ----------
        path
            An ``.npz`` file; values are stored as float16 and compressed.
        threshold
            Rows of a lower score are stored as zeros, which makes the file small: they play back as no face.
        """
        layout = recognize(self.outputs)
        about = {
            "format": FORMAT,
            "description": self._backend.description,
            "input": _to_json(self.input),
            "outputs": [_to_json(tensor) for tensor in self.outputs],
            "ranges": [asdict(each) for each in self.ranges],
            "runs": [list(shape) for shape, _ in self._runs],
        }
        arrays = {
            f"run{number}_{index}": output.astype(np.float16)
            for number, (_, outputs) in enumerate(self._runs)
            for index, output in enumerate(_without_quiet_rows(layout, outputs, threshold))
        }
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type,unused-ignore]


class RecordedBackend:
    """A backend that plays a recording: the runs come back in the order in which they were recorded.

    Parameters
    ----------
    path
        What :meth:`Recorder.save` wrote.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If it is no recording.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise ModelNotFoundError(f"{path}: there is no such file")
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                self.input = _from_json(about["input"])
                self.outputs = tuple(_from_json(tensor) for tensor in about["outputs"])
                self.ranges = tuple(_range_from_json(each) for each in about.get("ranges", ()))
                self._runs = [
                    (tuple(shape), [file[f"run{number}_{index}"] for index in range(len(self.outputs))])
                    for number, shape in enumerate(about["runs"])
                ]
        except (
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            EOFError,
            OSError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise ModelFormatError(f"{path}: this is no recording of a network's outputs ({error})") from error
        self.description = f"recording of {about['description']}"
        self._next = 0
        self._lock = threading.Lock()
        self._closed = False

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Return the next run's outputs as float32; after the last one the first comes again.

        Raises
        ------
        BackendError
            If the next run was recorded with an input of another shape.
        """
        if self._closed:
            raise ClosedError("the recording was closed; open it again")
        with self._lock:
            if not self._runs:
                raise BackendError("the recording holds no run")
            shape, outputs = self._runs[self._next]
            if shape != blob.shape:
                raise BackendError(f"run {self._next} was recorded with input {shape}, not {blob.shape}")
            self._next = (self._next + 1) % len(self._runs)
        return [output.astype(np.float32) for output in outputs]

    def close(self) -> None:
        """Refuse further runs."""
        self._closed = True


def _without_quiet_rows(layout: HeadLayout, outputs: list[NDArray[Any]], threshold: float) -> list[NDArray[Any]]:
    kept = list(outputs)
    groups = [layout.scores, layout.boxes, *([] if layout.landmarks is None else [layout.landmarks])]
    for score, *others in zip(*groups, strict=True):
        loud = outputs[score] >= threshold
        for index in (score, *others):
            # In a grid an anchor's values are channels side by side; elsewhere they are the last axis.
            values = outputs[index].shape[1] // layout.anchors if layout.kind == "grid" else 1
            kept[index] = outputs[index] * np.repeat(loud, values, axis=1)
    return kept


def _to_json(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _from_json(values: dict[str, Any]) -> TensorSpec:
    return TensorSpec(values["name"], tuple(values["shape"]), values["dtype"])


def _range_from_json(values: dict[str, Any]) -> ShapeRange:
    return ShapeRange(tuple(values["min"]), tuple(values["opt"]), tuple(values["max"]))
