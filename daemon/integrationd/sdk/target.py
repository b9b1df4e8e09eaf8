"""The target guard: a request goes only to an address that was looked at and found allowed.

A name is resolved once, every address it has is judged, and the connection is made to one of the
addresses that were judged, never to the name, so that a second answer of the resolver changes
nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import httpx2

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
_IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Kinds: TypeAlias = tuple[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str], ...]


class TargetRefusedError(httpx2.ConnectError):
    """The host has an address that the connection may not reach; nothing left the machine."""


def _kinds(*rows: tuple[str, str]) -> _Kinds:
    return tuple((ipaddress.ip_network(network), kind) for network, kind in rows)


_REFUSED_V4 = _kinds(
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-internal"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "cloud metadata"),
    ("169.254.0.0/16", "link-local (cloud metadata)"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_REFUSED_V6 = _kinds(
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "private"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
_REACHABLE_V6 = tuple(
    ipaddress.IPv6Network(network) for network in ("2000::/3", "::ffff:0:0/96", "64:ff9b::/96")
)
_EMBEDDING_V6 = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """Resolve a host the way the system does; the answers are numeric.

    Raises:
        OSError: It has no address or the resolver does not answer.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [_numeric(sockaddr) for *_, sockaddr in found]


async def allowed_addresses(
    host: str, port: int, *, allow_private: bool, resolve: Resolve = system_addresses
) -> list[str]:
    """Return the addresses of a host, each judged and allowed, in the resolver's order.

    Args:
        host: A name, or an address in any spelling that the resolver understands.
        port: 1 to 65535.
        allow_private: Let every address through.
        resolve: What turns the host into numeric addresses.

    Raises:
        TargetRefusedError: The port is none, or one of the addresses may not be reached.
        OSError: The host has no address.
    """
    if not 0 < port < 65536:
        raise TargetRefusedError(f"{host}: port {port} is not between 1 and 65535")
    addresses = list(dict.fromkeys(await resolve(host, port)))
    if not addresses:
        raise OSError(f"{host} has no address")
    if not allow_private:
        for address in addresses:
            _refuse(host, address)
    return addresses


def refused_kind(address: str) -> str | None:
    """Say what kind of address it is if it is one that the public internet cannot reach.

    Args:
        address: An IPv4 or IPv6 address in its usual spelling, with or without a zone.

    Raises:
        ValueError: It is not an address.
    """
    return _kind(ipaddress.ip_address(address.partition("%")[0]))


def _refuse(host: str, address: str) -> None:
    kind = refused_kind(address)
    if kind is not None:
        raise TargetRefusedError(
            f"{host} is at {address}, a {kind} address, which this connection may not reach; "
            "if it is meant, set allow_private = true in the connection's config"
        )


def _kind(address: _IPAddress) -> str | None:
    if isinstance(address, ipaddress.IPv4Address):
        return _listed(address, _REFUSED_V4)
    return _kind_of_embedded(address) or _kind_of_v6(address)


def _kind_of_v6(address: ipaddress.IPv6Address) -> str | None:
    kind = _listed(address, _REFUSED_V6)
    if kind is None and not any(address in network for network in _REACHABLE_V6):
        return "reserved"
    return kind


def _kind_of_embedded(address: ipaddress.IPv6Address) -> str | None:
    """Judge the IPv4 address inside an IPv6 one, except for ``::`` and ``::1``."""
    inner = _embedded(address)
    if inner is None or int(address) <= 1:
        return None
    kind = _kind(inner)
    return kind and f"{kind} ({inner})"


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    for network, shift in _EMBEDDING_V6:
        if address in network:
            return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def _listed(address: _IPAddress, kinds: _Kinds) -> str | None:
    return next((kind for network, kind in kinds if address in network), None)


def _numeric(sockaddr: tuple[object, ...]) -> str:
    """Return the address of a socket address, with its zone where it has one."""
    host = str(sockaddr[0])
    zone = sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{zone}" if zone and "%" not in host else host
