"""Who may send requests: the program's own page only. Independent of the web framework.

Browsers send requests on behalf of every page that is open. Those of other pages name another address in the Origin
header. A foreign host name that resolves to this machine (DNS rebinding) is in both headers, so the Host header must
name an address of the studio. A studio that listens on all addresses of the machine cannot list their names. There,
only browsers that opened the printed address with its token get a cookie, and all requests without it are refused.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

COOKIE = "scrfd-trt-studio"
AUTHORITY = re.compile(r"(?P<name>\[[0-9a-z:.%]+\]|[^\s\[\]:/@?#,]+)(:(?P<port>\d{1,5}))?", re.ASCII)
WELCOME = b'<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>scrfd-trt</title>'
"""The cookie of a request that follows a redirect would be left out if another page has the link."""


class Answer(NamedTuple):
    """An answer that replaces the studio's."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"text/plain; charset=utf-8"),)


class Access:
    """Decides on requests by their headers, from the host that was asked for and the addresses listened on.

    ``token`` requires a token also where the addresses do not.
    """

    def __init__(self, host: str, addresses: Iterable[str], port: int, *, token: bool = False) -> None:
        listening = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
        self.port = port
        self.names = {_plain(f"[{each}]" if each.version == 6 else str(each)) for each in listening}
        self.names.add(_plain(f"[{host}]" if ":" in host else host))
        if self.names & {"127.0.0.1", "[::1]"}:
            self.names.add("localhost")
        self._takes_all_hosts = any(each.is_unspecified for each in listening)
        self.needs_token = token or self._takes_all_hosts
        self.token, self._cookie = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._once: set[str] = set()

    def query(self, *, once: bool = False) -> str:
        """Return what follows the address, empty where no token is needed; with ``once``, a token for one use."""
        if not self.needs_token:
            return ""
        if not once:
            return f"?token={self.token}"
        ticket = secrets.token_urlsafe(24)
        self._once.add(ticket)
        return f"?token={ticket}"

    def answer(self, scope: Mapping[str, Any]) -> Answer | None:
        """Return the answer to a request or WebSocket connection that the studio must not see; None for all others."""
        headers: dict[bytes, list[bytes]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.lower(), []).append(value)
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        host = _authority(hosts[0]) if len(hosts) == 1 else None
        if host is None or len(origins) > 1:
            return Answer(400, b"the request must name one host and at most one origin")
        if not self._takes_all_hosts and host[0] not in self.names:
            return Answer(403, b"the page has another address; open the one that was printed")
        if _is_foreign(scope, headers, host):
            return Answer(403, b"the request comes from a page of another address")
        return self._check_token(scope, headers) if self.needs_token else None

    def _check_token(self, scope: Mapping[str, Any], headers: Mapping[bytes, list[bytes]]) -> Answer | None:
        if scope["type"] == "http" and scope["path"] == "/" and self._has_token(scope["query_string"]):
            cookie = f"{COOKIE}-{self.port}={self._cookie}; Path=/; HttpOnly; SameSite=Strict".encode()
            kept = (b"content-type", b"text/html; charset=utf-8"), (b"referrer-policy", b"no-referrer")
            return Answer(200, WELCOME, (*kept, (b"set-cookie", cookie)))
        for pair in b";".join(headers.get(b"cookie", [])).split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == f"{COOKIE}-{self.port}".encode() and hmac.compare_digest(value, self._cookie.encode()):
                return None
        return Answer(401, b"open the address that was printed, with its token")

    def _has_token(self, query: bytes) -> bool:
        try:
            given = parse_qs(query.decode(), max_num_fields=8).get("token", [])
        except ValueError:
            return False
        if len(given) != 1:
            return False
        matching = [each for each in (self.token, *self._once) if hmac.compare_digest(given[0].encode(), each.encode())]
        self._once.difference_update(matching)
        return bool(matching)


def _is_foreign(scope: Mapping[str, Any], headers: Mapping[bytes, list[bytes]], host: tuple[str, int | None]) -> bool:
    """Return whether a page of another address sends the request, a link to the studio excepted."""
    origin = headers.get(b"origin", [b""])[0]
    if origin:
        scheme, _, authority = origin.lower().partition(b"://")
        if scheme not in (b"http", b"https") or _authority(authority, 443 if scheme == b"https" else 80) != host:
            return True
    elif scope["type"] == "websocket":  # browsers name the origin of each
        return True
    if not set(headers.get(b"sec-fetch-site", [])) & {b"cross-site", b"same-site"}:
        return False
    return headers.get(b"sec-fetch-dest") != [b"document"] or scope.get("method") != "GET"


def _authority(text: bytes, default_port: int = 80) -> tuple[str, int | None] | None:
    """Return name and port, None for the default port; None for what is neither."""
    match = AUTHORITY.fullmatch(text.decode("latin-1").lower())
    if match is None:
        return None
    port = None if match["port"] in (None, str(default_port)) else int(match["port"])
    return _plain(match["name"]), port


def _plain(name: str) -> str:
    """Return a host name or address in the one form that is compared."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return name
    return f"[{address}]" if address.version == 6 else str(address)
