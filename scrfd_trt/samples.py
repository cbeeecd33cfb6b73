"""Drawn scenes with known faces, for examples and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt._detections import Detections
from scrfd_trt.errors import OptionError, out_of_memory, shown

__all__ = ["Scene", "load", "names"]

_FOLDER = Path(__file__).parent / "assets"


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn picture and the faces in it.

    Attributes
    ----------
    name
        The name that :func:`load` takes.
    image
        ``(H, W, 3)`` uint8, BGR.
    faces
        The true faces, nearest first: boxes from hairline to chin and from cheek to cheek, landmarks, and scores
        of 1.
    """

    name: str
    image: NDArray[np.uint8]
    faces: Detections


def names() -> tuple[str, ...]:
    """Return the names of all scenes, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.png")))


def load(name: str) -> Scene:
    """Read a scene.

    Parameters
    ----------
    name
        ``"group"``: six people in a park, 1280×720 pixels, faces 45 to 215 pixels high. ``"group-640x480"``: six people
        in 640×480 pixels. ``"portrait"``: one face that fills 640×640 pixels.

    Returns
    -------
    Scene
        Each call returns new arrays.

    Raises
    ------
    OptionError
        If the name is unknown.

    Examples
    --------
    >>> from scrfd_trt import samples
    >>> scene = samples.load("group")
    >>> scene.image.shape, len(scene.faces)
    ((720, 1280, 3), 6)
    """
    if not isinstance(name, str) or name not in names():
        raise OptionError(f"no scene {shown(name)}; choose one of: {', '.join(names())}")
    path = _FOLDER / f"{name}.png"
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (MemoryError, cv2.error) as error:
        raise out_of_memory(f"reading the scene {name}") from error
    faces = Detections.from_json(path.with_suffix(".json").read_bytes())
    return Scene(name, np.asarray(image, np.uint8), faces)
