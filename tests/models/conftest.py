"""A small model file, an archive that contains it, and a local server that serves it or fails to."""

from __future__ import annotations

import hashlib
import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from scrfd_trt import models

MEMBER = "det_tiny.onnx"
ARCHIVE = "tiny_pack.zip"
NETWORK = random.Random(20210510).randbytes(200_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _pack(model_bytes: bytes = NETWORK, member: str = MEMBER) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w600k_r50.onnx", b"another model" * 100)
        archive.writestr(member, model_bytes)
    return stream.getvalue()


def _model(packed: bytes, **changes: object) -> models.Model:
    """Return a model whose one archive has these bytes."""
    model = models.Model(
        name="tiny_bnkps",
        published_as="SCRFD_TINY_KPS",
        files=(MEMBER, "scrfd_tiny_bnkps.onnx"),
        exports=(models.Export(MEMBER, sha256(NETWORK), len(NETWORK), "tiny"),),
        ap=models.AveragePrecision(3.0, 2.0, 1.0),
        landmarks=True,
        gflops=0.1,
        params=0.05,
        archives=(models.Archive(ARCHIVE, MEMBER, sha256(packed), len(packed)),),
    )
    return replace(model, **changes)  # type: ignore[arg-type]  # the fields of Model


@dataclass
class Answer:
    """The server's answer to one request for a file.

    ``cut`` stops after so many bytes of the file, ``ranges`` is whether Range is understood, ``status`` takes the
    place of 200, ``length`` is whether Content-Length is sent, and ``hold`` is waited for first.
    """

    body: bytes
    cut: int | None = None
    ranges: bool = True
    status: int = 200
    kind: str = "application/zip"
    length: bool = True
    hold: Event | None = None


@dataclass
class Site:
    """The server's files, the path and Range header of each request, and the home folder."""

    address: str
    home: Path
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def serve(self, *answers: dict, name: str = ARCHIVE) -> None:
        """Set the answers to the next requests, as fields of :class:`Answer`; the last one is repeated."""
        self.answers[name] = [Answer(**answer) for answer in answers]

    def answer(self, path: str, range_header: str | None) -> Answer:
        self.requests.append((path, range_header))
        answers = self.answers.get(path.removeprefix("/"))
        if not answers:
            return Answer(b"<html>no such file</html>", status=404, kind="text/html")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def files(self) -> set[str]:
        """Return the file names in the home folder, without the lock file."""
        return {path.name for path in self.home.iterdir()} - {".lock"} if self.home.exists() else set()

    @property
    def ranges(self) -> list[str | None]:
        return [range_header for _, range_header in self.requests]


class Bar:
    """A progress bar that records its calls; it interrupts after ``stop`` bytes."""

    def __init__(self, stop: int | None = None) -> None:
        self.total: int | None = None
        self.count = 0
        self.closed = 0
        self.stop = stop

    def update(self, n: int) -> None:
        self.count += n
        if self.stop is not None and self.count >= self.stop:
            raise KeyboardInterrupt

    def reset(self) -> None:
        self.count = 0

    def close(self) -> None:
        self.closed += 1


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_header = self.headers.get("Range")
            answer = site.answer(self.path, range_header)
            if answer.hold is not None:
                answer.hold.wait(10)
            match = re.fullmatch(r"bytes=(\d+)-", range_header or "") if answer.ranges else None
            first = int(match[1]) if match else 0
            total = len(answer.body)
            if match and first >= total:
                self._head(416, answer, 0, f"bytes */{total}")
                return
            status = 206 if match and answer.status == 200 else answer.status
            self._head(status, answer, total - first, f"bytes {first}-{total - 1}/{total}" if match else None)
            with suppress(ConnectionError):  # a client may have seen enough
                self.wfile.write(answer.body[first : answer.cut])

        def _head(self, status: int, answer: Answer, length: int, content_range: str | None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", answer.kind)
            if answer.length:
                self.send_header("Content-Length", str(length))
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    return Handler


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which does not exist yet."""
    folder = tmp_path / "networks"
    monkeypatch.setenv(models.HOME_VARIABLE, str(folder))
    return folder


@pytest.fixture
def site(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server of release archives; it has no files yet."""
    site = Site("", home)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    site.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(models.MIRROR_VARIABLE, site.address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    """Content of the model file."""
    return NETWORK


@pytest.fixture(scope="session")
def packed() -> bytes:
    """The archive that contains the model file."""
    return _pack()


@pytest.fixture(scope="session")
def pack() -> Callable[..., bytes]:
    """Create an archive: ``pack(model_bytes, member)``."""
    return _pack


@pytest.fixture(scope="session")
def make_model() -> Callable[..., models.Model]:
    """Create a model whose archive has the given bytes; other fields of the model by keyword."""
    return _model


@pytest.fixture
def tiny(packed: bytes) -> models.Model:
    """The model whose archive is ``packed``."""
    return _model(packed)


@pytest.fixture(scope="session")
def make_bar() -> Callable[..., Bar]:
    """Create a progress bar that records its calls: ``make_bar(stop)``."""
    return Bar
