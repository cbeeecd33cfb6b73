"""What all handles of CUDA's have in common: they are given back once, and say so when used after that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

from scrfd_trt.errors import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self


class Resource(ABC):
    """Something of CUDA's behind a number: a stream, or memory. A context manager.

    Parameters
    ----------
    handle
        CUDA's number or address.
    """

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @property
    def handle(self) -> int:
        """CUDA's number or address.

        Raises
        ------
        ClosedError
            After ``close()``.
        """
        if self._handle is None:
            raise ClosedError(f"the {type(self).__name__} was closed; open a new one")
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._handle is None

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._release(handle)

    @abstractmethod
    def _release(self, handle: int) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
