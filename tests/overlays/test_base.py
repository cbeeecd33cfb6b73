from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage
from pydantic import Field

from overlays import Compose, Overlay, OverlayModel, create
from scrfd_trt._crops import drawn_by
from scrfd_trt._detections import Detections
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, OverlayError


class Brighter(OverlayModel):
    """Add to every pixel."""

    amount: int = Field(10, ge=0, le=50, description="Levels added.")

    def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
        canvas += np.uint8(self.amount)


def doubled(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    return image * np.uint8(2)


def nothing(width: int, height: int) -> Detections:
    return Detections.empty((width, height))


def gray(width: int = 4, height: int = 3) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 20, np.uint8)


def test_errors_of_third_party_overlays_are_one_line():
    image = np.zeros((20, 30, 3), np.uint8)
    nobody = Detections.empty((30, 20))

    def fails(image, detections):
        raise KeyError("no\nsuch colour")

    with pytest.raises(OverlayError, match=r"KeyError: .*such colour") as caught:
        Compose(fails)(image, nobody)
    assert "\n" not in str(caught.value)
    for wrong, got in (
        (None, "NoneType"),
        (image[:5], r"\(5, 30, 3\) uint8"),
        (image.astype(float), r"\(20, 30, 3\) float64"),
    ):
        with pytest.raises(
            OverlayError, match=rf"must return an array of \(20, 30, 3\) uint8 like its image, not {got}$"
        ):
            Compose(lambda image, detections, wrong=wrong: wrong)(image, nobody)


class Returned(OverlayModel):
    """Draw on a copy, which is not used."""

    def draw(self, canvas, detections):
        return canvas + 1


class Unfinished(Overlay):
    """Has no ``__call__``."""


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (Returned(), "Returned.draw returns an array, which is not used: draw on the canvas"),
        (Compose(Returned()), "Returned.draw returns an array"),
        (Unfinished(), "Unfinished has no __call__: define it, or derive from OverlayModel"),
    ],
)
def test_overlays_that_draw_nothing_say_why(overlay, message):
    with pytest.raises(OverlayError, match=f"^{message}"):
        overlay(gray(), nothing(4, 3))


def test_order_of_channels_of_faces_and_overlay():
    faces = nothing(4, 3)
    faces._source = (lambda: None, "rgb")
    for draw in (create("emoji"), Compose(create("boxes"))):
        with pytest.raises(OptionError, match=r"^these faces are of an RGB image: create the overlay with color='rgb'"):
            draw(gray(), faces)
    for draw in (create("emoji", color="rgb"), create("boxes", color="bgr"), create("blur"), Brighter()):
        assert draw(gray(), faces).shape == (3, 4, 3)


def test_functions_and_models_are_overlays() -> None:
    assert isinstance(Brighter(), Overlay)
    assert isinstance(doubled, Overlay)
    assert not isinstance("skull", Overlay)


def test_model_draws_on_a_copy() -> None:
    image = gray()
    out = Brighter(amount=5)(image, nothing(4, 3))
    assert out.flags.c_contiguous
    assert (out == 25).all()
    assert (image == 20).all()


def test_model_without_draw_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OverlayModel()  # type: ignore[abstract]


def test_options_are_validated_and_frozen() -> None:
    with pytest.raises(OptionError, match=r"^amount: must be at most 50"):
        Brighter(amount=51)
    with pytest.raises(OptionError, match="no option 'much'; the options are: amount"):
        Brighter(much=1)
    with pytest.raises(OptionError, match=r"^Brighter takes options by name, such as name=value, not 3$"):
        Brighter(3)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match=r"^Brighter.amount is read-only: pass it to Brighter\(…\)$"):
        Brighter().amount = 3  # type: ignore[misc]
    with pytest.raises(OptionError, match=r"^Brighter.size is read-only: declare it in the class, as size: float"):
        Brighter().size = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("overlay", [Brighter(), Compose(), Compose(doubled)])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 4), np.uint8), r"\(3, 4\) uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"\(3, 4, 4\) uint8"),
        (np.zeros((3, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[[1, 2, 3]]], "type list; a NumPy array"),
        (PilImage.new("RGB", (4, 3)), r"Pillow image: pass numpy.asarray\(PIL.ImageOps.exif_transpose"),
    ],
)
def test_invalid_image_raises_image_error(overlay: Overlay, image: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        overlay(image, nothing(4, 3))


@pytest.mark.parametrize("overlay", [Brighter(), Compose()])
def test_detections_of_another_image_size_raise(overlay: Overlay) -> None:
    with pytest.raises(DetectionsError, match="8×6, but this one is 4×3"):
        overlay(gray(), nothing(8, 6))


def test_compose_applies_in_order() -> None:
    assert (Compose(Brighter(), doubled)(gray(), nothing(4, 3)) == 60).all()
    assert (Compose(doubled, Brighter())(gray(), nothing(4, 3)) == 50).all()
    assert (Compose(Compose(doubled), Brighter())(gray(), nothing(4, 3)) == 50).all()


def test_compose_copies_for_overlays_that_modify_input() -> None:
    def careless(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        image[:] = 0
        return image

    image = gray()
    assert (Compose(careless)(image, nothing(4, 3)) == 0).all()
    assert (image == 20).all()
    assert Compose()(image, nothing(4, 3)) is not image


def test_compose_rejects_non_callables() -> None:
    with pytest.raises(OptionError, match=r"not 'skull'; write overlays\.create\('skull'\)$"):
        Compose("skull")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"not \[Brighter.*; write overlays\.Compose\(\*them\)$"):
        Compose([Brighter()])  # type: ignore[list-item, arg-type]
    assert repr(Compose(Brighter(amount=3))) == "Compose(Brighter(amount=3))"


def test_draw_is_for_authors() -> None:
    image = gray()
    with pytest.raises(OverlayError, match=r"call the overlay itself, overlay\(image, faces\)"):
        Brighter().draw(image, nothing(4, 3))
    assert (image == 20).all()


def test_drawing_on_a_read_only_image_is_explained() -> None:
    def white_corner(image: NDArray[np.uint8], _: Detections) -> NDArray[np.uint8]:
        image[:2] = 255
        return image

    image = gray()
    image.flags.writeable = False
    with pytest.raises(
        OverlayError, match=r"white_corner failed: the image is read-only; begin with image = image\.copy"
    ):
        drawn_by(white_corner, image, nothing(4, 3))


def test_nested_compose_copies_once() -> None:
    canvases = []

    class Recorded(Brighter):
        """Record its canvas."""

        def draw(self, canvas: NDArray[np.uint8], detections: Detections) -> None:
            canvases.append(canvas)
            super().draw(canvas, detections)

    image = gray()
    out = Compose(Compose(Recorded()), Compose(Recorded(), Compose(Recorded())))(image, nothing(4, 3))
    assert all(canvas is out for canvas in canvases)
    assert (out == 50).all()
    assert (image == 20).all()
