"""The examples do what they say, on a drawn scene of six people."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector, samples

SCENE = samples.scene()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "group.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), SCENE.image)
    return path


@pytest.fixture
def run_example(root, network_500m, monkeypatch, capsys):
    """Run an example as a script, and return what it printed."""

    def run(name: str, *arguments: Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(root / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def change(path: Path) -> np.ndarray:
    """Mean change of each pixel against the scene."""
    return np.abs(cv2.imread(str(path)).astype(float) - SCENE.image).mean(axis=2)


def face_and_corner(changed: np.ndarray) -> tuple[float, float]:
    x1, y1, x2, y2 = SCENE.faces.boxes[0].astype(int)
    return float(changed[y1:y2, x1:x2].mean()), float(changed[:40, :40].mean())


def test_detect_photo_prints_and_aligns_each_face(run_example, photo):
    printed = run_example("detect_photo.py", photo)
    assert printed.splitlines()[0] == f"{photo}: {len(SCENE.faces)} faces"
    crops = [cv2.imread(str(path)) for path in sorted(photo.parent.glob("group_face*.png"))]
    assert [crop.shape for crop in crops] == [(112, 112, 3)] * len(SCENE.faces)


def test_anonymize_folder_hides_faces_and_nothing_else(run_example, photo, network_500m):
    (photo.parent / "notes.txt").write_text("no photograph")
    target = photo.parent.parent / "hidden"
    assert "group.png: 6 faces hidden" in run_example("anonymize_folder.py", photo.parent, target)
    assert [path.name for path in target.iterdir()] == ["group.png"]
    face, corner = face_and_corner(change(target / "group.png"))
    assert face > 8
    assert corner == 0
    with SCRFDDetector.from_onnx(network_500m) as detector:
        assert len(detector.detect(cv2.imread(str(target / "group.png")))) < len(SCENE.faces)


def test_custom_overlay_darkens_all_but_the_faces(run_example, photo):
    target = photo.parent / "spotlight.png"
    run_example("custom_overlay.py", photo, target)
    face, corner = face_and_corner(change(target))
    assert corner > 5 * face
