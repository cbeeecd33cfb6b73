"""The studio in headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import drawing
from drawing import emoji
from scrfd_trt import samples

pytest.importorskip("nicegui")
playwright = pytest.importorskip("playwright.sync_api")

Popen = Callable[..., "subprocess.Popen[str]"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
SCENE = drawing.scene((640, 360), 3, seed=2).image


@contextmanager
def running(popen: Popen, network: Path, temporary: Path, *words: str, **environment: str) -> Iterator[tuple[Any, str]]:
    """Run a studio whose temporary files lie in a folder; yield its process and address."""
    command = [sys.executable, "-m", "scrfd_trt", "studio", "--no-browser", "--port", "0", *words]
    variables = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"} | environment
    for name in [name for name in variables if name.startswith(("PYTEST", "NICEGUI"))]:
        del variables[name]  # nicegui behaves differently under pytest
    command += ["--model", str(network), "--device", "cpu"]
    with popen(command, cwd=temporary.parent, env=variables, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address, "no address was printed"
        try:
            yield process, address[0]
        finally:
            process.kill()


def open_studio(page: Any, address: str) -> None:
    """Open the page, and wait for its first image."""
    page.set_default_timeout(15_000)
    for _ in range(50):
        try:
            page.goto(address)
            break
        except playwright.Error:  # not listening yet
            page.wait_for_timeout(200)
    page.get_by_role("status").filter(has_text="faces in").wait_for()


@pytest.fixture(scope="module")
def server(popen: Popen, network_500m: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a studio that accepts files up to 1 MiB and leaves no files."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "tmp").mkdir()
    broken = tmp_path_factory.mktemp("plugin") / "torn-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[scrfd_trt.overlays]\ntorn = torn_plugin:Torn\n")
    path = os.pathsep.join([str(broken.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with running(popen, network_500m, folder / "tmp", "--max-upload", "1", PYTHONPATH=path) as (process, address):
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    # ONNX Runtime writes a session number.
    assert {path.name for path in (folder / "tmp").iterdir()} <= {".ses"}, "files are left"
    assert [path.name for path in folder.iterdir()] == ["tmp"], "files are left"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        chromium = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


Opener = Callable[..., Any]


@pytest.fixture
def open_page(server: str, browser: Any) -> Iterator[Opener]:
    """Open a page, and wait for its first image."""
    contexts = []

    def opener(width: int = 1280, height: int = 900, light: str = "light") -> Any:
        viewport = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=light, accept_downloads=True))
        opened = contexts[-1].new_page()
        open_studio(opened, server)
        return opened

    yield opener
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Opener) -> Any:
    return open_page()


def source(page: Any) -> str:
    return str(page.locator("img[src^='data:']").first.get_attribute("src"))


def changed(page: Any, before: str) -> str:
    """Wait until another image is shown."""
    page.wait_for_function("before => document.querySelector('img[src^=\"data:\"]').src !== before", arg=before)
    return source(page)


def upload(page: Any, name: str, content: bytes, kind: str = "image/png") -> None:
    page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": kind, "buffer": content})


def slide(page: Any, name: str, fraction: float) -> None:
    """Click a slider at a fraction of its width."""
    slider = page.locator(f'.q-slider[aria-label="{name}"]')
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] * fraction, "y": box["height"] / 2})


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def downloaded(page: Any, tmp_path: Path) -> tuple[str, Path]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    path = tmp_path / "download"
    waiting.value.save_as(path)
    return waiting.value.suggested_filename, path


def test_first_page_shows_drawn_scene(page: Any) -> None:
    assert page.get_by_role("status").inner_text() == "scene.png: 6 faces in 1280×720"
    told = page.locator("code").first.inner_text().replace("\\\n", " ")
    assert "scrfd-trt overlay scene.png --overlay skull" in " ".join(told.split())


def test_uploaded_image_gets_overlay_and_is_downloaded(page: Any, tmp_path: Path) -> None:
    before = source(page)
    upload(page, "three.png", png(SCENE))
    page.get_by_text("three.png: 3 faces in 640×360").wait_for()
    changed(page, before)
    name, path = downloaded(page, tmp_path)
    assert name == "three-overlay.png"
    drawn = cv2.imread(str(path))
    assert drawn.shape == SCENE.shape
    assert 0.01 < (drawn != SCENE).any(2).mean() < 0.5


def test_opacity_slider_changes_result(page: Any, tmp_path: Path) -> None:
    before, full = source(page), cv2.imread(str(downloaded(page, tmp_path)[1])).astype(int)
    slide(page, "opacity", 0.4)
    changed(page, before)
    page.locator("code", has_text=re.compile(r"skull:opacity=0\.\d")).first.wait_for()
    page.locator("code", has_text=re.compile(r"opacity=0\.\d+\)")).first.wait_for()
    half, plain = cv2.imread(str(downloaded(page, tmp_path)[1])).astype(int), samples.load("group").image.astype(int)
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()


def test_second_overlay_is_added(page: Any) -> None:
    before = source(page)
    page.get_by_label("Overlays").click()
    page.get_by_role("option", name="spotlight").click()
    page.keyboard.press("Escape")
    changed(page, before)
    page.locator("code", has_text="--overlay spotlight").first.wait_for()


def test_threshold_follows_overlays_until_it_is_moved(page: Any) -> None:
    toggle(page, "skull", "blur")
    page.locator("code", has_text=re.compile(r"--threshold 0\.3\b")).first.wait_for()
    page.get_by_text("0.3", exact=True).first.wait_for()
    toggle(page, "blur", "boxes")
    page.locator("code", has_text=re.compile(r"--threshold 0\.5\b")).first.wait_for()
    slide(page, "threshold", 0.8)
    page.locator("code", has_text=re.compile(r"--threshold 0\.7")).first.wait_for()
    toggle(page, "boxes", "solid")
    page.locator("code", has_text=re.compile(r"--overlay solid[\s\S]*--threshold 0\.7")).first.wait_for()


def test_sticker_is_uploaded_and_removed(page: Any) -> None:
    page.get_by_label("Overlays").click()
    page.get_by_role("option", name="skull").click()
    page.locator(".q-chip").wait_for(state="detached")
    page.get_by_role("option", name="image").click()
    page.keyboard.press("Escape")
    needed = "overlay 'image' requires picture: for example image:picture=FILE"
    page.get_by_text(needed).wait_for()
    before = source(page)
    slide(page, "opacity", 0.3)
    sticker = {"name": "cat.png", "mimeType": "image/png", "buffer": png(emoji.draw("cat"))}
    page.locator("input[type=file]").nth(1).set_input_files(sticker)
    changed(page, before)
    # Options that were set before the upload are kept.
    page.locator("code", has_text=re.compile(r"--overlay image:opacity=0\.\d+,picture=cat\.png")).first.wait_for()
    page.get_by_text("cat.png", exact=True).wait_for()
    page.get_by_role("button", name="Remove picture").click()
    page.get_by_text(needed).wait_for()
    page.get_by_text("cat.png", exact=True).wait_for(state="hidden")


def test_invalid_file_is_reported_and_changes_nothing(page: Any) -> None:
    before = source(page)
    upload(page, "photo.png", b"not an image")
    page.get_by_text("photo.png: not a supported image").wait_for()
    assert source(page) == before
    upload(page, "notes.txt", b"words", "text/plain")
    page.get_by_text("The file is not an image or a clip that the studio opens.").wait_for()
    assert source(page) == before


def test_too_large_file_is_refused_by_page_and_server(page: Any, server: str) -> None:
    upload(page, "large.png", bytes(2**20 + 1))
    page.get_by_text("The file is larger than 1 MiB.").wait_for()
    answer = page.request.post(f"{server}/_nicegui/client/x/upload/1", data=bytes(2**21))
    assert answer.status == 413


def test_clip_shows_frames_and_is_downloaded_whole(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(SCENE, "bgr24")))
        container.mux(stream.encode())
    upload(page, "clip.mp4", path.read_bytes(), "video/mp4")
    page.get_by_text("frame 1 of 4").wait_for()
    slide(page, "Frame", 0.99)
    page.get_by_text("frame 4 of 4").wait_for()
    page.locator("code", has_text="scrfd-trt overlay clip.mp4").first.wait_for()
    page.locator("code", has_text="overlay_video('clip.mp4', 'clip-overlay.mp4'").first.wait_for()
    name, result = downloaded(page, tmp_path)
    assert name == "clip-overlay.mp4"
    with av.open(str(result)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert len(list(container.decode(video=0))) == 4


def test_foreign_host_name_is_refused(page: Any, server: str) -> None:
    assert page.request.get(server, headers={"Host": "somewhere.example"}).status == 403


@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_not_wider_than_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def toggle(page: Any, *names: str) -> None:
    """Select or deselect overlays in the list."""
    page.get_by_label("Overlays").click()
    for name in names:
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")


def test_refused_text_is_marked_and_not_drawn(page: Any) -> None:
    toggle(page, "skull", "solid")
    page.locator("code", has_text="--overlay solid ").first.wait_for()
    fill = page.locator('input[aria-label="fill"]')
    fill.fill("nonsense")
    page.locator(".q-field--error", has_text="a colour is #rrggbb, #rgb or one of").wait_for()
    assert fill.input_value() == "nonsense"
    page.locator("code", has_text="--overlay solid ").first.wait_for()
    fill.fill("#f0f")
    page.locator("code", has_text="--overlay 'solid:fill=#f0f'").first.wait_for()
    page.locator(".q-field--error").wait_for(state="detached")


def test_broken_overlay_is_listed_with_reason(page: Any) -> None:
    page.get_by_text("torn cannot be loaded: ModuleNotFoundError: No module named 'torn_plugin'").wait_for()
    page.get_by_label("Overlays").click()
    page.get_by_role("option", name="skull", exact=True).wait_for()
    assert page.get_by_role("option", name="torn", exact=True).count() == 0


@pytest.mark.parametrize(("width", "height"), [(1080, 1920), (30, 2000), (2000, 30), (1, 1)])
def test_images_of_any_shape_fit_window(page: Any, width: int, height: int) -> None:
    before = source(page)
    upload(page, "long.png", png(np.full((height, width, 3), 90, np.uint8)))
    changed(page, before)
    page.wait_for_function("document.querySelector('img[src^=\"data:\"]').complete")
    box = page.locator("img[src^='data:']").bounding_box()
    assert box["height"] <= 0.7 * 900 + 1
    assert box["width"] <= 1280
    assert width / height == pytest.approx(box["width"] / box["height"], rel=0.4)


def test_image_stays_visible_on_phone(open_page: Opener) -> None:
    page = open_page(390, 844)
    slider = page.locator('.q-slider[aria-label="scale"]')
    slider.scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    picture = page.locator("img[src^='data:']").bounding_box()
    assert picture["y"] >= 0
    assert picture["y"] + picture["height"] < 0.5 * 844
    slider.evaluate("element => element.scrollIntoView()")
    box, picture = slider.bounding_box(), page.locator("img[src^='data:']").bounding_box()
    assert picture["y"] >= 0
    assert picture["y"] + picture["height"] <= box["y"] + 1
    assert box["y"] + box["height"] <= 844


LUMINANCE = """element => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [0.2126 * r, 0.7152 * g, 0.0722 * b].length && [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  let behind = element;
  while (behind && (parts(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 0.5) behind = behind.parentElement;
  const ground = behind ? light(parts(getComputedStyle(behind).backgroundColor)) : 1;
  const ink = light(parts(getComputedStyle(element).color));
  return (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
}"""


@pytest.mark.parametrize("light", ["light", "dark"])
def test_warnings_and_buttons_have_contrast(open_page: Opener, light: str) -> None:
    page = open_page(light=light)
    slide(page, "opacity", 0.4)
    toggle(page, "skull", "blur")
    slide(page, "margin", 0.0)
    warning = page.get_by_role("alert").filter(has_text="leaves the edge of some faces visible").first
    warning.wait_for()
    assert warning.evaluate(LUMINANCE) >= 4.5
    page.evaluate("scrollTo(0, 0)")  # the left column does not scroll
    assert warning.bounding_box()["y"] < page.locator('.q-slider[aria-label="threshold"]').bounding_box()["y"]
    upload(page, "photo.png", b"not an image")
    close = page.locator(".q-notification").get_by_role("button", name="Close")
    close.wait_for()
    page.wait_for_timeout(400)
    assert close.evaluate(LUMINANCE) >= 4.5
    close.click()
    page.locator(".q-notification").wait_for(state="detached")
    for name in ("Copy the command line", "Copy the Python"):
        button = page.get_by_role("button", name=name)
        assert button.evaluate("element => getComputedStyle(element).opacity") == "1"
        assert button.evaluate(LUMINANCE) >= 4.5


@pytest.mark.parametrize("light", ["light", "dark"])
def test_one_click_toggles_dark_mode(open_page: Opener, light: str) -> None:
    page = open_page(light=light)
    for turned in (light == "light", light == "dark"):
        page.get_by_role("button", name="Light or dark").click()
        page.wait_for_function("dark => document.body.classList.contains('body--dark') === dark", arg=turned)


@pytest.mark.parametrize("width", [1280, 390])
def test_long_name_does_not_widen_page(open_page: Opener, width: int) -> None:
    page = open_page(width, 844)
    upload(page, "n" * 180 + ".png", png(SCENE))
    page.get_by_text("nnn.png: 3 faces").wait_for()
    page.locator("code", has_text="nnn.png").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


SOCKET = """address => new Promise(done => {
  const socket = new WebSocket(address);
  socket.onopen = () => done('open');
  socket.onerror = () => done('refused');
})"""


def test_requests_of_foreign_pages_are_refused(page: Any, server: str, browser: Any) -> None:
    address = server.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert page.evaluate(SOCKET, address) == "open"
    context = browser.new_context()
    stranger = context.new_page()
    stranger.goto("data:text/html,<p>x")
    assert stranger.evaluate(SOCKET, address) == "refused"
    context.close()
    assert page.request.get(server, headers={"Origin": "http://somewhere.example"}).status == 403


def test_request_without_browser_builds_no_page(page: Any, server: str) -> None:
    answers = [page.request.get(server) for _ in range(5)]
    assert {answer.status for answer in answers} == {200}
    assert not any("Download" in answer.text() for answer in answers), "the page is built before a browser connects"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGKILL"])
def test_no_files_are_left_after_signal(
    popen: Popen, browser: Any, network_500m: Path, tmp_path: Path, name: str
) -> None:
    if not hasattr(signal, name):
        pytest.skip("this system has no such signal")
    for number in (getattr(signal, name), signal.SIGTERM):
        with running(popen, network_500m, tmp_path) as (process, address):
            context = browser.new_context()
            page = context.new_page()
            open_studio(page, address)
            if number == getattr(signal, name):
                sticker = {"name": "cat.png", "mimeType": "image/png", "buffer": png(emoji.draw("cat"))}
                page.locator("input[type=file]").nth(1).set_input_files(sticker)
                page.locator("code", has_text="skull:image=cat.png").first.wait_for()
                assert list(tmp_path.rglob("cat.png"))
            process.send_signal(number)
            process.wait(30)
            context.close()
        if name != "SIGKILL":
            break
    assert {path.name for path in tmp_path.iterdir()} <= {".ses"}


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "telephone"])
def test_preview_follows_the_job_to_its_end(browser: Any, size: tuple[int, int]) -> None:
    from scrfd_trt._image_files import ImageFrame
    from scrfd_trt._studio.preview import Preview

    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    errors: list[Any] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with Preview(can_stop=True) as preview:
        page.goto(preview.address)
        page.get_by_text("Waiting for the first frame").wait_for()
        for width in (640, 480):
            preview.show(ImageFrame(np.full((270, width, 3), 99, np.uint8)))
            preview.progress("camera:0", "drawing", 7, None, 25.0)
            page.wait_for_function(f"document.getElementById('picture').naturalWidth == {width}")
        page.get_by_text("Writing: frame 7; 25 frames/s").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        page.get_by_role("button", name="Stop").click()
        page.wait_for_timeout(300)
        assert preview.stopped
    page.get_by_role("status").filter(has_text="The job has ended.").wait_for()
    assert not page.get_by_role("button").is_visible()
    assert not errors
    page.close()
