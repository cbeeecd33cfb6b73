"""Checks that an overlay keeps its promises, for the tests of whoever writes one.

::

    from overlays.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_sunglasses(check):
        check(Sunglasses())

Each check takes an overlay, says in an ``AssertionError`` what it broke, and returns nothing. :func:`check_overlay`
runs them all. No test library is needed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from overlays._base import Overlay, OverlayModel
from scrfd_trt._detections import Detections
from scrfd_trt.errors import DetectionsError

__all__ = ["CHECKS", "check_overlay", "faces", "noise"]

Image = NDArray[np.uint8]

FIVE = np.array([[0.3, 0.36], [0.7, 0.36], [0.5, 0.55], [0.35, 0.74], [0.65, 0.74]])
"""Where the five points usually lie in a box, as shares of its sides."""

USUAL = ((20.0, 12.0, 52.0, 52.0), (60.0, 8.0, 84.0, 40.0))
AT_BORDERS = (
    (-20.0, -10.0, 30.0, 20.0), (70.0, 50.0, 130.0, 120.0), (0.0, 0.0, 96.0, 64.0), (-70.0, -70.0, -30.0, -30.0),
    (-5e5, -5e5, 5e5, 5e5), (1e6, 1e6, 1e6 + 40, 1e6 + 40),
)  # fmt: skip
APART = ((342.0, 130.0, 378.0, 174.0), (200.0, 110.0, 240.0, 160.0), (480.0, 140.0, 518.0, 188.0))
"""Faces so far from each other, and from the border, that hardly anything drawn for one touches another."""
WIDE = (720, 300)
ODD = ((5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 30.0, 5.0), (5.4, 5.4, 5.6, 5.6), (10.0, 0.0, 10.01, 64.0))
SIZE = (96, 64)


def noise(width: int = SIZE[0], height: int = SIZE[1], seed: int = 1) -> Image:
    """Make an image of random pixels, ``(height, width, 3)`` uint8: any change of it can be seen."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def faces(
    boxes: tuple[tuple[float, ...], ...] = USUAL,
    size: tuple[int, int] = SIZE,
    *,
    landmarks: bool = True,
    degrees: float = 0.0,
    tracked: bool = False,
) -> Detections:
    """Make detections with usual landmarks.

    Parameters
    ----------
    boxes
        x1, y1, x2, y2 of each face.
    size
        Width and height of the image in pixels.
    landmarks
        Whether there are some.
    degrees
        How far the landmarks are turned within their boxes.
    tracked
        Whether there are track numbers and a time, as on video.
    """
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    middle, sides = (corners[:, None, :2] + corners[:, None, 2:]) / 2, corners[:, None, 2:] - corners[:, None, :2]
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = middle + (FIVE - 0.5) * sides @ rotation
    scores = np.linspace(0.99, 0.3, len(corners))
    video = {"track_ids": np.arange(len(corners)) * 3, "pts_seconds": 1.25} if tracked else {}
    return Detections(corners, scores, points if landmarks else None, image_size=size, **video)  # type: ignore[arg-type]


def check_result(overlay: Overlay) -> None:
    """Check that it returns a new contiguous image of the same size and type, leaving image and detections alone."""
    for found in (faces(), faces(tracked=True), faces(()), faces(AT_BORDERS)):
        _run(overlay, noise(), found)


def check_same_again(overlay: Overlay) -> None:
    """Check that it draws the same picture for the same input, also after it went through ``pickle``."""
    image, found = noise(), faces(tracked=True)
    first = _run(overlay, image, found)
    _same(_run(overlay, image, found), first, "it draws another picture for the same input")
    _run(overlay, noise(33, 21), faces(((3.0, 3.0, 20.0, 19.0),), (33, 21)))
    _same(_run(overlay, image, found), first, "what it drew before changes what it draws")
    if isinstance(overlay, OverlayModel):
        _same(_run(pickle.loads(pickle.dumps(overlay)), image, found), first, "a pickled copy draws another picture")  # noqa: S301


def check_views(overlay: Overlay) -> None:
    """Read-only images and views that are not contiguous give the same picture."""
    image, found = noise(), faces()
    wanted = _run(overlay, image, found)
    wide = np.zeros((128, 192, 3), np.uint8)
    wide[::2, ::2] = image
    read_only = image.copy()
    read_only.setflags(write=False)
    views = [read_only, wide[::2, ::2], image[::-1].copy()[::-1], image[..., ::-1].copy()[..., ::-1]]
    for view in [*views, np.asfortranarray(image)]:
        _same(_run(overlay, view, found), wanted, "a view of the same image gives another picture")


def check_stable_look(overlay: Overlay) -> None:
    """On video, a face's look follows from its track number and the time, not from its row or who else is there."""
    image, rows = noise(*WIDE), np.arange(len(APART))
    found = _tracks(rows)
    first = _run(overlay, image, found)
    turned = _run(overlay, image, _tracks(rows[::-1]))
    _same(turned, first, "the same tracks in other rows give another picture: take a face's look from its track number")
    for left in [] if _shared(overlay, found) else rows:
        kept = rows[rows != left]
        out = _run(overlay, image, _tracks(kept))
        for x1, y1, x2, y2 in np.array(APART, int)[kept]:
            what = "a face looks different where another track is missing: take its look from its track number"
            _same(out[y1:y2, x1:x2], first[y1:y2, x1:x2], what)


def check_out(overlay: Overlay) -> None:
    """With ``out`` it draws the same picture in place, where it is an ``OverlayModel``."""
    if not isinstance(overlay, OverlayModel):
        return
    image, found = noise(), faces()
    wanted = _run(overlay, image, found)
    place = image.copy()
    assert overlay(place, found, out=place) is place, "it does not return the array that it was given as out"
    _same(place, wanted, "it draws another picture in place")
    other, before = np.zeros_like(image), image.copy()
    assert overlay(image, found, out=other) is other, "it does not return the array that it was given as out"
    _same(other, wanted, "it draws another picture into out")
    _same(image, before, "it writes to the image handed in, though out is another array")


def check_reach(overlay: Overlay) -> None:
    """Check that it paints nothing beyond the boxes that ``reach_boxes`` gives, where it gives some."""
    # Each by itself: where one is as large as the image, nothing lies beyond the reach of all together.
    alone = [faces((box,), degrees=degrees) for box in AT_BORDERS + ODD for degrees in (0.0, 35.0)]
    for found in (faces(), faces(degrees=35.0), faces(AT_BORDERS), faces(ODD), faces(tracked=True), *alone):
        assert_within_reach(overlay, noise(), found)


def check_borders(overlay: Overlay) -> None:
    """Faces across the border, far outside and larger than the image, and boxes without area can be drawn."""
    for degrees in (0.0, 90.0, 180.0):
        _run(overlay, noise(), faces(AT_BORDERS, degrees=degrees))
        _run(overlay, noise(), faces(ODD, degrees=degrees))


def check_no_faces(overlay: Overlay) -> None:
    """No faces are no error; with a reach, nothing is painted."""
    for landmarks in (True, False):
        found = faces((), landmarks=landmarks)
        out = _run(overlay, noise(), found)
        if _reach(overlay, found) is not None:
            _same(out, noise(), "it paints where there is no face")


def check_thousands(overlay: Overlay) -> None:
    """Thousands of faces can be drawn."""
    corners = np.random.default_rng(4).uniform(-10, (330, 250), (2000, 2))
    boxes = np.concatenate([corners, corners + np.random.default_rng(5).uniform(0, 9, (2000, 2))], 1)
    _run(overlay, noise(320, 240), faces(tuple(map(tuple, boxes.tolist())), (320, 240)))


def check_small_images(overlay: Overlay) -> None:
    """Images down to one pixel, and very long ones, can be drawn on."""
    for width, height in ((1, 1), (2, 1), (1, 300), (4000, 1), (3, 3)):
        boxes = (
            (0.0, 0.0, width, height),
            (width - 1.0, height - 1.0, width + 3.0, height + 5.0),
            (-9e5, -9e5, 9e5, 9e5),
        )
        _run(overlay, noise(width, height), faces(boxes, (width, height)))


def check_without_landmarks(overlay: Overlay) -> None:
    """Without landmarks it draws, or refuses with ``DetectionsError`` where its class says that it needs them."""
    found = faces(landmarks=False)
    needed = isinstance(overlay, OverlayModel) and overlay.needs_landmarks
    try:
        _run(overlay, noise(), found)
    except DetectionsError:
        assert needed, "it refuses faces without landmarks, but its class does not say needs_landmarks = True"
    else:
        assert not needed, "its class says needs_landmarks = True, but it draws without"


def check_options(overlay: Overlay) -> None:
    """Every option has a description and a default that it takes itself, where the overlay is an ``OverlayModel``."""
    if isinstance(overlay, OverlayModel):
        assert (type(overlay).__doc__ or "").strip(), "its class needs a docstring: its first line is shown in lists"
        for name, field in type(overlay).model_fields.items():
            assert field.description, f"the option {name!r} has no description"
        assert type(overlay)(**overlay.model_dump()) == overlay, "it cannot be made anew from its own options"


Check = Callable[[Overlay], None]

CHECKS: tuple[Check, ...] = (
    check_result,
    check_same_again,
    check_views,
    check_stable_look,
    check_out,
    check_reach,
    check_borders,
    check_without_landmarks,
    check_no_faces,
    check_thousands,
    check_small_images,
    check_options,
)
"""All checks, to be given to ``pytest.mark.parametrize``."""


def check_overlay(overlay: Overlay) -> None:
    """Run all of :data:`CHECKS`.

    Raises
    ------
    AssertionError
        If the overlay breaks a promise; the message says which.
    """
    for check in CHECKS:
        check(overlay)


def assert_within_reach(overlay: Overlay, image: Image, detections: Detections) -> None:
    """Check that no pixel changed that none of the boxes of ``reach_boxes`` touches.

    Raises
    ------
    AssertionError
        If one did.
    """
    out, boxes = _run(overlay, image, detections), _reach(overlay, detections)
    if boxes is None:
        return
    beyond = np.ones(image.shape[:2], bool)
    for x1, y1, x2, y2 in np.clip(boxes, -1.0, max(image.shape) + 1.0):
        columns, rows = (max(int(np.floor(x1)), 0), int(np.ceil(x2))), (max(int(np.floor(y1)), 0), int(np.ceil(y2)))
        beyond[rows[0] : max(rows[1], 0), columns[0] : max(columns[1], 0)] = False
    changed = beyond & (out != image).any(2)
    assert not changed.any(), f"{np.count_nonzero(changed)} pixels beyond its reach are painted, at {_first(changed)}"


def _tracks(rows: NDArray[np.intp]) -> Detections:
    """Make faces far from each other, in the order given; each has its own track number, and all have one score."""
    found = faces(tuple(APART[row] for row in rows), WIDE)
    columns = (found.boxes, np.full(len(rows), 0.9), found.landmarks)
    return Detections(*columns, image_size=found.image_size, track_ids=rows * 3 + 1, pts_seconds=1.25)


def _shared(overlay: Overlay, detections: Detections) -> bool:
    """Tell whether one box of its reach touches several faces, as that of a sheet over the whole image does."""
    reach = _reach(overlay, detections)
    if reach is None:
        return False
    low = np.maximum(reach[:, None, :2], detections.boxes[:, :2])
    high = np.minimum(reach[:, None, 2:], detections.boxes[:, 2:])
    return bool(((low < high).all(2).sum(1) > 1).any())


def _reach(overlay: Overlay, detections: Detections) -> NDArray[np.float64] | None:
    reach = getattr(overlay, "reach_boxes", None)
    return None if reach is None else reach(detections)


def _run(overlay: Overlay, image: Image, detections: Detections) -> Image:
    """Call an overlay, and check what it promises of its result and its input."""
    before, columns = image.copy(), detections[:]
    out = overlay(image, detections)
    assert isinstance(out, np.ndarray), f"it returns {type(out).__name__}, no array"
    assert out.shape == image.shape, f"it returns an image of {out.shape} for one of {image.shape}"
    assert out.dtype == np.uint8, f"it returns {out.dtype}, not uint8"
    assert out.flags.c_contiguous, "its image is not contiguous"
    assert out.flags.writeable, "its image cannot be written to"
    assert not np.shares_memory(out, image), "it returns the image handed in, or a view of it"
    assert (image == before).all(), "it writes to the image handed in"
    assert detections == columns, "it writes to the detections handed in"
    return out


def _same(out: Image, wanted: Image, what: str) -> None:
    changed = (out != wanted).any(2)
    assert not changed.any(), f"{what}: {np.count_nonzero(changed)} pixels differ, at {_first(changed)}"


def _first(pixels: NDArray[np.bool_]) -> str:
    y, x = np.argwhere(pixels)[0]
    return f"x={x}, y={y}"
