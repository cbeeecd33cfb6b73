"""The service: routes, the way of an image through them, and their limits."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

import overlays
from scrfd_trt import _inputs
from scrfd_trt._detections import Detections
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._devices import usable_cores
from scrfd_trt._formats import json_faces
from scrfd_trt._image_files import ImageFile, ImageFrame, Limits, open_image
from scrfd_trt._image_files.stderr import redirected_stderr
from scrfd_trt._image_files.write import write_image
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._version import __version__
from scrfd_trt._web.access import Access, Answer
from scrfd_trt._web.guard import Guard, new_server, stop_on_hangup
from scrfd_trt.errors import ImageError, ScrfdError
from scrfd_trt.service import ServiceOptions, _extract, _requests
from scrfd_trt.service._addresses import resolve
from scrfd_trt.service._batches import Batches, Room
from scrfd_trt.service._metrics import Metrics, Observed, new_log_handler
from scrfd_trt.service._requests import Sources

Result = TypeVar("Result")

MAX_DECODED = 1 << 30  # bytes of files and pixels in work, beyond which images wait
MAX_BODIES = 1 << 28  # bytes of bodies that are held, or 8 of the largest
MAX_CONNECTIONS = 10_000
END_SECONDS = 5.0  # after the time-out of the last request, connections are dropped
LOGGERS = {"scrfd_trt.service": logging.INFO, "uvicorn": logging.WARNING, "python_multipart": logging.ERROR}
MAX_DOWNLOADS, MAX_DOWNLOAD_SECONDS = 8, 10.0
LARGE_BODY = 1 << 16  # bytes of JSON that are parsed on another thread
BROKEN = 3  # batches that fail one after the other, until the service says that it is not healthy
OPEN_PATHS = {"/healthz", "/readyz", "/metrics"}
HEADERS = {"x-content-type-options": "nosniff"}
HIDING_THRESHOLD = float(TrackingOptions.model_fields["threshold"].default)
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
OWN_PARAMETERS = {"threshold", "max_faces", "format"}
PROJECT = "scrfd-trt"
TOO_MANY = "too many requests are in work; try again later"
FACE = {"box": [431.5, 90.25, 520.0, 213.75], "score": 0.875, "landmarks": [[452.0, 140.5]] * 5}
FACES = {"image_size": [1280, 720], "faces": [FACE]}
ERRORS: dict[int | str, Any] = {
    401: {"description": "The API key is missing or wrong."},
    413: {"description": "The body, or the image, is too large."},
    422: {"description": "The content is not an image, or an option is invalid."},
    429: {"description": "Too many requests are in work; the header Retry-After has the seconds to wait."},
    503: {"description": "The time of the request is over, or the service stops."},
}

Threshold = Annotated[float | None, Query(ge=0, le=1, description="Minimum score.")]
MaxFaces = Annotated[int | None, Query(ge=1, le=100_000, description="Maximum faces of each image.")]
Format = Annotated[Literal["jpeg", "png", "webp"], Query(description="Format of the answer.")]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
KeyHeader = Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]


def key_check(keys: tuple[str, ...]) -> Any:
    """Return the dependency that refuses requests without a key; the probes and the documentation need none."""
    known = [key.encode() for key in keys]

    async def check(request: Request, bearer: Bearer, header: KeyHeader) -> None:
        given = (bearer.credentials if bearer else header or "").encode()
        if request.scope["route"].path in OPEN_PATHS or any([hmac.compare_digest(given, key) for key in known]):  # noqa: C419
            return
        what = "an API key is required, as in 'Authorization: Bearer KEY'"
        raise HTTPException(401, what, {"www-authenticate": "Bearer"})

    return Depends(check)


class Service:
    """One detector, and the requests that share it."""

    def __init__(self, detector: SCRFDDetector, options: ServiceOptions) -> None:
        self.detector, self.options = detector, options
        self.metrics = Metrics()
        self.batches = Batches(detector, self.metrics.batch.observe)
        self.room, self._turns = Room(MAX_DECODED), asyncio.Semaphore(self.batches.capacity)
        self.in_work, self.draining, self._usual_seconds = 0, False, 0.1
        self._limits = Limits(pixels=options.max_pixels, option="max_pixels")
        self._threads, self._others = (ThreadPoolExecutor(usable_cores(), "service") for _ in range(2))
        self._downloads, self._addresses = ThreadPoolExecutor(MAX_DOWNLOADS), asyncio.Semaphore(MAX_DOWNLOADS)
        self.metrics.watch(self)

    def close(self) -> None:
        """End the threads."""
        for threads in (self._threads, self._others, self._downloads):
            threads.shutdown(wait=False, cancel_futures=True)

    def check_room(self, images: int = 1) -> None:
        """Raise HTTPException if the queue is full."""
        if self.in_work + images > self.options.max_queue:
            raise self._later(429, TOO_MANY)

    def _later(self, status: int, text: str) -> HTTPException:
        """Return a refusal with the seconds after which the images that are now in work will be done."""
        return HTTPException(status, text, {"retry-after": str(max(1, math.ceil(self._usual_seconds)))})

    async def run(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Run a call on a thread that never waits for memory, so that what holds some is finished."""
        return await asyncio.wrap_future(self._others.submit(call, *arguments))

    async def timed(self, work: Awaitable[Result]) -> Result:
        """Return the result of the work on a request; raise HTTPException after the time-out."""
        start = time.monotonic()
        try:
            return await asyncio.wait_for(work, self.options.timeout)
        except asyncio.TimeoutError:
            raise self._later(503, f"the request takes more than {self.options.timeout:g} seconds") from None
        finally:
            self._usual_seconds += 0.1 * (time.monotonic() - start - self._usual_seconds)

    @contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """Count images in work within the block; raise HTTPException if they are too many."""
        if images > self.options.max_images:
            raise HTTPException(413, f"the request has more than {self.options.max_images} images")
        if not images:
            raise HTTPException(422, _requests.NO_IMAGE)
        self.check_room(images)
        self.in_work += images
        try:
            yield
        finally:
            self.in_work -= images

    async def sources(self, request: Request) -> Sources:
        """Return the images of a request; raise HTTPException where it has none, or the queue is full."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await _requests.form_files(request, self.options.max_images, self.options.max_bytes)
        else:
            body = await request.body()
            self.check_room()  # before JSON is parsed
            is_json = kind == "application/json" and body
            found = await self.parsed(_requests.parsed_sources, body) if is_json else Sources([body] if body else [])
        return found

    async def parsed(self, parse: Callable[[bytes], Result], body: bytes) -> Result:
        """Return what a JSON body contains; large ones are parsed on another thread."""
        return parse(body) if len(body) < LARGE_BODY else await self.run(parse, body)

    @asynccontextmanager
    async def decoded(self, source: bytes | str) -> AsyncIterator[tuple[ImageFile, ImageFrame]]:
        """Yield an image file, also from its address, and its first frame, whose memory is counted within the block."""
        async with AsyncExitStack() as stack:
            if isinstance(source, str):
                await stack.enter_async_context(self._addresses)  # which bounds the memory of downloads
                source = await self._downloaded(source)
            await stack.enter_async_context(self._turns)
            job = self._threads.submit(self._decode, source)
            try:
                file, frame, size = await asyncio.wrap_future(job)
            except asyncio.CancelledError:  # the job may end later
                job.add_done_callback(self._give_back)
                raise
            stack.callback(self.room.give, size)
            yield file, frame

    async def _downloaded(self, address: str) -> bytes:
        if not self.options.fetch_from:
            raise HTTPException(403, "addresses are not allowed; send the image itself")
        check = partial(resolve, hosts=self.options.fetch_from)
        limits = {"max_bytes": self.options.max_bytes, "max_seconds": MAX_DOWNLOAD_SECONDS, "resolve": check}
        return await asyncio.wrap_future(self._downloads.submit(_inputs.download, address, **limits))

    def _decode(self, content: bytes) -> tuple[ImageFile, ImageFrame, int]:
        """Return an image file, its first frame, and the bytes that both take, which are counted."""
        file = open_image(content, limits=self._limits)
        size = len(content) + 4 * file.size[0] * file.size[1]
        self.room.take(size)
        try:
            return file, next(file.frames()), size
        except BaseException as error:
            self.room.give(size)
            if isinstance(error, cv2.error):
                raise ImageError("the image is damaged: copy or download it again") from error
            raise

    def _give_back(self, job: Future[tuple[ImageFile, ImageFrame, int]]) -> None:
        if not (job.cancelled() or job.exception()):
            self.room.give(job.result()[2])

    async def found(self, frame: ImageFrame, threshold: float | None) -> Detections:
        """Return the faces in an image."""
        pixels = await self.run(frame.visible) if frame.alpha is not None else frame.pixels
        return await self.batches.detect(_inputs.Picture(pixels.nbytes, lambda: pixels), threshold)

    async def detect(self, source: bytes | str, threshold: float | None, max_faces: int | None) -> Detections:
        """Return the faces in the image of a request."""
        async with self.decoded(source) as (_, frame):
            return (await self.found(frame, threshold))[:max_faces]

    def count(self, request: Request, images: int, faces: int) -> None:
        """Count the images and faces of a request, for its line in the log too."""
        self.metrics.faces.inc(faces)
        request.scope.get("scrfd_trt", {}).update(images=images, faces=faces)


def build_app(
    detector: SCRFDDetector,
    options: ServiceOptions,
    *,
    model: str = "",
    close_detector: bool = False,
    access: Access | None = None,
) -> Observed:
    """Return the ASGI application; ``access`` may refuse requests before keys are checked."""
    service = Service(detector, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if close_detector:
                stack.callback(detector.close)
            stack.callback(service.close)
            yield

    app = FastAPI(
        title="scrfd_trt",
        summary="Faces in images",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[key_check(options.api_keys)] if options.api_keys else [],
    )
    _add_routes(app, service)
    _add_state_routes(app, service, model)
    _extract.add_route(app, service)

    async def failed(_: Request, error: Exception) -> Response:
        status, text, headers = _requests.as_answer(error)
        return JSONResponse({"detail": text}, status, headers)

    for kind in (ScrfdError, MemoryError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, failed)
    guard = Guard(
        app,
        access,
        options.max_bytes,
        max_held=max(MAX_BODIES, 8 * options.max_bytes),
        headers=HEADERS,
        busy=Answer(429, TOO_MANY.encode(), ((b"retry-after", b"1"),)),
        as_json=True,
    )
    return Observed(guard, service)


def _add_routes(app: FastAPI, service: Service) -> None:
    results = {"results": [FACES, {"error": {"status": 422, "detail": "the image is not in base64"}}]}
    examples = {"one image": {"value": FACES}, "several images": {"value": results}}
    detected: dict[int | str, Any] = {200: {"content": {"application/json": {"examples": examples}}}}

    @app.post("/v1/detect", responses=detected | ERRORS, openapi_extra=_requests.described(several=True))
    async def detect(request: Request, threshold: Threshold = None, max_faces: MaxFaces = None) -> Response:
        """Return boxes, scores and landmarks of the faces in one image or several.

        One image is answered with its faces; a list, or a form with several files, with `results`: faces, or an
        `error` in the place of an image that cannot be read.
        """
        sources = await service.sources(request)
        threshold = threshold if sources.threshold is None else sources.threshold
        limit = max_faces if sources.max_faces is None else sources.max_faces
        with service.admitted(len(sources.images)):
            each = [service.detect(source, threshold, limit) for source in sources.images]
            results = await service.timed(asyncio.gather(*each, return_exceptions=sources.several))
        service.count(request, len(results), sum(len(one) for one in results if isinstance(one, Detections)))
        text = ", ".join(map(_as_json, results))
        return Response(f'{{"results": [{text}]}}' if sources.several else text, media_type="application/json")

    drawn: dict[int | str, Any] = {200: {"content": {f"image/{kind}": {} for kind in SUFFIXES}}}

    @app.post("/v1/overlay/{name}", responses=drawn | ERRORS, openapi_extra=_requests.described(several=False))
    async def overlay(
        request: Request,
        name: str,
        threshold: Threshold = None,
        max_faces: MaxFaces = None,
        format: Format = "jpeg",  # noqa: A002 - the name in the query
    ) -> Response:
        """Return an image with an overlay on its faces.

        Further parameters are options of the overlay, such as `fill=white`; `scrfd-trt overlays NAME` lists them.
        Options that are paths of files are refused. Overlays that hide faces use a lower threshold by default.
        """
        draw = _overlay(name, [each for each in request.query_params.multi_items() if each[0] not in OWN_PARAMETERS])
        sources = await service.sources(request)
        if len(sources.images) != 1:
            raise HTTPException(422, "send one image")
        threshold = threshold if sources.threshold is None else sources.threshold
        if threshold is None and getattr(draw, "covers", False):
            threshold = min(HIDING_THRESHOLD, service.detector.options.threshold)
        limit = max_faces if sources.max_faces is None else sources.max_faces

        async def drawn() -> tuple[bytes, int]:
            async with service.decoded(sources.images[0]) as (file, frame):
                found = (await service.found(frame, threshold))[:limit]
                return await service.run(_drawn, draw, file, frame, found, SUFFIXES[format]), len(found)

        with service.admitted(1):
            picture, faces = await service.timed(drawn())
        service.count(request, 1, faces)
        return Response(picture, media_type=f"image/{format}", headers={"x-faces": str(faces)})


def _add_state_routes(app: FastAPI, service: Service, model: str) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return the model that is served, and its options."""
        detector = service.detector
        options = detector.options.model_dump(mode="json", include={"threshold", "iou", "min_face", "rotations"})
        sizes = {"scales": detector.scales, "max_batch": detector._pipeline.max_batch}
        found = {"name": model, "device": detector.device, "description": detector.description}
        return {"models": [{**found, **sizes, **options}], "version": __version__}

    @app.get("/healthz")
    async def healthz() -> Response:
        """Return 200 unless the detector failed several times in a row."""
        is_broken = service.batches.failures >= BROKEN or service.detector._model.is_closed
        return JSONResponse({"status": "the detector fails" if is_broken else "ok"}, 503 if is_broken else 200)

    @app.get("/readyz")
    async def readyz() -> Response:
        """Return 200 until the service stops.

        A full queue is answered by 429: if it took a busy replica out of its load balancer, the others would get more.
        """
        status, code = ("the service stops", 503) if service.draining else ("ok", 200)
        return JSONResponse({"status": status}, code)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics of Prometheus."""
        return Response(generate_latest(service.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})


def _as_json(found: Detections | BaseException) -> str:
    if isinstance(found, Detections):
        width, height = found.image_size
        return f'{{"image_size": [{width}, {height}], "faces": {json_faces(found)}}}'
    status, text, _ = _requests.as_answer(found)
    return json.dumps({"error": {"status": status, "detail": text}})


@cache
def _overlays() -> dict[str, frozenset[str]]:
    """Return the overlays of this package, each with the options that a request must not set: files."""
    own = [one for one in overlays.names() if overlays.distribution(one).split()[0] == PROJECT]
    options = {one: overlays.describe(one) for one in own}
    return {
        one: frozenset(each.name for each in found if {"path", "any"} & set(each.type.split(" | ")))
        for one, found in options.items()
        if not any(each.required for each in found)
    }


def _overlay(name: str, parameters: Sequence[tuple[str, str]]) -> overlays.Overlay:
    """Return an overlay of this package; raise HTTPException for others, and for options that are files."""
    if name not in (usable := _overlays()):
        raise HTTPException(404, f"there is no overlay of this name; the overlays are: {', '.join(usable)}")
    options = dict(parameters)
    if files := sorted(usable[name] & set(options)):
        raise HTTPException(422, f"{files[0]} is a file of the service, which a request must not name")
    if len(options) < len(parameters):
        raise HTTPException(422, "each option of the overlay must be given once")
    return overlays.create(name, **options)


def _drawn(draw: overlays.Overlay, file: ImageFile, frame: ImageFrame, found: Detections, suffix: str) -> bytes:
    pixels: NDArray[np.uint8] = draw(frame.visible(), found)
    same = pixels.shape == frame.pixels.shape
    target = io.BytesIO()
    write_image(target, [frame.drawn_on(pixels) if same else ImageFrame(pixels)], suffix, color=file.color)
    return target.getvalue()


def serve(
    detector: SCRFDDetector,
    listeners: Sequence[socket.socket],
    options: ServiceOptions,
    *,
    model: str,
    access: Access | None = None,
    log_requests: bool = True,
) -> None:
    """Serve a detector of the caller on listening sockets until a signal; requests in work are then answered."""
    app = build_app(detector, options, model=model, access=access)

    def drain() -> None:
        app.service.draining = app.guard.draining = True

    stop_on_hangup()
    seconds = options.timeout + END_SECONDS
    server = new_server(app, seconds, max_connections=MAX_CONNECTIONS, drain=drain, web_sockets=False)
    with redirected_stderr():  # decoders write to stderr, and the log must not get lost in between
        for name, level in LOGGERS.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [new_log_handler()], False
            logger.setLevel(level if log_requests else logging.ERROR)
        server.run(sockets=list(listeners))
