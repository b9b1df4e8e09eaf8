"""Fairness: who has much waiting holds up nobody else by more than a few claims."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from tests.delivery.conftest import Play
from tests.delivery.world import World
from tests.virtual_time import VirtualLoop, run_virtually

from integrationd.call import AttemptKind, CallState
from integrationd.events import AttemptEnded
from integrationd.settings import TenantSettings

CROWD = 300
# One for whose turn it is, one that was under way.
FEW = 2
ACCEPTED = {"script": ["accepted"], "findings": ["done"]}
SLOW = {"script": ["slow:1"]}


def watched(world: World) -> list[AttemptEnded]:
    """Take note of every attempt that ends, and let the tenants of the tests have calls."""
    world.tenants.use(dict.fromkeys(("crowd", "other", "third"), TenantSettings()))
    ended: list[AttemptEnded] = []
    world.bus.subscribe(AttemptEnded, ended.append)
    return ended


def tenants_of(ended: Sequence[AttemptEnded], kind: AttemptKind = AttemptKind.SEND) -> list[str]:
    return [one.call.tenant for one in ended if one.attempt.kind is kind]


async def crowd(world: World, verb: str, payload: Any, count: int = CROWD, **options: Any) -> None:
    await world.accept_many(verb, [payload] * count, tenant="crowd", **options)


def test_call_of_another_tenant_waits_for_few_claims_on_its_route(play: Play) -> None:
    async def story(world: World) -> None:
        ended = watched(world)
        async with world.running():
            await crowd(world, "hold", SLOW)
            await anyio.sleep(10)
            before = len(ended)
            call = await world.accept("hold", SLOW, tenant="other")
            await world.settled(call)

        assert tenants_of(ended[before:]).index("other") <= FEW

    play(story, concurrency=1)


def test_call_of_another_tenant_waits_for_few_claims_on_its_connection(play: Play) -> None:
    async def story(world: World) -> None:
        ended = watched(world)
        async with world.opened():
            await crowd(world, "hold", {}, connection="stage")
            call = await world.accept("hold", {}, tenant="other", connection="stage")
            async with anyio.create_task_group() as group:
                group.start_soon(world.delivery.run)
                await world.settled(call)
                world.delivery.drain()

        assert tenants_of(ended).index("other") <= FEW

    play(story, concurrency=1)


def test_priority_of_one_tenant_is_no_concern_of_another(play: Play) -> None:
    async def story(world: World) -> None:
        ended = watched(world)
        async with world.running():
            await crowd(world, "hold", SLOW, priority="high")
            await anyio.sleep(5)
            before = len(ended)
            await world.settled(await world.accept("hold", SLOW, tenant="other", priority="low"))

        assert tenants_of(ended[before:]).index("other") <= FEW

    play(story, concurrency=1)


def test_question_of_another_tenant_waits_for_few_claims(tmp_path: Path) -> None:
    """Nor do many questions that are due hold up what is to be sent."""

    async def story(loop: VirtualLoop) -> None:
        first = World(tmp_path, loop)
        watched(first)
        async with first.running():
            await crowd(first, "ask", ACCEPTED, 100)
            asked = await first.accept("ask", ACCEPTED, tenant="other")
            await first.until(asked, CallState.WAITING)
        await anyio.sleep(60)
        second = World(tmp_path, loop, concurrency=1)
        ended = watched(second)
        async with second.opened():
            sent = await second.accept("hold", {}, tenant="third")
            async with anyio.create_task_group() as group:
                group.start_soon(second.delivery.run)
                await second.settled(asked)
                await second.settled(sent)
                second.delivery.drain()

        assert tenants_of(ended, AttemptKind.QUERY).index("other") <= FEW
        assert [one.call.tenant for one in ended].index("third") <= FEW + 1

    run_virtually(story)


def test_line_that_always_has_work_leaves_others_their_slot(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        world = World(tmp_path, loop, beside={"side": {}}, delivery={"concurrency": 1})
        ended = watched(world)
        async with world.running():
            await crowd(world, "hold", SLOW, 100, connection="stage")
            await anyio.sleep(5)
            before = len(ended)
            payloads = [SLOW] * 10
            calls = await world.accept_many("hold", payloads, tenant="other", connection="side")
            for call in calls:
                await world.settled(call)

        order = tenants_of(ended[before:])
        turns = [place for place, tenant in enumerate(order) if tenant == "other"]
        assert turns[0] <= FEW
        assert all(later - earlier <= FEW for earlier, later in itertools.pairwise(turns))

    run_virtually(story)


def test_no_more_attempts_are_under_way_than_slots(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        names = [f"side{number}" for number in range(5)]
        world = World(
            tmp_path, loop, beside={one: {} for one in names}, delivery={"concurrency": 3}
        )
        ended = watched(world)
        async with world.running():
            calls = [
                await world.accept("hold", SLOW, connection=name)
                for name in names
                for _ in range(8)
            ]
            for call in calls:
                await world.settled(call)

        begun = [(one.attempt.started_at_ms, 1) for one in ended]
        over = [(one.attempt.started_at_ms + one.attempt.duration_ms, -1) for one in ended]
        running = itertools.accumulate(change for _, change in sorted(begun + over))
        assert max(running) == 3

    run_virtually(story)
