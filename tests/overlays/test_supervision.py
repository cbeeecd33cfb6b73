from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import overlays
from overlays.testing import CHECKS, faces, noise
from scrfd_trt.errors import DetectionsError, OptionError, OverlayError

sv = pytest.importorskip("supervision")

# Annotators that draw detections or key points and need neither a file nor track ids.
ANNOTATORS = (
    "BackgroundOverlayAnnotator", "BlurAnnotator", "BoxAnnotator", "BoxCornerAnnotator", "CircleAnnotator",
    "ColorAnnotator", "CropAnnotator", "DotAnnotator", "EllipseAnnotator", "HeatMapAnnotator", "LabelAnnotator",
    "MaskAnnotator", "PercentageBarAnnotator", "PixelateAnnotator", "RoundBoxAnnotator", "TriangleAnnotator",
    "VertexAnnotator",
)  # fmt: skip


def box() -> overlays.Overlay:
    return overlays.from_supervision(sv.BoxAnnotator(thickness=1))


@pytest.mark.parametrize("name", ANNOTATORS)
def test_annotators_are_overlays(name: str) -> None:
    image, before = noise(), noise()
    out = overlays.from_supervision(getattr(sv, name)())(image, faces())
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert not np.shares_memory(out, image)
    assert (image == before).all()
    assert (out != image).any() or name == "MaskAnnotator", "there are no masks to draw"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_annotator_passes_overlay_checks(check: Any) -> None:
    check(box())


def test_result_equals_supervision() -> None:
    wanted = sv.BoxAnnotator(thickness=1).annotate(noise(), faces().to_supervision())
    assert (box()(noise(), faces()) == wanted).all()


def test_options_are_passed_to_annotate() -> None:
    labels = overlays.from_supervision(sv.LabelAnnotator(), labels=lambda found: [f"{s:.0%}" for s in found.scores])
    wanted = sv.LabelAnnotator().annotate(noise(), faces().to_supervision(), labels=["99%", "30%"])
    assert (labels(noise(), faces()) == wanted).all()


def test_landmarks_become_key_points() -> None:
    out = overlays.from_supervision(sv.VertexAnnotator(radius=2))(noise(), faces())
    for x, y in faces().landmarks[0].astype(int):
        assert (out[y, x] != noise()[y, x]).any()
    for none in (faces(landmarks=False), faces(())):
        assert (overlays.from_supervision(sv.VertexAnnotator())(noise(), none) == noise()).all()


def test_track_ids_are_passed() -> None:
    trace = overlays.from_supervision(sv.TraceAnnotator())
    assert trace(noise(), faces(tracked=True)).shape == noise().shape
    with pytest.raises(OverlayError, match=r"from_supervision\(TraceAnnotator\) failed: \w+: .*tracker_id"):
        trace(noise(), faces())


@pytest.mark.parametrize("wrong", [3, sv.Detections.empty(), "BoxAnnotator"])
def test_invalid_annotator_raises_option_error(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"annotate\(scene, detections\)"):
        overlays.from_supervision(wrong)


@pytest.mark.parametrize("name", ["skull", "blur", "solid", "landmarks", "boxes"])
def test_overlays_accept_supervision_detections(name: str) -> None:
    overlay, found = overlays.create(name), faces(tracked=True)
    wanted = overlay(noise(), found)
    assert (overlay(noise(), found.to_supervision()) == wanted).all()
    assert (overlays.Compose(overlay)(noise(), found.to_supervision()) == wanted).all()
    scene = noise()
    assert overlays.to_supervision(overlay).annotate(scene=scene, detections=found.to_supervision()) is scene
    assert (scene == wanted).all()


def test_invalid_arguments_raise() -> None:
    with pytest.raises(DetectionsError, match="Detections of scrfd_trt or of supervision, not list"):
        overlays.Solid()(noise(), [1, 2])
    with pytest.raises(OptionError, match=r"overlay must be an overlay, .*, not 'skull'"):
        overlays.to_supervision("skull")


def test_errors_of_option_functions_are_translated() -> None:
    labels = overlays.from_supervision(sv.LabelAnnotator(), labels=lambda found: [1 / 0])
    with pytest.raises(OverlayError, match=r"^from_supervision\(LabelAnnotator\) failed: ZeroDivisionError: "):
        labels(noise(), faces())


def test_annotator_draws_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, canvases = noise(), []
    draw = overlays.Solid.draw
    monkeypatch.setattr(
        overlays.Solid, "draw", lambda self, canvas, found: (canvases.append(canvas), draw(self, canvas, found))
    )
    overlays.to_supervision(overlays.Compose(overlays.Solid())).annotate(scene, faces().to_supervision())
    assert [canvas is scene for canvas in canvases] == [True]
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, ::2] = noise()
    assert (overlays.to_supervision(overlays.Solid()).annotate(wide[:, ::2], faces().to_supervision()) == scene).all()
