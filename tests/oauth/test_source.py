"""The token of a connection: when it is renewed, and what a failed refresh leaves behind."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from integrationd.masking import Masker
from integrationd.sdk.outcome import Rejected, Retryable, Throttled
from integrationd.sdk.testing import FakeClock, make_context
from integrationd.sdk.token_keeping import Found, Held, Rotation, Terms, Token, TokenRequestError
from integrationd.sdk.tokens import NEEDS_AUTHORISATION, TokenSource

NOW_MS = FakeClock().now_ms()
LOST = TokenRequestError(
    Retryable(reason="timeout", detail="No answer.", sent=False), in_doubt=True
)
OVER = TokenRequestError(Rejected(reason="invalid_grant", detail="It is over."), is_over=True)
REFUSED = TokenRequestError(Retryable(reason="connection_refused", sent=False))
BUSY = TokenRequestError(Throttled(wait_s=30.0, detail="Later."))


class Notebook:
    """A store that remembers what it was told, in order."""

    def __init__(self, found: Found | None = None) -> None:
        self.found = found or Found()
        self.told: list[str] = []
        self.kept: list[Held] = []

    async def load(self) -> Found:
        return self.found

    async def begin(self, generation: int) -> None:
        self.told.append(f"begin {generation}")
        await anyio.lowlevel.checkpoint()

    async def keep(self, token: Held, after: int, by: str = "") -> Held:
        self.told.append(f"keep after {after} by {by or 'renewal'}")
        await anyio.lowlevel.checkpoint()
        self.kept.append(token)
        return dataclasses.replace(token, generation=after + 1)

    async def fail(self, generation: int, why: str, *, in_doubt: bool, is_over: bool) -> None:
        self.told.append(f"fail {generation} in_doubt={in_doubt} is_over={is_over}: {why}")


class Asked:
    """An authorization server that answers by a script: errors, or else tokens by number."""

    def __init__(self, *script: TokenRequestError | None) -> None:
        self.script = list(script)
        self.count = 0

    async def __call__(self) -> Token:
        self.count += 1
        await anyio.lowlevel.checkpoint()
        answer = self.script.pop(0) if self.script else None
        if answer is not None:
            raise TokenRequestError(
                answer.failure, in_doubt=answer.in_doubt, is_over=answer.is_over
            )
        number = self.count
        return Token(access_token=f"t-{number}", refresh_token=f"r-{number}", expires_in_s=3600)


def held(life_s: float = 3600, ago_s: float = 0, **changed: Any) -> Held:
    begun_ms = NOW_MS - round(ago_s * 1000)
    given: dict[str, Any] = {
        "access_token": "old",
        "refresh_token": "r-old",
        "obtained_at_ms": begun_ms,
        "expires_at_ms": begun_ms + round(life_s * 1000),
        "generation": 7,
    }
    return Held(**given | changed)


def source(
    store: Notebook, clock: FakeClock | None = None, rotation: Rotation = "strict"
) -> TokenSource:
    terms = Terms(connection="mail", by_consent=True, rotation=rotation)
    return TokenSource(clock or FakeClock(), store, terms)


def kept(**found: Any) -> Notebook:
    return Notebook(Found(held=held(**found), generation=7))


async def error_of(made: TokenSource, asked: Asked, refused: str | None = None) -> Any:
    with pytest.raises(TokenRequestError) as caught:
        await made.get(asked, refused)
    return caught.value


# What is kept


async def test_token_of_before_a_restart_is_used_to_its_end() -> None:
    clock, asked = FakeClock(), Asked()
    made = source(kept(ago_s=3000), clock)

    before = await made.get(asked)
    clock.advance(541)

    assert (before, await made.get(asked), asked.count) == ("old", "t-1", 1)


async def test_refresh_is_noted_before_it_leaves_and_kept_before_it_is_used() -> None:
    store, asked = kept(ago_s=3600), Asked()

    await source(store).get(asked)

    assert store.told == ["begin 7", "keep after 7 by renewal"]


async def test_refresh_that_loses_nothing_needs_no_note() -> None:
    store = kept(ago_s=3600)

    await source(store, rotation="none").get(Asked())

    assert store.told == ["keep after 7 by renewal"]


async def test_end_is_counted_from_before_the_request() -> None:
    clock, store = FakeClock(), kept(ago_s=3600)

    async def slow() -> Token:
        clock.advance(9)
        return Token(access_token="t", expires_in_s=100)

    made = source(store, clock)
    await made.get(slow)

    assert (store.kept[0].obtained_at_ms, store.kept[0].expires_at_ms) == (NOW_MS, NOW_MS + 100_000)
    assert made.left_s == 91


async def test_refresh_token_stays_where_the_server_gives_none() -> None:
    store = kept(ago_s=3600, scope="a b")

    async def terse() -> Token:
        return Token(access_token="t", expires_in_s=100)

    await source(store).get(terse)

    assert (store.kept[0].refresh_token, store.kept[0].scope) == ("r-old", "a b")


async def test_wall_clock_that_jumps_ends_no_token() -> None:
    clock, asked = FakeClock(), Asked()
    made = source(kept(), clock)
    await made.get(asked)

    clock._now_ms += 86_400_000

    assert await made.get(asked) == "old"


# A refused token


async def test_refused_token_is_renewed_once_for_all() -> None:
    asked, got = Asked(), []
    made = source(kept())
    await made.get(asked)

    async def ask() -> None:
        got.append(await made.get(asked, "old"))

    async with anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(ask)

    assert (set(got), asked.count) == ({"t-1"}, 1)


async def test_refused_token_is_not_used_again_where_it_cannot_be_renewed() -> None:
    made, asked = source(kept()), Asked(REFUSED, REFUSED)

    await error_of(made, asked, "old")
    await error_of(made, asked)

    assert await made.get(asked) == "t-3"


# Failures


async def test_token_that_is_good_for_a_moment_more_goes_on_where_it_cannot_be_renewed() -> None:
    clock, asked = FakeClock(), Asked(REFUSED, REFUSED)
    made = source(kept(ago_s=3550), clock)

    before = await made.get(asked)
    clock.advance(51)

    assert before == "old"
    assert (await error_of(made, asked)).failure.reason == "connection_refused"


async def test_server_that_wants_to_be_left_alone_is_left_alone() -> None:
    clock, asked = FakeClock(), Asked(BUSY)
    made = source(kept(ago_s=3600), clock)

    errors = [await error_of(made, asked) for _ in range(3)]
    clock.advance(30)

    assert [type(one.failure) for one in errors] == [Throttled] * 3
    assert asked.count == 1
    assert await made.get(asked) == "t-2"


async def test_strict_refresh_in_doubt_is_repeated_at_once() -> None:
    store, asked = kept(ago_s=3600), Asked(LOST)

    assert await source(store).get(asked) == "t-2"
    assert store.told == ["begin 7", "keep after 7 by renewal"]


async def test_overlapping_refresh_in_doubt_is_repeated_at_the_next_need() -> None:
    store, asked = kept(ago_s=3600), Asked(LOST)
    made = source(store, rotation="overlap")

    await error_of(made, asked)

    assert made.in_doubt
    assert store.told == ["begin 7", "fail 7 in_doubt=True is_over=False: No answer."]
    assert await made.get(asked) == "t-2"


async def test_refresh_that_never_left_leaves_no_doubt() -> None:
    store = kept(ago_s=3600)
    made = source(store)

    await error_of(made, Asked(REFUSED))

    assert not made.in_doubt
    assert store.told[-1].startswith("fail 7 in_doubt=False is_over=False")


@pytest.mark.parametrize("script", [[OVER], [LOST, OVER]])
async def test_grant_that_is_over_needs_a_person(script: Sequence[TokenRequestError]) -> None:
    store, asked = kept(ago_s=3600), Asked(*script)
    made = source(store)

    first = await error_of(made, asked)
    again = await error_of(made, asked)

    assert store.told[-1] == "fail 7 in_doubt=False is_over=True: It is over."
    assert asked.count == len(script)
    for told in (first.failure, again.failure):
        assert isinstance(told, Retryable)
        assert (told.reason, told.sent, told.wait_s) == (NEEDS_AUTHORISATION, False, 60.0)
        assert "It is over" in told.detail
        assert "integrationd authorize mail" in told.detail
    assert made.needs == "It is over"


async def test_slow_server_is_given_up() -> None:
    made = TokenSource(FakeClock(), kept(ago_s=3600), Terms(by_consent=True, limit_s=0.02))

    async def never() -> Token:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(TokenRequestError) as caught:
        await made.get(never)

    assert caught.value.in_doubt
    assert getattr(caught.value.failure, "sent", None) is False


# Doubt and consent


async def test_refresh_that_was_cut_off_is_repeated_although_the_token_is_good() -> None:
    store = Notebook(Found(held=held(), generation=7, in_doubt=True))
    asked = Asked()

    assert await source(store).get(asked) == "t-1"


async def test_good_token_serves_while_the_doubt_cannot_be_settled() -> None:
    store = Notebook(Found(held=held(), generation=7, in_doubt=True))

    assert await source(store).get(Asked(REFUSED)) == "old"


async def test_connection_that_nobody_has_authorised_asks_for_nothing() -> None:
    asked, made = Asked(), source(Notebook())

    told = await error_of(made, asked)

    assert asked.count == 0
    assert "nobody has authorised it yet" in told.failure.detail


async def test_token_without_a_refresh_token_needs_a_person_at_its_end() -> None:
    clock = FakeClock()
    made = source(kept(refresh_token=None), clock)

    before = await made.get(Asked())
    clock.advance(3600)

    assert before == "old"
    assert "gave none to renew it with" in (await error_of(made, Asked())).failure.detail


async def test_consent_ends_the_need_for_it() -> None:
    store = Notebook(Found(held=held(), generation=7, needs="It is over"))
    made, asked = source(store), Asked()

    await made.adopt(asked, "uid:0")

    assert (made.needs, await made.get(asked)) == ("", "t-1")
    assert store.told == ["keep after 7 by uid:0"]


async def test_consent_waits_for_a_refresh_that_is_under_way() -> None:
    store, done = kept(ago_s=3600), anyio.Event()
    made = source(store)

    async def slow() -> Token:
        await done.wait()
        return Token(access_token="refreshed", refresh_token="r", expires_in_s=60)

    async with anyio.create_task_group() as group:
        group.start_soon(made.get, slow)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(made.adopt, Asked(), "uid:0")
        await anyio.wait_all_tasks_blocked()
        done.set()

    assert await made.get(Asked()) == "t-1"


async def test_nothing_is_renewed_while_it_is_withheld() -> None:
    made, asked = source(kept(ago_s=3600)), Asked()
    await made.load()

    with made.withheld("it is being given back"):
        told = await error_of(made, asked)

    assert "being given back" in told.failure.detail
    assert await made.get(asked) == "t-1"


# Masking, and the way into a plugin


async def test_latest_tokens_are_known_to_maskers_and_old_ones_forgotten() -> None:
    clock, masker = FakeClock(), Masker({"config-secret"})
    made = TokenSource(clock, kept(), Terms(by_consent=True), masker.exchange)
    common = Masker()
    for number in range(20):

        async def fetch(name: str = f"token-{number}") -> Token:
            return Token(access_token=name, refresh_token=f"r-{name}", expires_in_s=3600)

        await made.get(fetch)
        clock.advance(3600)

    assert made.masker(common) is made.masker(common)
    for one in (masker, made.masker(common)):
        assert len(one.values) <= 9
        assert "token-10" not in one.values
        assert one.text("token-19 r-token-19") == "*** ***"
    assert masker.text("echo config-secret") == "echo ***"


async def test_token_requests_are_no_sending_of_the_call() -> None:
    ctx = make_context("sms.send")
    ctx.tokens = source(kept(ago_s=3600))

    async def fetch(asking: Any) -> Token:
        assert asking is not ctx
        asking.mark_sent()
        return Token(access_token="t", expires_in_s=60)

    ctx.fetch_token = fetch

    assert await ctx.token() == "t"
    assert ctx.sent is None


async def test_nothing_of_a_token_is_shown() -> None:
    made = source(kept())
    await made.get(Asked())

    assert "r-old" not in repr(made.held)
    assert "'old'" not in repr(made.held)
