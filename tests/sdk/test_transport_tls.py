"""Over TLS the host is named and verified before a byte of the request leaves."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest
from tests.sdk.exchanges import (
    answered,
    attempt,
    failed,
    request,
)
from tests.sdk.scripted_server import Peer, always, answering, serving

from integrationd.sdk.framing import BrokenReplyError
from integrationd.sdk.transport import Transport, default_tls


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for the name localhost, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


async def _loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def _trusting(certificate: Path) -> Transport:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(certificate)
    return Transport(allow_private=True, tls=tls, resolve=_loopback)


def _serving_tls(certificate: Path, names: list[str | None]) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _sock, name, _context: names.append(name)
    return tls


async def test_tls_names_the_host_and_keeps_the_connection(certificate: Path) -> None:
    names: list[str | None] = []
    async with (
        _trusting(certificate) as transport,
        serving(always, _serving_tls(certificate, names)) as server,
    ):
        url = f"https://localhost:{server.port}/"
        for _ in range(3):
            answered(await attempt(transport, request(url, content=b"a")), 200, b"ok")
            await asyncio.sleep(0.01)

    assert names == ["localhost"]
    assert server.connections == 1


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
async def test_tls_certificate_for_another_name_never_left(certificate: Path, host: str) -> None:
    async with (
        _trusting(certificate) as transport,
        serving(always, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://{host}:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert server.requests == []


async def test_tls_certificate_of_an_unknown_authority_never_left(certificate: Path) -> None:
    async with (
        Transport(allow_private=True, resolve=_loopback) as transport,
        serving(always, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


async def test_tls_to_a_server_without_it_never_left() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with (
        Transport(allow_private=True, resolve=_loopback) as transport,
        serving(script) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    error = failed(tried, httpx2.ConnectError, sent=False)
    assert isinstance(error.__cause__, ssl.SSLError)


async def test_tls_reply_cut_in_the_middle(certificate: Path) -> None:
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    async with (
        _trusting(certificate) as transport,
        serving(script, _serving_tls(certificate, [])) as server,
    ):
        tried = await attempt(transport, request(f"https://localhost:{server.port}/"))

    failed(tried, BrokenReplyError, sent=True)


def test_default_tls_verifies_and_logs_no_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    default_tls.cache_clear()

    tls = default_tls()

    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
    assert tls.keylog_filename is None
    assert not (tmp_path / "keys").exists()
