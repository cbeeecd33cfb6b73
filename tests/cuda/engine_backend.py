"""A TensorRT engine as a backend of the host pipeline, for comparisons with the cuda pipeline."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from scrfd_trt._cuda.memory import copy, free, gpu_memory
from scrfd_trt._cuda.stream import create_stream, synchronize
from scrfd_trt._engine.loaded_engine import LoadedEngine
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._pipelines.profiles import split


def load_engine(source: Any, *, device: int = 0, **options: Any) -> LoadedEngine:
    """Open the engine of a SCRFD model from its path or bytes; options and errors as for :func:`opener`."""
    return opener(read_plan(source), device, **options)()


class EngineBackend:
    """Copy in, run, wait, copy out: one execution context per optimization profile, and new memory for each run.

    Parameters
    ----------
    source, **running
        As for :func:`load_engine`.
    """

    def __init__(self, source: Any, **running: Any) -> None:
        with ExitStack() as opening:
            self._engine = opening.enter_context(load_engine(source, **running))
            self._device = self._engine.device
            self._stream = opening.enter_context(closing(create_stream(self._device)))
            with self._device.current():
                self._scratch = self._engine.new_scratch(self._stream)
            if self._scratch is not None:
                opening.callback(free, self._scratch)
            self._contexts: dict[int, Any] = {}
            opening.callback(self._contexts.clear)
            self._open = opening.pop_all()
        self._lock = threading.Lock()
        self.input, self.outputs, self.ranges = self._engine.input, self._engine.outputs, self._engine.ranges
        self.description = f"{self._engine.flavour} on {self._device.gpu}"

    def run(self, blob):
        with self._lock, self._device.current():
            runs = [self._run(blob[part.start : part.stop], part) for part in split(self.ranges, blob.shape)]
        return runs[0] if len(runs) == 1 else [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]

    def _run(self, blob, part):
        engine, stream, tensors = self._engine, self._stream, (self.input, *self.outputs)
        if part.profile not in self._contexts:
            self._contexts[part.profile] = engine.new_context(part.profile, stream, self._scratch)
        context = self._contexts[part.profile]
        shape = (part.batch_size, *blob.shape[1:])
        engine.call_checked("setting the shape", context.set_input_shape, self.input.name, shape)
        arrays = [np.zeros(tuple(context.get_tensor_shape(tensor.name)), tensor.dtype) for tensor in self.outputs]
        pixels = np.zeros(shape, self.input.dtype)
        pixels[: len(blob)] = blob
        with ExitStack() as memory:
            buffers = [gpu_memory(array.nbytes, self._device, stream) for array in (pixels, *arrays)]
            for tensor, buffer in zip(tensors, buffers, strict=True):
                memory.callback(free, buffer)
                engine.call_checked("setting an address", context.set_tensor_address, tensor.name, int(buffer.handle))
            copy("copying the input", int(buffers[0].handle), pixels.ctypes.data, pixels.nbytes, stream)
            engine.call_checked("running the model", context.execute_async_v3, int(stream.handle))
            for array, buffer in zip(arrays, buffers[1:], strict=True):
                copy("copying an output", array.ctypes.data, int(buffer.handle), array.nbytes, stream)
            synchronize(stream)
        return arrays if part.batch_size == len(blob) else [array[: len(blob)] for array in arrays]

    def close(self) -> None:
        with self._device.current():
            self._open.close()

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
