from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import Detections, samples
from scrfd_trt._cli.commands.demo import choose_folder, contact_sheet

pytestmark = pytest.mark.slow

FILES = ["blur.png", "contact-sheet.png", "landmarks.png", "scene.png", "skull.png"]

Run = Callable[..., Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.usefixtures("spots", "known_overlays", "here")
class TestCommand:
    def test_writes_all_images_and_runs_again(self, run: Run) -> None:
        first = run("demo")
        assert (first.code, first.err) == (0, "")
        assert "Images written to scrfd-demo" in first.out
        assert all(f"  {name}\n" in first.out for name in FILES)
        assert names("scrfd-demo") == FILES
        scene = cv2.imread("scrfd-demo/scene.png")
        assert scene is not None
        np.testing.assert_array_equal(scene, samples.load("group").image)
        times = {path: path.stat().st_mtime_ns for path in Path("scrfd-demo").iterdir()}
        again = run("demo")
        assert again.code == 0
        assert "Images already in scrfd-demo" in again.out
        assert {path: path.stat().st_mtime_ns for path in Path("scrfd-demo").iterdir()} == times
        assert names(".") == ["scrfd-demo"]

    def test_other_files_are_not_replaced(self, run: Run) -> None:
        Path("mine").mkdir()
        Path("mine/skull.png").write_bytes(b"\x89PNG\r\n\x1a\n of somebody")
        Path("mine/notes.txt").write_text("mine")
        ran = run("demo", "-o", "mine")
        assert (ran.code, ran.out) == (2, "")
        assert "skull.png already exists; name another folder" in ran.error
        assert names("mine") == ["notes.txt", "skull.png"]
        assert run("demo", "-o", "mine", "--overwrite").code == 0
        assert names("mine") == sorted([*FILES, "notes.txt"])


@pytest.mark.usefixtures("here")
class TestFolder:
    def test_next_folder_is_used_on_conflict(self) -> None:
        files = {"a.png": b"a", "b.png": b"b"}
        assert choose_folder(files, None, overwrite=False) == Path("scrfd-demo")
        Path("scrfd-demo").mkdir()
        Path("scrfd-demo/a.png").write_bytes(b"a")
        assert choose_folder(files, None, overwrite=False) == Path("scrfd-demo")
        Path("scrfd-demo/b.png").write_bytes(b"mine")
        Path("scrfd-demo-2").write_bytes(b"no folder")
        assert choose_folder(files, None, overwrite=False) == Path("scrfd-demo-3")
        assert choose_folder(files, None, overwrite=True) == Path("scrfd-demo")


def test_contact_sheet_shows_each_image() -> None:
    images = {str(grey): np.full((100, 200, 3), grey, np.uint8) for grey in (10, 90, 170)}
    sheet = contact_sheet(images)
    assert sheet.shape == (2 * (50 + 44), 2 * (100 + 16), 3)
    assert [int(sheet[y, x, 0]) for y, x in ((60, 50), (60, 166), (154, 50), (154, 166))] == [10, 90, 170, 255]


@pytest.mark.usefixtures("known_overlays", "here", "network_500m")
def test_model_finds_faces_of_scene(run: Run) -> None:
    ran = run("demo")
    assert ran.code == 0
    truth: Detections = samples.load("group").faces
    assert ran.out.startswith(f"{len(truth)} faces in a drawn scene of 1280×720 pixels")
