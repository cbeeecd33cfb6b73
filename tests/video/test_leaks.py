"""Faces in encoded files stay covered in difficult frames: flashes, repeated frames, low rates, cuts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from scrfd_trt import Detections
from scrfd_trt.video import Summary, TrackingOptions, overlay_video

pytest.importorskip("av")
pytestmark = pytest.mark.slow
Image = NDArray[np.uint8]
Make = Callable[..., Path]
SIZE = (128, 96)
FACE = (44, 28, 84, 68)


class Blind:
    """A detector that finds the face in every image, except for those with some numbers."""

    def __init__(self, blind: Collection[int] = ()) -> None:
        self._blind = blind
        self.calls = 0

    def stream(self, images: Iterable[Image], **_: Any) -> Iterator[Detections]:
        for number, _image in enumerate(images):
            self.calls += 1
            boxes = [] if number in self._blind else [FACE]
            yield Detections(np.array(boxes).reshape(-1, 4), [0.9] * len(boxes), None, image_size=SIZE)


def solid(image: Image, faces: Detections) -> Image:
    drawn = image.copy()
    for x1, y1, x2, y2 in faces.boxes.round().astype(int):
        drawn[max(y1, 0) : y2, max(x1, 0) : x2] = (200, 0, 0)
    return drawn


def blocks(seed: int) -> Image:
    """A wall of coloured blocks; a face is bright, and never blue."""
    wall = np.random.default_rng(seed).integers(60, 256, (6, 60, 3), np.uint8)
    return np.kron(wall, np.ones((16, 16, 1), np.uint8))


def with_face(wall: Image, shift: int = 0) -> Image:
    image = wall[:, shift : shift + SIZE[0]].copy()
    x1, y1, x2, y2 = FACE
    image[y1:y2, x1:x2] = (90, 200, 220)
    return image


class Ran(NamedTuple):
    uncovered: list[int]
    summary: Summary
    calls: int


Run = Callable[..., Ran]


@pytest.fixture
def run(clip: Make, probed: Callable[[Path], Any]) -> Run:
    """Cover the face of a clip; return the frames in which it is visible."""

    def go(draw: Callable[[int], Image], frames: int, blind: Collection[int] = (), **how: Any) -> Ran:
        tracking = how.pop("tracking", None)
        source = clip(draw=lambda number, _: draw(number), frames=frames, size=SIZE, **{"rate": Fraction(30), **how})
        detector = Blind(blind)
        target = source.with_name("out.mp4")
        summary = overlay_video(source, target, detector, solid, tracking=tracking)
        x1, y1, x2, y2 = FACE
        shown = [frame.to_ndarray(format="bgr24")[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4] for frame in probed(target).frames]
        assert len(shown) == frames
        return Ran([n for n, face in enumerate(shown) if face[..., 1:].max() > 80], summary, detector.calls)

    return go


def test_undetected_face_is_uncovered(run: Run) -> None:
    assert run(lambda n: with_face(blocks(1)), 3, range(3)).uncovered == [0, 1, 2]


@pytest.mark.parametrize("light", [0.5, 0.25, 0.0])
def test_light_change_for_some_frames(light: float, run: Run) -> None:
    image = with_face(blocks(1))
    dark = np.clip(image * light, 0, 255).astype(np.uint8)
    ran = run(lambda n: dark if 12 <= n < 15 else image, 30, range(12, 15))
    assert ran.uncovered == []
    assert ran.summary.cuts == 0


@pytest.mark.parametrize("times", [2, 3])
def test_pan_with_repeated_frames(times: int, run: Run) -> None:
    blind = [n for n in range(40) if n % 6 in (2, 3)]
    ran = run(lambda n: with_face(blocks(1), n // times * 16), 40, blind)
    assert ran.uncovered == []
    assert (ran.summary.cuts, len(ran.summary.tracks)) == (0, 1)


@pytest.mark.parametrize("rate", [1, 2, 5])
def test_low_frame_rate(rate: int, run: Run) -> None:
    assert run(lambda n: with_face(blocks(1)), 20, (0, 7, 8, 19), rate=Fraction(rate)).uncovered == []


def test_burst_in_slow_video(run: Run) -> None:
    times = [16 * n for n in range(40)] + [60_000 * n for n in (1, 2)]
    ran = run(lambda n: with_face(blocks(1)), 42, range(12, 32), times=times, time_base=Fraction(1, 1000))
    assert ran.uncovered == []


@pytest.mark.parametrize("every", [5, 30])
def test_scene_shorter_than_detection_interval(every: int, run: Run) -> None:
    ran = run(
        lambda n: with_face(blocks(1 if n < 31 else 2 if n < 55 else 3)), 90, tracking=TrackingOptions(every=every)
    )
    assert ran.uncovered == []
    assert ran.summary.cuts == 2
    assert ran.calls <= 90 / every + 5


def test_cut_ends_track_even_with_next_face_in_same_place(run: Run) -> None:
    ran = run(lambda n: with_face(blocks(1 if n < 40 else 2)), 80, range(36, 44))
    assert ran.uncovered == []
    assert [(one.first.number, one.last.number) for one in ran.summary.tracks.values()] == [(0, 39), (40, 79)]
