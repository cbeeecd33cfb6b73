"""Every built-in overlay passes the checks, and each check detects its violation."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

import overlays
from overlays import testing
from overlays.testing import CHECKS, check_overlay
from scrfd_trt.errors import DetectionsError

pytestmark = pytest.mark.slow

BUILT_IN = {"skull", "blur", "pixelate", "solid", "image", "emoji", "landmarks", "boxes", "spotlight", "crop"}
SHAPES = ("ellipse", "rectangle", "aligned")
COVERING = (overlays.Blur, overlays.Pixelate, overlays.Solid)
OVERLAYS: dict[str, Callable[[Path], overlays.Overlay]] = {
    "skull": lambda picture: overlays.Skull(),
    "skull large": lambda picture: overlays.Skull(opacity=0.4, scale=2.5),
    "skull picture": lambda picture: overlays.Skull(image=picture),
    "blur pixelate": lambda picture: overlays.Blur(method="pixelate"),
    "pixelate block": lambda picture: overlays.Pixelate(block=7),
    "emoji": lambda picture: overlays.Emoji(),
    "emoji robot": lambda picture: overlays.Emoji(kind="robot", blending="srgb", opacity=0.5),
    "landmarks": lambda picture: overlays.Landmarks(),
    "landmarks large": lambda picture: overlays.Landmarks(size=4),
    "boxes": lambda picture: overlays.Boxes(),
    "boxes full": lambda picture: overlays.Boxes(style="full", label="score", size=3),
    "compose": lambda picture: overlays.Compose(overlays.Blur(), overlays.Skull(opacity=0.5), overlays.Landmarks()),
}
OVERLAYS |= {
    f"{kind.__name__} {shape} {feather}": lambda picture, kind=kind, shape=shape, feather=feather: kind(
        shape=shape, feather=feather, blending="linear" if feather else "srgb"
    )
    for kind, shape, feather in itertools.product(COVERING, SHAPES, (0.0, 0.3))
}
OVERLAYS |= {
    f"image {fit}": lambda picture, fit=fit: overlays.Sticker(picture=picture, fit=fit)
    for fit in ("box", "two", "three", "five")
}
OVERLAYS |= {
    f"spotlight {effect}": lambda picture, effect=effect: overlays.Spotlight(effect=effect)
    for effect in ("dim", "blur", "grey")
}
OVERLAYS |= {
    f"crop {side}": lambda picture, side=side: overlays.CropSheet(side=side)
    for side in ("bottom", "top", "left", "right", "whole")
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_built_in_overlays_pass_all_checks(name: str, check: Callable[[overlays.Overlay], None], picture: Path) -> None:
    check(OVERLAYS[name](picture))


def test_all_built_in_overlays_are_checked(picture: Path) -> None:
    checked = {type(make(picture)) for make in OVERLAYS.values()}
    assert {overlays.load(name) for name in overlays.names()} <= checked


class Correct(overlays.OverlayModel):
    """Draw a pixel in the centre of each face."""

    level: int = Field(7, ge=0, le=255, description="Its level.")

    def draw(self, canvas: Any, detections: Any) -> None:
        for x1, y1, x2, y2 in detections.boxes:
            x, y = int((x1 + x2) // 2), int((y1 + y2) // 2)
            if 0 <= x < canvas.shape[1] and 0 <= y < canvas.shape[0]:
                canvas[y, x] = self.level

    def changed_boxes(self, detections: Any) -> Any:
        return detections.boxes + np.array([-1.0, -1.0, 1.0, 1.0])


def test_correct_overlay_passes() -> None:
    check_overlay(Correct())
    check_overlay(lambda image, detections: np.array(image, order="C"))


class DrawsOutside(Correct):
    """Draw a pixel in the corner."""

    def draw(self, canvas: Any, detections: Any) -> None:
        canvas[0, 0] += 1


class ReadsOutside(Correct):
    """Draw what is in the corner."""

    is_local = True

    def draw(self, canvas: Any, detections: Any) -> None:
        corner = canvas[-1, 0].copy()
        for x1, y1, x2, y2 in detections.boxes:
            x, y = int((x1 + x2) // 2), int((y1 + y2) // 2)
            if 0 <= x < canvas.shape[1] and 0 <= y < canvas.shape[0]:
                canvas[y, x] = corner


class AcrossTheBorder(Correct):
    """Draw far away if a face crosses the border."""

    def draw(self, canvas: Any, detections: Any) -> None:
        if (detections.boxes[:, 0] < 0).any():
            canvas[-1, -1] ^= 1


class ByRow(Correct):
    """Draw each face by its row."""

    def draw(self, canvas: Any, detections: Any) -> None:
        for row, (x1, y1, *_) in enumerate(detections.boxes):
            if 0 <= x1 < canvas.shape[1] and 0 <= y1 < canvas.shape[0]:
                canvas[int(y1), int(x1)] = row * 50 % 256


class ByNumberOfFaces(Correct):
    """Draw each face by the number of faces."""

    def draw(self, canvas: Any, detections: Any) -> None:
        for x1, y1, *_ in detections.boxes:
            if 0 <= x1 < canvas.shape[1] and 0 <= y1 < canvas.shape[0]:
                canvas[int(y1), int(x1)] = len(detections) * 50 % 256


class ModifiesInput(overlays.OverlayModel):
    """Modify the image although out is another array."""

    def __call__(self, image: Any, detections: Any, *, out: Any = None) -> Any:
        if out is None:
            out = image.copy()
        elif out is not image:
            out[...] = image
            image[0, 0] ^= 1
        return out

    def draw(self, canvas: Any, detections: Any) -> None:
        """Draw nothing."""


class Random(Correct):
    """Draw at random."""

    def draw(self, canvas: Any, detections: Any) -> None:
        canvas[20, 30] = np.random.default_rng().integers(0, 256, 3)


class UndeclaredLandmarks(Correct):
    """Need landmarks without declaring it."""

    def draw(self, canvas: Any, detections: Any) -> None:
        if detections.landmarks is None:
            raise DetectionsError("no landmarks")


class Undescribed(Correct):
    """Have an option without a description."""

    much: int = 3


class LeavesChin(Correct):
    """Cover all but the lowest rows of each face."""

    covers = True

    def draw(self, canvas: Any, detections: Any) -> None:
        for x1, y1, x2, y2 in np.clip(detections.boxes, 0, 2000).astype(int):
            canvas[y1 : y2 - 2, x1:x2] = 0


class Veil(LeavesChin):
    """Change every pixel of each face, and leave it recognisable."""

    def draw(self, canvas: Any, detections: Any) -> None:
        for x1, y1, x2, y2 in np.clip(detections.boxes, 0, 2000).astype(int):
            canvas[y1:y2, x1:x2] = canvas[y1:y2, x1:x2] // 4 * 3 + 20


class Admits(LeavesChin):
    """Say that the chin stays visible."""

    def privacy_warnings(self) -> list[str]:
        return ["the chin stays visible"]


class NeedsLandmarks(Correct):
    """Declare that landmarks are needed."""

    needs_landmarks = True


def modifies_image(image: Any, detections: Any) -> Any:
    image[:] = 0
    return image.copy()


def returns_input(image: Any, detections: Any) -> Any:
    return image


def modifies_detections(image: Any, detections: Any) -> Any:
    detections.boxes[:] = 0
    return image.copy()


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (DrawsOutside(), "pixels outside changed_boxes change, at x=0, y=0"),
        (ReadsOutside(), "reads or changes pixels outside used_boxes: 2 pixels differ"),
        (AcrossTheBorder(), "1 pixels outside changed_boxes change, at x=95, y=63"),
        (ByRow(), "the same tracks in other rows give another image"),
        (ByNumberOfFaces(), "looks different where another track is missing"),
        (ModifiesInput(), "modifies its image although out is another array"),
        (Random(), "the same input gives another image: 1 pixels differ, at x=30, y=20"),
        (UndeclaredLandmarks(), "does not set needs_landmarks = True"),
        (Undescribed(), "the option 'much' has no description"),
        (LeavesChin(), "it declares covers = True, but .* pixels of faces stay visible"),
        (Veil(), "it declares covers = True, but .* pixels of faces stay visible"),
        (modifies_image, "modifies its input image"),
        (returns_input, "returns its input image"),
        (modifies_detections, "modifies its detections"),
        (lambda image, detections: image[:-1].copy(), "returns an image of"),
        (lambda image, detections: image.astype(float), "returns float64, not uint8"),
        (lambda image, detections: None, "returns NoneType, not an array"),
        (lambda image, detections: np.asfortranarray(image), "not contiguous"),
    ],
)
def test_violations_are_reported(overlay: overlays.Overlay, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_overlay(overlay)


@pytest.mark.parametrize("options", [{"kind": kind} for kind in ("smile", "wink", "cool", "cat", "robot", "each")])
def test_emoji_covers_from_its_scale_on(options: dict[str, Any]) -> None:
    large = overlays.Emoji(scale=1.5, **options)
    assert large.privacy_warnings() == []
    testing.check_covers(large)
    text = "scale 1.4 leaves the edge of some faces visible; use 1.5 or more to hide it"
    assert overlays.Emoji(scale=1.4, **options).privacy_warnings() == [text]


def test_what_covers_is_declared() -> None:
    declared = {name for name in overlays.names() if getattr(overlays.load(name), "covers", False)}
    assert declared & BUILT_IN == {"blur", "pixelate", "solid", "emoji", "image"}
    blur, marks = overlays.Blur(), overlays.Landmarks()
    composed = [overlays.Compose(*parts).covers for parts in ((blur,), (blur, blur), (blur, marks), ())]
    assert composed == [True, True, False, False]
    testing.check_covers(Admits())


def test_overlay_that_needs_landmarks_rejects_faces_without() -> None:
    check_overlay(NeedsLandmarks())
    with pytest.raises(DetectionsError, match=r"NeedsLandmarks needs landmarks, .* ends in _bnkps"):
        NeedsLandmarks()(testing.noise(), testing.faces(landmarks=False))


class HugeBlur(overlays.OverlayModel):
    """Blur each face with a kernel of its size, as authors write it first."""

    def draw(self, canvas, detections):
        if (sides := detections.boxes.max(initial=0)) > 32_767:
            raise MemoryError(f"a kernel of {sides:.0f} pixels")


def test_failure_at_a_huge_face_says_so() -> None:
    with pytest.raises(
        AssertionError, match=r"^it raises MemoryError: a kernel of \d+ pixels, for \d faces in an image of 96"
    ) as at:
        testing.check_borders(HugeBlur())
    assert "around a million pixels: move them near the image, or leave out the face" in str(at.value)
    assert isinstance(at.value.__cause__, MemoryError)


def test_crash_of_native_code_names_the_check() -> None:
    code = """if True:
        import ctypes, overlays.testing

        def crashing(image, detections):
            if abs(detections.boxes).max(initial=0) > 1e5 and detections.image_size == (1, 1):
                ctypes.string_at(0)
            return image.copy()

        overlays.testing.check_overlay(crashing)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 1), done.stderr
    assert " in check_small_images\n" in done.stderr
    assert " in crashing\n" in done.stderr
