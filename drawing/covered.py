"""What a program that hides faces covered in a clip or photograph, from the difference of input and output.

The faces come from ``NAME.truth.json`` beside a clip, which ``python drawing/clips.py all FOLDER`` writes too, or from
a slow search for small faces, which is kept in ``NAME.reference.json``.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.clips import Face, Truth, overlap
from scrfd_trt import SCRFDDetector

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
CLIPS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
COLOR = (255, 0, 255)
CHANGED = 56
"""Levels by which a covered pixel differs from the input in one channel at least."""
BRIEF = 0.2
"""Seconds."""
SMALLEST = 12
"""Smallest face of the reference, in pixels."""
AROUND = 2.0
"""Covers may reach so far around a face, as a multiple of its box."""

Array = NDArray[Any]
Box = tuple[float, float, float, float]


class Score(NamedTuple):
    """What one program did to one clip.

    Attributes
    ----------
    faces, open
        Frames of faces at least half of which is visible, and those with less than half of the face covered.
    people, leaks
        People, and those with an open frame.
    flashes
        Covers without a face, and covered or open spells of a face, of less than ``BRIEF`` seconds.
    false
        Share of the picture that is covered where no face is, in per cent.
    jitter
        Acceleration of a cover's middle against the face's, in per cent of the face's size; None if unknown.
    size
        Size of the output over the input's.
    sound
        ``yes``, ``no``, or empty if the input has none.
    by_size
        Open frames and all frames of faces by the face's longer side in pixels.
    """

    faces: int
    open: int
    people: int
    leaks: int
    flashes: int
    false: float
    jitter: float | None
    size: float
    sound: str
    by_size: dict[str, tuple[int, int]]


def images(path: Path) -> Iterator[tuple[float, Array]]:
    """Yield the time and pixels of each frame."""
    if path.suffix.lower() in PHOTOS:
        photo = cv2.imread(str(path))
        if photo is None:
            raise ValueError(f"{path} cannot be read")
        yield 0.0, photo
        return
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        first = None
        for frame in container.decode(video=0):
            first = frame.time if first is None else first
            yield frame.time - first, frame.to_ndarray(format="bgr24")


def pairs(source: Path, target: Path) -> Iterator[tuple[Array, Array]]:
    """Yield each frame of the input with the output's frame that is shown at its time."""
    shown = images(target)
    now = next(shown)
    then = next(shown, None)
    for at, image in images(source):
        while then is not None and abs(then[0] - at) <= abs(now[0] - at):
            now, then = then, next(shown, None)
        yield image, now[1]


def changed(image: Array, output: Array) -> Array:
    """Return the mask of covered pixels, 0 or 1."""
    if output.shape != image.shape:
        output = cv2.resize(output, image.shape[1::-1])
    mask = (cv2.absdiff(image, output).max(axis=2) > CHANGED).astype(np.uint8)
    # Compression changes single pixels; covered pixels that happen to have the cover's colour are holes.
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))


def covered(mask: Array, box: Sequence[float]) -> float:
    """Return the covered share of the ellipse in a box, as far as it is inside the picture."""
    x1, y1, x2, y2 = box
    left, top = max(0, int(x1)), max(0, int(y1))
    right, bottom = min(mask.shape[1], int(np.ceil(x2))), min(mask.shape[0], int(np.ceil(y2)))
    if right <= left or bottom <= top:
        return 1.0
    x = (np.arange(left, right) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    y = (np.arange(top, bottom) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    inside = x[None] ** 2 + y[:, None] ** 2 <= 1.0
    return float(mask[top:bottom, left:right][inside].mean()) if inside.any() else 1.0


def measure(source: Path, target: Path, truth: Truth, edges: Sequence[float] = ()) -> Score:
    """Compare an input, the output of a program, and the faces."""
    states: dict[int, dict[int, bool]] = defaultdict(dict)
    offsets: dict[int, dict[int, Array]] = defaultdict(dict)
    by_size: dict[str, list[int]] = {f"{low:g}-{high:g}": [0, 0] for low, high in itertools.pairwise(edges)}
    false, strays = [], Strays(max(2, round(BRIEF * truth.rate)))
    for number, ((image, output), faces) in enumerate(zip(pairs(source, target), truth.frames, strict=False)):
        mask = changed(image, output)
        blobs = Blobs(mask)
        for face in faces:
            if face.shown < 0.5:
                continue
            hidden = covered(mask, face.box) >= 0.5
            states[face.track][number] = hidden
            tall = max(face.box[3] - face.box[1], face.box[2] - face.box[0])
            for low, high in itertools.pairwise(edges):
                if low <= tall < high:
                    by_size[f"{low:g}-{high:g}"][0] += not hidden
                    by_size[f"{low:g}-{high:g}"][1] += 1
            if (at := blobs.alone(face, faces)) is not None:
                offsets[face.track][number] = at
        rest = mask.copy()
        for face in faces:
            rest[grown(face.box, mask.shape)] = 0
        false.append(float(rest.mean()))
        strays.add(blobs.without(rest), number in truth.cuts)
    flashes = strays.brief() + sum(spells(by_frame, strays.limit) for by_frame in states.values())
    bends = [
        np.abs(by[n - 1] - 2 * by[n] + by[n + 1]).sum()
        for by in offsets.values()
        for n in by
        if n - 1 in by and n + 1 in by
    ]
    return Score(
        faces=sum(map(len, states.values())),
        open=sum(not hidden for by_frame in states.values() for hidden in by_frame.values()),
        people=len(states),
        leaks=sum(not all(by_frame.values()) for by_frame in states.values()),
        flashes=flashes,
        false=100.0 * float(np.mean(false)),
        jitter=100.0 * float(np.mean(bends)) if bends else None,
        size=target.stat().st_size / source.stat().st_size,
        sound=sound(source, target),
        by_size={size: (part[0], part[1]) for size, part in by_size.items()},
    )


def grown(box: Sequence[float], shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns that a face's cover may reach."""
    x1, y1, x2, y2 = box
    dx, dy = (AROUND - 1) * (x2 - x1) / 2 + 3, (AROUND - 1) * (y2 - y1) / 2 + 3
    left, top, right, bottom = (max(0, int(v)) for v in (x1 - dx, y1 - dy, x2 + dx + 1, y2 + dy + 1))
    return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


class Blobs:
    """The covers of a frame: connected parts of its mask."""

    def __init__(self, mask: Array) -> None:
        _, self.labels, self.stats, self.middles = cv2.connectedComponentsWithStats(mask)

    def alone(self, face: Face, faces: Sequence[Face]) -> Array | None:
        """Return the way from a face's middle to its cover's, in face sizes; None if the cover is of more than it."""
        x1, y1, x2, y2 = face.box
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        height, width = self.labels.shape
        if not (0 <= x < width and 0 <= y < height) or not (label := self.labels[int(y), int(x)]):
            return None
        left, top, wide, high = self.stats[label, :4]
        if left <= 0 or top <= 0 or left + wide >= width or top + high >= height:
            return None
        size = max(x2 - x1, y2 - y1)
        if wide > 2.2 * (x2 - x1) or high > 2.2 * (y2 - y1):
            return None
        for other in faces:
            box = other.box
            apart = box[2] < left or box[0] > left + wide or box[3] < top or box[1] > top + high
            if other is not face and not apart:
                return None
        middle = np.array([left + wide / 2, top + high / 2])
        return np.asarray((middle - (x, y)) / size)

    def without(self, rest: Array) -> list[list[float]]:
        """Return the boxes of covers that lie, for the most part, where no face is."""
        count = np.bincount(self.labels[rest > 0], minlength=len(self.stats))
        found = [n for n in range(1, len(self.stats)) if count[n] > 0.5 * self.stats[n, 4]]
        return [[x, y, x + w, y + h] for x, y, w, h in self.stats[found, :4].tolist()]


class Strays:
    """Covers without a face, followed from frame to frame."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: list[tuple[list[float], int]] = []
        self._lives: list[int] = []

    def add(self, boxes: list[list[float]], cut: bool) -> None:
        """Add the boxes of the next frame."""
        going = []
        before = [] if cut else list(self._open)
        if cut:
            self._lives += [self.limit for _ in self._open]
        for box in boxes:
            best = max(before, key=lambda old: overlap(old[0], box), default=None)
            if best is not None and overlap(best[0], box) > 0.1:
                before.remove(best)
                going.append((box, best[1] + 1))
            else:
                going.append((box, 1))
        self._lives += [life for _, life in before]
        self._open = going

    def brief(self) -> int:
        """Return the number of those that ended after a few frames."""
        return sum(life < self.limit for life in self._lives)


def spells(by_frame: dict[int, bool], limit: int) -> int:
    """Return the number of short spells between two changes between covered and open."""
    frames = sorted(by_frame)
    changes = [b for a, b in itertools.pairwise(frames) if b == a + 1 and by_frame[a] != by_frame[b]]
    return sum(b - a < limit for a, b in itertools.pairwise(changes))


def sound(source: Path, target: Path) -> str:
    """Return whether the sound is still there."""
    if source.suffix.lower() in PHOTOS:
        return ""
    with av.open(str(source)) as one, av.open(str(target)) as other:
        return "" if not one.streams.audio else "yes" if other.streams.audio else "no"


def known(path: Path, models: Sequence[str]) -> Truth:
    """Read the faces of a clip, or search it with all models, down to small faces, and keep the result beside it."""
    drawn, kept = path.with_suffix(".truth.json"), path.with_suffix(".reference.json")
    if drawn.exists():
        return Truth.load(drawn)
    if kept.exists():
        return Truth.load(kept)
    detectors = [SCRFDDetector(model, device="cpu", min_face=SMALLEST) for model in models]
    found, times, size = [], [], (0, 0)
    for at, image in images(path):
        rows = [(face.box, face.score) for model in detectors for face in model.detect(image, threshold=0.3)]
        once: list[tuple[Box, float]] = []
        for box, score in sorted(rows, key=lambda row: -row[1]):
            if all(overlap(box, other) < 0.4 for other, _ in once):
                once.append((box, score))
        found.append(once)
        times.append(at)
        size = (image.shape[1], image.shape[0])
    rate = (len(times) - 1) / times[-1] if len(times) > 1 else 1.0
    truth = Truth(path.stem, size, rate, link(found), [])
    truth.save(kept)
    return truth


def link(found: Sequence[Sequence[tuple[Box, float]]]) -> list[list[Face]]:
    """Return faces numbered by overlap from frame to frame.

    A face below 0.5, or above it in fewer than three frames, counts neither as a face nor as none: its share is 0.2.
    """
    rows: list[list[tuple[int, Box, float]]] = []
    sure: Counter[int] = Counter()
    numbers = itertools.count(1)
    for faces in found:
        before, now = list(rows[-1]) if rows else [], []
        for box, score in faces:
            best = max(before, key=lambda old: overlap(old[1], box), default=None)
            if best is not None and overlap(best[1], box) > 0.3:
                before.remove(best)
            else:
                best = None
            now.append((best[0] if best else next(numbers), box, score))
            sure[now[-1][0]] += score >= 0.5
        rows.append(now)
    least = min(3, len(found))
    return [
        [Face(track, box, 1.0 if score >= 0.5 and sure[track] >= least else 0.2) for track, box, score in faces]
        for faces in rows
    ]
