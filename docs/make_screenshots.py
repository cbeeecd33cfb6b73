"""Make the screenshots of the studio, and look at all pages in Chromium: ``python docs/make_screenshots.py``.

Requires the extra ``studio``, playwright, Chromium, and the pages in ``site/`` (``mkdocs build``). Also checks the
pages for broken links and images, and for content that is wider than the window.
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


@contextlib.contextmanager
def studio() -> Iterator[str]:
    """Run the studio and yield its address."""
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
        """Print nothing."""


@contextlib.contextmanager
def pages() -> Iterator[str]:
    """Serve the pages and yield their address."""
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def views(browser: Browser) -> Iterator[tuple[str, Page]]:
    """Yield a name and a page for each window size, in light and dark mode."""
    for name, (width, height) in VIEWS.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            yield f"{name}-{scheme}", context.new_page()
            context.close()


def save(page: Page, name: str) -> None:
    """Save a screenshot as JPEG."""
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(FOLDER / f"{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])
    print(f"{name}.jpg: {(FOLDER / f'{name}.jpg').stat().st_size // 1000} kB")


def open_sample(page: Page, address: str, number: int) -> None:
    """Open a sample in the studio, and wait until its faces are found."""
    for _ in range(100):
        with contextlib.suppress(Exception):
            page.goto(address)
            break
        page.wait_for_timeout(200)
    page.locator(".sample").nth(number).click()
    page.locator("#reviewed:enabled").wait_for(timeout=60_000)


def show_photo(page: Page, address: str) -> None:
    """Leave one face of a photograph visible."""
    open_sample(page, address, 0)
    page.locator("#viewport canvas").click()
    page.locator(".chip").get_by_text("Cover again").wait_for()
    page.wait_for_timeout(800)


def show_clip(page: Page, address: str) -> None:
    """Leave one person of a clip visible, and go to a doubtful moment."""
    open_sample(page, address, 2)
    page.locator(".lane-toggle").nth(3).click()
    page.locator('.lane[data-visible="true"]').first.wait_for()
    page.get_by_label("Next doubt").click()
    page.locator(".timeline").evaluate("element => element.scrollTo(0, 0)")
    page.locator("#tab-faces").click()
    page.wait_for_timeout(1500)


def check_page(page: Page, address: str) -> list[str]:
    """Open a page and return its problems."""
    page.goto(address)
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    problems = [f"broken image {src}" for src in page.evaluate(
        "[...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
    )]  # fmt: skip
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        problems.append("wider than the window")
    links = page.evaluate("[...document.links].map(link => link.href.split('#')[0])")
    ours = sorted({link for link in links if link.startswith("http://127.")})
    return problems + [f"broken link {link}" for link in ours if not page.request.get(link).ok]


def main() -> None:
    """Write all screenshots; fail if a page has problems."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems = []
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with studio() as address:
            for view, page in views(browser):
                show_photo(page, address)
                save(page, f"studio-{view}")
                if view == "desktop-light":
                    show_clip(page, address)
                    save(page, "studio-clip")
        with pages() as address:
            for view, page in views(browser):
                for file in sorted(SITE.rglob("index.html")):
                    path = file.parent.relative_to(SITE).as_posix().removeprefix(".")
                    problems += [f"{view} {path or 'home'}: {problem}" for problem in check_page(page, address + path)]
        browser.close()
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
