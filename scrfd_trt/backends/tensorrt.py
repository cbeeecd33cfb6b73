"""Networks on NVIDIA GPUs, through TensorRT engines, between arrays of the host."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.backends.lane import Lane
from scrfd_trt.backends.profiles import Part, split
from scrfd_trt.backends.staging import Staging
from scrfd_trt.cuda import Stream
from scrfd_trt.engine.runtime import load_engine
from scrfd_trt.errors import BackendError, ClosedError, ScrfdError
from scrfd_trt.tensors import ShapeRange

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("scrfd_trt")


class TensorRTBackend:
    """A network of a TensorRT engine, run on an NVIDIA GPU. A context manager.

    Parameters
    ----------
    path
        The plan's, or the plan itself.
    device
        n in ``cuda:n``.
    stream
        A CUDA stream to work in: anything with ``__cuda_stream__``, or a handle as an int. What is in it already is
        done first, and it is waited for at the end of each run. It must live as long as this. None makes one.
    lean_runtime, allow_host_code
        As for :func:`scrfd_trt.engine.runtime.load_engine`.

    Attributes
    ----------
    input, outputs, ranges, description
        As for :class:`scrfd_trt.backends.Backend`.

    Raises
    ------
    ModelError, DeviceError, BackendError, MissingDependencyError, OptionError
        As :func:`scrfd_trt.engine.runtime.load_engine`; and if ``stream`` is no stream of this GPU.

    Notes
    -----
    Several threads may call :meth:`run`; one runs after the other. Each optimization profile has an execution context
    of its own, made when it is first needed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes,
        *,
        device: int = 0,
        stream: Any = None,
        lean_runtime: str | os.PathLike[str] | None = None,
        allow_host_code: bool = False,
    ) -> None:
        with ExitStack() as opening:
            engine = opening.enter_context(
                load_engine(path, device=device, lean_runtime=lean_runtime, allow_host_code=allow_host_code)
            )
            self._device = engine.device
            own = Stream.create(self._device) if stream is None else Stream.borrow(stream, self._device)
            self._stream = opening.enter_context(own)
            self._lanes: dict[int, Lane] = {}
            self._scratch = engine.new_scratch()
            if self._scratch is not None:
                opening.enter_context(self._scratch)
            opening.callback(self._drop_lanes)
            self._source = opening.enter_context(Staging([engine.input], self._device))
            self._target = opening.enter_context(Staging(engine.outputs, self._device))
            self._open = opening.pop_all()
        self._engine = engine
        self._lock = threading.Lock()
        self._closed = False
        self._under_way = False
        self._broken = ""
        self.input = engine.input
        self.outputs = engine.outputs
        self.ranges: tuple[ShapeRange, ...] = engine.ranges
        self.description = f"{engine.flavour} on {self._device.gpu}"

    def run(self, blob: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        """Run the network; see :meth:`scrfd_trt.backends.Backend.run`.

        Parameters
        ----------
        blob
            ``(B, 3, H, W)`` float32, of a size that one of ``ranges`` admits. A batch that is larger than any profile
            takes is split, and one that is smaller is filled up.

        Raises
        ------
        BackendError
            If no profile takes it or the run fails. After a failure on the GPU itself, every later run fails too: open
            the engine again.
        ClosedError
            After ``close()``.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("the network was closed; open it again")
            if self._broken:
                raise BackendError(
                    f"an earlier run failed, and nothing can be run until it is opened again: {self._broken}"
                )
            parts = split(self.ranges, blob.shape)
            if not self._engine.layout.has_batch_axis and [part.places for part in parts] != [1]:
                raise BackendError(
                    f"this network keeps no images of a batch apart: hand in one image at a time, not {len(blob)}"
                )
            with self._device.current():
                runs = [self._run(blob[part.start : part.stop], part) for part in parts]
        return runs[0] if len(runs) == 1 else [np.concatenate(outputs) for outputs in zip(*runs, strict=True)]

    def _run(self, blob: NDArray[np.float32], part: Part) -> list[NDArray[Any]]:
        self._wait_for_rest()
        if part.profile not in self._lanes:
            self._lanes[part.profile] = Lane(self._engine, part.profile, self._stream, self._scratch)
        lane = self._lanes[part.profile]
        lane.prepare((part.places, *blob.shape[1:]), self._source, self._target)
        (array,) = self._source.arrays()
        array[: len(blob)] = blob
        array[len(blob) :] = 0
        del array  # a traceback must not keep a view of memory that close() gives back
        self._execute(lane)
        outputs = self._target.copies()
        return outputs if part.places == len(blob) else [output[: len(blob)] for output in outputs]

    def _execute(self, lane: Lane) -> None:
        self._under_way = True
        try:
            self._source.upload(self._stream)
            lane.start()
            self._target.download(self._stream)
            self._stream.synchronize()
        except ScrfdError as error:
            self._broken = str(error)
            raise
        self._under_way = False

    def _wait_for_rest(self) -> None:
        """Wait for what an interrupted run left in the stream, before its memory is used again."""
        if self._under_way:
            self._stream.synchronize()
            self._under_way = False

    def close(self) -> None:
        """Give the engine, its memory and an own stream back, after a run under way; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                with self._open, self._device.current():
                    self._wait_for_rest()
            except ScrfdError as error:
                if not self._broken:
                    raise
                log.debug("closing after a failed run: %s", str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop_lanes(self) -> None:
        with self._device.current():
            self._lanes.clear()
