"""When calls go: due times, priorities, limits, breaker, expiry, shutdown, restart."""

import itertools
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from tests.delivery.conftest import Play
from tests.delivery.world import World
from tests.virtual_time import VirtualLoop, run_virtually

from integrationd.call import CallState
from integrationd.clock import to_datetime
from integrationd.delivery.attempt import Attempts
from integrationd.delivery.line import Common, Line
from integrationd.delivery.slots import Slots
from integrationd.events import BreakerMoved
from integrationd.journal import CallFilter
from integrationd.journal.leases import Leases
from integrationd.sdk import Context, Outcome, Retryable


def test_call_does_not_go_before_its_time(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            due_ms = world.clock.now_ms() + 3_600_000
            call = await world.accept("hold", not_before=to_datetime(due_ms))

            await world.settled(call)

            assert world.plugin.times_ms[call.id][0] >= due_ms
            assert world.clock.now_ms() - due_ms < 1000

    play(story)


def test_urgent_calls_go_first_and_low_ones_still_move(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.opened():
            one_second = {"script": ["slow:1"]}
            await world.accept_many("hold", [one_second] * 5, priority="low")
            await world.accept_many("hold", [one_second] * 60, priority="high")
            order = await _order_of_delivery(world)

        places = [place for place, priority in enumerate(order) if priority == 2]
        assert places[0] > 0
        assert places[0] <= 20
        assert places[-1] < 60

    play(story, concurrency=1)


def test_rate_limit_holds_over_any_window(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            calls = await world.accept_many("hold", [{}] * 60)
            for call in calls:
                await world.settled(call)
            times = sorted(at_ms for call in calls for at_ms in world.plugin.times_ms[call.id])
        assert all(later - earlier >= 99 for earlier, later in itertools.pairwise(times))

    play(story, rate_limit="10/s")


def test_breaker_opens_probes_and_closes(play: Play) -> None:
    async def story(world: World) -> None:
        moves: list[tuple[str, str]] = []
        world.bus.subscribe(BreakerMoved, lambda event: moves.append((event.before, event.after)))
        async with world.running():
            await world.accept_many("hold", [{"script": ["rejected"]}] * 3)
            calls = await world.accept_many(
                "hold", [{"script": ["never_left"] * 5 + ["delivered"]}] * 3
            )
            calls += await world.accept_many("hold", [{}] * 3)
            for call in calls:
                await world.settled(call)

        assert moves[0] == ("closed", "open")
        assert moves[-1] == ("half_open", "closed")
        assert ("closed", "half_open") not in moves

    play(story)


class OpeningLeases:
    """Leases whose claim takes so long that the breaker opens meanwhile."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leases = world.journal.leases

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    async def claim(self, *terms: Any) -> Any:
        found = await self._leases.claim(*terms)
        gate, now_ms = self._world.delivery.gate("stage"), self._world.clock.now_ms()
        while gate.capacity(now_ms):
            gate.end(Retryable(reason="busy"), gate.start(now_ms), now_ms)
        return found


def test_calls_claimed_while_the_breaker_opens_are_given_back(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.opened(), anyio.create_task_group() as group:
            calls = await world.accept_many("hold", [{}] * 3)
            line = Line(
                world.registry.connection("stage"),
                world.delivery._terms["stage"],
                world.delivery.gate("stage"),
                Common(
                    link=world.delivery._link,
                    slots=Slots(8),
                    leases=cast("Leases", OpeningLeases(world)),
                    attempts=cast("Attempts", None),
                    feeds=world.delivery._dispatcher.feeds,
                    clock=world.clock,
                    tell_due=lambda _lane, _due_ms: None,
                    tell_room=lambda _connection: None,
                ),
            )
            line.note_due(calls[0].lane, 0)
            group.start_soon(line.run, group)
            await anyio.sleep(1)
            line.drain()
            found = [await world.journal.calls.get(call.id) for call in calls]

        assert [(call.state, call.tries) for call in found] == [(CallState.PENDING, 0)] * 3
        assert all((call.due_at_ms or 0) > world.clock.now_ms() + 50_000 for call in found)

    play(story)


def test_open_breaker_survives_a_restart(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        first = World(tmp_path, loop)
        async with first.running():
            await first.accept_many("hold", [{"script": ["never_left"]}] * 6)
            await anyio.sleep(1)
            assert first.delivery.gate("stage").status().breaker == "open"

        second = World(tmp_path, loop)
        async with second.running():
            await anyio.sleep(0.1)
            assert second.delivery.gate("stage").status().breaker == "open"

    run_virtually(story)


def test_expired_call_is_never_sent_and_says_why(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("hold", {"script": ["never_left"]}, expires_in=300)

            detail = await world.settled(call)

            assert detail.call.state is CallState.EXPIRED
            assert "Nobody listens" in (detail.call.detail or "")
            assert detail.call.finished_at_ms is not None
            assert detail.call.expires_at_ms is not None
            assert detail.call.finished_at_ms - detail.call.expires_at_ms < 1000

    play(story)


def test_call_with_a_send_in_doubt_does_not_expire_but_becomes_unknown(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept(
                "keyed", {"script": ["uncertain", "never_left"]}, expires_in=120
            )

            detail = await world.until(call, CallState.UNKNOWN)

            assert detail.call.doubt == 1

    play(story)


def test_outage_of_72_hours_spends_nothing_and_drains_by_urgency(play: Play) -> None:
    outage_h = 71

    async def story(world: World) -> None:
        async with world.running():
            end_ms = world.clock.now_ms() + outage_h * 3_600_000
            _take_provider_down_until(world, end_ms)
            calls = await world.accept_many("hold", [{}] * 150, priority="low")
            calls += await world.accept_many("hold", [{}] * 50, priority="high")
            while world.clock.now_ms() < end_ms:
                await anyio.sleep(600)
            for call in calls:
                detail = await world.settled(call)
                assert detail.call.state is CallState.COMPLETED
                assert detail.call.attempts == 1

        assert world.clock.now_ms() - end_ms < 3_600_000

    play(story, breaker={"open_for": "15m"})


@pytest.mark.slow
def test_longer_outage_ends_in_giving_up(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("hold", {"script": ["never_left"]})
            began_ms = world.clock.now_ms()

            detail = await world.settled(call)

            assert detail.call.reason == "gave_up"
            assert 71 * 3_600_000 < world.clock.now_ms() - began_ms <= 72 * 3_600_000 + 60_000
            assert detail.call.attempts == 0

    play(story)


def test_lease_of_an_earlier_run_is_an_uncertain_send(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        first = World(tmp_path, loop)
        async with first.opened():
            held = await first.accept("hold", {"script": ["delivered"]})
            keyed = await first.accept("keyed", {"script": ["delivered"]})
            for call in (held, keyed):
                await first.journal.leases.claim(call.lane, "stage", 1, 60_000)

        second = World(tmp_path, loop)
        async with second.running():
            unknown = await second.until(held, CallState.UNKNOWN)
            repeated = await second.settled(keyed)

            assert unknown.call.reason == "interrupted"
            assert repeated.call.state is CallState.COMPLETED
            assert second.plugin.sends[held.id] == 0

    run_virtually(story)


def test_draining_lets_attempts_finish_and_leaves_the_rest_pending(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            calls = await world.accept_many("hold", [{"script": ["slow:3"]}] * 4)
            await anyio.sleep(1)
        async with world.opened():
            found = await world.journal.calls.list(CallFilter(), before=None, limit=10)
            states = sorted(call.state.value for call in found)

        assert len(calls) == 4
        assert states == ["completed", "completed", "pending", "pending"]

    play(story, concurrency=2)


def test_attempt_that_is_cut_short_is_settled_as_what_it_is(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(tmp_path, loop, timeout="600s")
        async with world.opened(), anyio.create_task_group() as group:
            group.start_soon(world.delivery.run)
            call = await world.accept("hold", {"script": ["slow:500"]})
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        async with World(tmp_path, loop).opened():
            pass
        again = World(tmp_path, loop)
        async with again.opened():
            found = await again.journal.calls.get(call.id)

        assert (found.state, found.reason) == (CallState.UNKNOWN, "interrupted")

    run_virtually(story)


async def _order_of_delivery(world: World) -> list[int]:
    async with anyio.create_task_group() as group:
        group.start_soon(world.delivery.run)
        calls = await world.journal.calls.list(CallFilter(), before=None, limit=500)
        for call in calls:
            await world.settled(call)
        world.delivery.drain()
    ended = sorted(calls, key=lambda call: world.plugin.times_ms[call.id][0])
    return [int(call.priority) for call in ended]


def _take_provider_down_until(world: World, end_ms: int) -> None:
    """Make every send before ``end_ms`` one that never leaves, by the provider's own method."""
    declared = world.registry.connection("stage").plugin.operations["rehearsal.hold"].declared
    play = declared.method

    async def send(provider: Any, request: Any, ctx: Context) -> Outcome:
        if world.clock.now_ms() < end_ms:
            return Retryable(reason="connection_refused", detail="No line.", sent=False)
        return await play(provider, request, ctx)

    object.__setattr__(declared, "method", send)
