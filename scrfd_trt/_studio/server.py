"""The studio's web server: routes for the page, behind the guard, and its end."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import uvicorn
from anyio import to_thread
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from scrfd_trt import samples
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._image_files import read_image
from scrfd_trt._studio.clips import Clip
from scrfd_trt._studio.export import Export
from scrfd_trt._studio.items import Corners, Item
from scrfd_trt._studio.photos import Photo
from scrfd_trt._studio.session import MAX_FILES, Budget, Searches, Session
from scrfd_trt._studio.settings import Choice, Settings, listed, validated
from scrfd_trt._studio.temporary_files import TemporaryFolder, delete_abandoned
from scrfd_trt._studio.uploads import MAX_PIXELS, can_use_clips, jpeg
from scrfd_trt._web.access import Access
from scrfd_trt._web.guard import HEADERS, Guard, Receive, Scope, Send, new_server, stop_on_hangup
from scrfd_trt.errors import ClosedError, OptionError, ScrfdError
from scrfd_trt.video import VideoReader

STATIC, ASSETS = Path(__file__).parent / "static", Path(samples.__file__).parent / "assets"
FORM_OVERHEAD = 64 * 1024  # bytes that the form around an uploaded file may take
MAX_JSON = 1 << 20
MAX_PAGES = 32
MAX_SIDE = 4096
REQUESTS_AT_ONCE = 4  # for files: each may hold a decoded picture
PING_SECONDS, CHECK_SECONDS = 15.0, 0.5
SAMPLES = {"group.png": "Six people in a park", "portrait.png": "A portrait", "people.mp4": "A clip of 5 seconds"}
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; object-src 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class Studio:
    """The pages that are open, and what they share."""

    def __init__(self, detector: SCRFDDetector, model: str, max_upload: int) -> None:
        self.detector, self.model = detector, model
        self.folder, self.budget, self.searches = TemporaryFolder(), Budget(max_upload), Searches()
        self.working = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self.sessions: dict[str, Session] = {}
        self.stopping: Callable[[], bool] = lambda: False

    def open(self) -> Session:
        """Return a new session; raise HTTPException if too many pages are open."""
        self.close_lost()
        if len(self.sessions) >= MAX_PAGES:
            raise HTTPException(503, "too many pages of the studio are open: close some, and load this one again")
        session = Session(self.detector, self.folder, self.model, self.budget, self.searches)
        self.sessions[session.id] = session
        return session

    def find(self, connection: Any) -> Session:
        """Return the session of a request or WebSocket connection; raise HTTPException if there is none."""
        key = connection.headers.get("x-session") or connection.query_params.get("session") or ""
        session = self.sessions.get(key)
        if session is None:
            raise HTTPException(404, "this page is no longer open: load it again")
        return session

    def end(self, session: Session) -> None:
        """Close a session."""
        self.sessions.pop(session.id, None)
        session.close()

    def close_lost(self) -> None:
        """Close the sessions of pages that are gone."""
        for session in [each for each in self.sessions.values() if each.is_over]:
            self.end(session)

    async def watch(self) -> None:
        """Close the sessions of pages that are gone, and all when the server stops, so that it need not wait."""
        while not self.stopping():
            await asyncio.sleep(CHECK_SECONDS)
            self.close_lost()
        self.close_sessions()

    def close_sessions(self) -> None:
        """Close all sessions."""
        for session in list(self.sessions.values()):
            self.end(session)

    def close(self) -> None:
        """End all work, and delete all files."""
        self.searches.close()
        self.close_sessions()
        self.detector.close()  # ends what still searches
        self.searches.join()
        self.folder.close()


def serve(
    detector: SCRFDDetector,
    listeners: Sequence[socket.socket],
    access: Access,
    *,
    model: str,
    max_upload: int,
    open_address: str = "",
) -> None:
    """Serve the page on listening sockets until Ctrl-C; then close the detector, which ``model`` names."""
    delete_abandoned()
    studio = Studio(detector, model, max_upload)
    server = new_studio_server(studio, access)
    stop_on_hangup()
    if open_address:
        threading.Thread(target=webbrowser.open, args=(open_address,), daemon=True).start()
    try:
        with quiet_framework():
            server.run(sockets=list(listeners))
    finally:
        studio.close()


def new_studio_server(studio: Studio, access: Access) -> uvicorn.Server:
    """Return the server of a studio."""
    server = new_server(create_application(studio, access))
    studio.stopping = lambda: server.should_exit
    return server


@contextmanager
def quiet_framework() -> Iterator[None]:
    """Print nothing that other packages log, such as requests that break off, within the block."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def create_application(studio: Studio, access: Access) -> Guard:
    """Return the ASGI application."""
    largest = studio.budget.max_upload + FORM_OVERHEAD
    MultiPartParser.spool_max_size = largest  # uploads stay in memory: no temporary file has to be deleted

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.ensure_future(studio.watch())
        yield
        task.cancel()
        studio.close_sessions()

    application = Starlette(
        routes=_routes(studio),
        lifespan=lifespan,
        exception_handlers={
            **dict.fromkeys((HTTPException, ScrfdError, MemoryError, ClientDisconnect), _answer),
            Exception: _failed,
        },
    )
    return Guard(application, access, largest, headers={**HEADERS, "content-security-policy": POLICY})


async def _answer(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        text = "there is no such page" if error.detail == "Not Found" else error.detail
        return JSONResponse({"error": text}, error.status_code, error.headers)
    if isinstance(error, ClientDisconnect):  # nobody reads the answer
        return Response(status_code=400)
    status = 410 if isinstance(error, ClosedError) else 507 if isinstance(error, MemoryError) else 422
    return JSONResponse({"error": str(error) or "there is not enough memory"}, status)


async def _failed(_: Request, error: Exception) -> Response:
    _logger.error("a request failed: %r", error)
    return JSONResponse({"error": "the request failed"}, 500)


class Query(BaseModel):
    """What the address of a picture may say."""

    model_config = ConfigDict(allow_inf_nan=False)

    covered: bool = True
    side: int | None = Field(None, ge=1)
    box: Annotated[Corners, BeforeValidator(lambda text: text.split(","))] | None = None
    t: float = Field(0.0, ge=0, le=1e7)
    overlay: str | None = None

    def limited(self, default: int, most: int = 640) -> int:
        """Return a number of pixels within limits."""
        return min(max(self.side or default, 16), most)


Reader = Callable[[Request], Awaitable[Any]]


def _routes(studio: Studio) -> list[Any]:
    def of_session(
        path: str, call: Callable[..., Any], method: str = "GET", *, read: Reader | None = None, status: int = 200
    ) -> Route:
        """Return a route that calls ``call(session, what was read, parameters of the path)`` on a thread."""

        async def handle(request: Request) -> Response:
            session = studio.find(request)
            given = () if read is None else (await read(request),)
            return _response(await _run(_called, call, session, *given, *request.path_params.values()), status)

        return Route(f"/api/{path}", handle, methods=[method])

    def of_item(path: str, call: Callable[..., Any], method: str = "GET", kind: type = Item) -> Route:
        """Return a route that calls ``call(item, query or body, parameters of the path)`` on a thread."""

        async def handle(request: Request) -> Response:
            key, *more = request.path_params.values()
            item = studio.find(request).items.get(key)
            if not isinstance(item, kind):
                raise HTTPException(404, "there is no such file")
            if method == "GET":
                given: Any = validated(Query, dict(request.query_params), "the address is invalid")
            else:
                given = await _json(request)
            async with studio.working:
                return _response(await _run(_called, call, item, given, *more))

        return Route(f"/api/items/{{item}}{path}", handle, methods=[method])

    async def open_session(_: Request) -> Response:
        if studio.stopping():
            raise HTTPException(503, "the studio stops")
        names = await _run(_overview)
        session = studio.open()
        limits = {"upload": studio.budget.max_upload, "files": MAX_FILES, "pixels": MAX_PIXELS}
        return JSONResponse({"session": session.id, "limits": limits, **names}, 201)

    async def end_session(request: Request) -> Response:
        studio.end(studio.find(request))
        return Response(status_code=204)

    async def events(request: Request) -> Response:
        return EventStream(studio.find(request))

    async def download(request: Request) -> Response:
        key, sessions = request.path_params["key"], list(studio.sessions.values())
        job = None if request.method == "HEAD" else next((job for each in sessions if (job := each.take(key))), None)
        if job is None:
            raise HTTPException(404, "there is no such file")
        return Download(job)

    async def live(websocket: WebSocket) -> None:
        try:
            session = studio.find(websocket)
        except HTTPException:
            await websocket.close(1008)
            return
        await import_module("scrfd_trt._studio.live").live(websocket, session)

    async def index(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    return [
        Route("/", index),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/download/{key}", download),
        WebSocketRoute("/api/live", live),
        Route("/api/session", open_session, methods=["POST"]),
        Route("/api/session", end_session, methods=["DELETE"]),
        Route("/api/session/end", end_session, methods=["POST"]),
        Route("/api/events", events),
        of_session("items", lambda session: [item.info() for item in list(session.items.values())]),
        of_session("items", lambda session, file: session.add(*file), "POST", read=_form_file, status=201),
        of_session("items/{item}", lambda session, key: session.remove(key), "DELETE"),
        of_session("samples/{name}", _add_sample, "POST", status=201),
        of_session("settings", _set_settings, "PUT", read=_json),
        of_session("stickers", _store_sticker, "POST", read=_form_file),
        of_session("options/check", _checked, "POST", read=_json),
        of_session("exports", _export, "POST", read=_json, status=202),
        of_session("exports/{job}", lambda session, key: session.cancel(key), "DELETE"),
        of_item("", _patch, "PATCH"),
        of_item("/thumbnail", lambda item, asked: item.thumbnail(asked.overlay, asked.limited(160))),
        of_item("/edits", lambda item, edit: item.edit(edit), "POST"),
        of_item("/code", lambda item, _: dict(zip(("command", "python"), item.code(), strict=True))),
        of_item("/faces_file", _faces_file),
        of_item("/picture", _picture, kind=Photo),
        of_item("/faces", lambda photo, _: photo.faces(), kind=Photo),
        of_item("/timeline", lambda clip, _: clip.timeline(), kind=Clip),
        of_item("/frame", _frame, kind=Clip),
        of_item("/frame_faces", lambda clip, asked: clip.frame_faces(asked.t), kind=Clip),
        of_item("/tracks/{track:int}/face", _track_face, kind=Clip),
    ]


def _called(call: Callable[..., Any], *arguments: Any) -> Any:
    answer = call(*arguments)
    return answer.info() if isinstance(answer, Item) else answer


def _response(answer: Any, status: int = 200) -> Response:
    """Return an answer: JSON, a picture, or nothing."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, bytes):
        return Response(answer, media_type="image/jpeg")
    return Response(status_code=204) if answer is None else JSONResponse(answer, status)


def _add_sample(session: Session, name: str) -> Item:
    if name not in SAMPLES:
        raise HTTPException(404, "there is no such sample")
    return session.add(name, (ASSETS / name).read_bytes())


def _set_settings(session: Session, body: dict[str, Any]) -> None:
    session.set_settings(Settings.parse(body.get("settings")), _chosen(session, body))


def _store_sticker(session: Session, file: tuple[str, bytes]) -> dict[str, str]:
    return {"sticker": session.store_sticker(*file)}


def _export(session: Session, body: dict[str, Any]) -> dict[str, str]:
    return {"job": session.export(_chosen(session, body), faces_files=body.get("faces_files") is True).id}


def _patch(item: Item, body: dict[str, Any]) -> Item:
    if not isinstance(body.get("reviewed"), bool):
        raise OptionError("reviewed must be true or false")
    item.reviewed = body["reviewed"]
    item.session.changed(item)
    return item


def _picture(photo: Photo, asked: Query) -> bytes:
    return photo.picture(covered=asked.covered, side=asked.side and min(asked.side, MAX_SIDE), box=asked.box)


def _frame(clip: Clip, asked: Query) -> bytes:
    return clip.frame(asked.t, covered=asked.covered, side=asked.limited(1280, MAX_SIDE))


def _track_face(clip: Clip, asked: Query, track: int) -> bytes:
    return clip.track_face(track, asked.limited(96))


async def _run(call: Callable[..., Result], *arguments: Any) -> Result:
    return await to_thread.run_sync(call, *arguments)


async def _json(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; raise HTTPException if it is none."""
    body = await request.body()
    if len(body) > MAX_JSON:
        raise HTTPException(413, "the request is too large")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return value


async def _form_file(request: Request) -> tuple[str, bytes]:
    """Return name and content of the one file of a form; raise HTTPException if it has none or several."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, "the request is not a form with a file")
    try:
        async with request.form(max_files=2, max_fields=8) as form:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise HTTPException(400, "the request is not a form with a file")
            return files[0].filename or "picture", await files[0].read()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        raise HTTPException(400, "the request is not a form with a file") from error


def _chosen(session: Session, body: dict[str, Any]) -> list[Item]:
    """Return the files that a request names; raise HTTPException for one that is unknown."""
    keys, known = body.get("items"), dict(session.items)
    if keys == "all":
        return list(known.values())
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in known for key in keys):
        raise HTTPException(404, "there is no such file")
    return [known[key] for key in keys]


def _checked(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    """Return the warnings of an overlay with these options, or why it refuses them."""
    choice = Settings.parse({"overlays": [body]}).overlays[0]
    try:
        return {"warnings": session.check(choice)}
    except OptionError as error:
        return {"error": str(error), "option": next(iter(error.fields), None) or _named_option(choice, str(error))}


def _named_option(choice: Choice, text: str) -> str | None:
    return next((name for name in choice.options if f"'{name}'" in text or f"{name} " in text), None)


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}


def _faces_file(item: Item, _: Query) -> Response:
    """Return the faces file of an item; raise ScrfdError if its faces are not known yet."""
    path = item.session.files.new_folder() / "faces.jsonl"
    try:
        item.write_faces(path)
        return Response(path.read_bytes(), media_type="application/jsonl", headers=_attachment(item.faces_name))
    finally:
        item.session.files.delete(path)


@lru_cache
def _overview() -> dict[str, Any]:
    """Return the overlays and samples as the page shows them."""
    shown = []
    for name, label in SAMPLES.items():
        if name.endswith(".png"):
            image = read_image(ASSETS / name).pixels
        elif can_use_clips():
            with VideoReader(ASSETS / name) as reader:
                image = next(iter(reader)).image
        else:
            continue
        data = base64.b64encode(jpeg(image, 480)).decode()
        shown.append({"name": name, "label": label, "thumbnail": f"data:image/jpeg;base64,{data}"})
    return {"overlays": listed(), "samples": shown}


class Download(FileResponse):
    """The result of an export, which is deleted once it was sent, or its browser has gone."""

    def __init__(self, job: Export) -> None:
        name, path = job.results[0]
        super().__init__(path, headers=_attachment(name), media_type="application/octet-stream")
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the result."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.delete()


class EventStream(Response):
    """Server-sent events of a session, until the page or the session is closed."""

    def __init__(self, session: Session) -> None:
        self.session, self.background = session, None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        stream = self.session.listen()
        gone = asyncio.ensure_future(_wait_for_end(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while not gone.done():
                waiting = stream.take()
                events = await _run(lambda calls: [event() for event in calls], waiting)
                texts = [f"event: {name}\ndata: {json.dumps(value)}\n\n" for name, value in events]
                over = any(name == "bye" for name, _ in events)
                body = ("".join(texts) or ": \n\n").encode()
                await send({"type": "http.response.body", "body": body, "more_body": not over})
                if over:
                    break
                wake = asyncio.ensure_future(stream.wake.wait())
                await asyncio.wait({gone, wake}, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                wake.cancel()
        finally:
            gone.cancel()
            self.session.leave(stream)


async def _wait_for_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
