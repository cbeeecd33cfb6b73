"""What is covered in drawn clips whose faces are known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drawing import clips
from scrfd_trt import SCRFDDetector
from scrfd_trt.video import FrameFaces, VideoReader, find_faces

pytest.importorskip("av")
pytestmark = pytest.mark.slow

SIZE = (480, 270)
LITTLE = 0.1
"""Share of the picture."""


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


@pytest.mark.parametrize(("name", "seconds", "end"), [("cut", 2.4, 15), ("fade", 3.2, 12)])
def test_nothing_of_a_scene_lasts_beyond_it(
    name: str, seconds: float, end: int, tmp_path: Path, detector: SCRFDDetector
) -> None:
    frames, truth = tracked(name, tmp_path, detector, seconds)
    assert all(all(covered(frame, faces)) for frame, faces in zip(frames, truth.frames, strict=True))
    # The second scene has no people: after its first frame, or the black one, no box of the first scene's may be left.
    last = next(faces for faces in reversed(truth.frames[:end]) if faces)
    kept = {
        number: [face.box for face in last if any(clips.overlap(face.box, found.box.tolist()) > 0.3 for found in frame)]
        for number, frame in enumerate(frames[end : end + 10], end)
    }
    assert {number: boxes for number, boxes in kept.items() if boxes} == {}
    assert not {face.track for frame in frames[:end] for face in frame} & {
        face.track for frame in frames[end:] for face in frame
    }


def test_anonymize_covers_people_who_lie_and_little_clutter(tmp_path: Path, network_500m: Path) -> None:
    truths = [clips.make(name, tmp_path, seconds=0.4, size=SIZE, sound=False) for name in ("clutter", "lying")]
    solid = ["--overlay", "solid:fill=#ff00ff,scale=1.6,margin=0", "--model", str(network_500m), "--device", "cpu"]
    files = [str(path) for path, _ in truths]
    subprocess.run(
        [sys.executable, "-m", "scrfd_trt", "anonymize", *files, "-o", str(tmp_path / "out"), "--quiet", *solid],
        check=True,
    )
    false = []
    for path, truth in truths:
        with VideoReader(path) as source, VideoReader(tmp_path / "out" / path.name) as copy:
            for before, after, faces in zip(source, copy, truth.frames, strict=True):
                mask = np.abs(before.image.astype(int) - after.image).max(axis=2) > 56
                for face in faces:
                    x1, y1, x2, y2 = (max(0, round(value)) for value in face.box)
                    assert face.shown < 0.5 or mask[y1:y2, x1:x2].mean() > 0.5
                    wide, high = (x2 - x1) // 2 + 4, (y2 - y1) // 2 + 4
                    mask[max(0, y1 - high) : y2 + high, max(0, x1 - wide) : x2 + wide] = False
                false.append(mask.mean())
    assert np.mean(false) < LITTLE
