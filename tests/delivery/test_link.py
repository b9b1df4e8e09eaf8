"""What the machine's own link means for calls, in virtual time: nobody is blamed for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.delivery.live_world import Live, LiveWorld, answered, lived

from integrationd.call import Call, CallState
from integrationd.delivery.link import GRACE_MS, RAMP_S
from integrationd.events import LinkMoved
from integrationd.sdk.reach import View

HOUR_S = 3600.0
LONGEST_WAIT_MS = 900 * 1000
# The provider of the outside world: what a call comes to is what the world is like.
ABROAD = '''
from typing import ClassVar

import anyio

from integrationd.sdk import *


class Deed(Request, frozen=True):
    """What to do."""

    takes_s: float = 0.0


class Done_(Result, frozen=True):
    """What was done."""


CONTRACT = Contract(operation="abroad.do", request=Deed, result=Done_)


class Abroad(Provider):
    """Can be reached, or not."""

    code = "abroad"
    mood: ClassVar[str] = ""
    under_way: ClassVar[int] = 0
    most: ClassVar[list[int]] = []
    asked: ClassVar[int] = 0

    class Config(ProviderConfig):
        allow_private: bool = False

    @operation("abroad.do", repeat_safe=False, contract=CONTRACT)
    async def do(self, request, ctx):
        match self.mood:
            case "":
                pass
            case "accepts":
                ctx.mark_sent()
                return Accepted(reference="r-1")
            case reason:
                return Retryable(reason=reason, detail="It did not answer.", sent=False)
        Abroad.under_way += 1
        self.most.append(self.under_way)
        await anyio.sleep(request.takes_s)
        Abroad.under_way -= 1
        return Delivered()

    @query("abroad.do", QuerySchedule(first_s=5, factor=2, cap_s=60, window_s=600))
    async def find(self, asked, ctx):
        Abroad.asked += 1
        if self.mood in ("", "accepts"):
            return Done()
        return CannotTell(reason=self.mood, detail="It did not answer.")
'''
TABLES: Mapping[str, Any] = {
    "main": {"provider": "abroad", "concurrency": 100},
    "home": {"provider": "rehearsal"},
}


class World(LiveWorld):
    """For the type of the stories."""

    abroad: Any


class Scripted:
    """A view of the world that tests set.

    Attributes:
        is_there: What is seen.
        looks: For whom it was looked: the failing connection, None for the world's return.
    """

    def __init__(self) -> None:
        self.is_there: bool | None = True
        self.looks: list[str | None] = []
        self.takes_s = 0.0

    def leads_outside(self, connection: str) -> bool:
        return connection == "main"

    def note_reached(self, connection: str) -> None:
        pass

    async def look(self, but: str | None) -> View:
        self.looks.append(but)
        await anyio.sleep(self.takes_s)
        return View(self.is_there, "" if self.is_there else "Nobody can be reached: x: no route.")


@pytest.fixture
def sight() -> Scripted:
    return Scripted()


@pytest.fixture
def live(tmp_path: Path, sight: Scripted) -> Live:
    return lived(tmp_path, sight)


async def settle_in(world: LiveWorld, **main: Any) -> Any:
    """Have the connections made and return the provider of the outside world."""
    abroad = world.load(ABROAD, "abroad.py").provider
    await world.use({**TABLES, "main": {**TABLES["main"], **main}})
    return abroad


async def events_of(world: LiveWorld, kind: str) -> list[dict[str, Any]]:
    page = await world.journal.events.after(0, 1000)
    return [json.loads(one.data) for one in page.events if one.type == kind]


async def do(world: LiveWorld, count: int = 1, **options: Any) -> list[Call]:
    return await world.submit(count, "abroad.do", connection="main", **options)


async def now(world: LiveWorld, call: Call) -> Call:
    return await world.journal.calls.get(call.id)


def test_outage_spends_nothing_opens_nothing_and_ends_within_seconds(
    live: Live, sight: Scripted
) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        moves: list[LinkMoved] = []
        world.bus.subscribe(LinkMoved, moves.append)
        abroad.mood, sight.is_there = "dns_failure", False
        calls = await do(world, 20)
        await world.pass_s(6 * HOUR_S)

        found = [await now(world, call) for call in calls]
        assert {(one.state, one.attempts, one.reason) for one in found} == {
            (CallState.PENDING, 0, "link_down")
        }
        assert {one.tries for one in found} == {1}
        assert world.delivery.gate("main").status().breaker == "closed"
        assert [move.is_up for move in moves] == [False]

        abroad.mood, sight.is_there = "", True
        back_ms = world.clock.now_ms()
        await world.settled(calls[0])
        assert world.clock.now_ms() - back_ms <= 5000
        await world.finish(calls)
        assert [move.is_up for move in moves] == [False, True]
        (down,), (up,) = await events_of(world, "link.down"), await events_of(world, "link.up")
        assert down == {"why": "Nobody can be reached: x: no route."}
        assert up["down_s"] == pytest.approx(6 * HOUR_S, abs=5)
        assert not await events_of(world, "breaker.opened")

    live(story)


def test_provider_that_is_gone_alone_is_its_own_failure(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="10m")
        abroad.mood = "dns_failure"
        (call, *_) = await do(world, 6)
        detail = await world.settled(call)

        assert detail.call.reason == "gave_up"
        assert await events_of(world, "breaker.opened")
        assert not await events_of(world, "link.down")
        assert set(sight.looks) == {"main"}

    live(story)


@pytest.mark.parametrize("reason", ["connection_refused", "busy", "plugin_error"])
def test_what_says_nothing_of_the_link_is_not_looked_into(
    live: Live, sight: Scripted, reason: str
) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="10m")
        abroad.mood, sight.is_there = reason, False
        (call,) = await do(world)
        await world.settled(call)

        assert sight.looks == []

    live(story)


def test_where_nobody_can_be_asked_the_link_is_up(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="10m")
        abroad.mood, sight.is_there = "dns_failure", None
        (call,) = await do(world)

        assert (await world.settled(call)).call.reason == "gave_up"

    live(story)


def test_many_failures_at_once_are_one_look(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there, sight.takes_s = "connect_timeout", False, 1.0
        calls = await do(world, 50)
        await world.pass_s(1.5)

        assert sight.looks == ["main"]
        abroad.mood, sight.is_there = "", True
        await world.finish(calls)

    live(story)


def test_answer_of_a_moment_ago_does_not_speak_for_the_link(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there = "connect_failure", False
        calls = await do(world, 50)
        world.bus.publish(answered("main", world.clock.now_ms()))
        await world.pass_s(30)

        assert not world.delivery.link.is_up
        assert not await events_of(world, "breaker.opened")
        abroad.mood, sight.is_there = "", True
        await world.finish(calls)

    live(story)


def test_short_outage_is_a_short_grace(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="10m")
        began_ms = world.clock.now_ms()
        abroad.mood, sight.is_there = "dns_failure", False
        (call,) = await do(world)
        await world.pass_s(60)
        sight.is_there = True
        await world.settled(call)

        assert world.clock.now_ms() - began_ms <= 660_000

    live(story)


def test_connections_at_home_go_on(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there = "dns_failure", False
        await do(world)
        await world.pass_s(60)
        at_home = await world.accept("hold", {"script": ["delivered"]}, connection="home")

        assert (await world.settled(at_home)).call.state is CallState.COMPLETED

    live(story)


def test_nothing_is_given_up_while_the_link_is_down_nor_at_once_after(
    live: Live, sight: Scripted
) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="1h")
        abroad.mood, sight.is_there = "dns_failure", False
        (call,) = await do(world)
        await world.pass_s(3 * HOUR_S)
        assert (await now(world, call)).state is CallState.PENDING

        # The link is back, the provider still is not: it has a while to come back too.
        sight.is_there = True
        back_ms = world.clock.now_ms()
        detail = await world.settled(call)
        assert detail.call.reason in ("gave_up", "expired")
        assert world.clock.now_ms() - back_ms >= GRACE_MS - LONGEST_WAIT_MS

    live(story)


def test_what_has_a_time_of_its_own_expires_while_the_link_is_down(
    live: Live, sight: Scripted
) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there = "dns_failure", False
        (lasting,), (prompt,) = await do(world), await do(world, expires_in=600)
        began_ms = world.clock.now_ms()
        detail = await world.settled(prompt)

        assert detail.call.state is CallState.EXPIRED
        assert 600_000 <= world.clock.now_ms() - began_ms <= 610_000
        assert (await now(world, lasting)).state is CallState.PENDING

    live(story)


def test_sending_begins_anew_with_one_and_doubles_each_second(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there = "dns_failure", False
        calls = await do(world, 400, takes_s=0.5)
        await world.pass_s(60)
        abroad.most.clear()
        abroad.mood, sight.is_there = "", True
        at = []
        while not abroad.most:
            await world.pass_s(0.1)
        for _ in range(RAMP_S):
            at.append(max(abroad.most))
            await world.pass_s(1.0)
        await world.finish(calls)

        assert at[0] == 1
        assert all(later <= 2 ** (second + 1) for second, later in enumerate(at))
        assert max(abroad.most) == 100

    live(story)


def test_open_payment_is_asked_about_once_the_link_is_back(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood = "accepts"
        (call,) = await do(world)
        await world.until(call, CallState.WAITING)
        abroad.mood, sight.is_there = "connect_timeout", False
        await world.pass_s(2 * HOUR_S)
        assert (await now(world, call)).state is CallState.WAITING
        assert abroad.asked == 1

        abroad.mood, sight.is_there = "", True
        back_ms = world.clock.now_ms()
        assert (await world.settled(call)).call.state is CallState.COMPLETED
        assert world.clock.now_ms() - back_ms <= 5000

    live(story)


def test_outage_lasts_over_a_restart(tmp_path: Path, sight: Scripted) -> None:
    made: list[Call] = []

    async def before(world: LiveWorld) -> None:
        abroad = await settle_in(world, give_up_after="1h")
        abroad.mood, sight.is_there = "dns_failure", False
        made.extend(await do(world, 3))
        await world.pass_s(60)

    async def after(world: LiveWorld) -> None:
        # A day later, as far as the clock of the wall goes.
        world.clock.start_ms += 24 * 3_600_000
        abroad = await settle_in(world, give_up_after="1h")
        abroad.mood = "dns_failure"
        await world.pass_s(600)
        assert not world.delivery.link.is_up
        assert {(await now(world, call)).tries for call in made} == {1}
        abroad.mood, sight.is_there = "", True
        for call in made:
            assert (await world.settled(call)).call.state is CallState.COMPLETED

    lived(tmp_path, sight)(before)
    lived(tmp_path, sight)(after)


def test_link_that_is_not_watched_is_up(live: Live, sight: Scripted) -> None:
    async def story(world: LiveWorld) -> None:
        abroad = await settle_in(world)
        abroad.mood, sight.is_there = "dns_failure", False
        await do(world)
        await world.pass_s(60)
        assert not world.delivery.link.is_up
        await world.use(dict(TABLES), link={"watch": False})
        await world.pass_s(60)

        assert world.delivery.link.is_up
        assert sight.looks.count("main") == 1

    live(story)
