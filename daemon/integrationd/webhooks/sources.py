"""Where a webhook comes from: the true address behind a trusted proxy, and how often it may."""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from integrationd.clock import Clock

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_SOURCES = 10_000
_LONGEST_CHAIN = 32


class Networks:
    """A list of addresses and networks.

    Args:
        texts: As the settings have them.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks: Sequence[_Network] = [ipaddress.ip_network(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def holds(self, text: str) -> bool:
        """Say whether an address as text is in one of them."""
        address = _address(text)
        return address is not None and address in self


def source_of(peer: str, forwarded: Sequence[str], trusted: Networks) -> str:
    """Return the address that a request truly comes from.

    Each proxy appends the address that it was called from, so the list is read from its end for as
    long as it is written by proxies that are trusted. Whatever an untrusted peer says is ignored.

    Args:
        peer: Who is connected.
        forwarded: The values of the ``X-Forwarded-For`` headers, in order.
        trusted: The proxies.
    """
    current = _address(peer)
    if current is None:
        return peer
    named = [part.strip() for value in forwarded for part in value.split(",")][-_LONGEST_CHAIN:]
    while current in trusted and named:
        earlier = _address(named.pop())
        if earlier is None:
            break
        current = earlier
    return str(current)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


class Pace:
    """Lets each source through so many times a second; a flood costs next to nothing.

    Args:
        clock: Where time is read.
        per_second: Requests a second.
        burst: Requests at once after a rest.
    """

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        self._clock = clock
        self._interval_s = 1 / per_second
        self._slack_s = (burst - 1) * self._interval_s
        self._due: OrderedDict[str, float] = OrderedDict()

    def admits(self, source: str) -> bool:
        """Take a turn for a source; False where it has come too often."""
        now = self._clock.monotonic()
        due = max(self._due.get(source, now), now)
        if due - now > self._slack_s:
            return False
        self._due[source] = due + self._interval_s
        self._due.move_to_end(source)
        while len(self._due) > _MOST_SOURCES:
            self._due.popitem(last=False)
        return True
