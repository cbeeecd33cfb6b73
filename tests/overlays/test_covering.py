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
        ({"opacity": 0.5}, "opacity 0.5 leaves the face visible"),
        ({"scale": 0.5}, "scale 0.5 leaves part of the fa"),
        ({"margin": 0.02}, "margin 0.02 leaves the edge of some faces visible; use 0.1 or more to hide it"),
        ({"margin": 0.09, "shape": "aligned"}, "margin 0.09 leaves the edge of some"),
        ({"margin": 0.04, "shape": "rectangle"}, "margin 0.04 leaves the edge of some faces visible; use 0.05 or more"),
        ({"margin": 0.0, "scale": 1.15}, "margin 0 leaves the edge of some"),
    ],
)
def test_revealing_options_log_a_warning(
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
def test_sufficient_margins_log_no_warning(options: dict[str, Any]) -> None:
    assert overlays.Solid(**options).privacy_warnings() == []


def test_block_in_pixels_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    overlays.Pixelate(block=20)
    assert caplog.messages == ["Pixelate: block 20 may leave faces above 100 pixels recognisable; use strength instead"]


def test_block_in_pixels_ignores_face_size() -> None:
    image = noise(96, 64)
    out = overlays.Pixelate(block=8, shape="rectangle", margin=0, feather=0)(image, faces(((8, 8, 40, 48),)))
    cells = out[8:48, 8:40].reshape(5, 8, 4, 8, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    assert len(np.unique(out[8:48, 8:40].reshape(-1, 3), axis=0)) == 20


@pytest.mark.parametrize("kind", COVERING)
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_opacity_is_linear(kind: type[overlays.Covering], opacity: float) -> None:
    image, found = noise(), faces(((30, 10, 60, 50),))
    out = kind(opacity=opacity, blending="srgb", feather=0)(image, found).astype(float)
    full = kind(blending="srgb", feather=0)(image, found)
    assert np.abs(out - (image + (full.astype(float) - image) * opacity)).max() <= 1.5


def test_solid_fill_and_channel_order() -> None:
    def middle(**options: Any) -> list[int]:
        return overlays.Solid(**options)(noise(), faces())[32, 36].tolist()

    assert middle() == [0, 0, 0]
    assert middle(fill="#102030") == [0x30, 0x20, 0x10]
    assert middle(fill="#102030", color="rgb") == [0x10, 0x20, 0x30]


def test_drawing_in_place_changes_faces_only() -> None:
    image = noise(400, 300)
    place = image.copy()
    found = faces(((30, 40, 60, 80),), (400, 300))
    overlay = overlays.Solid()
    assert overlay(place, found, out=place) is place
    x1, y1, x2, y2 = overlay.changed_boxes(found)[0].astype(int)
    assert (place[y1:y2, x1:x2] != image[y1:y2, x1:x2]).any()
    place[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    assert (place == image).all()
    both = overlays.Compose(overlay, overlays.Landmarks())
    assert (both(place, found, out=place) == both(image, found)).all()
    assert (both.changed_boxes(found)[0] == overlay.changed_boxes(found)[0]).all()
    assert overlays.Compose(overlay, lambda image, detections: image.copy()).changed_boxes(found) is None


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
def test_invalid_out_raises_image_error(out: Any, message: str) -> None:
    for overlay in (overlays.Solid(), overlays.Compose(overlays.Solid())):
        with pytest.raises(ImageError, match=message):
            overlay(noise(), faces(), out=out)
