"""Which requests are answered, by address, Host, Origin, fetch metadata and token."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from scrfd_trt._cli.commands.studio import listen
from scrfd_trt._web.access import Access
from scrfd_trt.errors import OptionError

LOCAL = Access("127.0.0.1", ["127.0.0.1"], 8765)
SECOND = Access("127.0.0.2", ["127.0.0.2"], 8765)
NETWORK = Access("192.168.7.5", ["192.168.7.5"], 8765)
NAMED = Access("Studio.Example", ["192.168.7.5"], 8765)
BOTH = Access("localhost", ["::1", "127.0.0.1"], 8765)
SIX = Access("2001:DB8::1", ["2001:db8::1"], 8765)
LINK = Access("fe80::1%eth0", ["fe80::1%eth0"], 8765)


def status(access: Access, host: str | None = "127.0.0.1:8765", kind: str = "http", **headers: Any) -> int:
    """Return the status of a refusal, or 0."""
    named = [] if host is None else [(b"host", host.encode("latin-1"))]
    for key, value in headers.items():
        values = value if isinstance(value, list) else [value]
        named += [(key.replace("_", "-").encode(), each.encode("latin-1")) for each in values]
    scope = {"type": kind, "path": "/", "query_string": b"", "headers": named}
    answer = access.answer(scope | ({"method": "GET"} if kind == "http" else {}))
    return answer.status if answer else 0


@pytest.mark.parametrize(
    ("access", "host"),
    [
        (LOCAL, "127.0.0.1:8765"),
        (LOCAL, "LOCALHOST:8765"),
        (LOCAL, "localhost.:8765"),
        (LOCAL, "localhost:9000"),  # through a tunnel
        (LOCAL, "localhost"),
        (SECOND, "127.0.0.2:8765"),
        (NETWORK, "192.168.7.5:8765"),
        (NAMED, "studio.example:8765"),
        (NAMED, "STUDIO.example."),
        (NAMED, "192.168.7.5:8765"),
        (BOTH, "[::1]:8765"),
        (BOTH, "[0:0:0:0:0:0:0:1]:8765"),
        (BOTH, "127.0.0.1"),
        (SIX, "[2001:db8::1]:8765"),
        (SIX, "[2001:DB8:0::1]"),
        (LINK, "[fe80::1]:8765"),
    ],
)
def test_own_address_is_accepted(access: Access, host: str) -> None:
    assert status(access, host) == 0
    assert status(access, host, origin=f"http://{host}") == 0
    assert status(access, host, kind="websocket", origin=f"http://{host.upper()}") == 0


@pytest.mark.parametrize("access", [LOCAL, SECOND, NETWORK, NAMED, BOTH, SIX])
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8765", "127.0.0.3:8765", "[::2]:8765", "localhost.evil.example:8765"),
        *("127.0.0.1.evil.example", "studio.example.evil.example", "0.0.0.0:8765", "2130706433", "vm"),
    ],
)
def test_other_host_names_are_refused(access: Access, host: str) -> None:
    assert status(access, host) == 403
    assert status(access, host, origin=f"http://{host}") == 403, "as after DNS rebinding"
    assert status(access, host, kind="websocket", origin=f"http://{host}") == 403


def test_localhost_is_refused_on_other_addresses() -> None:
    assert {status(access, "localhost:8765") for access in (SECOND, NETWORK, NAMED, SIX)} == {403}


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "127.0.0.1:8765:1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:٣", "127.0.0.1:123456"),
        *("user@127.0.0.1", "127.0.0.1 evil", "[::1", "::1", "127.0.0.1/x", "127.0.0.1,evil.example", "\xe9"),
    ],
)
def test_broken_host_is_refused(host: str | None) -> None:
    assert status(LOCAL, host and host.encode().decode("latin-1")) in (400, 403)


def test_repeated_headers_are_refused() -> None:
    assert status(LOCAL, HOST=["127.0.0.1:8765"]) == 400
    assert status(LOCAL, origin=["http://127.0.0.1:8765", "http://127.0.0.1:8765"]) == 400


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:8766", "http://localhost:8765"),
        *("https://127.0.0.1:876", "file://", "127.0.0.1:8765", "ftp://127.0.0.1:8765", "http://127.0.0.1:8765/x"),
        *("http://127.0.0.1:8765@evil.example", "http://x@127.0.0.1:8765", "http://127.0.0.1:8765.evil.example"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_other_origins_are_refused(kind: str, origin: str) -> None:
    assert status(LOCAL, kind=kind, origin=origin) == 403


def test_default_port_may_be_left_out() -> None:
    assert status(NAMED, "studio.example", origin="http://studio.example:80") == 0
    assert status(NAMED, "studio.example", origin="https://studio.example") == 0
    assert status(NAMED, "studio.example", origin="https://studio.example:80") == 403


def test_websocket_needs_origin() -> None:
    assert status(LOCAL, kind="websocket") == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_may_link_to_the_studio_only(site: str) -> None:
    assert status(LOCAL, sec_fetch_site=site, sec_fetch_dest="document") == 0
    for other in ("image", "script", "iframe", "empty", "object", "embed"):
        assert status(LOCAL, sec_fetch_site=site, sec_fetch_dest=other) == 403
    assert status(LOCAL, sec_fetch_site="same-origin", sec_fetch_dest="image") == 0
    assert status(LOCAL, sec_fetch_site="none", sec_fetch_dest="document") == 0


def asked(access: Access, path: str = "/", query: str = "", kind: str = "http", **headers: str) -> Any:
    named = [(b"host", b"any.example:8765"), *((key.encode(), value.encode()) for key, value in headers.items())]
    return access.answer(
        {"type": kind, "method": "GET", "path": path, "query_string": query.encode(), "headers": named}
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_wildcards_need_token(address: str) -> None:
    access = Access(address, [address], 8765)
    assert access.query() == f"?token={access.token}"
    for query in ("", "token=", "token=x", f"token={access.token}x", f"token=x&token={access.token}", "token=%FF"):
        assert asked(access, query=query).status == 401
    assert asked(access, "/_nicegui/x", access.query()[1:]).status == 401
    assert asked(access, kind="websocket", origin="http://any.example:8765").status == 401
    welcome = asked(access, query=access.query()[1:])
    assert welcome.status == 200
    assert access.token.encode() not in welcome.body
    headers = dict(welcome.headers)
    assert headers[b"referrer-policy"] == b"no-referrer"
    cookie = headers[b"set-cookie"].decode()
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    pair = cookie.partition(";")[0]
    assert pair.startswith("scrfd-trt-studio-8765=")
    assert access.token not in pair
    for path in ("/", "/_nicegui/x", "/download/x"):
        assert asked(access, path, cookie=f"a=b; {pair}") is None
        assert asked(access, path, cookie=f"{pair}x").status == 401
        assert asked(access, path, cookie=pair.replace("8765", "8766")).status == 401
    assert asked(access, kind="websocket", origin="http://any.example:8765", cookie=pair) is None
    assert asked(access, kind="websocket", origin="http://evil.example", cookie=pair).status == 403
    assert asked(access, cookie=pair, origin="http://evil.example").status == 403


def test_tokens_are_random_and_those_for_the_browser_serve_once() -> None:
    access = Access("0.0.0.0", ["0.0.0.0"], 8765)
    assert len({access.token, Access("0.0.0.0", ["0.0.0.0"], 8765).token}) == 2
    assert len(access.token) >= 32
    ticket = access.query(once=True)
    assert ticket != access.query()
    assert [asked(access, query=ticket[1:]).status for _ in range(2)] == [200, 401]
    assert [asked(access, query=access.query()[1:]).status for _ in range(2)] == [200, 200]


def test_single_addresses_need_no_token() -> None:
    assert [access.query(once=once) for access in (LOCAL, NETWORK, SIX) for once in (False, True)] == [""] * 6


def test_addresses_that_cannot_be_listened_on() -> None:
    for host in ("192.0.2.1", "::ffff:127.0.0.1", "a..b"):
        with pytest.raises(OptionError, match=f"^this machine has no address {host}; use another --host$"):
            listen(host, 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=rf"^cannot listen on 127.0.0.1, port {port}: [\w ]+; use another --port"):
            listen("127.0.0.1", port)
