"""What is covered in drawn clips whose faces are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drawing import clips
from scrfd_trt import SCRFDDetector
from scrfd_trt.video import FrameFaces, VideoReader, find_faces

pytest.importorskip("av")
pytestmark = pytest.mark.slow

SIZE = (480, 270)


@pytest.fixture(scope="module")
def detector(network_500m: Path) -> Iterator[SCRFDDetector]:
    with SCRFDDetector.from_onnx(network_500m, device="cpu") as opened:
        yield opened


def tracked(name: str, folder: Path, detector: SCRFDDetector, seconds: float) -> tuple[list[FrameFaces], clips.Truth]:
    path, truth = clips.make(name, folder, seconds=seconds, size=SIZE, sound=False)
    with VideoReader(path) as reader:
        return list(find_faces(reader, detector)), truth


def covered(frame: FrameFaces, faces: list[clips.Face]) -> list[bool]:
    """Whether each face that is visible for the most part has a box."""
    return [
        any(clips.overlap(face.box, found.box.tolist()) > 0.3 for found in frame) for face in faces if face.shown >= 0.5
    ]


@pytest.mark.parametrize("name", ["cut"])
def test_nothing_of_a_scene_lasts_beyond_it(name: str, tmp_path: Path, detector: SCRFDDetector) -> None:
    frames, truth = tracked(name, tmp_path, detector, 4.0)
    assert all(all(covered(frame, faces)) for frame, faces in zip(frames, truth.frames, strict=True))
    # The second scene has no people: after its first frame, or the black one, no box of the first scene's may be left.
    end = 25 if name == "cut" else 17
    last = next(faces for faces in reversed(truth.frames[:end]) if faces)
    kept = {
        number: [face.box for face in last if any(clips.overlap(face.box, found.box.tolist()) > 0.3 for found in frame)]
        for number, frame in enumerate(frames[end:45], end)
    }
    assert {number: boxes for number, boxes in kept.items() if boxes} == {}
    assert not {face.track for frame in frames[:end] for face in frame} & {
        face.track for frame in frames[end:] for face in frame
    }
