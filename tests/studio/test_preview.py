"""The page of a job: who may see it, that it shows the newest picture, and that the job never waits for it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("uvicorn")
sys.path.append(str(Path(__file__).parent))
from client import Answer, Server

from scrfd_trt._image_files import ImageFrame
from scrfd_trt._studio import preview as module
from scrfd_trt._studio.preview import Preview

RED = ImageFrame(np.full((40, 60, 3), (0, 0, 255), np.uint8))
LARGE = ImageFrame(np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8))


class Browser:
    """A browser that opened the printed address."""

    def __init__(self, preview: Preview) -> None:
        address, _, token = preview.address.partition("/?token=")
        self.server = Server("127.0.0.1", int(address.rpartition(":")[2]), token)
        opened = self.server.request(f"/?token={token}")
        self.cookie = opened.headers["set-cookie"].partition(";")[0]

    def request(self, path: str, method: str = "GET", **headers: str) -> Answer:
        origin = {"origin": f"http://{self.server.name}"} if method == "POST" else {}
        return self.server.request(path, method, **{"cookie": self.cookie, **origin, **headers})

    def next(self, after: object = 0) -> tuple[dict[str, Any], bytes]:
        answer = self.request(f"/next?after={after}")
        assert answer.status == 200, answer
        return json.loads(answer.headers["x-state"]), answer.body


@pytest.fixture
def preview() -> Iterator[Preview]:
    with Preview(can_stop=True) as made:
        yield made


def test_only_the_browser_with_the_token_sees_anything(preview: Preview) -> None:
    browser = Browser(preview)
    preview.show(RED)
    assert b"Waiting for the first frame" in browser.request("/").body
    assert browser.server.request("/").status == browser.server.request("/next").status == 401
    assert browser.request("/next", host="evil.example").status == 403
    assert browser.request("/next", origin="http://evil.example").status == 403
    assert browser.request("/stop", "POST", origin="http://evil.example").status == 403
    assert browser.request("/../etc/passwd").status == 404
    assert not preview.stopped
    assert browser.request("/stop", "POST").status == 204
    assert preview.stopped


def test_page_gets_newest_picture_once_and_progress(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITS", 2)
    browser = Browser(preview)
    preview.progress("clip.mp4", "finding", 100, 100, 15.0)
    for picture in (LARGE, RED):
        preview.show(picture)
    assert browser.next()[0]["text"] == "Writing"
    preview.progress("clip.mp4", "drawing", 25, 100, 15.0)
    state, jpeg = browser.next()
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (40, 60, 3)
    assert abs(shown.astype(int) - RED.pixels).max() < 8
    assert (state["name"], state["ended"]) == ("clip.mp4", False)
    assert state["text"] == "Writing: frame 25 of 100 (25%), 0:05 left; 15 frames/s"
    assert browser.next(after=2)[1] == b""


def test_nothing_is_encoded_unless_somebody_looks(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    monkeypatch.setattr(module, "_as_jpeg", lambda picture, _: encoded.append(picture) or b"picture")
    for _ in range(200):
        preview.show(RED)
    assert not encoded
    browser = Browser(preview)
    start = time.monotonic()
    while time.monotonic() < start + 0.35:
        preview.show(RED)
        assert browser.next(after="")[1]
    seconds = time.monotonic() - start
    assert 2 <= len(encoded) <= 1 + seconds / module.INTERVAL, "ten a second at most, whatever browsers ask for"


def test_stalled_browsers_hinder_neither_job_nor_end(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview._server.config, "timeout_graceful_shutdown", 0.4)
    browser = Browser(preview)
    preview.show(LARGE)
    request = f"GET /next?after=0 HTTP/1.1\r\nhost: {browser.server.name}\r\ncookie: {browser.cookie}\r\n\r\n".encode()
    with socket.socket() as stalled, socket.create_connection(("127.0.0.1", browser.server.port)) as silent:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stalled.connect(("127.0.0.1", browser.server.port))
        stalled.sendall(request * 40)  # answers that nobody reads
        silent.sendall(request[:30])
        assert browser.next(after="")[1]
        start = time.perf_counter()
        for _ in range(1000):
            preview.show(LARGE)
        assert time.perf_counter() - start < 1.0
        preview.__exit__()
        assert not preview._thread.is_alive()


def test_waiting_page_is_told_of_the_end() -> None:
    with Preview(can_stop=True) as preview:
        browser, answers = Browser(preview), []
        waiting = threading.Thread(target=lambda: answers.append(browser.next()))
        waiting.start()
        time.sleep(0.1)
    waiting.join()
    assert answers[0][0]["ended"]
    assert not preview._thread.is_alive()
    with pytest.raises(OSError, match="refused"):
        browser.server.request("/")


def test_pixels_are_shown_square() -> None:
    av = pytest.importorskip("av")
    for size, aspect, shown in (((64, 48), 2.0, (128, 48)), ((2560, 64), 0.5, (1280, 64)), ((64, 48), 1e9, (1280, 1))):
        jpeg = module._as_jpeg(av.VideoFrame(*size, "yuv420p"), aspect)
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[1::-1] == shown
