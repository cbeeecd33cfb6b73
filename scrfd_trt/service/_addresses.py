"""Which addresses the service fetches images from: listed hosts, and never an address of an internal network."""

from __future__ import annotations

import fnmatch
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import SplitResult

from scrfd_trt.errors import ImageError

SHARED_PREFIXES = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 networks whose addresses lead to IPv4 addresses: NAT64, 6to4, Teredo."""


class NotAllowedError(ImageError):
    """The address must not be fetched."""


def is_public(text: str) -> bool:
    """Return whether an IP address is one of the public Internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if any(address in network for network in SHARED_PREFIXES):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def resolve(parts: SplitResult, hosts: Collection[str]) -> str:
    """Return the IP address to connect to; raise NotAllowedError if the host is not listed, or has internal ones."""
    name = (parts.hostname or "").removesuffix(".")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    if not port or "@" in parts.netloc:
        raise NotAllowedError("an address must begin with https:// or http://, without a user's name")
    usual = port in {443, 80}
    if not any(fnmatch.fnmatchcase(name if usual else f"{name}:{port}", host.lower()) for host in hosts):
        raise NotAllowedError("addresses of this host are not allowed")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ImageError("the host of the address is not known") from error
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(is_public, addresses)):  # names with both are made for attacks
        raise NotAllowedError("addresses of this host are not allowed")
    return addresses[0]
