"""Clips: not shown yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrfd_trt._studio.settings import Settings
from scrfd_trt.errors import ImageError

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Session


class Clip:
    """A clip of a page."""

    kind = "clip"
    nbytes = 0
    reviewed = False

    def __init__(self, session: Session, key: str, name: str, path: Path, settings: Settings) -> None:
        self.session, self.id, self.name, self.path, self.settings = session, key, name, path, settings
        raise ImageError(f"{name}: clips are not opened yet")

    def look(self) -> bool:
        """Search the clip."""
        return False

    def fail(self, reason: str) -> None:
        """Note why the clip cannot be searched."""

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until the clip has been searched."""

    def info(self) -> dict[str, Any]:
        """Return the state of the clip."""
        return {}

    def set_settings(self, settings: Settings) -> bool:
        """Replace the settings; return whether faces have to be searched again."""
        self.settings = settings
        return False

    def edit(self, _: Any) -> dict[str, Any]:
        """Apply an edit."""
        return {}

    def thumbnail(self, _overlay: str | None, _side: int) -> bytes:
        """Return a small picture."""
        return b""

    @property
    def output_name(self) -> str:
        """The name of the result."""
        return self.name

    @property
    def faces_name(self) -> str:
        """The name of the faces file."""
        return f"{Path(self.name).stem}.faces.jsonl"

    def write(self, path: Path, progress: Callable[[float, float, str], None]) -> None:
        """Write the result."""

    def write_faces(self, path: Path) -> None:
        """Write the faces file."""

    def code(self) -> tuple[str, str]:
        """Return the command line and the program that make the result."""
        return "", ""

    def close(self) -> None:
        """Delete the files."""
