from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import overlays
from overlays.testing import faces, noise
from scrfd_trt.errors import ImageError

COVERING = (overlays.Blur, overlays.Pixelate, overlays.Solid)


@pytest.mark.parametrize("kind", COVERING)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"opacity": 0.5}, "with opacity 0.5 the face shines through"),
        ({"scale": 0.5}, "with scale 0.5 some of the fa"),
        ({"margin": 0.02}, "with margin 0.02 the rim of some faces stays in sight; 0.1 or more hides it"),
        ({"margin": 0.09, "shape": "aligned"}, "with margin 0.09 the rim of some"),
        ({"margin": 0.04, "shape": "rectangle"}, "with margin 0.04 the rim of some faces stays in sight; 0.05 or more"),
        ({"margin": 0.0, "scale": 1.15}, "with margin 0 the rim of some"),
    ],
)
def test_options_that_leave_a_face_readable_are_warned_of(
    kind: type[overlays.Covering], options: dict[str, float], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="scrfd_trt.overlays"):
        kind()
        assert not caplog.records
        kind(**options)
    assert caplog.messages[0].startswith(f"{kind.__name__}: {reason}")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"margin": 0.1},
        {"margin": 0.1, "shape": "aligned"},
        {"margin": 0.05, "shape": "rectangle"},
        {"margin": 0.0, "scale": 1.21},
    ],
)
def test_margins_that_suffice_are_not_warned_of(options: dict[str, Any]) -> None:
    assert overlays.Solid(**options).readable() == []


def test_blocks_of_some_pixels_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    overlays.Pixelate(block=20)
    assert caplog.messages == [
        "Pixelate: with block 20 faces of more than 100 pixels may still be known; strength suits all sizes"
    ]


def test_blocks_of_some_pixels_are_the_same_for_all_faces() -> None:
    image = noise(96, 64)
    out = overlays.Pixelate(block=8, shape="rectangle", margin=0, feather=0)(image, faces(((8, 8, 40, 48),)))
    cells = out[8:48, 8:40].reshape(5, 8, 4, 8, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    assert len(np.unique(out[8:48, 8:40].reshape(-1, 3), axis=0)) == 20


@pytest.mark.parametrize("kind", COVERING)
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_opacity_goes_from_nothing_to_all(kind: type[overlays.Covering], opacity: float) -> None:
    image, found = noise(), faces(((30, 10, 60, 50),))
    out = kind(opacity=opacity, blending="srgb", feather=0)(image, found).astype(float)
    full = kind(blending="srgb", feather=0)(image, found)
    assert np.abs(out - (image + (full.astype(float) - image) * opacity)).max() <= 1.5


def test_solid_takes_colours_by_name_and_number() -> None:
    def middle(**options: Any) -> list[int]:
        return overlays.Solid(**options)(noise(), faces())[32, 36].tolist()

    assert middle() == [0, 0, 0]
    assert middle(fill="#102030") == [0x30, 0x20, 0x10]
    assert middle(fill="#102030", color="rgb") == [0x10, 0x20, 0x30]


def test_drawing_in_place_touches_nothing_but_the_faces() -> None:
    image = noise(400, 300)
    place = image.copy()
    found = faces(((30, 40, 60, 80),), (400, 300))
    overlay = overlays.Solid()
    assert overlay(place, found, out=place) is place
    x1, y1, x2, y2 = overlay.reach_boxes(found)[0].astype(int)
    assert (place[y1:y2, x1:x2] != image[y1:y2, x1:x2]).any()
    place[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    assert (place == image).all()
    both = overlays.Compose(overlay, overlays.Landmarks())
    assert (both(place, found, out=place) == both(image, found)).all()
    assert (both.reach_boxes(found)[0] == overlay.reach_boxes(found)[0]).all()
    assert overlays.Compose(overlay, lambda image, detections: image.copy()).reach_boxes(found) is None


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((64, 95, 3), np.uint8), r"out must be an array of \(64, 96, 3\) uint8 .*, not \(64, 95, 3\) uint8"),
        (np.empty((64, 96, 3), np.float32), "float32"),
        ([1], "not list"),
        (np.empty((3, 64, 96), np.uint8).transpose(1, 2, 0), "contiguous and writable"),
        (np.frombuffer(bytes(64 * 96 * 3), np.uint8).reshape(64, 96, 3), "contiguous and writable"),
    ],
)
def test_what_cannot_be_drawn_into_is_refused(out: Any, message: str) -> None:
    for overlay in (overlays.Solid(), overlays.Compose(overlays.Solid())):
        with pytest.raises(ImageError, match=message):
            overlay(noise(), faces(), out=out)
