"""Execution contexts for many at a time, also where a release allows only one for an optimization profile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrfd_trt.cuda import DeviceBuffer, Stream
from scrfd_trt.engine.loaded import LoadedEngine

if TYPE_CHECKING:
    import tensorrt


@dataclass(eq=False)
class Lent:
    """An execution context, and where it is from.

    Attributes
    ----------
    context
        TensorRT's own; None once it is given back.
    engine
        The copy of the engine that it belongs to.
    profile
        Number of its optimization profile.
    """

    context: tensorrt.IExecutionContext | None
    engine: LoadedEngine
    profile: int


class Contexts:
    """Lends execution contexts of an engine, and opens further copies of it where it must.

    Before TensorRT 10, an optimization profile of an engine serves one execution context only. A SCRFD engine is a few
    megabytes, so it is opened once more where a profile is taken.

    Parameters
    ----------
    engine
        Belongs to this from now on, and is closed with it.
    reopen
        Opens the same engine again.
    """

    def __init__(self, engine: LoadedEngine, reopen: Callable[[], LoadedEngine]) -> None:
        self._copies = [engine]
        self._reopen = reopen
        self._taken: set[tuple[int, int]] = set()
        self._lock = threading.RLock()  # the garbage collector may end a run in the thread that has it

    def take(self, profile: int, stream: Stream, scratch: DeviceBuffer | None) -> Lent:
        """Lend an execution context, with the device current.

        Parameters
        ----------
        profile, stream, scratch
            As for :meth:`LoadedEngine.new_context`.

        Raises
        ------
        BackendError
            If there is not enough memory, say.
        """
        with self._lock:
            number = self._copy_for(profile)
            engine = self._copies[number]
            context = engine.new_context(profile, stream, scratch)
            self._taken.add((number, profile))
            return Lent(context, engine, profile)

    def give_back(self, lent: Lent) -> None:
        """Take a context back, with the device current; its work must be done."""
        with self._lock:
            lent.context = None
            self._taken.discard((self._copies.index(lent.engine), lent.profile))

    def _copy_for(self, profile: int) -> int:
        if self._copies[0].shares_profiles:
            return 0
        for number in range(len(self._copies)):
            if (number, profile) not in self._taken:
                return number
        self._copies.append(self._reopen())
        return len(self._copies) - 1

    def close(self) -> None:
        """Close all copies; a second call does nothing. All contexts must have been given back."""
        while self._copies:
            self._copies.pop().close()
