"""The studio on a port of this machine: changed requests and frames, garbage for all routes, and changed uploads."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fuzz_images
import fuzz_videos
from hypothesis import strategies as st
from mutations import File, json_values, module_of_tests, mutated

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "studio"))


missing = "" if util.find_spec("starlette") and util.find_spec("wsproto") else "the packages of the studio are missing"
if not missing:
    from client import Page, Server

SECONDS = 40
MEBIBYTES = 600
MAX_UPLOAD = 1 << 20
ROUTES = [
    *(("PUT", "settings"), ("POST", "options/check"), ("POST", "exports"), ("POST", "items/1/edits")),
    *(("PATCH", "items/1"), ("DELETE", "items/x"), ("DELETE", "exports/x"), ("POST", "samples/x")),
    *(("POST", "stickers"), ("POST", "items")),
]
READ = ("picture", "thumbnail", "faces", "code", "faces_file", "timeline", "frame", "frame_faces", "tracks/1/face")
FIELDS = ("op", "faces", "face", "box", "items", "settings", "name", "options", "reviewed", "faces_files", "overlays")
NAMES = ("covered", "side", "box", "overlay", "t", "version")


class Errors(logging.Handler):
    """Keeps the errors that the studio logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an error."""
        self.lines.append(f"{record.getMessage()} {record.exc_info and record.exc_info[1]!r}")


@lru_cache
def studio() -> tuple[Any, Errors]:
    """Start the studio on a thread; return where it listens, and its errors."""
    from scrfd_trt import SCRFDDetector
    from scrfd_trt._studio import server as studio_server
    from scrfd_trt._web.access import Access

    detector = SCRFDDetector.from_backend(module_of_tests("cli/spot_network.py").SpotBackend(), threshold=0.05)
    errors = Errors()
    logging.getLogger("scrfd_trt").addHandler(errors)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    made = studio_server.Studio(detector, "500m_bnkps", MAX_UPLOAD)
    server = studio_server.new_studio_server(made, Access("127.0.0.1", ["127.0.0.1"], port))
    logging.getLogger().addHandler(logging.NullHandler())
    threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True).start()
    found = Server("127.0.0.1", port)
    for _ in range(200):
        with suppress(OSError):
            if found.request("/").status:
                return found, errors
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
    frames = b"\x81\x82abcd" + bytes(one ^ two for one, two in zip(b"{}", b"ab", strict=True)) + b"\x89\x80abcd"
    page = Page(studio()[0])
    key = f"x-session: {page.session}\r\n"
    return [
        File("get", f"GET / HTTP/1.1\r\n{head}\r\n".encode()),
        File("static", f"GET /static/app.js HTTP/1.1\r\n{head}range: bytes=0-\r\n\r\n".encode()),
        File("form", f"POST /api/items HTTP/1.1\r\n{head}{key}".encode() + body + form),
        File("edit", f"POST /api/items/1/edits HTTP/1.1\r\n{head}{key}content-length: 2\r\n\r\n{{}}".encode()),
        File("picture", f"GET /api/items/1/picture?side=9&box=1,2,3,4 HTTP/1.1\r\n{head}{key}\r\n".encode()),
        File("socket", f"GET /api/live?session={page.session} HTTP/1.1\r\n{head}{shake}".encode() + frames),
        File("chunks", f"POST / HTTP/1.1\r\n{head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".encode()),
        File("download", f"GET /download/x?y=%ff HTTP/1.1\r\n{head}range: bytes=0-\r\ncookie: a=b\r\n\r\n".encode()),
    ]


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return requests, values for all routes of a page, queries for its pictures, and uploads."""
    studio()
    garbage = json_values()
    values = st.one_of(garbage, st.dictionaries(st.sampled_from(FIELDS), garbage, max_size=5))
    calls = st.tuples(st.sampled_from(ROUTES), values)
    query = st.dictionaries(st.sampled_from(NAMES), st.text(max_size=12), max_size=4)
    uploads = fuzz_images.samples() + ([] if fuzz_videos.missing else fuzz_videos.samples())
    return st.one_of(
        *[st.tuples(st.just("request"), mutated(samples()))] * 3,
        st.tuples(st.just("calls"), st.lists(calls, min_size=1, max_size=8)),
        st.tuples(st.just("pictures"), st.lists(st.tuples(st.sampled_from(READ), query), min_size=1, max_size=5)),
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
        if kind == "upload":
            answer = page.upload(Path(content.name).name, content.content)
            assert answer.status in (201, 422), answer
            if answer.status == 201:
                page.wait(json.loads(answer.body)["id"], seconds=30)
        else:
            page.upload("a.pgm", b"P5 8 8 255\n" + bytes(64))
            for what, value in content:
                if kind == "calls":
                    answer = page.call(*what, value)
                else:
                    text = "&".join(f"{name}={quote(each)}" for name, each in value.items())
                    answer = page.call("GET", f"items/1/{what}?{text}")
                assert answer.status < 500, answer
        page.call("DELETE", "session")
    assert server.request("/").status == 200
    found, errors.lines = errors.lines, []
    assert not found, f"the studio logged errors: {json.dumps(found)}"
