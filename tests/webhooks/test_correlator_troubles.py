"""Notices are never lost, nor told twice: races, restarts, and webhooks that trip the plugin."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.webhooks.world import HookWorld

from integrationd.call import Call, CallState
from integrationd.journal import StoredWebhook

DONE = {"what": "done", "amount": "100.00"}


async def webhook(world: HookWorld, *states: str) -> StoredWebhook:
    return await world.until_webhook(*(states or ("applied",)))


async def test_call_that_moves_while_its_notice_is_looked_at_is_not_missed(
    world: HookWorld,
) -> None:
    """What was read is old when it arrives: the attempt has ended, and nobody was listening."""
    gate = world.till.gates["R-3"] = anyio.Event()
    call = await world.accept(own="R-3", script="slow")
    await world.until_call(call, CallState.PROCESSING)
    look = world.journal.leases.look

    async def look_slowly(seq: int) -> Any:
        found = await look(seq)
        gate.set()
        await world.until_call(call, CallState.WAITING, CallState.COMPLETED)
        return found

    world.journal.leases.look = look_slowly  # type: ignore[method-assign] # one order of many
    await world.tell({"ours": "R-3", **DONE})

    await world.until_call(call, CallState.COMPLETED)


async def test_call_that_turns_up_while_it_is_looked_for_is_not_missed(world: HookWorld) -> None:
    """What was not found is there when that is known, and nobody was listening."""
    find_call = world.journal.inbox.find_call
    made: list[Call] = []

    async def find_slowly(*args: Any, **named: Any) -> int | None:
        found = await find_call(*args, **named)
        if not made:
            made.append(await world.waiting(theirs="ws_CO_3"))
        return found

    world.journal.inbox.find_call = find_slowly  # type: ignore[method-assign] # one order of many
    await world.tell({"theirs": "ws_CO_3", **DONE})

    await world.until(lambda: settled(world, made))


async def settled(world: HookWorld, calls: Sequence[Call]) -> bool:
    states = {(await world.journal.calls.get(call.id)).state for call in calls}
    return states == {CallState.COMPLETED}


async def test_backlog_is_worked_on_after_a_restart(tmp_path: Path) -> None:
    first = HookWorld(tmp_path)
    async with first.running():
        gate = first.till.gates["R-1"] = anyio.Event()
        call = await first.accept(own="R-1", script="slow")
        await first.until_call(call, CallState.PROCESSING)
        await first.tell({"ours": "R-1", **DONE}, id="evt-1")
        await first.until_webhook("held")
        await first.tell({"theirs": "ws_CO_7", **DONE}, id="evt-2")
        await first.until_webhook("unmatched")
    assert not gate.is_set()

    again = HookWorld(tmp_path)
    async with again.running():
        # The attempt of the first run is one of unknown outcome; the webhook had the answer.
        await again.until_call(call, CallState.COMPLETED)
        late = await again.waiting(theirs="ws_CO_7")
        await again.until_call(late, CallState.COMPLETED)
        await again.until_webhook("applied")
        assert [one.state for one in await again.inbox()] == ["applied", "applied"]
        assert again.till.sends == [late.id]


@pytest.mark.parametrize("boom", ["bug", "exit"])
async def test_webhook_that_trips_the_plugin_later_does_not_hold_up_the_others(
    tmp_path: Path, boom: str
) -> None:
    world = HookWorld(tmp_path)
    async with world.running():
        call = await world.waiting()
        read = world.till.read_webhook
        world.till.read_webhook = lambda _self, _request: []
        await world.tell(id="evt-1", boom=boom)
        await world.until_webhook("ignored")
        world.till.read_webhook = read
        world.hooks.replay((await world.inbox())[0])
        await world.until_webhook("failed")

        await world.tell({"ours": call.id, **DONE}, id="evt-2")

        await world.until_call(call, CallState.COMPLETED)


async def test_webhook_that_cannot_be_kept_as_an_event_fails_alone(world: HookWorld) -> None:
    """A plugin of a later day tells what no JSON holds; the daemon goes on."""
    call = await world.waiting()
    await world.tell({"event": "payment.received"}, id="evt-1")
    first = await webhook(world)
    notice = world.till.read_webhook.__globals__["Notice"]
    read = world.till.read_webhook
    odd = [notice(event_id="e", type="t", event="payment.received", data={"who": "\ud800"})]
    world.till.read_webhook = lambda _self, _request: odd

    world.hooks.replay(first)
    await world.until(lambda: noted(world, first, "cannot be kept"))
    world.till.read_webhook = read
    await world.tell({"ours": call.id, **DONE}, id="evt-2")

    await world.until_call(call, CallState.COMPLETED)
    assert len(await world.events("payment.received")) == 1


async def noted(world: HookWorld, one: StoredWebhook, words: str) -> bool:
    found = await world.journal.inbox.get(one.id)
    return words in (found.note or "")


async def test_webhook_of_a_connection_that_is_gone_says_so(world: HookWorld) -> None:
    call = await world.waiting()
    await world.tell({"ours": call.id, "what": "done", "amount": "1"}, id="evt-1")
    told_before = await webhook(world)
    await world.tell(id="evt-2")
    ignored_before = await webhook(world, "ignored")

    await world.registry.replace([])
    for one in (told_before, ignored_before):
        world.hooks.replay(one)
        await world.until(functools.partial(noted, world, one, "not there any more"))

    assert [one.state for one in await world.inbox()] == ["failed", "applied"]


async def test_replay_applies_what_was_not_understood_before(world: HookWorld) -> None:
    call = await world.waiting()
    read = world.till.read_webhook
    world.till.read_webhook = lambda _self, _request: []
    await world.tell({"ours": call.id, **DONE})
    last = await webhook(world, "ignored")
    world.till.read_webhook = read

    world.hooks.replay(last)

    await world.until_call(call, CallState.COMPLETED)
