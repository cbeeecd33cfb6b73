"""Detections compared with those of InsightFace 2.1 for the same photographs and models."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from scrfd_trt import DetectorOptions, SCRFDDetector
from scrfd_trt._letterbox import Letterbox
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.verify_engine import differences
from scrfd_trt.backends import OnnxBackend

PHOTOGRAPHS = ["multiple_faces.jpg", "people.png", "street.jpg", "worlds-largest-selfie.jpg"]


def closest(found, boxes):
    """Return the detections nearest to some boxes; each must be a different one."""
    rows = np.abs(found.boxes[None] - boxes[:, None]).max(axis=2).argmin(axis=1)
    assert len(set(rows.tolist())) == len(rows)
    return found[rows]


def difference(found, expected):
    """Return for each face the largest difference of box and landmarks in pixels, and that of the score."""
    boxes = np.array(expected["boxes"], np.float32)
    points = np.array(expected["landmarks"], np.float32)
    near = closest(found, boxes)
    off = np.maximum(np.abs(near.boxes - boxes).max(axis=1), np.abs(near.landmarks - points).max(axis=(1, 2)))
    return off, np.abs(near.scores - np.array(expected["scores"], np.float32))


def allowed(expected):
    return 0.5 + 0.002 * max(expected["image_size"])


def undo_single_scale(expected, target):
    """Correct the x coordinates of a reference result of one small pass.

    The reference maps both axes back by the scale of the height, although the width is rounded separately: at 128
    pixels, that shifts x by up to one per cent.
    """
    across, down = Letterbox.fit(tuple(expected["image_size"]), (target, target)).scale
    ratio = np.array([down / across, 1.0])
    boxes, points = np.array(expected["boxes"]), np.array(expected["landmarks"])
    return {**expected, "boxes": boxes * np.tile(ratio, 2), "landmarks": points * ratio}


def open_whole(network, **options):
    """Return a detector that runs the model with all of the padding, as the reference does."""
    checked = DetectorOptions(**options)
    return SCRFDDetector._of(HostPipeline(OnnxBackend(network), checked, cut_padding=False), checked, device="cpu")


@pytest.fixture(scope="module")
def networks(network_500m, models_2_5g):
    return {"500m": network_500m, **models_2_5g}


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
@pytest.mark.parametrize(
    ("network", "key"),
    [
        ("500m", "scrfd_500m_bnkps"),
        pytest.param("grid", "scrfd_2.5g_kps_640_flat", marks=pytest.mark.slow),
        pytest.param("flat", "scrfd_2.5g_kps_640_flat", marks=pytest.mark.slow),
    ],
)
def test_one_pass(networks, photographs, reference, network, key, photograph):
    expected = reference[key]["640"][photograph]
    with open_whole(networks[network], scales=640) as detector:
        found = detector.detect(cv2.imread(str(photographs[photograph])))
    assert len(found) == len(expected["scores"])
    off, scores = difference(found, expected)
    assert off.max() <= allowed(expected)
    assert scores.max() <= 0.005


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_two_passes(network_500m, photographs, reference, photograph):
    expected = reference["scrfd_500m_bnkps"]["128+640"][photograph]
    with open_whole(network_500m) as detector:
        assert detector.scales == ((128, 128), (640, 640))
        found = detector.detect(cv2.imread(str(photographs[photograph])))
    assert len(found) == len(expected["scores"])
    off, scores = difference(found, expected)
    if photograph == "multiple_faces.jpg":
        off = np.minimum(off, difference(found, undo_single_scale(expected, 128))[0])
    assert off.max() <= allowed(expected)
    assert scores.max() <= 0.005


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_cut_inputs_give_the_same_faces(network_500m, photographs, photograph):
    image = cv2.imread(str(photographs[photograph]))
    with SCRFDDetector.from_onnx(network_500m, device="cpu", threshold=0.45) as cut:
        found = cut.detect(image)
    with open_whole(network_500m, threshold=0.45) as whole:
        expected = whole.detect(image)
    assert differences(found, expected, above=0.5, landmarks=0.05) == []


@pytest.mark.slow
@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_grid_and_flat_models_give_the_same_faces(networks, photographs, photograph):
    image = cv2.imread(str(photographs[photograph]))
    found = []
    for network in ("grid", "flat"):
        with SCRFDDetector.from_onnx(networks[network], device="cpu") as detector:
            found.append(detector.detect(image))
    assert len(found[0]) == len(found[1])
    assert np.abs(closest(found[1], found[0].boxes).boxes - found[0].boxes).max() < 0.05
    assert np.abs(found[0].scores - found[1].scores).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("angle", "share"), [(270, 0.98), (60, 0.9)])
def test_turned_photographs_give_the_same_faces(networks, photographs, angle, share):
    picture = cv2.imread(str(photographs["people.png"]))
    height, width = picture.shape[:2]
    side = math.ceil(math.hypot(width, height))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -angle, 1.0)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    turned = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_CUBIC)
    with SCRFDDetector.from_onnx(networks["500m"], device="cpu", min_face=16) as detector:
        upright = detector.detect(picture)
    with SCRFDDetector.from_onnx(
        networks["500m"], device="cpu", min_face=16, rotations=(90, 180, 270), max_faces=500
    ) as detector:
        found = detector.detect(turned)
    middles = (upright.boxes[:, :2] + upright.boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    others = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    reach = 0.4 * (upright.boxes[:, 2:] - upright.boxes[:, :2]).max(axis=1)
    near = np.abs(middles[:, None] - others).max(axis=2) < reach[:, None]
    assert near.any(axis=1).mean() >= share
