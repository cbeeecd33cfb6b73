"""The studio in a real browser: Chromium without a window, driven as a person would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from overlays import emoji_art
from scrfd_trt import samples

pytest.importorskip("nicegui")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
SCENE = samples.scene((640, 360), 3, seed=2).image


@pytest.fixture(scope="module")
def server(network_500m: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio, which takes files up to 1 MiB, and leaves nothing behind."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "scrfd_trt", "studio", "--no-browser", "--port", "0", "--max-upload", "1"]
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    for name in [name for name in environment if name.startswith(("PYTEST", "NICEGUI"))]:
        del environment[name]  # nicegui behaves otherwise under pytest
    with subprocess.Popen(
        [*command, "--model", str(network_500m), "--device", "cpu"],
        cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address, "it does not say where it listens"
        yield address[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    # ONNX Runtime keeps a number of its own, which has nothing of a picture.
    assert {path.name for path in (folder / "tmp").iterdir()} <= {".ses"}, "files are left"
    assert [path.name for path in folder.iterdir()] == ["tmp"], "files are left"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        chromium = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(server: str, browser: Any) -> Iterator[Any]:
    """An open page that has drawn its first picture."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    for _ in range(50):
        try:
            opened.goto(server)
            break
        except playwright.Error:  # it is not listening yet
            opened.wait_for_timeout(200)
    opened.get_by_role("status").filter(has_text="faces in").wait_for()
    yield opened
    context.close()


def source(page: Any) -> str:
    return str(page.locator("img[src^='data:']").first.get_attribute("src"))


def changed(page: Any, before: str) -> str:
    """Wait until another picture is shown."""
    page.wait_for_function("before => document.querySelector('img[src^=\"data:\"]').src !== before", arg=before)
    return source(page)


def upload(page: Any, name: str, content: bytes, kind: str = "image/png") -> None:
    page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": kind, "buffer": content})


def slide(page: Any, name: str, share: float) -> None:
    """Click a slider at a share of its width."""
    slider = page.locator(f'.q-slider[aria-label="{name}"]')
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] * share, "y": box["height"] / 2})


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def downloaded(page: Any, tmp_path: Path) -> tuple[str, Path]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    path = tmp_path / "download"
    waiting.value.save_as(path)
    return waiting.value.suggested_filename, path


def test_it_begins_with_a_drawn_scene(page: Any) -> None:
    assert page.get_by_role("status").inner_text() == "scene.png: 6 faces in 1280×720"
    told = page.locator("code").first.inner_text().replace("\\\n", " ")
    assert "scrfd-trt overlay scene.png --overlay skull" in " ".join(told.split())


def test_an_uploaded_picture_is_drawn_over_and_downloaded(page: Any, tmp_path: Path) -> None:
    before = source(page)
    upload(page, "three.png", png(SCENE))
    page.get_by_text("three.png: 3 faces in 640×360").wait_for()
    changed(page, before)
    name, path = downloaded(page, tmp_path)
    assert name == "three-overlay.png"
    drawn = cv2.imread(str(path))
    assert drawn.shape == SCENE.shape
    assert 0.01 < (drawn != SCENE).any(2).mean() < 0.5


def test_the_opacity_slider_fades_the_skulls(page: Any, tmp_path: Path) -> None:
    before, full = source(page), cv2.imread(str(downloaded(page, tmp_path)[1])).astype(int)
    slide(page, "opacity", 0.4)
    changed(page, before)
    page.locator("code", has_text=re.compile(r"skull:opacity=0\.\d")).first.wait_for()
    page.locator("code", has_text=re.compile(r"opacity=0\.\d+\)")).first.wait_for()
    half, plain = cv2.imread(str(downloaded(page, tmp_path)[1])).astype(int), samples.scene().image.astype(int)
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()


def test_other_overlays_can_be_picked(page: Any) -> None:
    before = source(page)
    page.get_by_label("Overlays").click()
    page.get_by_role("option", name="spotlight").click()
    page.keyboard.press("Escape")
    changed(page, before)
    page.locator("code", has_text="--overlay spotlight").first.wait_for()


def test_a_sticker_is_uploaded_and_named_without_its_folder(page: Any) -> None:
    page.get_by_label("Overlays").click()
    page.get_by_role("option", name="skull").click()
    page.locator(".q-chip").wait_for(state="detached")
    page.get_by_role("option", name="image").click()
    page.keyboard.press("Escape")
    page.get_by_text("Sticker: picture is needed, and has no default").wait_for()
    before = source(page)
    sticker = {"name": "cat.png", "mimeType": "image/png", "buffer": png(emoji_art.draw("cat"))}
    page.locator("input[type=file]").nth(1).set_input_files(sticker)
    changed(page, before)
    page.locator("code", has_text="--overlay image:picture=cat.png").first.wait_for()


def test_a_wrong_file_is_told_and_changes_nothing(page: Any) -> None:
    before = source(page)
    upload(page, "photo.png", b"no picture at all")
    page.get_by_text("photo.png is no picture or clip that can be read").wait_for()
    assert source(page) == before
    upload(page, "notes.txt", b"words", "text/plain")
    page.get_by_text("That file is no picture or clip, or larger than 1 MiB.").wait_for()
    assert source(page) == before


def test_too_large_a_file_is_refused_by_page_and_server(page: Any, server: str) -> None:
    upload(page, "large.png", bytes(2**20 + 1))
    page.get_by_text("or larger than 1 MiB").wait_for()
    answer = page.request.post(f"{server}/_nicegui/client/x/upload/1", data=bytes(2**21))
    assert answer.status == 413


def test_a_clip_has_frames_and_is_downloaded_whole(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (640, 360))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write clips")
    for _ in range(4):
        writer.write(SCENE)
    writer.release()
    upload(page, "clip.mp4", path.read_bytes(), "video/mp4")
    page.get_by_text("frame 1 of 4").wait_for()
    slide(page, "Frame", 0.99)
    page.get_by_text("frame 4 of 4").wait_for()
    name, result = downloaded(page, tmp_path)
    assert name == "clip-overlay.mp4"
    video = cv2.VideoCapture(str(result))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4


def test_names_that_lead_here_from_elsewhere_are_refused(page: Any, server: str) -> None:
    assert page.request.get(server, headers={"Host": "somewhere.example"}).status == 400


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at_the_side(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
