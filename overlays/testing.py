"""Checks that an overlay keeps the contract of overlays, for the tests of its author.

::

    from overlays.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_sunglasses(check):
        check(Sunglasses())

Each check takes an overlay, raises an ``AssertionError`` that describes the violation, and returns nothing.
:func:`check_overlay` runs all of them. No test library is needed. If native code such as OpenCV crashes the process,
the traceback on standard error names the check.

Some faces are a million pixels large, or lie a million pixels outside the image, as detections files and other programs
may say. With such sizes, ``cv2.putText`` crashes the process, line widths above 32,767 are errors, and blurring or
resizing takes minutes or all memory. An overlay has to leave out what lies outside the image, and limit all sizes.
:func:`overlays.draw_text` and :func:`overlays.draw_box` take any.
"""

from __future__ import annotations

import faulthandler
import pickle
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overlays._base import Overlay, OverlayModel
from overlays._geometry import TYPICAL_LANDMARKS, Image
from scrfd_trt._detections import Detections
from scrfd_trt.errors import DetectionsError

__all__ = ["CHECKS", "check_overlay", "faces", "noise"]

SIZE = (96, 64)
TWO_BOXES = ((20.0, 12.0, 52.0, 52.0), (60.0, 8.0, 84.0, 40.0))
AT_BORDERS = (
    (-20.0, -10.0, 30.0, 20.0), (70.0, 50.0, 130.0, 120.0), (0.0, 0.0, 96.0, 64.0), (-70.0, -70.0, -30.0, -30.0),
    (-5e5, -5e5, 5e5, 5e5), (1e6, 1e6, 1e6 + 40, 1e6 + 40),
)  # fmt: skip
HUGE = 1e5  # coordinates of these faces are above it
DEGENERATE = ((5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 30.0, 5.0), (5.4, 5.4, 5.6, 5.6), (10.0, 0.0, 10.01, 64.0))
WIDE_SIZE = (720, 300)
FAR_APART = ((342.0, 130.0, 378.0, 174.0), (200.0, 110.0, 240.0, 160.0), (480.0, 140.0, 518.0, 188.0))
"""In ``WIDE_SIZE``, so far from each other and from the border that drawings hardly overlap."""
IN_A_ROW = tuple((24.0 + 140.0 * number, 90.0, 104.0 + 140.0 * number, 190.0) for number in range(5))
"""In ``WIDE_SIZE``, faces large enough to tell blocks from pixels."""
MAX_DETAIL = 128  # largest difference of a hidden pixel between an image of black and white noise and its negative


def noise(width: int = SIZE[0], height: int = SIZE[1], seed: int = 1) -> Image:
    """Return an image of random pixels, ``(height, width, 3)`` uint8, in which any change is visible."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def faces(
    boxes: tuple[tuple[float, ...], ...] = TWO_BOXES,
    size: tuple[int, int] = SIZE,
    *,
    landmarks: bool = True,
    degrees: float = 0.0,
    tracked: bool = False,
) -> Detections:
    """Return detections with typical landmarks.

    Parameters
    ----------
    boxes, size
        x1, y1, x2, y2 of each face; width and height of the image in pixels.
    degrees
        Clockwise rotation of the landmarks within their boxes.
    tracked
        Whether there are track ids and a time, as on video.
    """
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    center, sides = (corners[:, None, :2] + corners[:, None, 2:]) / 2, corners[:, None, 2:] - corners[:, None, :2]
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = center + (TYPICAL_LANDMARKS - 0.5) * sides @ rotation
    scores = np.linspace(0.99, 0.3, len(corners))
    video = {"track_ids": np.arange(len(corners)) * 3, "pts_seconds": 1.25} if tracked else {}
    return Detections(corners, scores, points if landmarks else None, image_size=size, **video)  # type: ignore[arg-type]


def check_result(overlay: Overlay) -> None:
    """Check that the result is a new contiguous image of the same size, and the input unchanged."""
    for found in (faces(), faces(tracked=True), faces(()), faces(AT_BORDERS)):
        _run(overlay, noise(), found)


def check_deterministic(overlay: Overlay) -> None:
    """Check that the same input gives the same image, whatever was drawn before, and after ``pickle``."""
    image, found = noise(), faces(tracked=True)
    first = _run(overlay, image, found)
    _assert_same(_run(overlay, image, found), first, "the same input gives another image")
    _run(overlay, noise(33, 21), faces(((3.0, 3.0, 20.0, 19.0),), (33, 21)))
    _assert_same(_run(overlay, image, found), first, "the image depends on what was drawn before")
    if isinstance(overlay, OverlayModel):
        copy = pickle.loads(pickle.dumps(overlay))  # noqa: S301
        _assert_same(_run(copy, image, found), first, "a pickled copy gives another image")


def check_views(overlay: Overlay) -> None:
    """Check that read-only images and views that are not contiguous give the same image."""
    image, found = noise(), faces()
    expected = _run(overlay, image, found)
    wide = np.zeros((128, 192, 3), np.uint8)
    wide[::2, ::2] = image
    read_only = image.copy()
    read_only.setflags(write=False)
    views = [read_only, wide[::2, ::2], image[::-1].copy()[::-1], image[..., ::-1].copy()[..., ::-1]]
    for view in [*views, np.asfortranarray(image)]:
        _assert_same(_run(overlay, view, found), expected, "a view of the same image gives another image")


def check_stable_tracks(overlay: Overlay) -> None:
    """Check that on video a face's appearance depends on its track id and the time, not on its row or other faces."""
    image, rows = noise(*WIDE_SIZE), np.arange(len(FAR_APART))
    found = _tracks(rows)
    first = _run(overlay, image, found)
    reversed_rows = _run(overlay, image, _tracks(rows[::-1]))
    _assert_same(
        reversed_rows, first, "the same tracks in other rows give another image: use the track id, not the row"
    )
    for missing in [] if _one_box_for_several(overlay, found) else rows:
        kept = rows[rows != missing]
        out = _run(overlay, image, _tracks(kept))
        for x1, y1, x2, y2 in np.array(FAR_APART, int)[kept]:
            what = "a face looks different where another track is missing: use its track id only"
            _assert_same(out[y1:y2, x1:x2], first[y1:y2, x1:x2], what)


def check_out(overlay: Overlay) -> None:
    """Check that an ``OverlayModel`` draws the same image in place and into another array given as ``out``."""
    if not isinstance(overlay, OverlayModel):
        return
    image, found = noise(), faces()
    expected = _run(overlay, image, found)
    in_place = image.copy()
    assert _call(overlay, in_place, found, out=in_place) is in_place, "it does not return the array given as out"
    _assert_same(in_place, expected, "drawing in place gives another image")
    other, before = np.zeros_like(image), image.copy()
    assert _call(overlay, image, found, out=other) is other, "it does not return the array given as out"
    _assert_same(other, expected, "drawing into out gives another image")
    _assert_same(image, before, "it modifies its image although out is another array")


def check_changed_boxes(overlay: Overlay) -> None:
    """Check that no pixel outside ``changed_boxes`` changes, if the overlay returns some."""
    # Each alone as well: next to a face as large as the image, nothing lies outside the boxes.
    alone = [faces((box,), degrees=degrees) for box in AT_BORDERS + DEGENERATE for degrees in (0.0, 35.0)]
    for found in (faces(), faces(degrees=35.0), faces(AT_BORDERS), faces(DEGENERATE), faces(tracked=True), *alone):
        assert_changes_within_boxes(overlay, noise(), found)


def check_used_boxes(overlay: Overlay) -> None:
    """Check that no pixel outside ``used_boxes`` is read or changes, if the overlay returns some, in place."""
    alone = [faces((box,), degrees=degrees) for box in AT_BORDERS + DEGENERATE for degrees in (0.0, 35.0)]
    for found in (faces(), faces(degrees=35.0), faces(DEGENERATE), faces(tracked=True), *alone):
        boxes = _boxes_of(overlay, "used_boxes", found)
        if boxes is None:
            continue
        outside, image, other = _outside(boxes, noise()), noise(), noise(seed=2)
        out, other = _run(overlay, image, found), np.where(outside[..., None], other, image)
        expected = np.where(outside[..., None], other, out)
        _call(overlay, other, found, out=other)  # with used_boxes, it has to accept this
        _assert_same(other, expected, "it reads or changes pixels outside used_boxes")


def check_borders(overlay: Overlay) -> None:
    """Check that faces across the border, far outside, larger than the image, or without area are accepted."""
    for degrees in (0.0, 90.0, 180.0):
        _run(overlay, noise(), faces(AT_BORDERS, degrees=degrees))
        _run(overlay, noise(), faces(DEGENERATE, degrees=degrees))


def check_without_landmarks(overlay: Overlay) -> None:
    """Check that faces without landmarks are drawn, or raise ``DetectionsError`` if ``needs_landmarks`` is set."""
    required = isinstance(overlay, OverlayModel) and overlay.needs_landmarks
    try:
        _run(overlay, noise(), faces(landmarks=False))
    except DetectionsError:
        assert required, "it rejects faces without landmarks, but its class does not set needs_landmarks = True"
    else:
        assert not required, "its class sets needs_landmarks = True, but it draws faces without landmarks"


def check_no_faces(overlay: Overlay) -> None:
    """Check that no faces are accepted; an overlay with ``changed_boxes`` changes nothing then."""
    for landmarks in (True, False):
        found = faces((), landmarks=landmarks)
        out = _run(overlay, noise(), found)
        if _boxes_of(overlay, "changed_boxes", found) is not None:
            _assert_same(out, noise(), "it draws although there are no faces")


def check_many_faces(overlay: Overlay) -> None:
    """Check that thousands of faces are accepted."""
    corners = np.random.default_rng(4).uniform(-10, (330, 250), (2000, 2))
    boxes = np.concatenate([corners, corners + np.random.default_rng(5).uniform(0, 9, (2000, 2))], 1)
    _run(overlay, noise(320, 240), faces(tuple(map(tuple, boxes.tolist())), (320, 240)))


def check_small_images(overlay: Overlay) -> None:
    """Check that images down to one pixel and very long ones are accepted."""
    for width, height in ((1, 1), (2, 1), (1, 300), (4000, 1), (3, 3)):
        outside = (width - 1.0, height - 1.0, width + 3.0, height + 5.0)
        boxes = ((0.0, 0.0, width, height), outside, (-9e5, -9e5, 9e5, 9e5))
        _run(overlay, noise(width, height), faces(boxes, (width, height)))


def check_options(overlay: Overlay) -> None:
    """Check that an ``OverlayModel`` has a docstring, describes all options and can be created from its own options."""
    if isinstance(overlay, OverlayModel):
        assert (type(overlay).__doc__ or "").strip(), "its class needs a docstring: lists show the first line"
        for name, field in type(overlay).model_fields.items():
            assert field.description, f"the option {name!r} has no description"
        assert type(overlay)(**overlay.model_dump()) == overlay, "it cannot be created from its own options"


def check_covers(overlay: Overlay) -> None:
    """Check that an overlay with ``covers = True`` hides all detail in the ellipse within each face's box.

    The image is random black and white; drawn on its negative, the overlay must give nearly the same pixels. Overlays
    whose ``privacy_warnings`` name options that leave faces visible are not checked.
    """
    warnings: Callable[[], list[str]] | None = getattr(overlay, "privacy_warnings", None)
    if not getattr(overlay, "covers", False) or (warnings is not None and warnings()):
        return
    image = np.where(noise(*WIDE_SIZE) < 128, np.uint8(0), np.uint8(255))
    needs_landmarks = getattr(overlay, "needs_landmarks", False)
    for landmarks in (True,) if needs_landmarks else (True, False):
        found = faces(IN_A_ROW, WIDE_SIZE, landmarks=landmarks, tracked=landmarks)
        first, second = _run(overlay, image, found), _run(overlay, 255 - image, found)
        visible = _within_ellipses(found) & (cv2.absdiff(first, second).max(2) > MAX_DETAIL)
        message = f"it declares covers = True, but {np.count_nonzero(visible)} pixels of faces stay visible"
        assert not visible.any(), f"{message}, at {_first(visible)}"


def _within_ellipses(detections: Detections) -> NDArray[np.bool_]:
    """Return the pixels inside the ellipses within the boxes, ``(H, W)``."""
    width, height = detections.image_size
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    inside = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in detections.boxes.tolist():
        across, down = (2.0 * x - x1 - x2) / (x2 - x1), (2.0 * y - y1 - y2) / (y2 - y1)
        inside |= across * across + down * down < 1.0
    return inside


Check = Callable[[Overlay], None]


CHECKS: tuple[Check, ...] = (
    check_result, check_deterministic, check_views, check_stable_tracks, check_out, check_changed_boxes,
    check_used_boxes, check_borders, check_without_landmarks, check_no_faces, check_many_faces, check_small_images,
    check_options, check_covers,
)  # fmt: skip
"""All checks, for ``pytest.mark.parametrize``."""


def check_overlay(overlay: Overlay) -> None:
    """Run all of :data:`CHECKS`; raise an ``AssertionError`` if the overlay violates the contract."""
    for check in CHECKS:
        check(overlay)


def assert_changes_within_boxes(overlay: Overlay, image: Image, detections: Detections) -> None:
    """Assert that no pixel changes that none of ``changed_boxes`` touches."""
    out, boxes = _run(overlay, image, detections), _boxes_of(overlay, "changed_boxes", detections)
    if boxes is None:
        return
    changed = _outside(boxes, image) & (out != image).any(2)
    assert not changed.any(), f"{np.count_nonzero(changed)} pixels outside changed_boxes change, at {_first(changed)}"


def _outside(boxes: NDArray[np.float64], image: Image) -> NDArray[np.bool_]:
    """Return the pixels that no box touches, ``(H, W)``."""
    outside = np.ones(image.shape[:2], bool)
    for x1, y1, x2, y2 in np.clip(boxes, -1.0, max(image.shape) + 1.0):
        columns, rows = (max(int(np.floor(x1)), 0), int(np.ceil(x2))), (max(int(np.floor(y1)), 0), int(np.ceil(y2)))
        outside[rows[0] : max(rows[1], 0), columns[0] : max(columns[1], 0)] = False
    return outside


def _tracks(rows: NDArray[np.intp]) -> Detections:
    """Return faces far apart, in the order given, each with its own track id and all with one score."""
    found = faces(tuple(FAR_APART[row] for row in rows), WIDE_SIZE)
    columns = (found.boxes, np.full(len(rows), 0.9), found.landmarks)
    return Detections(*columns, image_size=found.image_size, track_ids=rows * 3 + 1, pts_seconds=1.25)


def _one_box_for_several(overlay: Overlay, detections: Detections) -> bool:
    """Return whether one of ``changed_boxes`` touches several faces, as that of a sheet does."""
    boxes = _boxes_of(overlay, "changed_boxes", detections)
    if boxes is None:
        return False
    low = np.maximum(boxes[:, None, :2], detections.boxes[:, :2])
    high = np.minimum(boxes[:, None, 2:], detections.boxes[:, 2:])
    return bool(((low < high).all(2).sum(1) > 1).any())


def _boxes_of(overlay: Overlay, name: str, detections: Detections) -> NDArray[np.float64] | None:
    method = getattr(overlay, name, None)
    return None if method is None else method(detections)


def _run(overlay: Overlay, image: Image, detections: Detections) -> Image:
    """Call an overlay, and check its result and its input."""
    before, columns = image.copy(), detections[:]
    out = _call(overlay, image, detections)
    assert isinstance(out, np.ndarray), f"it returns {type(out).__name__}, not an array"
    assert out.shape == image.shape, f"it returns an image of {out.shape} for one of {image.shape}"
    assert out.dtype == np.uint8, f"it returns {out.dtype}, not uint8"
    assert out.flags.c_contiguous, "its result is not contiguous"
    assert out.flags.writeable, "its result is read-only"
    assert not np.shares_memory(out, image), "it returns its input image, or a view of it"
    assert (image == before).all(), "it modifies its input image"
    assert detections == columns, "it modifies its detections"
    return out


def _call(overlay: Overlay, image: Image, detections: Detections, **out: Image) -> Any:
    """Call an overlay; raise an AssertionError that describes the faces if it fails."""
    if not faulthandler.is_enabled():  # pytest has enabled it
        faulthandler.enable(2)  # if native code crashes the process, the traceback names the check
    try:
        return overlay(image, detections, **out)
    except DetectionsError:
        raise
    except Exception as error:
        large = "; some coordinates are around a million pixels: move them near the image, or leave out the face"
        what = f"{len(detections)} faces in an image of {image.shape[1]}×{image.shape[0]} pixels"
        hint = large if (np.abs(detections.boxes) > HUGE).any() else ""
        raise AssertionError(f"it raises {type(error).__name__}: {error}, for {what}{hint}") from error


def _assert_same(out: Image, expected: Image, what: str) -> None:
    changed = (out != expected).any(2)
    assert not changed.any(), f"{what}: {np.count_nonzero(changed)} pixels differ, at {_first(changed)}"


def _first(pixels: NDArray[np.bool_]) -> str:
    y, x = np.argwhere(pixels)[0]
    return f"x={x}, y={y}"
