"""Studios on 127.0.0.1, 127.0.0.2 and 0.0.0.0: who may open them, and what broken requests get."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("wsproto")
if not hasattr(os, "fork"):
    pytest.skip("the studios are forked", allow_module_level=True)

sys.path.append(str(Path(__file__).parent))
from client import Page, Server

from scrfd_trt._cli.commands.studio import _own_addresses

pytestmark = pytest.mark.slow


def can_listen(host: str) -> bool:
    try:
        socket.create_server((host, 0)).close()
    except OSError:  # macOS knows 127.0.0.1 only
        return False
    return True


HOSTS = [host for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0") if can_listen(host)]
LINE = re.compile(r"studio: http://([\d.]+):(\d+)/(?:\?token=(\S+))? ")
PICTURE = cv2.imencode(".png", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studios")


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[dict[str, Server]]:
    """The studios by host; in the end, each must have printed its addresses and nothing else, and left no file."""
    (folder / "tmp").mkdir()
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), str(folder), *HOSTS]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    variables |= {"TMPDIR": str(folder / "tmp"), "NO_COLOR": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=variables, cwd=folder / "tmp") as process:
        yield {host: _wait(folder / f"{host}.log", process) for host in HOSTS}
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(120) == 0
    for host in HOSTS:
        lines = (folder / f"{host}.log").read_text().splitlines()
        assert LINE.match(lines[0])
        own = [socket.gethostname(), *_own_addresses(host)] if host == "0.0.0.0" else []
        assert [line.split("/?")[0].rpartition(":")[0] for line in lines[1:]] == [
            f"from other machines: http://{name}" for name in own
        ]
    assert not list((folder / "tmp").iterdir())


def _wait(log: Path, process: subprocess.Popen[bytes]) -> Server:
    for _ in range(600):
        if log.exists() and (found := LINE.search(log.read_text())):
            server = Server(found[1], int(found[2]), found[3] or "")
            with suppress(OSError):
                if server.request("/").status:
                    return server
        assert process.poll() is None, "the studios have ended"
        time.sleep(0.05)
    raise AssertionError("no studio has started")


@pytest.fixture(scope="module")
def server(servers: dict[str, Server]) -> Server:
    return servers["127.0.0.1"]


@pytest.fixture(scope="module")
def cookie(servers: dict[str, Server]) -> str:
    """The cookie of a browser that opened the printed address of 0.0.0.0."""
    server = servers["0.0.0.0"]
    welcome = server.request(f"/?token={server.token}")
    assert (welcome.status, welcome.headers["cache-control"]) == (200, "no-store")
    return welcome.headers["set-cookie"].partition(";")[0]


@pytest.fixture
def page(server: Server) -> Page:
    return Page(server)


PATHS = ("/", "/static/app.js", "/download/x", "/api/items", "/api/events?session=x", "/api/items/1/picture", "/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_foreign_pages_are_refused(servers: dict[str, Server], host: str) -> None:
    if host not in servers:
        pytest.skip("this machine has no such address")
    server = servers[host]
    assert server.request().status == 200
    assert server.request(origin=f"http://{server.name}").status == 200
    for path in PATHS:
        assert server.request(path, host="evil.example").status == 403
        assert server.request(path, host=f"evil.example:{server.port}").status == 403
        assert server.request(path, origin="http://evil.example").status == 403
        assert server.request(path, origin=f"http://127.0.0.1:{server.port + 1}").status == 403
    evil = f"http://evil.example:{server.port}"
    assert server.connect_websocket(origin=evil) == 403
    assert server.connect_websocket(origin=evil, host=evil[7:]) == 403, "as after DNS rebinding"
    assert server.connect_websocket(origin="") == 403
    opened = server.connect_websocket(f"/api/live?session={Page(server).session}")
    assert isinstance(opened, socket.socket)
    opened.close()


def test_wildcard_needs_token(servers: dict[str, Server], cookie: str) -> None:
    server = servers["0.0.0.0"]
    for path in PATHS:
        assert server.request(path).status == 401
        assert server.request(path, cookie=f"{cookie}x").status == 401
        assert server.request(path, "POST", b"").status == 401
    assert server.connect_websocket() == 403
    opened = server.connect_websocket(f"/api/live?session={Page(server, cookie).session}", cookie=cookie)
    assert isinstance(opened, socket.socket)
    opened.close()
    assert server.request(cookie=cookie, host=f"any.example:{server.port}").status == 200
    assert Page(server, cookie).add("a.png", PICTURE)["state"] == "ready"


def test_token_is_in_no_page(servers: dict[str, Server], cookie: str) -> None:
    server = servers["0.0.0.0"]
    for answer in (server.request(f"/?token={server.token}"), server.request(cookie=cookie)):
        assert answer.status == 200
        assert server.token.encode() not in answer.body


def test_answers_forbid_frames_and_caches(server: Server) -> None:
    for path in PATHS:
        headers = server.request(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control-")]
    assert "server" not in server.request().headers


def chunked(size: int) -> bytes:
    return b"%x\r\n" % size + bytes(size) + b"\r\n"


def test_pages_load_scripts_and_styles_of_their_own_only(server: Server) -> None:
    answer = server.request("/")
    policy = dict(each.strip().partition(" ")[::2] for each in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert not {"script-src", "style-src", "connect-src"} & policy.keys()
    assert b"<style" not in answer.body
    assert not re.search(rb"<script(?![^>]* src=)| style=| on[a-z]+=", answer.body)
    assert not re.search(rb"(src|href)=[\"'](?!/static/|#)", answer.body)


def test_bodies_beyond_the_limit(server: Server) -> None:
    path, length = "/api/items", str(10**30)
    assert server.request(path, "POST", b"", content_length=str(2**21)).status == 413
    assert server.request(path, "POST", b"", content_length=length).status in (400, 413)
    assert server.request(path, "POST", b"", content_length="-1").status == 400
    assert server.request(path, "POST", b"", content_length="5, 6").status == 400
    head = f"POST {path} HTTP/1.1\r\nhost: {server.name}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    assert server.send(head + chunked(2**20) * 2, end=False).status == 404, "an upload of no page is not read"


def test_chunked_upload_beyond_the_limit(page: Page) -> None:
    form = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    head = f"POST /api/items HTTP/1.1\r\nhost: {page.server.name}\r\ntransfer-encoding: chunked\r\n"
    head += f"x-session: {page.session}\r\ncontent-type: multipart/form-data; boundary=xx\r\n\r\n"
    data = head.encode() + b"%x\r\n" % len(form) + form + b"\r\n" + chunked(2**18) * 5
    assert page.server.send(data, end=False).status == 413
    assert page.call("PUT", "settings", {"x": "x" * (1 << 20)}).status == 413


def png_header(side: int) -> bytes:
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", zlib.crc32(header[4:]))


def gif_of_many_large_frames() -> bytes:
    frame = b",\0\0\0\0" + struct.pack("<HH", 7000, 7000) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", 7000, 7000) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * 47 + b";"


UPLOADS = {
    "idat.png": (png_header(100) + b"\xff\xff\xff\xffIDAT\0", "cut off after 42 bytes: copy or download it again"),
    "frames.gif": (gif_of_many_large_frames(), "too long"),
    "wide.png": (png_header(30000) + PICTURE[33:], "30000×30000"),
    "upload.mp4": (b"ffconcat version 1.0\nfile secret.mp4\n", "cannot be opened as a clip"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "cannot be opened as a clip"),
    "../../etc/passwd.png": (b"words", "not a supported"),
    "empty.png": (b"", "empty"),
    "empty.mp4": (b"", "cannot be opened as a clip"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_uploads_that_ask_for_too_much(page: Page, folder: Path) -> None:
    status = Path(f"/proc/{(folder / '127.0.0.1.pid').read_text()}/status")

    def peak() -> int:
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) >> 10

    before = peak()
    for name, (content, reason) in UPLOADS.items():
        answer = page.upload(name, content)
        told = json.loads(answer.body)["error"]
        assert answer.status == 422
        assert told.startswith(Path(name).name), told
        assert reason in told, told
        assert "/" not in told.replace("http://", ""), told
    assert peak() - before < 300, "MiB"
    assert page.add("a.png", PICTURE)["width"] == 60
    assert len(page.get("items")) == 1


FORM = "multipart/form-data; boundary=xx"
PART = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nwords\r\n'
FORMS_WITHOUT_ONE_FILE = [
    ("", b""),
    ("text/plain", b"words"),
    ("application/json", b"{}"),
    (FORM, b""),
    (FORM, b"--xx\r\n\r\n"),
    (FORM, PART + PART.replace(b'"file"', b'"other"') + b"--xx--\r\n"),
    (FORM, b"garbage"),
    (FORM, b'--xx\r\nContent-Disposition: form-data; name="file"\r\n\r\nwords\r\n--xx--\r\n'),
    (FORM, b'--xx\r\nContent-Disposition: form-data; filename="a.png"\r\n\r\nwords\r\n--xx--\r\n'),
    (FORM, b"--xx\r\nContent-Disposition: \xff\xfe\r\n\r\n\r\n--xx--\r\n"),
    ("multipart/form-data", b"--xx--"),
    ("application/x-www-form-urlencoded", b"file=a.png"),
]


def test_forms_without_one_file(page: Page) -> None:
    for path in ("/api/items", "/api/stickers"):
        for kind, body in FORMS_WITHOUT_ONE_FILE:
            answer = page.server.request(path, "POST", body, content_type=kind, **page.headers)
            assert answer.status == 400, (kind, body)
    assert page.get("items") == []


def test_unknown_paths_and_methods(server: Server, folder: Path) -> None:
    (folder / "secret.txt").write_text("secret")
    above = "../" * 30 + str(folder).lstrip("/") + "/secret.txt"
    for path in (f"/{above}", f"/static/{above}", f"/static/x/{above}", "/static/../server.py"):
        for tried in (path, path.replace("../", "%2e%2e/"), path.replace("../", "..%2f"), path.replace("../", "..\\")):
            answer = server.request(tried)
            assert answer.status in (400, 403, 404), tried
            assert b"secret" not in answer.body
    for path in ("/download/x", "/download/", "/api/items/1/faces", "/docs", "/openapi.json", "/%00", "/x" * 9000):
        assert server.request(path).status in (404, 405), path
    assert server.request("/api/items", "POST", b"").status == 404
    assert server.request("/", "DELETE").status == 405


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nbroken\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
def test_broken_requests(server: Server, data: bytes) -> None:
    assert server.send(data).status in (0, 400, 403)
    assert server.request().status == 200


def frame(opcode: int, payload: bytes, *, mask: bytes = b"abcd", first: int = 0x80) -> bytes:
    """A WebSocket frame of a client."""
    size = struct.pack(">BBH", first | opcode, 0x80 | 126, len(payload))
    return size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x81\x05words",  # not masked
        frame(1, b"\xff\xfe"),  # not UTF-8
        frame(3, b"reserved"),
        frame(9, b"x" * 200),  # a control frame that is too long
        frame(0, b"continues nothing"),
        frame(8, b"\x00"),
        struct.pack(">BBQ", 0x82, 0x80 | 127, 1 << 62) + b"abcd" + bytes(64),
        frame(1, b"garbage"),
        frame(1, b"{}"),
        frame(1, b"[]"),
        frame(1, b'{"settings": 5}'),
        frame(1, b"4" * 5000),
        frame(2, b"\x00" * 500),
    ],
)
def test_broken_frames(page: Page, server: Server, data: bytes) -> None:
    connection = server.connect_websocket(f"/api/live?session={page.session}")
    assert isinstance(connection, socket.socket)
    with connection:
        connection.sendall(data)
        connection.settimeout(0.1)
        with suppress(OSError):
            while connection.recv(4096):
                pass
    assert server.request().status == 200


GARBAGE: list[Any] = [None, 5, "x", [], {}, {"op": 1}, {"items": 5}, {"settings": []}, {"reviewed": "x"}]


def test_garbage_for_all_routes(page: Page) -> None:
    item = f"items/{page.add('a.png', PICTURE)['id']}"
    routes = [("PUT", "settings"), ("POST", "options/check"), ("POST", "exports"), ("POST", f"{item}/edits")]
    for method, path in [*routes, ("PATCH", item)]:
        for value in GARBAGE:
            answer = page.call(method, path, value)
            assert 400 <= answer.status < 500, (path, value, answer)
            assert json.loads(answer.body)["error"].count("\n") == 0
        broken = page.server.request(f"/api/{path}", method, b"{" * 5000, **page.headers)
        assert broken.status == 400
    for query in ("side=x", "side=-1", "box=1,2,3", "box=nan,1,2,3", "box=9999,9999,99999,99999", "t=-1", "t=x"):
        assert page.call("GET", f"{item}/picture?{query}").status in (400, 422), query
    assert page.call("GET", f"{item}/timeline").status == 404, "of a photograph"
    assert page.get(f"{item}/faces")["faces"] == []


def test_pages_are_apart_from_each_other(page: Page, server: Server) -> None:
    other = Page(server)
    key = page.add("a.png", PICTURE)["id"]
    assert other.get("items") == []
    for path in ("picture", "thumbnail", "faces", "code", "faces_file"):
        assert page.call("GET", f"items/{key}/{path}").status == 200, path
        assert other.call("GET", f"items/{key}/{path}").status == 404, path
    job = json.loads(page.call("POST", "exports", {"items": "all"}).body)["job"]
    assert other.call("DELETE", f"exports/{job}").status == 204, "which does nothing"
    assert other.call("POST", "exports", {"items": [key]}).status == 404
    assert finished(page, job)["state"] == "done"


class Events:
    """The events of a page."""

    def __init__(self, page: Page) -> None:
        self.connection = socket.create_connection((page.server.host, page.server.port), timeout=30)
        path = f"/api/events?session={page.session}"
        lines = [f"GET {path} HTTP/1.1", f"host: {page.server.name}", f"cookie: {page.headers['cookie']}"]
        self.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.file = self.connection.makefile("rb")

    def next(self, name: str) -> Any:
        """Return the next event with a name."""
        for line in self.file:
            if line.strip() == f"event: {name}".encode():
                return json.loads(self.file.readline().partition(b": ")[2])
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.file.close()
        self.connection.close()


def finished(page: Page, job: str) -> Any:
    """Return a job once it has ended."""
    events = Events(page)
    state = {"id": "", "state": "running"}
    while state["id"] != job or state["state"] == "running":
        state = events.next("job")
    events.close()
    return state


def test_download_is_given_once_and_to_those_who_know_its_key(page: Page) -> None:
    page.add("a.png", PICTURE)
    job = finished(page, json.loads(page.call("POST", "exports", {"items": "all"}).body)["job"])
    path = job["download"]
    assert re.fullmatch(r"/download/[\w-]{32}", path)
    assert page.server.request(f"{path}x").status == 404
    page.server.request(path, "HEAD")  # fetches nothing
    answer = page.server.request(path)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert "a_anonymized.png" in answer.headers["content-disposition"]
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)
    assert page.server.request(path).status == 404


def test_events_tell_what_changes_and_end_with_the_page(page: Page) -> None:
    events = Events(page)
    key = page.add("a.png", PICTURE)["id"]
    while (state := events.next("item"))["state"] != "ready":
        assert state["id"] == key
    page.call("PATCH", f"items/{key}", {"reviewed": True})
    while not events.next("item")["reviewed"]:
        pass
    again = Events(page)
    assert again.next("item")["reviewed"], "a new stream begins with all files"
    assert page.server.request(f"/api/session/end?session={page.session}", "POST", b"").status == 204
    assert events.next("bye") == {}
    assert page.call("GET", "items").status == 404
    events.close()
    again.close()
