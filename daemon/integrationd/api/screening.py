"""What is refused for its headers alone, before anybody asks who is calling.

Any web page that is open on this machine can make the browser send requests to loopback: under the
page's own name, or, by rebinding a name, under one that has come to mean this machine. No page has
business here, for apps call from their servers. On the Unix socket the host means nothing, since no
browser gets there; what else a browser says of itself counts there too.
"""

import functools
import ipaddress
import re
from collections.abc import Iterable

from starlette.types import Scope

from integrationd.api.problems import Problem, problem
from integrationd.api.protocol import peer_of

_NOTED = frozenset({b"host", b"origin", b"sec-fetch-site", b"content-encoding"})
_OWN_SITE = frozenset({b"same-origin", b"none"})
_PLAIN = frozenset({b"", b"identity"})
_HOST = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::[0-9]{1,5})?")

_HOST_MISSING = problem(
    400, "host_missing", "a request names its host exactly once", hint="Send one Host header."
)
_FROM_A_PAGE = problem(
    403,
    "cross_site",
    "a browser sent this for a web page, and no page may use this API",
    hint="Call the daemon from the app's server, which sends no Origin.",
)
_ENCODED = problem(
    415,
    "content_encoding",
    "no Content-Encoding of a body is understood",
    hint="Send the body as it is, without compression.",
)


def screen(scope: Scope) -> Problem | None:
    """Return why a request is looked at no further; None when nothing speaks against it."""
    noted: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in _NOTED:
            noted.setdefault(name, []).append(value)
    hosts = noted.pop(b"host", [])
    refusal = _host_refusal(hosts, scope)
    if refusal is not None or not noted:
        return refusal
    if _is_from_a_page(noted, hosts):
        return _FROM_A_PAGE
    encodings = noted.get(b"content-encoding", ())
    return None if all(one.lower() in _PLAIN for one in encodings) else _ENCODED


def _host_refusal(hosts: list[bytes], scope: Scope) -> Problem | None:
    is_local = peer_of(scope) is not None
    if len(hosts) > 1 or not (hosts or is_local):
        return _HOST_MISSING
    if is_local:
        return None
    address, _port = scope.get("server") or ("", None)
    if _means_us(hosts[0], address):
        return None
    shown = hosts[0][:100].decode("latin-1")
    return problem(
        403,
        "host_not_allowed",
        f"the host {shown!r} is not this daemon",
        hint="Use the address that the daemon listens on, or localhost.",
    )


@functools.lru_cache(maxsize=64)
def _means_us(host: bytes, address: str) -> bool:
    """Say whether a Host header names loopback, or the address that the request came to."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found["name"].decode().strip("[]").lower()
    if name in ("localhost", address.lower()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_from_a_page(noted: dict[bytes, list[bytes]], hosts: Iterable[bytes]) -> bool:
    own = {scheme + host for host in hosts for scheme in (b"http://", b"https://")}
    return not (
        all(one in own for one in noted.get(b"origin", ()))
        and all(one.lower() in _OWN_SITE for one in noted.get(b"sec-fetch-site", ()))
    )
