"""The example plugin, under another name, can be made, installed into a fresh environment, and used by name."""

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
import pytest

import drawing

pytestmark = pytest.mark.slow

Run = Callable[..., str]


def build(project: Path, target: Path) -> Path:
    """Build a project's wheel as pip does, offline."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    return max(target.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def fresh(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment with scrfd-trt, a plugin and the packages of this one.

    The installed program makes the plugin, from what its wheel contains.
    """
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("fresh")
    try:
        venv.create(folder / "env", with_pip=True)
    except subprocess.CalledProcessError:
        pytest.skip("this Python cannot create virtual environments with pip")
    programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, build(root, folder)], check=True, capture_output=True)
    # After the installation, so that pip does not treat these packages as already installed.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([programs / "python", "-c", code], check=True, capture_output=True, text=True)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(found.stdout.strip(), "other_packages.pth").write_text("\n".join(paths))
    make = [programs / "scrfd-trt", "overlays", "new", "party-hat"]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    subprocess.run([*pip, build(folder / "party-hat", folder)], check=True, capture_output=True)
    return programs


@pytest.fixture
def run(fresh: Path, tmp_path: Path) -> Run:
    def call(program: str, *arguments: str) -> str:
        command = [fresh / program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return call


def test_plugin_is_listed_with_its_options(run: Run) -> None:
    info = json.loads(run("scrfd-trt", "overlays", "party-hat", "--json"))
    assert info["from"] == "party-hat 1.0.0"
    assert [option["name"] for option in info["options"]] == ["size", "shine"]


def test_help_lists_plugin_options(run: Run) -> None:
    assert re.search(
        r"^party-hat +Draw pixel sunglasses on .* size, shine", run("scrfd-trt", "overlay", "--help"), re.MULTILINE
    )
    shown = run("scrfd-trt", "overlay", "--overlay", "party-hat", "--help")
    assert re.search(r"^size +number, 0.5 to 3 +1 +Size of the glasses", shown, re.MULTILINE)
    assert "Requires landmarks." in shown


def test_plugin_draws_from_command_line(run: Run, network_500m: Path, tmp_path: Path) -> None:
    scene = drawing.scene((640, 360))
    cv2.imwrite(str(tmp_path / "photo.png"), scene.image)
    run("scrfd-trt", "overlay", "photo.png", "--overlay", "party-hat:size=1.2", "-o", "cool.png")
    drawn = cv2.imread(str(tmp_path / "cool.png"))
    assert drawn is not None
    for eye in scene.faces.landmarks[0, :2].round().astype(int):
        assert drawn[eye[1], eye[0]].max() <= 20 or drawn[eye[1], eye[0]].min() >= 250
    assert (drawn == scene.image).all(2).mean() > 0.9


def test_plugin_tests_pass(run: Run, fresh: Path) -> None:
    tests = fresh.parents[1] / "party-hat" / "tests"
    assert "28 passed" in run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests))
