"""Turn pictures upright as their display matrix says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = TypeVar("Pixels", bound=np.generic)


@dataclass(frozen=True)
class Turn:
    """What is to be done with the rows and columns of a picture, first to last.

    Attributes
    ----------
    transpose
        Rows become columns.
    flip_x, flip_y
        Then mirror left and right, top and bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_x or self.flip_y

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """Read the display matrix of a decoded frame.

        Notes
        -----
        FFmpeg's ``libavutil/display.h``: a pixel at x, y is shown at ``a·x + c·y``, ``b·x + d·y``. Angles between right
        angles are taken to the nearest one.
        """
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV up to 18 knows no EXIF, which photographs have; it still tells the rotation
            turns = {90: cls(True, False, True), 180: cls(False, True, True), 270: cls(True, True, False)}
            return turns.get(frame.rotation % 360, cls())
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the turn."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, plane: NDArray[Pixels]) -> NDArray[Pixels]:
        """Turn the first two axes of an array; a view."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
