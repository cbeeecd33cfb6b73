"""Addresses that requests name: only listed hosts, never internal ones, and one resolution of their names."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from scrfd_trt import _inputs
from scrfd_trt.errors import ImageError
from scrfd_trt.service import _addresses
from scrfd_trt.service._addresses import NotAllowedError, is_public, resolve


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *("fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("2001:db8::1", "::127.0.0.1", "2001:0:7f00:1::"),
    ],
)
def test_internal_addresses(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")))


@pytest.fixture
def names(monkeypatch) -> dict[str, list[str]]:
    """Addresses by name, in the place of the resolver, and how often each was asked for."""
    known: dict[str, list[str]] = {"a.example.com": ["8.8.8.8"], "mixed.example.com": ["8.8.8.8", "10.0.0.1"]}

    resolver = socket.getaddrinfo

    def getaddrinfo(name: str, port: int, *args: object, **options: object) -> list[Any]:
        """Know names once; addresses are connected to."""
        if name[-1:].isdigit():
            return resolver(name, port, *args, **options)
        if name not in known:
            raise socket.gaierror
        return [(0, 0, 0, "", (each, port)) for each in known[name]]

    monkeypatch.setattr(_addresses.socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://a.example.com/x", True),
        ("https://A.Example.com./x", True),
        ("http://a.example.com:80/x", True),
        ("https://a.example.com:8443/x", False),
        ("https://mixed.example.com/x", False),
        ("https://b.example.com/x", False),
        ("https://example.com.evil.org/", False),
        ("https://evil.org/?a.example.com", False),
        ("https://a.example.com@evil.org/", False),
        ("https://user:word@a.example.com/", False),
        ("ftp://a.example.com/x", False),
        ("file:///etc/passwd", False),
        ("https://127.0.0.1/", False),
        ("https:///x", False),
    ],
)
def test_listed_hosts(names, address: str, allowed: bool) -> None:
    hosts = ("*.example.com",)
    if allowed:
        assert resolve(urlsplit(address), hosts) == "8.8.8.8"
    else:
        with pytest.raises(ImageError):
            resolve(urlsplit(address), hosts)
    assert resolve(urlsplit("https://a.example.com:8443/"), ("a.example.com:8443",)) == "8.8.8.8"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the Host header, or redirects."""

    def do_GET(self) -> None:
        moved = {"/inside": "http://127.0.0.1/", "/again": "/here", "/file": "file:///etc/passwd"}.get(self.path)
        body = self.headers["host"].encode()
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("location", moved)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(names, monkeypatch) -> Iterator[int]:
    """A server on this machine, whose name has a public address for the service; return its port."""
    pytest.importorskip("requests")
    names["a.example.com"] = ["127.0.0.2"]
    monkeypatch.setattr(_addresses, "is_public", lambda address: address == "127.0.0.2" or is_public(address))
    try:
        running = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Handler)
    except OSError:
        pytest.skip("this system has one loopback address")
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running.server_port
    running.shutdown()
    running.server_close()


def test_connects_to_the_resolved_address_and_checks_redirects(server, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    hosts = (f"a.example.com:{server}", "127.0.0.1")
    get = partial(_inputs.download, max_seconds=60.0, resolve=partial(resolve, hosts=hosts))
    assert get(f"http://a.example.com:{server}/again") == f"a.example.com:{server}".encode()
    for path in ("inside", "file"):
        with pytest.raises(NotAllowedError):
            get(f"http://a.example.com:{server}/{path}")


def test_certificate_is_that_of_the_name(server, monkeypatch) -> None:
    """The name, not the address, is sent for the certificate (SNI)."""
    asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: asked.append(name) or ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    listener = socket.create_server(("127.0.0.2", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    address = f"a.example.com:{listener.getsockname()[1]}"
    with pytest.raises(ImageError, match="cannot be downloaded"):
        _inputs.download(f"https://{address}/", max_seconds=60.0, resolve=partial(resolve, hosts=(address,)))
    listener.close()
    assert asked == ["a.example.com"]
