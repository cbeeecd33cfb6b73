"""``/extract``: requests and answers in the form of InsightFace-REST, for programs that move over; detection only."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from scrfd_trt._detections import Detections
from scrfd_trt.service import _requests

if TYPE_CHECKING:
    from scrfd_trt.service._app import Service

THRESHOLD = 0.6  # InsightFace-REST's default
FAILED: dict[str, Any] = {"status": "failed", "took_ms": 0.0, "faces": []}
UNSUPPORTED = ("embed_only", "extract_embedding", "extract_ga", "detect_masks", "msgpack", "img_req_headers")


class ExtractImages(BaseModel):
    """Images in base64, or their addresses, which come first."""

    data: list[str] | None = None
    urls: list[str] | None = None


class ExtractBody(BaseModel):
    """A request of InsightFace-REST; other fields are ignored, as there, unless they ask for more than detection."""

    model_config = {"extra": "allow"}

    images: ExtractImages
    threshold: float | None = Field(None, ge=0, le=1)
    return_face_data: bool | None = False
    return_landmarks: bool | None = False
    limit_faces: int | None = Field(0, ge=0)
    min_face_size: int | None = Field(0, ge=0)
    verbose_timings: bool | None = False


def _content(text: str) -> bytes | HTTPException:
    try:
        return _requests.from_base64(text.rpartition(",")[2])
    except HTTPException as error:
        return error


def _parse(body: bytes) -> tuple[ExtractBody, list[bytes | str | HTTPException]]:
    """Return a request and its images, with an error in the place of those that are not base64."""
    parsed = _requests.parsed(ExtractBody, body)
    if wanted := [name for name in UNSUPPORTED if (parsed.model_extra or {}).get(name)]:
        raise HTTPException(422, f"{wanted[0]} is not supported: this service only detects faces")
    if parsed.images.urls is not None:
        return parsed, list(parsed.images.urls)
    return parsed, [_content(text) for text in parsed.images.data or ()]


def add_route(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""
    example = {"images": {"data": [_requests.PIXEL]}, "extract_embedding": False, "return_landmarks": True}
    body = {"application/json": {"schema": ExtractBody.model_json_schema(), "example": example}}

    @app.post("/extract", openapi_extra={"requestBody": {"required": True, "content": body}})
    async def extract(request: Request) -> Response:
        """Return faces in the form of InsightFace-REST: whole pixels, `prob`, `size`, and landmarks if asked for."""
        start = time.perf_counter()
        content = await request.body()
        service.check_room()
        asked, sources = await service.parsed(_parse, content)
        with service.admitted(len(sources)):
            each = [_answer(service, asked, source) for source in sources]
            data = await service.timed(asyncio.gather(*each))
        total = 1000 * (time.perf_counter() - start)
        took = {"total_ms": total, **({"read_imgs_ms": 0.0, "embed_all_ms": total} if asked.verbose_timings else {})}
        service.count(request, len(data), sum(len(one["faces"]) for one in data))
        return JSONResponse({"took": took, "data": data})


async def _answer(service: Service, asked: ExtractBody, source: bytes | str | HTTPException) -> dict[str, Any]:
    start = time.perf_counter()
    threshold = THRESHOLD if asked.threshold is None else asked.threshold
    if isinstance(source, HTTPException):
        return FAILED | {"traceback": source.detail}
    try:
        async with service.decoded(source) as opened:
            found = await service.batches.detect(opened.image, threshold)
            faces = await service.run(_faces, asked, found, opened.frame.visible, service.engine.about["scales"])
    except Exception as error:  # noqa: BLE001 - of this image; the others have their answers
        return FAILED | {"traceback": _requests.as_answer(error)[1]}
    return {"status": "ok", "took_ms": 1000 * (time.perf_counter() - start), "faces": faces}


def _faces(asked: ExtractBody, found: Detections, pixels: Any, scales: Any) -> list[dict[str, Any]]:
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    if asked.limit_faces and len(found) > asked.limit_faces:  # the largest, as there
        largest = np.argsort(-sides.prod(axis=1), kind="stable")[: asked.limit_faces]
        found, sides = found[largest], sides[largest]
    scale = max(min(width / found.image_size[0], height / found.image_size[1]) for width, height in scales)
    crops = found.align(pixels()) if asked.return_face_data and len(found) else None
    faces = []
    for number, face in enumerate(found):
        if sides[number, 0] < (asked.min_face_size or 0):
            continue
        box = found.boxes[number].astype(int)
        row = {"bbox": box.tolist(), "prob": float(face.score), "size": int(sides[number, 0])}
        row |= {"num_det": number, "scale": scale}
        if asked.return_landmarks:
            row["landmarks"] = None if found.landmarks is None else found.landmarks[number].astype(int).tolist()
        if crops is not None:
            row["facedata"] = base64.b64encode(cv2.imencode(".jpg", crops[number])[1].tobytes()).decode()
        faces.append(row)
    return faces
