"""What photographs and clips of a page have in common: their state, edits that can be undone, and names of results."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from scrfd_trt._studio.settings import Settings, validated, warnings
from scrfd_trt.errors import ClosedError, ImageError, OptionError, ScrfdError

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Session

MAX_UNDO = 200
Coordinate = Annotated[float, Field(ge=-1e7, le=1e7)]
Corners = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
Progress = Callable[[float, "float | None", str], None]
"""Takes what is done, of how much, and a text; its errors stop what reports to it."""
State = TypeVar("State")


class Place(BaseModel):
    """Where a missing face is at a time."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    t: float = Field(ge=0)
    box: Corners


class Operation(BaseModel):
    """An edit as the page sends it; each kind uses some of the fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    op: str
    faces: list[int] = Field([], max_length=10_000)
    face: int = 0
    box: Corners = (0.0, 0.0, 0.0, 0.0)
    tracks: list[int] = Field([], max_length=10_000)
    visible: bool = False
    track: int = 0
    t: float = 0.0
    cover: int = 0
    places: list[Place] = Field([], max_length=1000)


Changes = Mapping[str, Callable[[Operation], State]]


class History(Generic[State]):
    """The edits of a file, which can be undone; ``first`` is without any."""

    def __init__(self, first: State, now: State | None = None) -> None:
        self.first = first
        self.states, self._at = [first if now is None else now], 0

    @property
    def now(self) -> State:
        """The edits so far."""
        return self.states[self._at]

    def apply(self, operation: Operation, changes: Changes[State]) -> None:
        """Undo, redo, reset, or make one of the changes; raise OptionError if that is not possible."""
        name = operation.op
        if name in ("undo", "redo"):
            if not self.info()[f"can_{name}"]:
                raise OptionError(f"there is nothing to {name}")
            self._at += 1 if name == "redo" else -1
            return
        if name != "reset" and name not in changes:
            raise OptionError(f"there is no edit {name[:40]!r}")
        state = self.first if name == "reset" else changes[name](operation)
        if state != self.now:
            self.states = [*self.states[: self._at + 1], state][-MAX_UNDO - 1 :]
            self._at = len(self.states) - 1

    def info(self) -> dict[str, bool]:
        """Return what is possible, as the page gets it."""
        return {"can_undo": self._at > 0, "can_redo": self._at < len(self.states) - 1}


class Item(ABC):
    """A file of a page. Thread-safe."""

    kind = ""
    size: tuple[int, int]

    def __init__(self, session: Session, key: str, name: str, settings: Settings) -> None:
        self.session, self.id, self.name, self.settings = session, key, name, settings
        self.reviewed = self.closed = False
        self.version = 0  # of the covered picture
        self.state, self._step, self._error = "opening", "Opening", ""
        self._progress: float | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def _report(self, state: str, step: str = "", progress: float | None = None, error: str = "") -> None:
        with self._changed:
            self.state, self._step, self._error = state, step, error
            self._progress = None if progress is None else round(progress, 3)
            self._changed.notify_all()
        self.session.changed(self)

    def fail(self, reason: str) -> None:
        """Note why the file cannot be searched."""
        self._report("failed", error=reason)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the file was removed")

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until the search has ended; raise ImageError if it has failed, ClosedError if the file was removed."""
        with self._changed:
            while self.state not in ("ready", "failed") and not stopped():
                self._check_open()
                self._changed.wait(0.2)
            if self.state == "failed":
                raise ImageError(self._error)

    def edit(self, operation: Any) -> dict[str, Any]:
        """Apply an edit, and return what has changed; raise OptionError if it is not possible."""
        parsed = validated(Operation, operation, "the edit is invalid")
        with self._lock:
            answer = self._edit(parsed)
        self.session.changed(self)
        return answer

    def info(self) -> dict[str, Any]:
        """Return the state as the page gets it; may wait for a picture that is drawn."""
        with self._lock:
            return {
                "id": self.id,
                "name": self.name,
                "kind": self.kind,
                "width": self.size[0],
                "height": self.size[1],
                "state": self.state,
                "step": self._step,
                "progress": self._progress,
                "error": self._error or None,
                "reviewed": self.reviewed,
                "version": self.version,
                "settings": self.settings.model_dump(mode="json"),
                **self._counts(),
                "notes": [*self._notes(), *self._warnings()],
            }

    def _warnings(self) -> list[str]:
        with suppress(ScrfdError):
            return warnings(self.session.overlay(self.settings))
        return []

    @property
    def output_name(self) -> str:
        """The name of the result."""
        return f"{Path(self.name).stem}{'_anonymized' if self.settings.mode == 'hide' else '_overlay'}{self._suffix}"

    @property
    def faces_name(self) -> str:
        """The name of the faces file."""
        return f"{Path(self.name).stem}.faces.jsonl"

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the file takes for as long as the page has it."""

    @property
    @abstractmethod
    def _suffix(self) -> str: ...

    @abstractmethod
    def _counts(self) -> dict[str, Any]:
        """Return faces, doubts, can_undo and can_redo."""

    @abstractmethod
    def _notes(self) -> list[str]: ...

    @abstractmethod
    def _edit(self, operation: Operation) -> dict[str, Any]: ...

    @abstractmethod
    def look(self) -> bool:
        """Search for faces; return whether another look shall follow."""

    @abstractmethod
    def set_settings(self, settings: Settings) -> bool:
        """Replace the settings; return whether the file has to wait for a search again, and then be reviewed again."""

    @abstractmethod
    def thumbnail(self, overlay: str | None, side: int) -> bytes:
        """Return a small covered picture, or an overlay on the best face, as JPEG."""

    @abstractmethod
    def write(self, folder: Path, progress: Progress, *, faces_file: bool) -> list[tuple[str, Path]]:
        """Write the result, on request with its faces file, as they are now; return names and files."""

    @abstractmethod
    def write_faces(self, path: Path) -> None:
        """Write the faces file, from which the command line makes the same result."""

    @abstractmethod
    def code(self) -> tuple[str, str]:
        """Return the command line and the program that make the result."""

    @abstractmethod
    def close(self) -> None:
        """Stop what works on the file, and release what it holds."""
