"""The measures of docs/compare.py, on a tiny clip and with peers that are made here."""

from __future__ import annotations

import runpy
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from drawing import clips
from scrfd_trt import samples

pytestmark = pytest.mark.slow

STUB = """
import sys, av, cv2, pathlib
from drawing.clips import Truth
truth = Truth.load(pathlib.Path(sys.argv[1]).with_suffix(".truth.json"))
with av.open(sys.argv[1]) as source, av.open(sys.argv[2], "w") as target:
    stream = target.add_stream("libx264", rate=25)
    for number, frame in enumerate(source.decode(video=0)):
        image = frame.to_ndarray(format="bgr24")
        if number == 0:
            stream.height, stream.width = image.shape[:2]
        for face in truth.frames[number]:
            x1, y1, x2, y2 = map(round, face.box)
            if (face.track, number) != (1, 5):
                cv2.ellipse(image, ((x1 + x2) // 2, (y1 + y2) // 2), (x2 - x1, y2 - y1), 0, 0, 360, (255, 0, 255), -1)
        if number == 2:
            image[:20, :40] = (255, 0, 255)
        target.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
    target.mux(stream.encode())
"""
"""Covers all faces but one in one frame, and for one frame a place without a face; drops the sound."""

INSIGHTFACE = """
import numpy as np
class Fixed:
    def prepare(self, ctx_id, input_size): assert (ctx_id, input_size) == (-1, (640, 640))
    def detect(self, image): return np.array([[290., 185., 360., 270., 0.9], [0., 0., 9., 9., 0.8]]), None
def get_model(path, providers): return Fixed()
"""


@pytest.fixture(scope="module")
def compare(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "docs" / "compare.py"))


def test_covers_of_a_stub_are_measured(
    compare: dict[str, Any], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(root))
    path, _ = clips.make("static", tmp_path, seconds=0.4, size=(480, 270))
    (tmp_path / "stub.py").write_text(STUB)
    command = f"'{sys.executable}' '{tmp_path}/stub.py' {{input}} {{output}}"
    options = Namespace(models=[], sizes=[0, 30, 100], keep=None)
    (row,) = compare["hide"]([path], tmp_path, {"stub": command}, options)
    assert (row["clip"], row["program"], row["frames"], row["sound"]) == ("static", "stub", 10, "no")
    assert (row["open"], row["faces"], row["leaks"], row["people"]) == (1, 60, 1, 6)
    assert row["flashes"] == 2
    assert row["false"] == pytest.approx(100 * 20 * 40 / (480 * 270) / 10, rel=0.2)
    assert sum(part[1] for part in row["by_size"].values()) == 60
    assert row["jitter"] < 5
    assert min(row["rate"], row["cpu"], row["size"]) > 0
    sums = compare["total"]([row, row | {"photo": True}], "stub")
    assert (sums["open"], sums["faces"], sums["sound"]) == (1, 60, "dropped")
    assert compare["clips_table"]([row]).splitlines()[2].startswith("| static | 60 | 1 | 1 | 2 | 0.1 |")


@pytest.mark.skipif(sys.platform == "win32", reason="the stub's interpreter is a shell script")
def test_boxes_of_both_detectors_are_compared(
    compare: dict[str, Any], tmp_path: Path, network_500m: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "insightface").mkdir()
    (tmp_path / "insightface" / "model_zoo.py").write_text(INSIGHTFACE)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(compare["detect"].__globals__, "SETTINGS", {"640": "one pass at 640"})
    image = Path(samples.__file__).parent / "assets" / "group-640x480.png"
    known = samples.load("group-640x480").faces.boxes.tolist()
    (row,) = compare["detect"](image.parent, tmp_path, {image.name: known}, 1, 0.0)
    assert (row["image"], row["known"]) == ("group-640x480", 6)
    assert row["found"]["scrfd-trt"] == row["boxes"]["scrfd-trt"] == 6
    assert row["boxes"]["insightface"] == 2
    assert row["found"]["insightface"] <= 1
    assert row["agree"] <= 1
    assert min(*row["rate"].values(), *row["cpu"].values()) > 0


def test_boxes_have_partners_of_their_own(compare: dict[str, Any]) -> None:
    one, near = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]
    assert compare["pairs"]([one, near], [one], 0.5) == 1
    assert compare["pairs"]([one, near], [near, one], 0.5) == 2
    assert compare["pairs"]([one], [near], 0.95) == 0


def test_programs_run_in_colours_and_with_further_ones(compare: dict[str, Any]) -> None:
    named = compare["commands"](Path("peers"), ["blur=blur {input} {output}"])
    assert list(named) == ["scrfd-trt", "scrfd-trt, deface's settings", "deface", "blur"]
    assert "fill=#ff00ff" in named["scrfd-trt"]
    assert named["blur"] == "blur {input} {output}"
