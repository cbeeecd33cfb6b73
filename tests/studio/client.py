"""A browser's side of the studio: HTTP over sockets, and the Socket.IO messages of a page."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
import uuid
from typing import Any, NamedTuple

SOCKET = "/_nicegui_ws/socket.io/?EIO=4"


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

    def connect_websocket(self, path: str = f"{SOCKET}&transport=websocket", **headers: str) -> socket.socket | int:
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
    """An open page, over HTTP polling."""

    def __init__(self, server: Server, cookie: str = "") -> None:
        self.server, self.headers = server, {"cookie": cookie}
        html = server.request("/", **self.headers).body.decode()
        found = re.search(r"'client_id': '([0-9a-f-]+)'", html)
        assert found, html[:2000]
        self.client_id = found[1]
        opened = self._poll("")
        self.address = f"&sid={json.loads(opened[0][1:])['sid']}"
        self.elements: dict[str, Any] = {}
        self.messages: list[list[Any]] = []
        self.post("40")
        shake = {"client_id": self.client_id, "tab_id": str(uuid.uuid4()), "old_tab_id": None}
        self.emit("handshake", shake | {"document_id": str(uuid.uuid4()), "next_message_id": 0})

    def _poll(self, address: str) -> list[str]:
        answer = self.server.request(f"{SOCKET}&transport=polling{address}&client_id={self.client_id}", **self.headers)
        assert answer.status == 200, answer
        return answer.body.decode().split("\x1e")

    def post(self, text: str) -> Answer:
        """Send an Engine.IO packet."""
        path = f"{SOCKET}&transport=polling{self.address}"
        origin = {"origin": f"http://{self.server.name}"}
        return self.server.request(path, "POST", text.encode(), **self.headers, **origin)

    def emit(self, name: str, *values: Any) -> Answer:
        """Send a Socket.IO event."""
        return self.post("42" + json.dumps([name, *values]))

    def event(self, element: str, kind: str, value: Any) -> None:
        """Send an event of an element, as its control does."""
        listeners = {each["type"]: each["listener_id"] for each in self.elements[element].get("events", ())}
        message = {"id": int(element), "client_id": self.client_id, "listener_id": listeners[kind]}
        self.emit("event", message | {"args": [json.dumps(value)]})

    def wait_for(self, *texts: str, seconds: float = 60.0) -> str:
        """Read messages until one contains one of the texts; return it."""
        end, seen = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            for packet in self._poll(self.address):
                if packet == "2":
                    self.post("3")
                if packet.startswith("42"):
                    self.messages.append(json.loads(packet[2:]))
                    if self.messages[-1][0] == "update":
                        self.elements |= {key: it for key, it in self.messages[-1][1].items() if isinstance(it, dict)}
                    seen = packet
                    if any(text in packet for text in texts):
                        return packet
        raise AssertionError(f"no message contains {texts}; the last was {seen[:500]}")

    def find(self, tag: str, number: int = 0) -> str:
        """Return the key of an element with a tag."""
        return [key for key, element in self.elements.items() if element.get("tag") == tag][number]

    def upload(self, name: str, content: bytes, number: int = 0) -> Answer:
        """Upload a file as the page does."""
        url = [element["props"]["url"] for element in self.elements.values() if "url" in element.get("props", {})][
            number
        ]
        head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        return self.server.request(
            url,
            "POST",
            head + content + b"\r\n--xx--\r\n",
            content_type="multipart/form-data; boundary=xx",
            origin=f"http://{self.server.name}",
            **self.headers,
        )
