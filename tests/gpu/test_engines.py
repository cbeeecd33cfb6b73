"""Real engines on a real GPU: the faces of the reference, whatever the batch, the thread or the stream."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from scrfd_trt import OptionError, SCRFDDetector
from scrfd_trt._cuda.driver import Device
from scrfd_trt._decode import decode
from scrfd_trt._detections import Detections
from scrfd_trt._engine.inspect import inspect_engine
from scrfd_trt._heads import check, recognize
from scrfd_trt._letterbox import Letterbox, normalize_into
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._pipelines.verify_engine import differences
from scrfd_trt.backends import OnnxBackend

PHOTOGRAPHS = ["multiple_faces.jpg", "people.png", "street.jpg", "worlds-largest-selfie.jpg"]
NETWORKS = {"500m": "scrfd_500m_bnkps", "25g": "scrfd_2.5g_kps_640_flat", "2.5g": "scrfd_2.5g_kps_640_flat"}
"""The reference's name of a network, by how the names of engine files begin."""

SIZE = (640, 640)
LARGEST = 33
MARGIN = 0.55


@pytest.fixture(scope="module")
def detector(opened):
    """A detector around it, which is left to the other fixture to close."""
    return SCRFDDetector.from_backend(opened, device="cuda:0", scales=SIZE[0], threshold=0.5)


@pytest.fixture(scope="module")
def reference_of(shared, plan):
    """What InsightFace finds in a photograph with the engine's network."""
    found = json.loads((shared / "reference" / "insightface-2.1.json").read_text(encoding="utf-8"))
    keys = [key for start, key in NETWORKS.items() if plan.name.lower().removeprefix("scrfd_").startswith(start)]
    if not keys:
        pytest.skip(f"which network {plan.name} is of cannot be told by its name: {', '.join(NETWORKS)}")

    def read(photograph):
        wanted = found[keys[0]]["640"][photograph]
        # The reference maps x back by the scale of the height, though the width was rounded on its own; that is a pixel
        # on the far side of a wide photograph, and too much for the box of a small face.
        across, down = Letterbox.fit(tuple(wanted["image_size"]), SIZE).scale
        ratio = np.array([down / across, 1.0])
        return Detections(
            np.array(wanted["boxes"]) * np.tile(ratio, 2),
            np.array(wanted["scores"]),
            np.array(wanted["landmarks"]) * ratio,
            image_size=tuple(wanted["image_size"]),
        )

    return read


@pytest.fixture(scope="module")
def blobs(shared):
    """Network inputs, made of pieces of the photographs: one batch of the most images that is tried."""
    pictures = [cv2.imread(str(shared / "images" / name)) for name in PHOTOGRAPHS]
    pieces = []
    for number in range(LARGEST):
        piece = pictures[number % 4][number * 3 :, number * 5 :]
        pieces.append(cv2.resize(piece, SIZE)[:, :, ::-1].transpose(2, 0, 1))
    return np.ascontiguousarray((np.stack(pieces).astype(np.float32) - 127.5) / 128)


def agree(plan, found, wanted):
    """Whether outputs are the same but for rounding, which differs where another profile ran."""
    off = 0.01 if "fp32" in plan.stem else 0.1
    return all(np.allclose(a.astype(np.float32), b, atol=off, rtol=off / 5) for a, b in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def candidates_of(shared, plan, request):
    """What the engine's network finds before suppression, in full precision on the processor."""
    path = shared / "models" / "scrfd_2.5g_kps_640_flat.onnx"
    if plan.name.lower().removeprefix("scrfd_").startswith("500m"):
        path = request.getfixturevalue("network_500m")
    backend = OnnxBackend(path)
    layout = recognize(backend.outputs)

    def find(image):
        box = Letterbox.fit((image.shape[1], image.shape[0]), SIZE)
        blob = np.empty((1, 3, *SIZE[::-1]), np.float32)
        normalize_into(blob[0], image, box)
        return decode(layout, backend.run(blob), 0, SIZE, 0.4).to_source(box)

    yield find
    backend.close()


def without_ties(found, wanted, candidates):
    """Put the reference's choice in place of a found face where the network itself hardly prefers one of two boxes.

    Rounding to half precision turns the order of two overlapping candidates whose scores are within a hundredth, and
    suppression then keeps the other one. The one found must be a candidate of the exact network, to the same tolerance.
    """
    boxes, points = found.boxes.copy(), found.landmarks.copy()
    overlap, ties = pairwise_iou(boxes, wanted.boxes), 0
    for row in range(len(found)):
        best = int(overlap[row].argmax())
        side = (candidates.boxes[:, 2:] - candidates.boxes[:, :2]).max(axis=1)
        off = np.linalg.norm(candidates.landmarks - points[row], axis=2).max(axis=1)
        same = (pairwise_iou(boxes[row : row + 1], candidates.boxes)[0] >= 0.9) & (off <= 0.02 * side)
        if overlap[row, best] >= 0.4 and (same & (candidates.scores >= wanted.scores[best] - 0.01)).any():
            apart = np.linalg.norm(points[row] - wanted.landmarks[best], axis=1).max()
            ties += bool(
                overlap[row, best] < 0.9 or apart > 0.02 * (wanted.boxes[best, 2:] - wanted.boxes[best, :2]).max()
            )
            boxes[row], points[row] = wanted.boxes[best], wanted.landmarks[best]
    assert ties <= max(1, len(wanted) // 50)
    return Detections(boxes, found.scores, points, image_size=found.image_size)


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_the_faces_of_the_reference(plan, detector, reference_of, candidates_of, shared, photograph):
    wanted = reference_of(photograph)
    image = cv2.imread(str(shared / "images" / photograph))
    found = detector.detect(image)
    if "fp32" not in plan.stem:
        assert differences(without_ties(found, wanted, candidates_of(image)), wanted, above=MARGIN) == []
    else:
        assert differences(found, wanted, above=MARGIN) == []
        assert len(found) == len(wanted)
        limit = 0.5 + 0.002 * max(wanted.image_size)
        nearest = np.abs(found.boxes[None] - wanted.boxes[:, None]).max(axis=2)
        assert nearest.min(axis=1).max() <= limit
        assert np.abs(found.scores[nearest.argmin(axis=1)] - wanted.scores).max() <= 0.005


@pytest.fixture
def _known_to_mix(is_mixing, request):
    if is_mixing:
        request.applymarker(pytest.mark.xfail(reason="this engine mixes the images of a batch", strict=True))


@pytest.mark.usefixtures("_known_to_mix")
def test_every_batch_gives_what_single_images_give(plan, opened, blobs):
    if not recognize(opened.outputs).has_batch_axis:
        pytest.skip("this network takes one image at a time")
    alone = [opened.run(blobs[number : number + 1]) for number in range(LARGEST)]
    wanted = [np.concatenate(parts).astype(np.float32) for parts in zip(*alone, strict=True)]
    for images in range(1, LARGEST + 1):
        found = opened.run(blobs[:images])
        assert [len(output) for output in found] == [images] * len(found)
        assert agree(plan, found, [output[:images] for output in wanted])


def test_profiles_do_not_disturb_each_other(opened, blobs):
    layout = recognize(opened.outputs)

    def run(shape):
        blob = np.ascontiguousarray(np.resize(blobs[:, :, : shape[2], : shape[3]], shape))
        outputs = opened.run(blob)
        check(layout, outputs, (shape[3], shape[2]))
        return outputs

    shapes = [each.opt for each in opened.ranges]
    first = [run(shape) for shape in shapes]
    for shape, wanted in reversed(list(zip(shapes, first, strict=True))):
        assert all(np.array_equal(a, b) for a, b in zip(run(shape), wanted, strict=True))


@pytest.mark.usefixtures("_known_to_mix")
def test_a_batch_of_photographs(detector, candidates_of, shared):
    pictures = [cv2.imread(str(shared / "images" / name)) for name in PHOTOGRAPHS]
    together = detector.detect_batch(pictures)
    for faces, picture in zip(together, pictures, strict=True):
        alone = detector.detect(picture)
        assert differences(without_ties(faces, alone, candidates_of(picture)), alone, above=MARGIN) == []


def test_nothing_is_left_on_the_gpu(plan, opened, shared):
    from cuda.bindings import driver

    def free():
        with Device(0).current():
            return driver.cuMemGetInfo()[1]

    image, levels = cv2.imread(str(shared / "images" / PHOTOGRAPHS[0])), []
    for _ in range(4):
        with SCRFDDetector.from_engine(plan) as detector:
            detector.detect(image)
        levels.append(free())
    assert levels[1] - levels[3] < 2**20


def test_the_wrong_size(plan, opened):
    with pytest.raises(OptionError, match=r"cannot run at 320×320; its inputs .* are: .*640×640"):
        SCRFDDetector.from_engine(plan, scales=320)


def test_inspect(plan, opened):
    report = inspect_engine(plan)
    assert report.usable, report.reasons
    assert SIZE in {profile.opt[2:] for profile in report.profiles}
    assert len([tensor for tensor in report.tensors if tensor.role == "output"]) == 9
    assert report.layout.startswith("grid" if "grid" in plan.stem else ("batched", "flat"))
    assert [profile.max[0] for profile in report.profiles] == [each.max[0] for each in opened.ranges]
