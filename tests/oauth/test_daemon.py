"""OAuth through a real daemon: one refresh for all, consent over the API, and what it tells."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.oauth.authorization_server import Answer, AuthorizationServer
from tests.oauth.running import WITHIN_S, Running, running, short_directory

BY_CONSENT = {"grant": "authorization_code", "rotation": "strict"}
MANY = 500


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@contextlib.asynccontextmanager
async def by_consent(
    server: AuthorizationServer, directory: Path
) -> AsyncIterator[tuple[Running, httpx2.AsyncClient]]:
    """Run a daemon whose connection a person has to authorise, and a client of it."""
    async with (
        running(directory, server, **BY_CONSENT) as daemon,
        daemon.process.client() as client,
    ):
        yield daemon, client


async def until(is_so: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until something is so, and return it."""
    with anyio.fail_after(WITHIN_S):
        while not (found := await is_so()):
            await anyio.sleep(0.02)
    return found


async def completed(client: httpx2.AsyncClient) -> int:
    total: int = (await client.get("/v1/ledger")).json()["total"]["completed"]
    return total


async def test_500_calls_on_an_expired_token_cause_one_refresh(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        server.lifetime_s = 1
        assert (await daemon.authorise(client)).status_code == 200
        await anyio.sleep(1.1)
        server.lifetime_s = 3600
        server.expire()
        await daemon.submit(client, MANY)
        await until(lambda: _are(client, MANY))

    assert server.counts["refresh_token"] == 1
    assert server.counts["taken"] == MANY
    assert server.counts["refused"] == 0
    assert not server.voided


async def test_500_calls_on_a_refused_token_cause_one_refresh(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        await daemon.authorise(client)
        await daemon.submit(client)
        await until(lambda: _are(client, 1))
        server.expire()
        await daemon.submit(client, MANY)
        await until(lambda: _are(client, MANY + 1))

    assert server.counts["refresh_token"] == 1
    assert server.counts["taken"] == MANY + 1
    assert not server.voided


async def _are(client: httpx2.AsyncClient, count: int) -> bool:
    return await completed(client) == count


async def test_calls_wait_for_a_persons_consent_and_say_so(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        (call_id,) = await daemon.submit(client)

        async def waits() -> Any:
            call = await daemon.call(client, call_id)
            return call if call.get("reason") == "needs_authorisation" else None

        call = await until(waits)
        problems = await daemon.problems(client)
        shown = (await client.get("/v1/connections/mail")).json()
        page = await daemon.authorise(client)
        await daemon.submit(client)
        await until(lambda: _are(client, 1))
        after = (await client.get("/v1/connections/mail")).json()
        mended = await daemon.problems(client)

    assert call["state"] == "pending"
    assert any("mail" in one and "authorize" in one for one in problems)
    assert (shown["authorised"], after["authorised"]) == (False, True)
    assert "authorised" in page.text
    assert not any("authorize" in one for one in mended)


async def test_refused_refresh_is_told_by_an_event_and_in_status(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        await daemon.authorise(client)
        server.refresh.clear()
        server.expire()
        await daemon.submit(client)
        events = await until(lambda: daemon.events(client, "connection.needs_authorisation"))
        problems = await daemon.problems(client)

    assert [one["connection"] for one in events] == ["mail"]
    assert "invalid_grant" in str(events[0]["data"])
    assert any("invalid_grant" in one for one in problems)


async def test_consent_is_taken_back_over_the_api(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        await daemon.authorise(client)
        server.revocation = Answer(503, {}, {"Retry-After": "7"})
        refused = await client.delete("/v1/connections/mail/authorization")
        server.revocation = Answer(200, {})
        given = await client.delete("/v1/connections/mail/authorization")
        nobody = await client.post("/v1/connections/nobody/authorize")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert given.json() == {"connection": "mail", "revoked": True}
    assert nobody.status_code == 404


async def test_connection_that_is_removed_gives_its_authorisation_back(
    server: AuthorizationServer, directory: Path
) -> None:
    async with by_consent(server, directory) as (daemon, client):
        provider = (await client.get("/v1/connections/mail")).json()["provider"]
        config = {"base_url": server.url, "allow_private": True, **BY_CONSENT}
        body = {"id": "made", "provider": provider, "config": config}
        made = await client.post("/v1/connections", json=body)
        page = await daemon.authorise(client, "made")
        gone = await client.delete("/v1/connections/made")

    assert made.status_code == 201, made.text
    assert "authorised" in page.text
    assert gone.json() == {"id": "made", "deleted": True}
    assert len(server.revoked) == 1


async def test_no_token_is_written_anywhere(server: AuthorizationServer, directory: Path) -> None:
    async with by_consent(server, directory) as (daemon, client):
        await daemon.authorise(client)
        server.expire()
        (call_id,) = await daemon.submit(client)
        await until(lambda: _are(client, 1))
        attempts = await client.get("/v1/attempts", params={"call_id": call_id})
        daemon.process.stop()
    written = b"".join(
        one.read_bytes() for one in directory.rglob("*") if one.is_file() and one.suffix != ".py"
    )

    secrets = [*server.good, *server.spent, *server.refresh, "s3cret+of the:shop"]
    found = [one for one in secrets if one.encode() in written or one in attempts.text]
    # The secret of the client is the plugin's own default here, and stands in no file but its.
    assert not found
    assert server.counts["refresh_token"] == 1
