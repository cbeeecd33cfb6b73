"""Steps of the tests that drive the studio in headless Chromium."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"desktop": (1280, 900), "telephone": (390, 844)}
Opener = Callable[..., Any]


def until(page: Any, expression: str, argument: Any = None) -> Any:
    """Wait until an expression of the page is true; the page's policy forbids wait_for_function."""
    end = time.monotonic() + 15
    while not (value := page.evaluate(expression, argument)):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)
    return value


SINGLE_LOOK = """() => studio.api.put("/api/settings", { items: "all", settings: {
  mode: "hide", overlays: [{ name: "blur", options: {} }], threshold: null, small_faces: false, rotations: false } })"""
DONE = "() => studio.items.length && studio.items.every(({ state }) => ['ready', 'failed'].includes(state))"


def upload(page: Any, *files: tuple[str, bytes]) -> None:
    """Choose files that are looked at once, and wait until all of them are ready or failed."""
    page.evaluate(SINGLE_LOOK)
    content = [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    page.locator("#file-input").set_input_files(content)
    until(page, DONE)


def problems(page: Any) -> list[str]:
    """Return the serious findings of axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:120]}" for rule in found if rule["impact"] in ("serious", "critical")
    ]
