"""Make the pictures of the studio and of these pages anew: ``python docs/make_screenshots.py``.

It needs the extra ``studio``, playwright, Chromium, and the pages in ``site/`` (``mkdocs build``). It also looks for
broken links and pictures in the pages, and for what sticks out at the side of a telephone.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
SITE = HERE.parent / "site"
FOLDER = HERE / "images" / "screens"
VIEWS = {"desktop": (1280, 900), "telephone": (390, 844)}
PAGES = (
    "",
    "overlays/",
    "writing-an-overlay/",
    "video/",
    "studio/",
    "examples/",
    "cli/",
    "models/",
    "engines/",
    "api/overlays/",
    "design/",
)
KEPT = ("", "overlays/")


@contextlib.contextmanager
def studio() -> Iterator[str]:
    """Run the studio, and give its address."""
    command = [sys.executable, "-m", "scrfd_trt", "studio", "--no-browser", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        found = re.search(r"http://\S+:\d+", process.stderr.readline())
        assert found is not None
        yield found[0]
        process.send_signal(signal.SIGINT)
        process.wait()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@contextlib.contextmanager
def pages() -> Iterator[str]:
    """Serve the pages, and give their address."""
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def views(browser: Browser) -> Iterator[tuple[str, Page]]:
    """Open a page for each size and light."""
    for name, (width, height) in VIEWS.items():
        for light in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=light)
            yield f"{name}-{light}", context.new_page()
            context.close()


def save(page: Page, name: str) -> None:
    """Keep what is seen as a JPEG."""
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(FOLDER / f"{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])
    print(f"{name}.jpg: {(FOLDER / f'{name}.jpg').stat().st_size // 1000} kB")


def show_studio(page: Page, address: str) -> None:
    """Bring the studio to half-transparent skulls."""
    for _ in range(100):
        with contextlib.suppress(Exception):
            page.goto(address)
            break
        page.wait_for_timeout(200)
    page.get_by_role("status").filter(has_text="faces in").wait_for()
    slider = page.locator('.q-slider[aria-label="opacity"]')
    box = slider.bounding_box()
    assert box is not None
    slider.click(position={"x": box["width"] * 0.55, "y": box["height"] / 2})
    page.locator("code", has_text="skull:opacity=0.5").first.wait_for()
    page.mouse.move(5, 5)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(800)


def look(page: Page, address: str) -> list[str]:
    """Open one of the pages, and return what is wrong with it."""
    page.goto(address)
    page.evaluate("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
    page.wait_for_function("[...document.images].every(one => one.complete)")
    wrong = [f"broken picture {src}" for src in page.evaluate(
        "[...document.images].filter(one => !one.naturalWidth).map(one => one.src)"
    )]  # fmt: skip
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        wrong.append("sticks out at the side")
    links = page.evaluate("[...document.links].map(one => one.href.split('#')[0])")
    ours = sorted({link for link in links if link.startswith("http://127.")})
    return wrong + [f"broken link {link}" for link in ours if not page.request.get(link).ok]


def main() -> None:
    """Write all pictures, and fail where a page is broken."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wrong = []
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with studio() as address:
            for view, page in views(browser):
                show_studio(page, address)
                save(page, f"studio-{view}")
        with pages() as address:
            for view, page in views(browser):
                for path in PAGES:
                    wrong += [f"{view} {path or 'start'}: {what}" for what in look(page, address + path)]
                    if path in KEPT:
                        page.evaluate("document.getElementById('gallery')?.scrollIntoView()")
                        page.wait_for_timeout(500)
                        save(page, f"{path.rstrip('/') or 'start'}-{view}")
        browser.close()
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
