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
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

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
from scrfd_trt.service._batches import Engine
from scrfd_trt.service._metrics import JsonLines, Metrics, Observed, StateCollector
from scrfd_trt.service._processes import Fronts, Owner, RemoteEngine
from scrfd_trt.service._requests import Sources

Result = TypeVar("Result")

MAX_DECODED = 1 << 30  # bytes of files and pixels in work, beyond which images wait
MAX_BODIES = 1 << 28  # bytes of bodies that are held, or 8 of the largest
MAX_CONNECTIONS = 10_000  # of all processes
END_SECONDS = 5.0  # after the time-out of the last request, connections are dropped
LOGGERS = {"scrfd_trt.service": logging.INFO, "uvicorn": logging.WARNING, "python_multipart": logging.ERROR}
MAX_DOWNLOADS, MAX_DOWNLOAD_SECONDS = 8, 10.0
LARGE_BODY = 1 << 16  # bytes of JSON that are parsed on another thread
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


class Opened(NamedTuple):
    """An image file of a request, its first frame, what the detector takes, and what to give back to the room."""

    file: ImageFile
    frame: ImageFrame
    image: Any
    taken: Any


class Service:
    """The requests that share a detector, which is in this process or in another one.

    A row of ``counts`` is what this process has in work, images and bytes of bodies; the others are those beside it.
    """

    def __init__(
        self,
        engine: Engine | RemoteEngine,
        metrics: Metrics,
        options: ServiceOptions,
        counts: NDArray[np.float64] | None = None,
        row: int = 0,
    ) -> None:
        self.engine, self.metrics, self.options = engine, metrics, options
        self.batches, self.room, self._turns = engine.batches, engine.room, asyncio.Semaphore(engine.batches.capacity)
        self.counts = np.zeros((1, 2)) if counts is None else counts
        self.row, self.draining, self._usual_seconds = row, False, 0.1
        self.bodies: Any = self.counts[:, 1]
        self._limits = Limits(pixels=options.max_pixels, option="max_pixels")
        self._threads, self._others = (ThreadPoolExecutor(usable_cores(), "service") for _ in range(2))
        self._downloads, self._addresses = ThreadPoolExecutor(MAX_DOWNLOADS), asyncio.Semaphore(MAX_DOWNLOADS)
        metrics.registry.register(StateCollector(self))

    def close(self) -> None:
        """End the threads."""
        for threads in (self._threads, self._others, self._downloads):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def in_work(self) -> int:
        """Images in work of all processes."""
        return int(self.counts[:, 0].sum())

    def check_room(self, images: int = 1) -> None:
        """Raise HTTPException if the queue has no room for further images."""
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
        self.counts[self.row, 0] += images  # before the check, so that no two processes take the same room
        try:
            self.check_room(0)
            yield
        finally:
            self.counts[self.row, 0] -= images

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
    async def decoded(self, source: bytes | str) -> AsyncIterator[Opened]:
        """Yield an image file, also from its address, with its first frame; its memory is counted within the block."""
        async with AsyncExitStack() as stack:
            if isinstance(source, str):
                await stack.enter_async_context(self._addresses)  # which bounds the memory of downloads
                source = await self._downloaded(source)
            await stack.enter_async_context(self._turns)
            job = self._threads.submit(self._decode, source)
            try:
                opened = await asyncio.wrap_future(job)
            except asyncio.CancelledError:  # the job may end later
                job.add_done_callback(self._give_back)
                raise
            stack.callback(self.room.give, opened.taken)
            yield opened

    async def _downloaded(self, address: str) -> bytes:
        if not self.options.fetch_from:
            raise HTTPException(403, "addresses are not allowed; send the image itself")
        check = partial(resolve, hosts=self.options.fetch_from)
        limits = {"max_bytes": self.options.max_bytes, "max_seconds": MAX_DOWNLOAD_SECONDS, "resolve": check}
        return await asyncio.wrap_future(self._downloads.submit(_inputs.download, address, **limits))

    def _decode(self, content: bytes) -> Opened:
        """Return an image file with its first frame, whose bytes are counted."""
        file = open_image(content, limits=self._limits)
        pixels = file.size[0] * file.size[1]
        taken = self.room.take(len(content) + 4 * pixels, 3 * pixels)
        try:
            frame, image = self.room.put(taken, next(file.frames()))
        except BaseException as error:
            self.room.give(taken)
            if isinstance(error, cv2.error):
                raise ImageError("the image is damaged: copy or download it again") from error
            raise
        return Opened(file, frame, image, taken)

    def _give_back(self, job: Future[Opened]) -> None:
        if not (job.cancelled() or job.exception()):
            self.room.give(job.result().taken)

    async def detect(self, source: bytes | str, threshold: float | None, max_faces: int | None) -> Detections:
        """Return the faces in the image of a request."""
        async with self.decoded(source) as opened:
            return (await self.batches.detect(opened.image, threshold))[:max_faces]

    def count(self, request: Request, images: int, faces: int) -> None:
        """Count the images and faces of a request, for its line in the log too."""
        self.metrics.faces.inc(faces)
        request.scope.get("scrfd_trt", {}).update(images=images, faces=faces)


def local_service(detector: SCRFDDetector, options: ServiceOptions) -> Service:
    """Return the service of a detector in this process."""
    metrics = Metrics()
    return Service(Engine(detector, metrics.batch.observe, MAX_DECODED), metrics, options)


def build_app(
    service: Service, *, model: str = "", access: Access | None = None, at_end: Callable[[], object] | None = None
) -> Observed:
    """Return the ASGI application; ``access`` may refuse requests before keys are checked."""
    options = service.options

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if at_end:
                stack.callback(at_end)
            stack.callback(service.close)
            await service.engine.start()
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
        held=service.bodies,
        row=service.row,
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
            threshold = min(HIDING_THRESHOLD, service.engine.about["threshold"])
        limit = max_faces if sources.max_faces is None else sources.max_faces

        async def drawn() -> tuple[bytes, int]:
            async with service.decoded(sources.images[0]) as opened:
                found = (await service.batches.detect(opened.image, threshold))[:limit]
                return await service.run(_drawn, draw, opened, found, SUFFIXES[format]), len(found)

        with service.admitted(1):
            picture, faces = await service.timed(drawn())
        service.count(request, 1, faces)
        return Response(picture, media_type=f"image/{format}", headers={"x-faces": str(faces)})


def _add_state_routes(app: FastAPI, service: Service, model: str) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Return the model that is served, and its options."""
        return {"models": [{"name": model, **service.engine.about}], "version": __version__}

    @app.get("/healthz")
    async def healthz() -> Response:
        """Return 200 unless the detector failed several times in a row."""
        is_broken = service.engine.state().is_broken
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


def _drawn(draw: overlays.Overlay, opened: Opened, found: Detections, suffix: str) -> bytes:
    frame = opened.frame
    pixels: NDArray[np.uint8] = draw(frame.visible(), found)
    same = pixels.shape == frame.pixels.shape
    target = io.BytesIO()
    write_image(target, [frame.drawn_on(pixels) if same else ImageFrame(pixels)], suffix, color=opened.file.color)
    return target.getvalue()


def log_as_json(*, requests: bool) -> None:
    """Log JSON lines, also of requests."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if requests else logging.ERROR)


def run_server(
    app: Observed,
    listeners: Sequence[socket.socket],
    *,
    log_requests: bool,
    processes: int = 1,
    before: Callable[[Any], object] = id,
) -> None:
    """Serve an application until it is stopped; requests in work are then answered. ``before`` takes the server."""

    def drain() -> None:
        app.service.draining = app.guard.draining = True

    seconds = app.service.options.timeout + END_SECONDS
    limit = -(-MAX_CONNECTIONS // processes)
    server = new_server(app, seconds, max_connections=limit, drain=drain, web_sockets=False)
    before(server)
    with redirected_stderr():  # decoders write to stderr, and the log must not get lost in between
        log_as_json(requests=log_requests)
        server.run(sockets=list(listeners))


def serve(
    detector: SCRFDDetector,
    listeners: Sequence[Sequence[socket.socket]],
    options: ServiceOptions,
    *,
    model: str,
    access: Access | None = None,
    log_requests: bool = True,
) -> None:
    """Serve a detector of the caller until a signal; requests in work are then answered.

    ``listeners`` are the sockets of each process that receives; with one, it is this process.
    """
    if (processes := len(listeners)) > 1:
        fronts = Fronts(processes, listeners, options, model=model, access=access, log_requests=log_requests)
        log_as_json(requests=log_requests)
        asyncio.run(Owner(detector, fronts, MAX_DECODED).run())
        return
    app = build_app(local_service(detector, options), model=model, access=access)
    stop_on_hangup()
    run_server(app, listeners[0] if listeners else [], log_requests=log_requests)
