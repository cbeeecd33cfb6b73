"""A page that shows the picture that a job writes, and its progress. The job never waits for the page."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from scrfd_trt._image_files import ImageFrame
from scrfd_trt._studio.uploads import shrink
from scrfd_trt._web.access import Access
from scrfd_trt._web.guard import Guard, new_server
from scrfd_trt.video._colors import to_bgr

SIDE = 1280  # longest side in pixels of the picture shown
INTERVAL, SHARE = 0.1, 0.1  # seconds between two pictures, and the largest share of the time of one core that they take
WAIT, WAITS = 0.05, 20  # seconds between looks for a new picture, and their number before an answer without one
END_SECONDS = 1  # time for the last answers; after it, connections are dropped
STAGES = {"finding": "Finding faces; pictures follow", "drawing": "Writing", "verifying": "Searching the copy"}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>scrfd-trt preview</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; padding: .75rem; max-width: 80rem; overflow-wrap: anywhere; }
h1 { font-size: 1.1rem; font-weight: 500; margin: 0 0 .5rem; }
img { width: 100%; max-height: 72vh; object-fit: contain; }
progress { width: 100%; accent-color: #00796b; }
p { margin: .25rem 0; font-variant-numeric: tabular-nums; }
button { font: inherit; min-height: 2.75rem; padding: 0 1.25rem; }
</style>
<h1 id="name">scrfd-trt</h1><img id="picture" alt="The picture that is being written" hidden>
<p id="text">Waiting for the first frame …</p><progress id="bar" aria-label="Progress" hidden></progress>
<p id="end" role="status"></p><button id="stop" hidden>Stop, and keep what is written</button>
<script>
const at = id => document.getElementById(id);
let after = 0, url = "", failures = 0, ended = false;
async function next() {
  if (document.hidden) await new Promise(seen => addEventListener("visibilitychange", seen, {once: true}));
  const answer = await fetch("next?after=" + after), picture = await answer.blob();
  const state = JSON.parse(answer.headers.get("x-state"));
  ended = state.ended;
  for (const id of ["name", "text"]) at(id).textContent = state[id];
  at("bar").hidden = !state.total;
  Object.assign(at("bar"), {max: state.total || 1, value: state.done || 0});
  at("stop").hidden = !state.can_stop;
  if (!picture.size) return;
  URL.revokeObjectURL(url);
  at("picture").src = url = URL.createObjectURL(picture);
  await at("picture").decode();
  at("picture").hidden = false;
  after = +answer.headers.get("x-number");
}
at("stop").onclick = () => { at("stop").disabled = true; fetch("stop", {method: "POST"}); };
(async () => {
  while (!ended && failures < 3) {
    try { await next(); failures = 0; } catch { failures += 1; await new Promise(done => setTimeout(done, 700)); }
  }
  at("bar").hidden = at("stop").hidden = true;
  at("end").textContent = (ended ? "The job has ended." : "The page gets no more answers.") + " See the terminal.";
})();
</script></html>"""


class Preview:
    """Serves the page until it is closed; the methods that the job calls return at once.

    ``can_stop`` shows a button that sets ``stopped``. ``address`` opens the page, with a token.
    """

    def __init__(self, *, can_stop: bool) -> None:
        self.stopped = False
        self._latest: tuple[int, Any, float] = 0, None, 1.0
        self._shown, self._not_before = (0, b""), 0.0
        text = "Waiting for the first frame …"
        self._state = {"name": "scrfd-trt", "text": text, "can_stop": can_stop, "ended": False}
        self._encoding = asyncio.Lock()
        listener = socket.create_server(("127.0.0.1", 0))
        access = Access("127.0.0.1", ["127.0.0.1"], listener.getsockname()[1], token=True)
        self.address = f"http://127.0.0.1:{access.port}/{access.query()}"
        routes = [Route("/", _page), Route("/next", self._next), Route("/stop", self._stop, methods=["POST"])]
        logging.getLogger("uvicorn.error").disabled = True  # it reports connections beyond the limit
        self._server = new_server(Guard(Starlette(routes=routes), access, 0), END_SECONDS)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="preview", daemon=True)
        self._thread.start()

    def show(self, picture: Any, aspect: float = 1.0) -> None:
        """Take a picture that was written and is not changed any more, and the width of a pixel for a height of 1."""
        self._latest = self._latest[0] + 1, picture, aspect
        if STAGES["finding"] in str(self._state["text"]):  # the progress comes later
            self._state = self._state | {"text": STAGES["drawing"], "total": None}

    def progress(self, name: str, stage: str, done: int, total: int | None, rate: float) -> None:
        """Take the progress of a video."""
        text = f"{STAGES[stage]}: frame {done:,}"
        if total is not None and total >= done:
            text += f" of {total:,} ({done / max(total, 1):.0%})"
            left = round((total - done) / rate) if rate else 0
            text += f", {left // 60}:{left % 60:02} left" if rate else ""
        text += f"; {rate:.0f} frames/s" if rate else ""
        self._state = self._state | {"name": name, "text": text, "done": done, "total": total}

    def __enter__(self) -> Preview:
        return self

    def __exit__(self, *_: object) -> None:
        """End the server; a browser that takes no answers is not waited for."""
        self._state = self._state | {"ended": True}
        self._server.should_exit = True
        self._thread.join(2 * END_SECONDS)
        logging.getLogger("uvicorn.error").disabled = False

    async def _next(self, request: Request) -> Response:
        """Return the state, with the newest picture unless the page has it already."""
        for _ in range(WAITS):
            number, jpeg = await self._newest()
            is_known = request.query_params.get("after") == str(number)
            if not is_known or self._state["ended"]:
                break
            await asyncio.sleep(WAIT)
        headers = {"x-state": json.dumps(self._state), "x-number": str(number)}
        return Response(b"" if is_known else jpeg, media_type="image/jpeg", headers=headers)

    async def _newest(self) -> tuple[int, bytes]:
        """Return the number of a picture and its JPEG: the newest one, or that of a moment ago."""
        async with self._encoding:
            (number, *picture), start = self._latest, time.monotonic()
            if number != self._shown[0] and start >= self._not_before:
                self._shown = number, await asyncio.to_thread(_as_jpeg, *picture)
                end = time.monotonic()
                self._not_before = max(start + INTERVAL, end + (end - start) / SHARE)
            return self._shown

    async def _stop(self, _: Request) -> Response:
        self.stopped = bool(self._state["can_stop"])
        return Response(status_code=204 if self.stopped else 409)


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE)


def _as_jpeg(picture: Any, aspect: float = 1.0) -> bytes:
    """Encode an ``av.VideoFrame`` or an :class:`ImageFrame` with square pixels, in the size of the page."""
    image: NDArray[np.uint8]
    if isinstance(picture, ImageFrame):
        image = shrink(picture.visible(), SIDE)
    else:
        width, height = picture.width * aspect, picture.height
        scale = min(1.0, SIDE / max(width, height))
        image = to_bgr(picture, width=max(1, round(width * scale)), height=max(1, round(height * scale)))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
