"""Honest clients pass: only foreign names, web pages and compressed bodies are kept out."""

from typing import Any

import pytest

from integrationd.api.admission import Peer
from integrationd.api.protocol import _PEER
from integrationd.api.screening import screen

ADDRESS = ("127.0.0.1", 8700)


def scope(*headers: tuple[bytes, bytes], server: Any = ADDRESS) -> dict[str, Any]:
    return {"headers": list(headers), "server": server}


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1:8700",
        b"127.0.0.1",
        b"localhost:8700",
        b"LocalHost",
        b"[::1]:8700",
        b"127.8.9.10:1",
        b"localhost:9999",
    ],
)
def test_names_of_loopback_pass(host: bytes) -> None:
    assert screen(scope((b"host", host))) is None


@pytest.mark.parametrize("name", ["192.0.2.7", "2001:db8::7"])
def test_address_that_the_daemon_listens_on_passes(name: str) -> None:
    spelled = f"[{name}]" if ":" in name else name

    assert screen(scope((b"host", spelled.encode()), server=(name, 8700))) is None
    assert screen(scope((b"host", spelled.encode()))) is not None


@pytest.mark.parametrize("hosts", [[], [b"anything at all"]])
def test_host_means_nothing_on_the_unix_socket(hosts: list[bytes]) -> None:
    asked = scope(*((b"host", host) for host in hosts), server=None)
    asked["extensions"] = {_PEER: Peer(pid=1, uid=1, gid=1)}

    assert screen(asked) is None


@pytest.mark.parametrize(
    "line",
    [
        (b"origin", b"http://127.0.0.1:8700"),
        (b"origin", b"https://127.0.0.1:8700"),
        (b"sec-fetch-site", b"none"),
        (b"sec-fetch-site", b"same-origin"),
        (b"content-encoding", b"identity"),
        (b"content-encoding", b""),
        (b"accept-encoding", b"gzip"),
        (b"sec-fetch-mode", b"cors"),
    ],
)
def test_headers_of_honest_clients_pass(line: tuple[bytes, bytes]) -> None:
    assert screen(scope((b"host", b"127.0.0.1:8700"), line)) is None


def test_page_is_told_what_to_do_instead() -> None:
    told = screen(scope((b"host", b"localhost"), (b"sec-fetch-site", b"cross-site")))

    assert told is not None
    assert (told.status, told.code) == (403, "cross_site")
    assert "server" in told.hint


def test_foreign_host_is_named_in_short() -> None:
    told = screen(scope((b"host", b"x" * 5000)))

    assert told is not None
    assert (told.status, told.code) == (403, "host_not_allowed")
    assert len(told.detail) < 200
