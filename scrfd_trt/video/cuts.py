"""Find where one scene ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.video import pixels

SIZE = (32, 18)
LEAST, TIMES = 20.0, 2.5
"""Difference of two small frames at a cut, and how many times that of the frames around it."""
CHANGED, WIDELY = 10.0, 0.5
"""Difference from which a spot has changed, and the share of spots that change at a cut."""
SUBSAMPLE = 480
"""Lines above which only some are looked at."""

Small = NDArray[np.float32]
Item = TypeVar("Item")


def small(picture: Any) -> Small:
    """Shrink a frame to what is compared.

    Parameters
    ----------
    picture
        An ``av.VideoFrame``.

    Returns
    -------
    numpy.ndarray
        ``(3, 18, 32)`` float32: Y, U and V.
    """
    known = picture.format.name in pixels.LAYOUTS
    source = picture if known else pixels.rescale(picture, format="yuv420p", width=SIZE[0] * 4, height=SIZE[1] * 4)
    scale = np.float32(255.0 / ((1 << pixels.LAYOUTS[source.format.name].bits) - 1))
    parts = []
    for plane in pixels.planes(source)[:3]:
        step = max(1, plane.shape[0] // SUBSAMPLE)
        parts.append(cv2.resize(np.ascontiguousarray(plane[::step, ::step]), SIZE, interpolation=cv2.INTER_AREA))
    return np.asarray(np.stack(parts).astype(np.float32) * scale, np.float32)


def marked(items: Iterable[tuple[Item, Small]]) -> Iterator[tuple[Item, bool]]:
    """Mark where new scenes begin; read one item ahead.

    Parameters
    ----------
    items
        Anything of each frame, and the frame made :func:`small`.

    Yields
    ------
    tuple
        The same things, and whether a new scene begins there; never at the first.

    Notes
    -----
    A frame begins a scene where it differs from the one before it by much more than those around it do from each other:
    a swift pan differs all along, and a flash twice in a row. Where it is in doubt there is no cut, and faces are
    covered a little longer.
    """
    steps = [0.0, 0.0]
    held: tuple[Item, Small] | None = None
    for item, frame in items:
        if held is not None:
            steps.append(difference(held[1], frame))
            yield held[0], _spikes(steps[-3], steps[-2], steps[-1])
            del steps[0]
        held = item, frame
    if held is not None:
        yield held[0], _spikes(steps[-2], steps[-1], 0.0)


def difference(one: Small, other: Small) -> float:
    """Return how far two small frames differ all over: the mean of the differences in Y, U and V, levels of 255.

    It is 0 where most of the picture stays as it was.
    """
    steps = one - other
    steps[0] -= np.median(steps[0])  # a lamp that goes on is no new scene
    away = np.abs(steps).sum(axis=0)
    # Somebody who steps before the camera changes much, and leaves most of the picture as it was.
    return float(away.mean()) if (away > CHANGED).mean() >= WIDELY else 0.0


def _spikes(before: float, step: float, after: float) -> bool:
    return step >= LEAST and step >= TIMES * max(before, after)
