"""The limits of request bodies, and the headers of all answers, around a small application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("starlette")

from scrfd_trt._web import guard
from scrfd_trt._web.access import Access
from scrfd_trt._web.guard import Guard

Application = Callable[..., Awaitable[None]]
LIMIT = 1000


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and answer with its length."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has gone")
        size, more = size + len(message["body"]), message.get("more_body", False)
    headers = [(b"access-control-allow-origin", b"*"), (b"cache-control", b"public"), (b"x-frame-options", b"ALLOW")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(size).encode()})


class Client:
    """Sends requests to a guarded application in this process."""

    def __init__(self, app: Application = echo, grace: float = guard.GRACE_SECONDS) -> None:
        access = Access("127.0.0.1", ["127.0.0.1"], 80)
        self.guard = Guard(app, access, LIMIT, cacheable=("/static/",))
        self.guard.grace = grace

    async def send(
        self, *parts: bytes, pause: float = 0.0, path: str = "/", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send a request in parts, and return status, headers and body."""
        named = {"host": "127.0.0.1"} | (headers or {})
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        messages = messages or [{"type": "http.request", "body": b""}]
        messages[-1]["more_body"] = False
        answer: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(pause)
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answer.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
        scope["headers"] = [(key.encode(), value.encode()) for key, value in named.items()]
        await self.guard(scope, receive, send)
        assert [message["type"] for message in answer] == ["http.response.start", "http.response.body"]
        return answer[0]["status"], dict(answer[0]["headers"]), answer[1]["body"]


def test_body_within_limit_arrives() -> None:
    assert asyncio.run(Client().send(b"a" * 400, b"b" * 600))[::2] == (200, b"1000")


def test_body_beyond_limit_is_refused_while_it_arrives() -> None:
    status, headers, body = asyncio.run(Client().send(*[b"a" * 400] * 3))
    assert (status, body) == (413, b"the file is too large")
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("length", "status"),
    [("1000", 200), ("1001", 413), ("9" * 400, 413), ("-1", 400), ("1e3", 400), ("", 400), ("+1", 400), ("0x1", 400)],
)
def test_declared_length(length: str, status: int) -> None:
    assert asyncio.run(Client().send(headers={"content-length": length}))[0] == status


def test_two_lengths_are_refused() -> None:
    assert asyncio.run(Client().send(headers={"content-length": "5", "Content-Length": "6"}))[0] == 400


def test_slow_body_is_given_up() -> None:
    client = Client(grace=0.1)
    assert asyncio.run(client.send(b"a", b"b", b"c", pause=0.04))[0] == 408
    assert client.guard.held == [0]
    assert asyncio.run(client.send(b"a", b"b", pause=0.02))[0] == 200


def test_time_after_the_body_is_not_limited() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(0.1)
        await receive()
        await echo(scope, lambda: asyncio.sleep(0, {"type": "http.request", "body": b""}), send)

    assert asyncio.run(Client(slow, grace=0.05).send(b"a"))[0] == 200


def test_all_bodies_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODIES_AT_ONCE", 2)
    client = Client()

    async def several() -> list[int]:
        sent = [client.send(b"a" * 800, b"b" * 100, pause=0.02) for _ in range(3)]
        return [answer[0] for answer in await asyncio.gather(*sent)]

    assert sorted(asyncio.run(several())) == [200, 200, 503]
    assert client.guard.held == [0]
    assert asyncio.run(client.send(b"a" * 900))[0] == 200


def test_failure_of_the_application_is_answered() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    assert asyncio.run(Client(failing).send())[::2] == (500, b"the request failed")


def test_headers_of_all_answers() -> None:
    good, bad = asyncio.run(Client().send()), asyncio.run(Client().send(headers={"host": "evil.example"}))
    assert (good[0], bad[0]) == (200, 403)
    for _, headers, _ in (good, bad):
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"x-frame-options"] == b"DENY"
        assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
        assert headers[b"cross-origin-resource-policy"] == b"same-origin"
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"referrer-policy"] == b"same-origin"
        assert not any(key.startswith(b"access-control-") for key in headers)
    assert asyncio.run(Client().send(path="/static/x.js"))[1][b"cache-control"] == b"public"
