"""The example plugin is built, installed into a fresh environment, and found there by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import drawing

pytestmark = pytest.mark.slow

PLUGIN = Path("examples/overlay_plugin")

Run = Callable[..., str]


def build(project: Path, target: Path) -> Path:
    """Build a project's wheel, as pip would, without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return max(target.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def fresh(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with scrfd-trt and the plugin; third parties' packages are those of this one."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("fresh")
    wheels = [build(root, folder), build(root / PLUGIN, folder)]
    try:
        venv.create(folder / "env", with_pip=True)
    except subprocess.CalledProcessError:
        pytest.skip("this Python cannot make virtual environments with pip")
    programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *wheels], check=True, capture_output=True)
    # Only now, so that pip does not take what is installed beside for what it is to install.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([programs / "python", "-c", code], check=True, capture_output=True, text=True)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(found.stdout.strip(), "third_parties.pth").write_text("\n".join(paths))
    return programs


@pytest.fixture
def run(fresh: Path, tmp_path: Path) -> Run:
    def call(program: str, *words: str) -> str:
        command = [fresh / program, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return call


def test_it_is_found_by_name_with_its_options(run: Run) -> None:
    assert re.search(r"^sunglasses +Put pixel sunglasses on", run("scrfd-trt", "overlays"), re.MULTILINE)
    about = json.loads(run("scrfd-trt", "overlays", "sunglasses", "--json"))
    assert about["from"] == "pixel-sunglasses 1.0.0"
    assert [option["name"] for option in about["options"]] == ["size", "shine"]


def test_help_tells_its_options(run: Run) -> None:
    assert re.search(r"^sunglasses .* size, shine", run("scrfd-trt", "overlay", "--help"), re.MULTILINE)
    told = run("scrfd-trt", "overlay", "--overlay", "sunglasses", "--help")
    assert re.search(r"^size +number, 0.5 to 3 +1 +Size of the glasses", told, re.MULTILINE)
    assert "Without landmarks: it refuses to draw." in told


def test_it_draws_from_the_command_line(run: Run, network_500m: Path, tmp_path: Path) -> None:
    scene = drawing.scene((640, 360))
    cv2.imwrite(str(tmp_path / "photo.png"), scene.image)
    run("scrfd-trt", "overlay", "photo.png", "--overlay", "sunglasses:size=1.2", "-o", "cool.png")
    drawn = cv2.imread(str(tmp_path / "cool.png"))
    assert drawn is not None
    for eye in scene.faces.landmarks[0, :2].round().astype(int):
        assert drawn[eye[1], eye[0]].max() <= 20 or drawn[eye[1], eye[0]].min() >= 250
    assert (drawn == scene.image).all(2).mean() > 0.9


def test_its_own_tests_pass(run: Run, root: Path) -> None:
    assert "passed" in run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(root / PLUGIN / "tests"))


def test_it_draws_nothing_that_the_page_on_writing_one_does_not_tell(root: Path) -> None:
    """The page shows the plugin's own files, word for word."""
    page = root / "docs" / "writing-an-overlay.md"
    if not page.exists():
        pytest.skip("no pages beside the package")
    text = page.read_text(encoding="utf-8")
    for name in ("pyproject.toml", "src/pixel_sunglasses/__init__.py", "tests/test_sunglasses.py"):
        assert (root / PLUGIN / name).read_text(encoding="utf-8").strip() in text
    assert np.all([check.__name__ in text for check in __import__("overlays.testing").testing.CHECKS])
