"""Delivery under a configuration that changes: calls wait and move, attempts end as begun."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.delivery.live_world import DESK, DESK_ONE, Live, LiveWorld, lived
from tests.virtual_time import VirtualLoop, run_virtually

from integrationd.call import CallState
from integrationd.clock import to_datetime
from integrationd.errors import UnprocessableError
from integrationd.events import BreakerMoved
from integrationd.registry import Connection

STAGE = {"stage": {"provider": "rehearsal"}}
HOLD = {"desk.send": {"order": ["desk"], "when_missing": "hold"}}


def renewed(world: LiveWorld, key: str) -> dict[str, Any]:
    return {"desk": {"provider": "desk", "config": {"key": key}}}


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return lived(tmp_path)


# Connections come and go


def test_calls_held_for_a_route_go_when_its_connection_comes(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        held = {"desk.send": {"order": ["later"], "when_missing": "hold"}}
        await world.use(DESK_ONE)
        due = to_datetime(world.clock.now_ms() + 60_000)
        calls = await world.submit(3, not_before=due)
        await world.use(STAGE, routes=held)
        await world.pass_s(3600)
        assert await world.states(calls) == {"pending"}

        await world.use({"later": {"provider": "desk"}}, routes=held)
        began = world.clock.monotonic()
        await world.finish(calls)

        assert world.clock.monotonic() - began < 1
        assert await world.states(calls) == {"completed"}

    live(story)


def test_calls_of_a_connection_that_vanishes_stay_pending_with_the_reason(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use({"desk": {"provider": "desk", "concurrency": 1}})
        pinned = await world.submit(3, takes_s=5, connection="desk")
        await world.pass_s(0.1)

        await world.use(STAGE)
        await world.pass_s(3600)

        assert (await world.settled(pinned[0])).call.state is CallState.COMPLETED
        assert await world.states(pinned[1:]) == {"pending"}
        left = (await world.journal.calls.detail(pinned[1].id)).call
        assert world.delivery.routing.why_none(left) == (
            "Its connection 'desk' is not configured or is switched off. It goes as soon as that is"
            " there again."
        )
        assert left.attempts == 0
        with pytest.raises(UnprocessableError, match="no connection 'desk'"):
            await world.submit(connection="desk")

    live(story)


def test_calls_come_back_with_their_connection(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use({"desk": {"provider": "desk", "concurrency": 1}})
        calls = await world.submit(3, takes_s=5, connection="desk")
        await world.pass_s(0.1)
        for _ in range(3):
            await world.use(STAGE)
            await world.pass_s(60)
            await world.use({"desk": {"provider": "desk", "enabled": False}})
            await world.pass_s(60)
        assert await world.states(calls[1:]) == {"pending"}

        await world.use(DESK_ONE)
        await world.finish(calls)

        assert await world.states(calls) == {"completed"}
        assert len(world.desk.sends) == 3

    live(story)


def test_connection_taken_away_and_put_back_at_once_loses_and_doubles_nothing(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(DESK_ONE)
        calls = await world.submit(50, takes_s=0.5, connection="desk")
        for _ in range(40):
            await world.use(STAGE)
            await anyio.lowlevel.checkpoint()
            await world.use(DESK_ONE)
            await world.pass_s(0.05)
        await world.finish(calls)

        assert await world.states(calls) == {"completed"}
        assert len(world.desk.sends) == 50

    live(story)


def test_route_moved_while_calls_wait_takes_them_along(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        both: dict[str, Any] = {
            "desk": {"provider": "desk", "rate_limit": "1/m"},
            "other": {"provider": "desk"},
        }
        await world.use(both, routes=HOLD)
        calls = await world.submit(20)
        await world.settled(calls[0])
        await world.pass_s(30)
        assert len(world.desk.sends) == 1

        moved = {"desk.send": {"order": ["other"], "when_missing": "hold"}}
        await world.use(both, routes=moved)
        began = world.clock.monotonic()
        await world.finish(calls)

        assert world.clock.monotonic() - began < 5
        assert [name for name, _ in world.desk.sends] == ["desk", *["other"] * 19]

    live(story)


def test_pinned_calls_stay_when_the_route_moves(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        both: dict[str, Any] = {"desk": {"provider": "desk"}, "other": {"provider": "desk"}}
        await world.use(both, routes=HOLD)
        (call,) = await world.submit(connection="desk", expires_in=3600)
        moved = {"desk.send": {"order": ["other"], "when_missing": "hold"}}

        await world.use(both, routes=moved)
        await world.settled(call)

        assert world.desk.sends == [("desk", "old")]

    live(story)


# Limits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"rate_limit": "1/m"}, {"rate_limit": "100/s"}),
        ({"rate_limit": "1/m"}, {}),
        ({"concurrency": 1}, {"concurrency": 20}),
    ],
)
def test_raised_limit_of_a_connection_holds_at_once(
    live: Live, before: dict[str, Any], after: dict[str, Any]
) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use({"desk": {"provider": "desk", "timeout": "10m", **before}})
        calls = await world.submit(20, takes_s=500)
        await world.pass_s(30)
        assert len(world.desk.sends) == 1

        await world.use(
            {"desk": {"provider": "desk", "timeout": "10m", "concurrency": 20, **after}}
        )
        await world.pass_s(2)

        assert len(world.desk.sends) == 20
        await world.finish(calls)

    live(story)


def test_lowered_concurrency_lets_what_is_under_way_finish(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use({"desk": {"provider": "desk", "concurrency": 10}})
        calls = await world.submit(20, takes_s=10)
        await world.pass_s(1)
        assert world.delivery.gate("desk").status().running == 10

        await world.use({"desk": {"provider": "desk", "concurrency": 2}})
        await world.pass_s(11)
        assert world.delivery.gate("desk").status().running == 2

        await world.finish(calls)
        assert await world.states(calls) == {"completed"}
        assert world.delivery.gate("desk").status().running == 0

    live(story)


def test_whole_daemons_concurrency_grows_and_shrinks(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        wide = {"desk": {"provider": "desk", "concurrency": 50}}
        await world.use(wide, delivery={"concurrency": 2})
        calls = await world.submit(30, takes_s=10)
        await world.pass_s(1)
        assert world.delivery.gate("desk").status().running == 2

        await world.use(wide, delivery={"concurrency": 12})
        await world.pass_s(1)
        assert world.delivery.gate("desk").status().running == 12

        await world.use(wide, delivery={"concurrency": 1})
        await world.pass_s(11)
        assert world.delivery.gate("desk").status().running == 1
        await world.use(wide)
        await world.finish(calls)

    live(story)


def test_open_breaker_stays_open_under_another_configuration(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        terms = {"provider": "rehearsal", "breaker": {"failures": 2, "open_for": "1h"}}
        await world.use({"stage": terms})
        await world.accept_many("hold", [{"script": ["never_left", "delivered"]}] * 4)
        await world.pass_s(60)
        assert world.delivery.gate("stage").status().breaker == "open"

        await world.use({"stage": {**terms, "concurrency": 3}})
        assert world.delivery.gate("stage").status().breaker == "open"

        # A shorter time holds for the breaker that is open already.
        await world.use({"stage": {**terms, "breaker": {"failures": 50, "open_for": "61s"}}})
        await world.accept_many("hold", [{}] * 4)
        await world.pass_s(120)
        assert world.delivery.gate("stage").status().breaker != "open"

    live(story)


def test_configuration_taken_over_before_the_journal_is_ready_is_the_one_that_holds(
    tmp_path: Path,
) -> None:
    async def main(loop: VirtualLoop) -> None:
        async with anyio.create_task_group() as group:
            world = LiveWorld(tmp_path, loop, group)
            async with world.opened():
                await world.use({"desk": {"provider": "desk", "concurrency": 3}})
                group.start_soon(world.delivery.run)
                calls = await world.submit(6, takes_s=10)
                await world.pass_s(1)
                assert world.delivery.gate("desk").status().running == 3
                await world.finish(calls)
                world.delivery.drain()

    run_virtually(main)


# Versions


def test_attempt_under_way_ends_on_the_connection_that_it_began_with(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(renewed(world, "old"))
        (first,) = await world.submit(takes_s=10)
        await world.pass_s(0.1)

        await world.use(renewed(world, "new"))
        (second,) = await world.submit(takes_s=1)
        await world.settled(second)
        assert world.desk.closed == []

        await world.settled(first)
        await world.pass_s(0.1)
        assert world.desk.closed == ["old"]
        assert world.desk.sends == [("desk", "old"), ("desk", "new")]
        assert await world.states([first, second]) == {"completed"}

    live(story)


def test_attempt_under_way_ends_on_the_version_that_it_began_with(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(DESK_ONE)
        (first,) = await world.submit(takes_s=10)
        await world.pass_s(0.1)
        old = world.find("desk").plugin

        new = world.load(DESK.replace("OPERATION", "send") + "# another\n")
        await world.use(DESK_ONE)
        (second,) = await world.submit()

        await world.finish([first, second])
        digests = [(await world.log(call))[0].plugin_digest for call in (first, second)]
        assert digests == [old.digest[:12], new.digest[:12]]
        await world.pass_s(0.1)
        assert world.desk.closed == ["old"]

    live(story)


@pytest.mark.parametrize("connection", ["desk", None])
def test_operation_that_the_new_version_does_not_offer_keeps_its_calls(
    live: Live, connection: str | None
) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(DESK_ONE)
        soon = to_datetime(world.clock.now_ms() + 60_000)
        due: dict[str, Any] = {"not_before": soon, "connection": connection}
        calls = await world.submit(3, **due)

        world.load(DESK.replace("OPERATION", "post"))
        await world.use(DESK_ONE)
        await world.pass_s(12 * 3600)
        assert await world.states(calls) == {"pending"}
        with pytest.raises(UnprocessableError):
            await world.submit(connection=connection)

        back: Any = world.load(DESK.replace("OPERATION", "send"))
        await world.use(DESK_ONE)
        await world.finish(calls)
        assert await world.states(calls) == {"completed"}
        assert len(back.provider.sends) == 3
        assert world.desk.sends == []

    live(story)


# Credentials


def renewing(world: LiveWorld) -> Callable[[Connection], Coroutine[Any, Any, bool]]:
    """Read the key anew when one was not known, as the daemon does."""

    async def renew(connection: Connection) -> bool:
        if world.find("desk").spec.config == {"key": "stale"}:
            await world.use(renewed(world, "new"))
        return world.find("desk").spec.config != connection.spec.config

    return renew


def test_refused_credentials_that_have_been_renewed_are_tried_again(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        world.renew_by(renewing(world))
        await world.use(renewed(world, "stale"), delivery={"attempts": 1})
        calls = await world.submit(3)

        await world.finish(calls)

        assert await world.states(calls) == {"completed"}
        assert [one.reason for one in await world.log(calls[0])] == ["credentials_renewed", None]
        assert {key for _, key in world.desk.sends} == {"stale", "new"}

    live(story)


def test_renewal_is_no_failure_of_the_provider(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        moves: list[str] = []
        world.bus.subscribe(BreakerMoved, lambda event: moves.append(event.after))
        world.renew_by(renewing(world))
        await world.use(renewed(world, "stale"))
        calls = await world.submit(8, takes_s=1)

        await world.finish(calls)

        assert await world.states(calls) == {"completed"}
        assert moves == []

    live(story)


def test_refused_credentials_without_newer_ones_fail_the_call(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(renewed(world, "unknown-key"))
        (call,) = await world.submit()

        found = await world.settled(call)

        assert (found.call.state, found.call.reason) == (CallState.FAILED, "bad_credentials")
        assert "unknown-key" not in str(found)

    live(story)


def test_secret_of_before_stays_masked_in_the_attempt_that_used_it(live: Live) -> None:
    async def story(world: LiveWorld) -> None:
        await world.use(renewed(world, "former-secret"))
        (call,) = await world.submit(takes_s=10)
        await world.pass_s(0.1)

        await world.use(renewed(world, "valid-secret"))
        await world.finish([call])

        assert [one.detail for one in await world.log(call)] == ["Who is ***?"]

    live(story)
