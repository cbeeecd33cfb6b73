"""Pictures with known faces: a group of people, and a face that fills the frame."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drawing.backdrop import BACKDROPS
from drawing.body import FEET
from drawing.crowd import Spot, place_people, unit_height
from drawing.looks import Look, generator
from drawing.patch import soften
from drawing.placing import draw_face, truth
from scrfd_trt import Detections, OptionError

SMALL = 0.1
"""Faces below this fraction of the unit height have upright heads and uncovered foreheads and eyes."""

Size = tuple[int, int]


class Scene(NamedTuple):
    """A drawn picture and its true faces; see :class:`scrfd_trt.samples.Scene`."""

    image: NDArray[np.uint8]
    faces: Detections


def scene(size: Size = (1280, 720), faces: int = 6, seed: int = 0, *, backdrop: str = "park") -> Scene:
    """Draw a group of people, near and far.

    Parameters
    ----------
    size
        Width and height of the picture in pixels.
    faces
        Number of people; 0 draws the backdrop only.
    seed
        The same arguments give the same picture.
    backdrop
        One of ``BACKDROPS``: park, room or studio.

    Returns
    -------
    Scene
        Faces lie completely inside the picture, do not cover each other, and are rotated by up to 20 degrees. Six faces
        at 1280×720 are about 45 to 215 pixels high; models detect few below 20.

    Raises
    ------
    OptionError
        If the size or a number is invalid, the backdrop is unknown, or the faces do not fit.
    """
    _check(size, seed, backdrop)
    if not _is_integer(faces) or faces < 0:
        raise OptionError(f"faces must be an integer of at least 0, not {faces!r}")
    rng = generator(seed, 41)
    image = BACKDROPS[backdrop](size, seed)
    positions = place_people(size, int(faces), rng)
    small = SMALL * unit_height(size)
    looks = _looks(positions, seed, small)
    people = []
    for spot, look in zip(positions, looks, strict=True):
        limit = 20.0 if spot.size >= small and rng.random() < 0.5 else 8.0
        lean = (float(rng.random()) * 2.0 - 1.0) * limit
        people.append((spot, look, lean))
    for spot, _, _ in people:
        if backdrop != "studio":
            _shadow(image, spot)
    for spot, look, lean in reversed(people):
        draw_face(image, (spot.x, spot.y), spot.size, angle=lean, look=look)
    rows = [truth((spot.x, spot.y), spot.size, lean, look) for spot, look, lean in people]
    return Scene(image, Detections.from_rows(rows, size))


def portrait(size: Size = (640, 640), seed: int = 0, *, fill: float = 0.94, look: Look | None = None) -> Scene:
    """Draw one face that fills the frame.

    Parameters
    ----------
    size
        Width and height of the picture in pixels.
    seed
        The same arguments give the same picture.
    fill
        Size of the face as a fraction of the picture's height or width, whichever is the limit: 0.1 to 1.
    look
        The person; default: random, from the seed.

    Returns
    -------
    Scene
        With one face.

    Raises
    ------
    OptionError
        If the size or a number is invalid.
    """
    _check(size, seed, "studio")
    if not (isinstance(fill, (int, float)) and 0.1 <= fill <= 1.0):
        raise OptionError(f"fill must be between 0.1 and 1, not {fill!r}")
    person = look or Look.random(seed, turn=0.0)
    x1, y1, x2, y2 = truth((0.0, 0.0), 1.0, 0.0, person).box
    height = fill * min(size[1] / (y2 - y1), size[0] / (x2 - x1))
    image = BACKDROPS["studio"](size, seed)
    center = (size[0] / 2.0, size[1] / 2.0)
    face = draw_face(image, center, height, look=person)
    return Scene(image, Detections.from_rows([face], size))


def _is_integer(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _check(size: Size, seed: int, backdrop: str) -> None:
    pair = isinstance(size, (tuple, list)) and len(size) == 2
    if not pair or not all(_is_integer(side) and 1 <= side <= 8192 for side in size):
        raise OptionError(f"size must be width and height from 1 to 8192, not {size!r}")
    generator(seed)
    if backdrop not in BACKDROPS:
        raise OptionError(f"no backdrop {backdrop!r}; choose one of: {', '.join(BACKDROPS)}")


def _looks(places: list[Spot], seed: int, small: float) -> list[Look]:
    """Return people who differ; models need uncovered eyes and foreheads to detect small faces."""
    chosen: list[Look] = []
    for number, spot in enumerate(places):
        plain = {"glasses": False, "fringe": False} if spot.size < small else {}
        crowd = [Look.random((seed * 1009 + 1067 + number) * 8 + choice, **plain) for choice in range(8)]
        crowd.sort(key=lambda look: sum(_similarity(look, other) for other in chosen[-8:]))
        chosen.append(crowd[0])
    return chosen


def _similarity(one: Look, other: Look) -> int:
    weights = {"style": 3, "garment": 3, "skin": 2, "hair": 1, "glasses": 1, "clothes": 1}
    return sum(
        weights.get(field.name, 0) for field in fields(Look) if getattr(one, field.name) == getattr(other, field.name)
    )


def _shadow(image: NDArray[np.uint8], spot: Spot) -> None:
    """Draw a person's shadow on the ground, longer to the right, away from the light."""
    unit = spot.size / 2.0
    x1, x2 = int(spot.x - 4 * unit), int(spot.x + 8 * unit) + 1
    y1, y2 = int(spot.y + (FEET - 2.5) * unit), int(spot.y + (FEET + 1.5) * unit) + 1
    x1, x2, y1, y2 = max(x1, 0), min(x2, image.shape[1]), max(y1, 0), min(y2, image.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    x = (np.arange(x1, x2, dtype=np.float32)[None] - np.float32(spot.x)) / np.float32(unit)
    y = (np.arange(y1, y2, dtype=np.float32)[:, None] - np.float32(spot.y)) / np.float32(unit) - np.float32(FEET - 0.2)
    along = np.clip((x - 0.3) / 5.0, 0.0, 1.0)
    dark = np.exp(-(((y + 0.12 * x) / (0.30 + 0.25 * along)) ** 2)) * np.exp(-(np.clip(-x - 0.6, 0, None) ** 2) * 3)
    dark = dark * (1.0 - along) * np.float32(0.5)
    view = image[y1:y2, x1:x2]
    view[:] = np.rint(view * (1.0 - soften(np.asarray(dark, np.float32), 0.15 * unit)[..., None]))
