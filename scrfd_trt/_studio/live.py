"""The live camera: a WebSocket that gets JPEG images and answers each with the overlays; nothing is stored."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from anyio import to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect

from scrfd_trt import _image_files as image_files
from scrfd_trt._studio.settings import Settings
from scrfd_trt._studio.uploads import jpeg
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.tracker import FrameObservation, Tracker
from scrfd_trt.errors import ImageError, ScrfdError, one_line

if TYPE_CHECKING:
    from scrfd_trt._studio.session import Session

MAX_SIDE = 1280
MAX_TEXT = 64 * 1024  # characters of settings
RATE, QUALITY = 30, 80  # most frames a second; of the answers
LIMITS = image_files.Limits(pixels=MAX_SIDE * MAX_SIDE, option="")


class Camera:
    """The frames of one connection: its faces stay covered for a moment where they are missed."""

    def __init__(self, session: Session) -> None:
        self._session, self._settings, self._start = session, session.settings, time.monotonic()
        self._tracker: Tracker | None = None
        self._size: tuple[int, int] = (0, 0)
        self._count = 0

    def set(self, settings: Settings) -> None:
        """Use other settings; raise ScrfdError if an overlay refuses its options."""
        self._session.overlay(settings)
        self._settings, self._tracker = settings, None

    def draw(self, content: bytes) -> bytes:
        """Return a JPEG image with its overlays as JPEG; raise ScrfdError if it is none, or too large."""
        opened = image_files.open_image(content, limits=LIMITS, name="the picture of the camera")
        if opened.kind != "jpeg" or max(opened.size) > MAX_SIDE:
            raise ImageError(f"pictures of the camera must be JPEG of at most {MAX_SIDE} pixels a side")
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError("the picture of the camera is damaged")
        pixels = np.asarray(image, np.uint8)
        size = (pixels.shape[1], pixels.shape[0])
        score = self._settings.score
        options = TrackingOptions(threshold=score, low=min(score, float(TrackingOptions.model_fields["low"].default)))
        if self._tracker is None or size != self._size:
            self._tracker, self._size, self._count = Tracker(options, RATE / 2, delay=0), size, 0
        detector = self._session.detector._looking(None, ())
        found = detector.detect(pixels, threshold=options.detection_threshold)
        seconds = time.monotonic() - self._start
        faces = self._tracker.push(FrameObservation(self._count, seconds, found))[-1]
        self._count += 1
        if len(faces):
            pixels = np.asarray(self._session.overlay(self._settings)(pixels, faces._detections(size)), np.uint8)
        return jpeg(pixels, quality=QUALITY)


async def live(websocket: WebSocket, session: Session) -> None:
    """Answer the frames of a camera one by one, until the page closes the connection."""
    await websocket.accept()
    camera, begin = Camera(session), 0.0
    try:
        while not session.closed:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                if (text := message.get("text")) is not None:
                    await to_thread.run_sync(camera.set, _settings(text))
                    continue
                answer = await to_thread.run_sync(camera.draw, message.get("bytes") or b"")
            except ScrfdError as error:
                await websocket.send_text(json.dumps({"error": one_line(error)}))
                continue
            await asyncio.sleep(max(0.0, begin + 1 / RATE - time.monotonic()))
            begin = time.monotonic()
            await websocket.send_bytes(answer)
        await websocket.close(1001)
    except WebSocketDisconnect:
        pass


def _settings(text: str) -> Settings:
    """Return the settings of a message; raise OptionError if they are invalid."""
    try:
        value: Any = json.loads(text[:MAX_TEXT])
    except (ValueError, RecursionError):
        value = None
    return Settings.parse(value.get("settings") if isinstance(value, dict) else None)
