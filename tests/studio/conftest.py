"""A folder for the files of a page, a detector, sessions without a web server, and the studio in headless Chromium."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt._studio.temporary_files import TemporaryFolder

sys.path.append(str(Path(__file__).parent))  # chromium_steps.py
from chromium_steps import CHROMIUM, SIZES, Opener


@pytest.fixture
def folder() -> Iterator[TemporaryFolder]:
    """A temporary folder that is deleted after the test."""
    made = TemporaryFolder()
    yield made
    made.close()


@pytest.fixture(scope="session")
def detector(network_500m: Path) -> Iterator[SCRFDDetector]:
    with SCRFDDetector.from_onnx(network_500m, threshold=0.05, device="cpu") as opened:
        yield opened


@pytest.fixture
def session(detector: SCRFDDetector, folder: TemporaryFolder, network_500m: Path) -> Iterator[Any]:
    """A session that searches no file by itself."""
    pytest.importorskip("starlette")
    from scrfd_trt._studio.session import Budget, Session

    made = Session(detector, folder, str(network_500m), Budget(64 << 20))
    yield made
    made.close()


@pytest.fixture
def look() -> Callable[[Any], Any]:
    """Take all looks at a file."""
    pytest.importorskip("starlette")
    from scrfd_trt._studio.session import search

    def all_looks(item: Any) -> Any:
        while search(item):
            pass
        return item

    return all_looks


@pytest.fixture(scope="session")
def studio(popen: Any, network_500m: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a studio that leaves no files."""
    folder = tmp_path_factory.mktemp("studio")
    command = [sys.executable, "-m", "scrfd_trt", "studio", "--no-browser", "--port", "0", "--max-upload", "8"]
    command += ["--model", str(network_500m), "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    with popen(command, cwd=folder.parent, env=environment, stderr=subprocess.PIPE) as process:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address, "no address was printed"
        yield address[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert {path.name for path in folder.iterdir()} <= {".ses"}, "files are left; ONNX Runtime's session number may be"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with pytest.importorskip("playwright.sync_api").sync_playwright() as run:
        chromium = run.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--use-fake-device-for-media-stream"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(studio: str, browser: Any) -> Iterator[Opener]:
    """Open the studio's page; nothing may go wrong in it unnoticed."""
    contexts, errors = [], []

    def opener(size: str = "desktop", scheme: str = "light", **more: Any) -> Any:
        width, height = SIZES[size]
        touch = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2} if size == "telephone" else {}
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, **touch, **more
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(studio)
        page.locator("#samples li").first.wait_for()
        return page

    yield opener
    for context in contexts:
        context.close()
    assert not errors
