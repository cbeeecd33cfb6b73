"""The service on a port of this machine: changed requests, and changed image files in each form."""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

import fuzz_images
from hypothesis import strategies as st
from mutations import File, module_of_tests, mutated

sys.path.append(str(Path(__file__).resolve().parents[1] / "studio"))
from client import Server

missing = "" if util.find_spec("fastapi") and util.find_spec("prometheus_client") else "the service is not installed"
SECONDS = 40
MEBIBYTES = 600
MAX_BYTES = 1 << 20
KINDS = ("image/png", "application/json", "multipart/form-data; boundary=xx")


@lru_cache
def service() -> tuple[Server, Any]:
    """Start the service on a thread; return where it listens, and its state."""
    from scrfd_trt import SCRFDDetector
    from scrfd_trt._web.guard import new_server
    from scrfd_trt.service import ServiceOptions, create_app

    detector = SCRFDDetector.from_backend(module_of_tests("cli/spot_network.py").SpotBackend())
    app: Any = create_app(detector, ServiceOptions(max_bytes=MAX_BYTES, max_pixels=1_000_000))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: new_server(app).run(sockets=[listener]), daemon=True).start()
    return Server("127.0.0.1", listener.getsockname()[1]), app.service


def _form(content: bytes) -> bytes:
    return b'--xx\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + content + b"\r\n--xx--\r\n"


@lru_cache
def samples() -> list[File]:
    """Return requests."""
    text = json.dumps({"images": {"data": ["aGFsbG8="]}, "threshold": 0.5, "limit_faces": 2}).encode()
    head = "host: 127.0.0.1\r\nconnection: close\r\n"
    made = [("/extract", KINDS[1], text), ("/v1/overlay/blur?strength=0.5", KINDS[0], b"words")]
    made += [("/v1/detect?threshold=0.5", KINDS[2], _form(b"words")), ("/v1/detect", KINDS[1], b'{"url": "http://a/"}')]
    heads = [f"{head}content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n" for _, kind, body in made]
    return [
        File(path, f"POST {path} HTTP/1.1\r\n{lines}".encode() + body)
        for (path, _, body), lines in zip(made, heads, strict=True)
    ]


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return changed requests, and changed images with the form that they are sent in."""
    images = mutated([each for each in fuzz_images.samples() if len(each.content) < MAX_BYTES // 2])
    return st.one_of(st.tuples(st.just("request"), mutated(samples())), st.tuples(st.sampled_from(KINDS), images))


def check(case: tuple[str, Any]) -> None:
    """Send what a case says; the service answers without failing, and holds nothing afterwards."""
    server, state = service()
    kind, file = case
    if kind == "request":
        status = server.send(file.content, seconds=3.0).status
    else:
        text = json.dumps({"images": [base64.b64encode(file.content).decode()]}).encode()
        body = {KINDS[0]: file.content, KINDS[1]: text, KINDS[2]: _form(file.content)}[kind]
        status = server.request("/v1/detect", "POST", body, content_type=kind).status
        assert status, "the request is not answered"
    assert status < 500, f"the service answers {status}"
    assert server.request("/healthz").status == 200
    end = time.monotonic() + 10
    while state.in_work or state.room.used:  # of a client that has gone
        assert time.monotonic() < end, (state.in_work, state.room.used)
        time.sleep(0.01)
