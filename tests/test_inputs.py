"""What callers hand in for an image: files, their content, addresses, and objects of other libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from scrfd_trt._inputs import download
from scrfd_trt.errors import ImageError

pytestmark = pytest.mark.slow  # nothing here depends on the version of Python

FILES = {"/a.jpg": b"content", "/long": b"x" * 300_000}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        goal = {"/there": "/a.jpg", "/loop": "/loop", "/away": "ftp://127.0.0.1/a.jpg", "/bad": "http://["}
        body = FILES.get(self.path, b"")
        self.send_response(302 if self.path in goal else 200 if self.path in (*FILES, "/cut") else 404)
        self.send_header("Location", goal.get(self.path, ""))
        if self.path != "/long":
            self.send_header("Content-Length", str(len(body) + 5 * (self.path == "/cut")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pytest.importorskip("requests")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(site: str) -> None:
    assert download(f"{site}/a.jpg") == download(f"{site.upper()}/there") == b"content"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none?key=secret", "/none: the server answers 404 Not Found: check the address"),
        ("/loop", "/loop: the image cannot be downloaded (more than 5 redirects)"),
        ("/away", "/away: the image cannot be downloaded (no connection adapters were found for 'ftp:"),
        ("/bad", "/bad: the image cannot be downloaded ("),
        ("/cut", "/cut: the "),
        ("/long", "/long: the file has more than 0 MB: make the image smaller"),
    ],
)
def test_failed_downloads_name_address_and_reason(site: str, path: str, message: str) -> None:
    with pytest.raises(ImageError, match=re.escape(site + message)) as caught:
        download(site + path, max_bytes=200_000)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_download_that_takes_too_long(site: str) -> None:
    with pytest.raises(ImageError, match="takes longer than 0 seconds"):
        download(f"{site}/a.jpg", max_seconds=0.0)


@pytest.mark.parametrize("address", ["ftp://host/a.jpg", "http://[", "http://user:secret@127.0.0.1:1/" + "a" * 9000])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ImageError) as caught:
        download(address)
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)
