"""A web service with FastAPI: faces of an uploaded picture, as JSON or under an overlay.

pip install fastapi uvicorn python-multipart
uvicorn examples.service:app
curl -F picture=@photo.jpg localhost:8000/faces
curl -F picture=@photo.jpg "localhost:8000/overlay?spec=blur:shape=aligned" -o hidden.jpg

One detector serves all requests: it is opened when the service starts, and may be used from several threads. On a GPU
it is an engine, which is built the first time.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from PIL import Image

import overlays
from scrfd_trt import SCRFDDetector, ScrfdError

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000
NO_PICTURE = "this is not a picture that can be read; send a JPEG, PNG or WebP"
# Overlays that read files are left out: a request must not name files of this machine.
ALLOWED = ("blur", "boxes", "crop", "emoji", "landmarks", "pixelate", "solid", "spotlight")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the detector for as long as the service runs."""
    with SCRFDDetector(threshold=0.4) as app.state.detector:
        yield


app = FastAPI(title="Faces", lifespan=lifespan)


@app.post("/faces")
def faces(request: Request, picture: UploadFile) -> dict[str, Any]:
    """Return boxes, scores and landmarks."""
    found = request.app.state.detector.detect(decoded(picture))
    return {"image_size": found.image_size, "faces": found.to_dicts()}


@app.post("/overlay")
def overlay(request: Request, picture: UploadFile, spec: str = "blur") -> Response:
    """Return the picture under an overlay, as JPEG."""
    image = decoded(picture)
    if spec.partition(":")[0].strip() not in ALLOWED:
        raise HTTPException(422, f"spec must begin with one of {', '.join(ALLOWED)}")
    try:
        draw = overlays.parse(spec)
    except ScrfdError as error:
        raise HTTPException(422, str(error)) from error
    drawn = draw(image, request.app.state.detector.detect(image))
    return Response(cv2.imencode(".jpg", drawn)[1].tobytes(), media_type="image/jpeg")


def decoded(picture: UploadFile) -> np.ndarray:
    """Read an uploaded picture, and refuse what is too large or none."""
    content = picture.file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise HTTPException(413, f"the picture has more than {MAX_BYTES // 2**20} MiB")
    try:
        # The header only: a file of a few kilobytes can hold so many pixels that decoding it takes all memory.
        with Image.open(io.BytesIO(content)) as header:
            width, height = header.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise HTTPException(422, NO_PICTURE) from error
    if width * height > MAX_PIXELS:
        raise HTTPException(413, f"the picture has more than {MAX_PIXELS // 10**6} million pixels")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # damaged
        image = None
    if image is None:
        raise HTTPException(422, NO_PICTURE)
    return image
