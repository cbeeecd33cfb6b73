"""Find where one scene ends and the next begins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt.video import _colors

SIZE = (32, 18)
LEAST, TIMES = 20.0, 2.5
"""Difference of two small frames at a cut, and how many times that of the frames around it."""
CHANGED, WIDELY = 10.0, 0.5
"""Difference from which a spot has changed, and the share of spots that change at a cut."""
ALIKE, BRIGHTER = 0.9, 8.0
"""Correlation from which two frames show the same under another light, and how many times as bright it may be."""
REPEATS = 5
"""Frames that may show one picture again: what a camera of 6 frames a second gives in a video of 30."""
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
    known = picture.format.name in _colors.LAYOUTS
    source = picture if known else _colors.rescale(picture, format="yuv420p", width=SIZE[0] * 4, height=SIZE[1] * 4)
    scale = np.float32(255.0 / ((1 << _colors.LAYOUTS[source.format.name].bits) - 1))
    parts = []
    for plane in _colors.planes(source)[:3]:
        step = max(1, plane.shape[0] // SUBSAMPLE)
        parts.append(cv2.resize(np.ascontiguousarray(plane[::step, ::step]), SIZE, interpolation=cv2.INTER_AREA))
    return np.asarray(np.stack(parts).astype(np.float32) * scale, np.float32)


def marked(items: Iterable[tuple[Item, Small]], near: int) -> Iterator[tuple[Item, bool]]:
    """Mark where new scenes begin; read some items ahead.

    Parameters
    ----------
    items
        Anything of each frame, and the frame made :func:`small`.
    near
        Frames within which a scene that comes back was never left; so many are read ahead.

    Yields
    ------
    tuple
        The same things, and whether a new scene begins there; never at the first.

    Notes
    -----
    A frame begins a scene where it differs from the one before it by much more than those around it do from each other:
    a swift pan differs all along, be it that each picture is shown twice. Where the scene comes back soon there was a
    flash, or somebody before the camera. Where it is in doubt there is no cut, and faces are covered a little longer.
    """
    waiting: deque[Item] = deque()
    frames: list[Small] = []
    steps: list[float] = []
    due = 0
    for item, frame in items:
        steps.append(difference(frames[-1], frame) if frames else 0.0)
        frames.append(frame)
        waiting.append(item)
        if len(waiting) > near:
            yield waiting.popleft(), _begins(frames, steps, due, near)
            due += 1
        if due > near + REPEATS:
            del frames[0], steps[0]
            due -= 1
    for at, item in enumerate(waiting, due):
        yield item, _begins(frames, steps, at, near)


class Suspicion:
    """Tells at once, from what came before, where a new scene may begin: at each cut that :func:`marked` finds, too."""

    def __init__(self) -> None:
        self._last: Small | None = None
        self._steps: deque[float] = deque(maxlen=REPEATS)

    def of(self, frame: Small) -> bool:
        """Take the next frame; tell whether it may begin a scene, as the first does."""
        last, self._last = self._last, frame
        if last is None:
            return True
        step = difference(last, frame)
        before = _nearest(reversed(self._steps))
        self._steps.append(step)
        return _stands_out(step, before)


def difference(one: Small, other: Small) -> float:
    """Return how far two small frames differ all over: the mean of the differences in Y, U and V, levels of 255.

    It is 0 where most of the picture stays as it was. Another light on the same scene makes no difference.
    """
    if _widely(one - other) == 0.0:
        return 0.0
    low, high = sorted((one, other), key=lambda frame: float(frame[0].std()))
    gain = _gain(low[0], high[0])
    steps = high - low if gain is None else high - gain * low
    steps[: 1 if gain is None else 3] -= np.median(steps[: 1 if gain is None else 3], axis=(1, 2), keepdims=True)
    return _widely(steps)


def _widely(steps: Small) -> float:
    away = np.abs(steps).sum(axis=0)
    # Somebody who steps before the camera changes much, and leaves most of the picture as it was.
    return float(away.mean()) if (away > CHANGED).mean() >= WIDELY else 0.0


def _gain(low: NDArray[np.float32], high: NDArray[np.float32]) -> float | None:
    """Return how many times as bright a plane has become; None where it is not the same one."""
    low, high = low - low.mean(), high - high.mean()
    own, both = float(np.square(low).sum()), float((low * high).sum())
    if own == 0.0 or both < ALIKE * np.sqrt(own * float(np.square(high).sum())):
        return None
    return min(both / own, BRIGHTER)


def _begins(frames: list[Small], steps: list[float], at: int, near: int) -> bool:
    before = _nearest(reversed(steps[max(0, at - REPEATS) : at]))
    after = _nearest(steps[at + 1 : at + 1 + REPEATS])
    if not _stands_out(steps[at], max(before, after)):
        return False
    return not _comes_back(frames[max(0, at - near) : at], frames[at : at + near + 1], steps[at])


def _stands_out(step: float, around: float) -> bool:
    return step >= LEAST and step >= TIMES * around


def _nearest(steps: Iterable[float]) -> float:
    """Return the first step that is one: repeated pictures do not move."""
    return next((step for step in steps if step > 0.0), 0.0)


def _comes_back(old: list[Small], new: list[Small], step: float) -> bool:
    """Tell whether what was last seen is seen again soon, or what begins was seen shortly before."""
    pairs = [(old[-1], frame) for frame in new[1:]] + [(new[0], frame) for frame in old[:-1]]
    return any(TIMES * difference(one, other) <= step for one, other in pairs)
