"""Access tokens: one fetch for any number of calls, ahead of the end, and anew when refused."""

import dataclasses

import anyio
import pytest

from integrationd.sdk.testing import FakeClock, make_context
from integrationd.sdk.token_keeping import Token
from integrationd.sdk.tokens import EARLY_S, TokenSource


class Server:
    """Hands out numbered tokens.

    Args:
        expires_in_s: How long each is good.
        faults: How many fetches fail first.
    """

    def __init__(self, expires_in_s: float | None = 3600, faults: int = 0) -> None:
        self.fetched = 0
        self._expires_in_s = expires_in_s
        self._faults = faults

    async def __call__(self) -> Token:
        self.fetched += 1
        number = self.fetched
        await anyio.lowlevel.checkpoint()
        if number <= self._faults:
            raise OSError("the authorization server is not there")
        return Token(access_token=f"token-{number}", expires_in_s=self._expires_in_s)


async def test_token_is_fetched_once_and_kept() -> None:
    server, source = Server(), TokenSource(FakeClock())

    assert [await source.get(server) for _ in range(3)] == ["token-1"] * 3
    assert server.fetched == 1


async def test_any_number_of_callers_share_one_fetch() -> None:
    server, source, got = Server(), TokenSource(FakeClock()), []

    async def ask() -> None:
        got.append(await source.get(server))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(ask)

    assert (got, server.fetched) == (["token-1"] * 100, 1)


@pytest.mark.parametrize(("life_s", "good_s"), [(3600, 3600 - EARLY_S), (120, 108), (10, 9)])
async def test_token_is_renewed_ahead_of_its_end(life_s: float, good_s: float) -> None:
    clock = FakeClock()
    server, source = Server(life_s), TokenSource(clock)
    await source.get(server)

    clock.advance(good_s - 0.1)
    before = await source.get(server)
    clock.advance(0.2)
    after = await source.get(server)

    assert (before, after) == ("token-1", "token-2")


async def test_token_without_an_end_is_kept_until_it_is_refused() -> None:
    clock = FakeClock()
    server, source = Server(None), TokenSource(clock)
    await source.get(server)

    clock.advance(10**9)

    assert await source.get(server) == "token-1"
    assert await source.get(server, "token-1") == "token-2"


@pytest.mark.parametrize("life_s", [0, -1])
async def test_token_that_is_over_at_once_still_serves_its_caller(life_s: float) -> None:
    server, source = Server(life_s), TokenSource(FakeClock())

    assert [await source.get(server) for _ in range(2)] == ["token-1", "token-2"]


async def test_refused_token_is_replaced_once_for_all_who_were_refused() -> None:
    server, source, got = Server(), TokenSource(FakeClock()), []
    refused = await source.get(server)

    async def ask() -> None:
        got.append(await source.get(server, refused))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)

    assert (set(got), server.fetched) == ({"token-2"}, 2)


async def test_refusal_of_an_earlier_token_changes_nothing() -> None:
    server, source = Server(), TokenSource(FakeClock())
    first = await source.get(server)
    await source.get(server, first)

    assert await source.get(server, first) == "token-2"


async def test_failed_fetch_is_told_and_the_next_one_tries() -> None:
    server, source = Server(faults=1), TokenSource(FakeClock())

    with pytest.raises(OSError, match="not there"):
        await source.get(server)

    assert await source.get(server) == "token-2"


async def test_failed_renewal_does_not_bring_a_refused_token_back() -> None:
    server, source = Server(), TokenSource(FakeClock())
    refused = await source.get(server)
    server._faults = 2

    with pytest.raises(OSError, match="not there"):
        await source.get(server, refused)

    assert await source.get(server) == "token-3"


async def test_caller_that_is_cancelled_does_not_cut_the_fetch_off() -> None:
    server, source = Server(), TokenSource(FakeClock())
    asked, answered = anyio.Event(), anyio.Event()

    async def slow() -> Token:
        asked.set()
        await answered.wait()
        return await server()

    async with anyio.create_task_group() as group:
        group.start_soon(source.get, slow)
        await asked.wait()
        group.cancel_scope.cancel()
    answered.set()

    assert await source.get(server) == "token-1"
    assert server.fetched == 1


async def test_failure_is_shared_by_all_who_waited_for_it() -> None:
    server, source, told = Server(faults=1), TokenSource(FakeClock()), []
    await source.load()

    async def ask() -> None:
        with pytest.raises(OSError, match="not there") as caught:
            await source.get(server)
        told.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)

    assert (len(told), server.fetched) == (50, 1)


async def test_context_hands_the_connections_token_out() -> None:
    server, source = Server(), TokenSource(FakeClock())
    ctx = dataclasses.replace(
        make_context("sms.send"), tokens=source, fetch_token=lambda _ctx: server()
    )

    assert await ctx.token() == await source.get(server) == "token-1"
    assert await ctx.token(refused="token-1") == "token-2"


async def test_context_without_a_place_for_tokens_says_so() -> None:
    with pytest.raises(RuntimeError, match="fetch_token"):
        await make_context("sms.send").token()


def test_token_is_not_shown() -> None:
    assert "s3cret" not in repr(Token(access_token="s3cret", expires_in_s=1))
