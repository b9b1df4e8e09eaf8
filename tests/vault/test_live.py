"""A real daemon whose connection takes its token from the vault."""

import asyncio
import base64
import contextlib
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.provider import Provider, providing
from tests.faults.daemon import DaemonProcess

from integrationd.clock import SystemClock
from integrationd.settings import SHARED_SECRETS_OF, load
from integrationd.supervisor.secrets import standalone

FIRST, SECOND = "first-canary-51b7e2a0", "second-canary-98cc04fd"
KILLS = 12


def tables(url: str) -> str:
    return f"""
[connections.shop]
provider = "http"
config = {{ base_url = "{url}", allow_private = true, auth = {{ kind = "header", name = "X-Api-Key", value = "vault:shop.token" }} }}
"""  # noqa: E501 - an inline table is one line


async def keep(directory: Path, name: str, value: str) -> None:
    """Keep a secret while no daemon runs."""
    settings = load(directory / "integrationd.toml", {})
    async with standalone(settings, {}, SystemClock()) as vault:
        await vault.set(SHARED_SECRETS_OF, name, value, "uid:0")


@contextlib.asynccontextmanager
async def running(daemon: DaemonProcess) -> AsyncIterator[httpx2.AsyncClient]:
    with daemon:
        daemon.start()
        await asyncio.to_thread(daemon.wait_ready)
        async with daemon.client() as client:
            yield client
        assert await asyncio.to_thread(daemon.stop) == 0, daemon.output()


async def shown(client: httpx2.AsyncClient, provider: Provider, path: str) -> str:
    """Have a request made and return the credentials that the provider saw."""
    body = {"operation": "http.request", "payload": {"method": "GET", "path": path}}
    answer = await client.post("/v1/calls", json=body, headers={"Prefer": "wait=10"})
    assert answer.json()["state"] == "completed", answer.text
    return provider.requests(path)[-1].headers["x-api-key"]


async def put(client: httpx2.AsyncClient, name: str, value: str) -> Any:
    answer = await client.put(f"/v1/vault/secrets/{name}", json={"value": value})
    assert answer.status_code == 200, answer.text
    return answer.json()


def encodings(secret: str) -> list[bytes]:
    raw = secret.encode()
    coded = [base64.b64encode(bytes(at) + raw)[4:-4] for at in range(3)]
    return [raw, raw.hex().encode(), secret.encode("utf-16-le"), *coded]


async def test_secret_that_is_set_anew_is_used_without_a_restart(short_path: Path) -> None:
    async with providing() as provider:
        daemon = DaemonProcess(short_path, tables(provider.url))
        await keep(short_path, "shop.token", FIRST)
        async with running(daemon) as client:
            assert await shown(client, provider, "/ok/1") == FIRST
            pid = daemon._process

            told = await put(client, "shop.token", SECOND)

            assert told["reload"]["changes"] == ["connections.shop: a secret was read anew"]
            assert await shown(client, provider, "/ok/2") == SECOND
            assert daemon._process is pid


async def test_no_file_log_or_answer_holds_a_secret(short_path: Path) -> None:
    async with providing() as provider:
        daemon = DaemonProcess(short_path, tables(provider.url))
        await keep(short_path, "shop.token", FIRST)
        async with running(daemon) as client:
            for path in ("/ok/1", "/echo/200", "/echo/400"):
                body = {"operation": "http.request", "payload": {"method": "GET", "path": path}}
                await client.post("/v1/calls", json=body, headers={"Prefer": "wait=10"})
            answers = [(await client.get(f"/v1/{path}")).content for path in LOOKS]
            answers += [str(await put(client, "shop.token", SECOND)).encode()]
            answers += [(await client.post("/v1/vault/rotate", json={"data_keys": True})).content]
            answers += [(await client.get(f"/v1/{path}")).content for path in LOOKS]
            files = [path.read_bytes() for path in short_path.iterdir() if path.is_file()]
        files += [path.read_bytes() for path in short_path.iterdir() if path.is_file()]

    everything = b"\n".join([*answers, *files])
    # The provider sent the secret back, in a result and in a refusal: it was there to be masked.
    assert len(provider.requests("/echo/200")) == len(provider.requests("/echo/400")) == 1
    assert b"shop.token" in everything
    for secret in (FIRST, SECOND):
        assert not [form for form in encodings(secret) if form in everything]


LOOKS = ("vault", "vault/secrets", "calls", "attempts", "connections", "config", "status")


async def test_missing_secret_is_named_and_setting_it_mends_the_configuration(
    short_path: Path,
) -> None:
    async with providing() as provider:
        daemon = DaemonProcess(short_path, "")
        config = short_path / "integrationd.toml"
        async with running(daemon) as client:
            config.write_text(config.read_text() + tables(provider.url))
            refused = await client.post("/v1/config/reload")
            assert refused.status_code == 409
            assert "the vault holds no secret 'shop.token'" in refused.json()["detail"]
            assert "integrationd vault set shop.token" in refused.json()["detail"]

            told = await put(client, "shop.token", FIRST)

            assert told["reload"]["outcome"] == "applied"
            assert "whoever loses it loses every secret" in told["notice"]
            assert await shown(client, provider, "/ok/1") == FIRST
        assert "whoever loses it loses every secret" in daemon.output()


async def test_daemon_without_its_master_key_does_not_start_and_says_which(
    short_path: Path,
) -> None:
    daemon = DaemonProcess(short_path, tables("http://127.0.0.1:9"))
    await keep(short_path, "shop.token", FIRST)
    (short_path / "master.key").rename(short_path / "away")

    with daemon:
        daemon.start()
        process = daemon._process
        assert process is not None
        assert await asyncio.to_thread(process.wait, 20) == 4

    assert "connections.shop.config.auth.value" in daemon.output()
    assert f"the master key file {short_path}/master.key is missing" in daemon.output()
    assert "Traceback" not in daemon.output()


async def test_calls_go_on_while_the_master_key_rotates(short_path: Path) -> None:
    async with providing() as provider:
        daemon = DaemonProcess(short_path, tables(provider.url))
        await keep(short_path, "shop.token", FIRST)
        async with running(daemon) as client:

            async def rotate() -> None:
                for at in range(10):
                    body = {"data_keys": at % 2 == 0}
                    answer = await client.post("/v1/vault/rotate", json=body)
                    assert answer.status_code == 200, answer.text
                    assert (await client.post("/v1/config/reload")).status_code == 200

            async def call(number: int) -> None:
                for at in range(15):
                    path = f"/ok/{number}-{at}"
                    assert await shown(client, provider, path) == FIRST

            async with asyncio.TaskGroup() as group:
                group.create_task(rotate())
                for number in range(3):
                    group.create_task(call(number))


@pytest.mark.slow
async def test_daemon_killed_while_it_rotates_opens_everything(short_path: Path) -> None:
    rng = random.Random(23)
    async with providing() as provider:
        daemon = DaemonProcess(short_path, tables(provider.url))
        await keep(short_path, "shop.token", FIRST)
        with daemon:
            for number in range(KILLS):
                daemon.start()
                await asyncio.to_thread(daemon.wait_ready)
                async with daemon.client() as client:
                    token = await shown(client, provider, f"/ok/{number}")
                    assert token == FIRST, daemon.output()
                    await _killed_amid(daemon, client, rng.uniform(0.0, 0.03))


async def _killed_amid(daemon: DaemonProcess, client: httpx2.AsyncClient, after_s: float) -> None:
    async def rotate() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            for at in range(20):
                await client.post("/v1/vault/rotate", json={"data_keys": at % 2 == 0})

    rotating = asyncio.create_task(rotate())
    await asyncio.sleep(after_s)
    process = daemon._process
    assert isinstance(process, subprocess.Popen)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(daemon.kill)
    await rotating
