"""A browser's side of the studio: HTTP over sockets, and the requests of a page."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An answer of the server; status 0 if it only closed the connection."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server(NamedTuple):
    """Where a studio listens."""

    host: str
    port: int
    token: str = ""

    @property
    def name(self) -> str:
        """The Host header that the server's own page sends."""
        return f"{self.host}:{self.port}"

    def send(self, data: bytes, *, end: bool = True, seconds: float = 5.0) -> Answer:
        """Send bytes and return the answer; ``end`` says that nothing follows."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            try:
                connection.sendall(data)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was read
            return _read_answer(connection)

    def request(self, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; underscores in names of headers are hyphens, and an empty value leaves a header out."""
        named = {"host": self.name, "connection": "close"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None:
            named = {"content-length": str(len(body))} | named
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in named.items() if value)]
        return self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""), end=False)

    def connect_websocket(self, path: str = "/api/live?session=x", **headers: str) -> socket.socket | int:
        """Open a WebSocket; return its connection, or the status of the refusal."""
        named = {"host": self.name, "origin": f"http://{self.name}"} | headers
        named |= {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
        named["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in named.items() if value)]
        connection = socket.create_connection((self.host, self.port), timeout=30)
        connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head and (part := connection.recv(1)):
            head += part
        status = int(head.split()[1]) if head else 0
        if status == 101:
            return connection
        connection.close()
        return status


def _read_answer(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        headers = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    except (OSError, http.client.HTTPException):
        return Answer(0, {}, b"")


class Page:
    """An open page: a session and its requests."""

    def __init__(self, server: Server, cookie: str = "") -> None:
        self.server, self.headers = server, {"cookie": cookie, "origin": f"http://{server.name}"}
        answer = server.request("/api/session", "POST", b"", **self.headers)
        assert answer.status == 201, answer
        self.opened: dict[str, Any] = json.loads(answer.body)
        self.headers["x_session"] = self.session = self.opened["session"]

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request of the page, with a JSON body if there is one."""
        data = None if body is None else json.dumps(body).encode()
        return self.server.request(f"/api/{path}", method, data, content_type="application/json", **self.headers)

    def get(self, path: str) -> Any:
        """Return the JSON of an answer."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def upload(self, name: str, content: bytes, path: str = "items") -> Answer:
        """Upload a file as the page does."""
        head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        return self.server.request(
            f"/api/{path}",
            "POST",
            head + content + b"\r\n--xx--\r\n",
            content_type="multipart/form-data; boundary=xx",
            **self.headers,
        )

    def wait(self, item: str, seconds: float = 60.0) -> dict[str, Any]:
        """Return an item once its search has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found: dict[str, Any] = next(each for each in self.get("items") if each["id"] == item)
            if found["state"] in ("ready", "failed"):
                return found
            time.sleep(0.02)
        raise AssertionError(f"the search has not ended: {found}")

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file, and return its item once its search has ended."""
        answer = self.upload(name, content)
        assert answer.status == 201, answer
        return self.wait(json.loads(answer.body)["id"])
