"""The studio on a port of this machine: changed requests and frames, events that no page sends, and changed uploads."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

import fuzz_images
import fuzz_videos
from hypothesis import strategies as st
from mutations import File, json_values, module_of_tests, mutated

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "studio"))


missing = "" if util.find_spec("nicegui") else "NiceGUI is not installed"
if not missing:
    from client import SOCKET, Page, Server

SECONDS = 40
MEBIBYTES = 600
MAX_UPLOAD = 1 << 20
FIELDS = ("id", "listener_id", "args", "next_message_id", "request_id", "level", "message", "client_id")
LOGGED = ExitStack()
EVENTS = ("event", "handshake", "ack", "log", "javascript_response", "connect", "x")


class Errors(logging.Handler):
    """Keeps the errors that the studio logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an error."""
        self.lines.append(record.getMessage())


@lru_cache
def studio() -> tuple[Any, Errors]:
    """Start the studio on a thread; return where it listens, and its errors."""
    from scrfd_trt import SCRFDDetector, samples
    from scrfd_trt._studio import server as studio_server
    from scrfd_trt._web.access import Access

    detector = SCRFDDetector.from_backend(module_of_tests("cli/spot_network.py").SpotBackend(), threshold=0.05)
    studio_server.MAX_PAGES = studio_server.MAX_WAITING = 10**6  # each case opens a page, and nobody closes them
    errors = Errors()
    logging.getLogger("scrfd_trt").addHandler(errors)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    application, _ = studio_server.create_application(
        detector, Access("127.0.0.1", ["127.0.0.1"], port), model="500m_bnkps", max_upload=MAX_UPLOAD
    )
    LOGGED.enter_context(studio_server.framework_log())
    scene = samples.load("group")
    samples.load = lambda *_: dataclasses.replace(scene, image=scene.image[::16, ::16].copy())  # drawn for each page
    threading.Thread(target=lambda: studio_server.new_server(application).run(sockets=[listener]), daemon=True).start()
    server = Server("127.0.0.1", port)
    for _ in range(200):
        with suppress(OSError):
            if server.request("/favicon.ico").status:
                return server, errors
        time.sleep(0.05)
    raise AssertionError("the studio did not start")


@lru_cache
def samples() -> list[File]:
    """Return requests; PORT stands for the port."""
    head = "host: 127.0.0.1:PORT\r\norigin: http://127.0.0.1:PORT\r\n"
    form = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nwords\r\n--xx--\r\n'
    body = f"content-type: multipart/form-data; boundary=xx\r\ncontent-length: {len(form)}\r\n\r\n".encode()
    shake = "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    shake += "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    frames = b"\x81\x82abcd" + bytes(one ^ two for one, two in zip(b"40", b"ab", strict=True)) + b"\x89\x80abcd"
    return [
        File("get", f"GET / HTTP/1.1\r\n{head}\r\n".encode()),
        File("form", f"POST /_nicegui/client/x/upload/1 HTTP/1.1\r\n{head}".encode() + body + form),
        File("polling", f"GET {SOCKET}&transport=polling&sid=x HTTP/1.1\r\n{head}\r\n".encode()),
        File("post", f"POST {SOCKET}&transport=polling&sid=x HTTP/1.1\r\n{head}content-length: 2\r\n\r\n40".encode()),
        File("socket", f"GET {SOCKET}&transport=websocket HTTP/1.1\r\n{head}{shake}".encode() + frames),
        File("chunks", f"POST / HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".encode()),
        File("download", f"GET /download/x?y=%ff HTTP/1.1\r\n{head}range: bytes=0-\r\ncookie: a=b\r\n\r\n".encode()),
    ]


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return requests, events of a page, values of its controls, and uploads."""
    studio()
    garbage = json_values()
    fields = st.sampled_from(FIELDS)
    event = st.tuples(st.sampled_from(EVENTS), st.dictionaries(fields, garbage, max_size=5), st.booleans())
    uploads = fuzz_images.samples() + ([] if fuzz_videos.missing else fuzz_videos.samples())
    return st.one_of(
        *[st.tuples(st.just("request"), mutated(samples()))] * 3,
        st.tuples(st.just("events"), st.lists(event, min_size=1, max_size=8)),
        st.tuples(st.just("packets"), st.lists(st.text(max_size=20), min_size=1, max_size=5)),
        st.tuples(st.just("values"), st.lists(garbage, min_size=1, max_size=3)),
        st.tuples(st.just("upload"), mutated([each for each in uploads if len(each.content) < MAX_UPLOAD])),
    )


def check(case: tuple[str, Any]) -> None:
    """Send what a case says; afterwards the studio answers, and has logged no error."""
    server, errors = studio()
    kind, content = case
    if kind == "request":
        server.send(content.content.replace(b"PORT", str(server.port).encode()), seconds=3.0)
    else:
        page = Page(server)
        page.wait_for("faces in")
        if kind == "upload":
            page.upload(Path(content.name).name, content.content)
            page.wait_for(f"{content.name}: ", '42["notify"', seconds=30)
        elif kind == "values":
            for key, element in list(page.elements.items()):
                for listener in element.get("events", ()):
                    for value in content:
                        page.event(key, listener["type"], value)
        elif kind == "packets":
            for text in content:
                page.post(text)
        else:
            for name, fields, is_own in content:
                page.emit(name, fields | ({"client_id": page.client_id} if is_own else {}))
    assert server.request("/").status in (200, 503)
    found, errors.lines = errors.lines, []
    assert not found, f"the studio logged errors: {json.dumps(found)}"
