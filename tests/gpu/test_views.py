"""Tiles and turned images on a GPU against the pipeline of the host, around the same engines."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from engine_backend import EngineBackend

from scrfd_trt import SCRFDDetector, YUVImage, samples
from scrfd_trt._nms import pairwise_iou
from scrfd_trt._passes import Look
from scrfd_trt._pipelines.cuda import views

TURNS = (90, 180, 270)


@pytest.fixture(scope="module")
def crowd():
    """A picture of 4K, of groups at many scales, and the boxes of the faces: 16 to 200 pixels."""
    group = samples.load("group")
    picture, boxes = cv2.resize(group.image[:60], (3840, 2160)), []
    x = y = below = 0
    for number in range(200):
        scale = (0.36, 0.6, 0.42, 1.0, 0.37, 0.5)[number % 6]
        part = cv2.resize(group.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = part.shape[:2]
        if x + width > 3840:
            x, y, below = 0, below, 0
        if y + height > 2160:
            break
        picture[y : y + height, x : x + width] = part
        boxes.append(group.faces.boxes * np.float32(scale) + np.float32((x, y, x, y)))
        x, below = x + width, max(below, y + height)
    return picture, np.concatenate(boxes)


@pytest.fixture(scope="module")
def pair(plan, opened, is_mixing):
    """Detectors on the GPU and on the CPU, with views as large as the largest batch of the engine allows."""
    if is_mixing:
        pytest.skip("this engine mixes the images of a batch")
    options = {"min_face": 16, "max_batch": 8}
    with (
        SCRFDDetector.from_engine(plan, **options) as cuda,
        SCRFDDetector.from_backend(EngineBackend(plan), **options) as host,
    ):
        yield cuda, host


def agree(found, wanted, threshold=0.5):
    """Batches of other sizes have other rounding: faces near the threshold may differ."""
    for some, others in ((found, wanted), (wanted, found)):
        sure = some.scores > threshold + 0.02
        assert pairwise_iou(some.boxes[sure], others.boxes).max(axis=1, initial=0).min(initial=1) > 0.9
    assert abs(len(found) - len(wanted)) <= 1 + len(wanted) // 50
    assert found.image_size == wanted.image_size


def test_a_crowd_in_4k(pair, crowd):
    cuda, host = pair
    picture, boxes = crowd
    found = cuda.detect(picture)
    agree(found, host.detect(picture))
    missed = (pairwise_iou(boxes, found.boxes).max(axis=1) < 0.3).sum()
    print(f"\n{len(boxes)} faces: {missed} missed; {len(found)} found")
    assert missed <= len(boxes) // 15
    for other in cuda.detect_batch([picture] * 3):
        agree(other, found)
    (on_gpu,) = cuda.detect_on_gpu([picture])
    agree(on_gpu.to_host(), found)


def test_turned_pictures(pair, crowd):
    cuda, host = pair
    picture, _ = crowd
    part = np.ascontiguousarray(picture[:1000, :1500])
    wanted = len(cuda.detect(part))
    for rotation, turned in zip(
        TURNS, (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE), strict=True
    ):
        look = Look(cv2.rotate(part, turned), 16, (360 - rotation,))
        found = cuda.detect(look)
        agree(found, host.detect(look))
        assert len(found) >= 0.95 * wanted
    look = Look(part, 16, TURNS)
    agree(cuda.detect(look), host.detect(look))
    mixed = [part, look, Look(part), part]
    for found, expected in zip(cuda.stream(mixed), map(host.detect, mixed), strict=True):
        agree(found, expected)


@pytest.mark.parametrize("bits", [8, 10])
def test_frames_of_two_planes(pair, crowd, bits):
    cuda, host = pair
    picture = crowd[0][:1079, :1919]
    height, width = picture.shape[:2]
    planes = cv2.cvtColor(cv2.copyMakeBorder(picture, 0, 1, 0, 1, cv2.BORDER_REPLICATE), cv2.COLOR_BGR2YUV_I420)
    y, chroma = planes[: height + 1], planes[height + 1 :].reshape(2, (height + 1) // 2, (width + 1) // 2)
    frame = YUVImage(y[:height, :width], chroma.transpose(1, 2, 0), "bt601")
    if bits == 10:
        frame = replace(
            frame, y=frame.y.astype(np.uint16) << 8, uv=np.ascontiguousarray(frame.uv).astype(np.uint16) << 8
        )
    for given in (frame, Look(frame, 20, (90,)), Look(frame, None, (180, 270))):
        agree(cuda.detect(given), host.detect(given))


def test_the_frames_of_pytorch(pair, crowd, torch):
    cuda, _ = pair
    tensor = torch.from_numpy(crowd[0]).cuda()
    wanted = cuda.detect(crowd[0])
    for found in cuda.stream([tensor] * 9 + [crowd[0]]):
        agree(found, wanted)
    agree(cuda.submit([tensor]).result()[0], wanted)


def test_more_faces_than_there_is_room_for(pair, crowd, monkeypatch):
    cuda, _ = pair
    wanted = cuda.detect(crowd[0])
    monkeypatch.setattr(views, "ROOM", 3)
    agree(cuda.detect(crowd[0]), wanted)
