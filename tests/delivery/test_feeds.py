"""A subscription is fed as its line takes work, and costs nothing while it does not."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.delivery.conftest import Play
from tests.delivery.world import World

from integrationd.call import CallState, EventRecord, subscription_connection
from integrationd.delivery.feeds import Feed, terms_of
from integrationd.delivery.telling import BODY_LIMIT_BYTES, payload_of
from integrationd.journal import (
    CallFilter,
    StoredEvent,
    StoredSubscription,
    SubscriptionTerms,
)
from integrationd.sdk import Rejected, Retryable, Throttled
from integrationd.settings import FeedSettings, fed_connection

ID = "one"
NAME = subscription_connection(ID)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@contextlib.asynccontextmanager
async def subscribed(world: World, **feed: Any) -> AsyncIterator[Feed]:
    """Have a subscription in the journal and a feed of it."""
    now_ms = world.clock.now_ms()
    async with world.opened():
        terms = SubscriptionTerms(url="https://shop.example/")
        new = StoredSubscription(
            id=ID, tenant=None, terms=terms, created_at_ms=now_ms, changed_at_ms=now_ms
        )
        await world.journal.subscriptions.add(new, "test")
        settings = FeedSettings(subscription=ID, **{"events": ("call.*",), **feed})
        one = terms_of(NAME, fed_connection(settings, {}))
        yield Feed(one, world.journal, is_endless=settings.is_endless)


async def tell(world: World, count: int, call_id: str | None = None) -> None:
    for number in range(count):
        record = EventRecord(type="call.completed", data={"n": number}, call_id=call_id)
        await world.journal.events.append(record, world.clock.now_ms())


def test_claim_makes_as_many_deliveries_as_there_is_room_for(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            await tell(world, 10)

            leases, next_ms = await feed.claim(4, 1000, world.clock.now_ms())

            assert [json.loads(one.payload)["type"] for one in leases] == ["call.completed"] * 4
            assert next_ms is not None
            listed = await world.journal.calls.list(
                CallFilter(operation="webhook.send"), before=None, limit=100
            )
            assert len(listed) == 4
            cursor = (await world.journal.subscriptions.cursors())[ID]
            assert cursor.seq == 1 + 4

    play(story)


def test_nothing_is_told_twice_and_nothing_left_out(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            await tell(world, 10)
            told: list[int] = []
            for _ in range(6):
                leases, _ = await feed.claim(3, 1000, world.clock.now_ms())
                told += [json.loads(json.loads(one.payload)["body"])["data"]["n"] for one in leases]
            assert told == list(range(10))
            assert not feed.has_more

    play(story)


def test_later_event_of_a_call_waits_for_the_first_attempt_of_the_one_before(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            await tell(world, 2, call_id="c" * 36)

            leases, _ = await feed.claim(5, 1000, world.clock.now_ms())

            assert len(leases) == 1

    play(story)


def test_receiver_that_is_gone_is_switched_off_in_the_commit_of_the_attempt(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            job = feed.answered(Rejected(reason="gone"), world.clock.now_ms(), 0)
            assert job is not None
            await world.journal.write(job)

            stored = await world.journal.subscriptions.get(ID, None)
            types = [event.type for event in await world.journal.events.after(0, 10)]
            assert (stored.active, stored.stopped) == (False, "gone")
            assert types[-1] == "subscription.disabled"
            assert await feed.claim(5, 1000, world.clock.now_ms()) == ([], None)

    play(story)


def test_failing_for_too_long_switches_off_in_the_commit_of_the_attempt(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            now_ms, failed = world.clock.now_ms(), Retryable(reason="http_500", detail="")
            for day in range(5):
                job = feed.answered(failed, now_ms + day * DAY_MS, 0)
                assert job is not None
                await world.journal.write(job)
                assert (await world.journal.subscriptions.get(ID, None)).active
            over = feed.answered(failed, now_ms + 5 * DAY_MS, 0)
            assert over is not None
            await world.journal.write(over)
            stored = await world.journal.subscriptions.get(ID, None)
            assert stored.stopped == "failing"

    play(story)


def test_failing_is_written_once_an_hour(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            now_ms, failed = world.clock.now_ms(), Retryable(reason="http_500", detail="")
            jobs = [feed.answered(failed, now_ms + at * HOUR_MS // 2, 0) for at in range(5)]
            for job in jobs:
                if job is not None:
                    await world.journal.write(job)

            assert [job is not None for job in jobs] == [True, False, True, False, True]
            cursor = (await world.journal.subscriptions.cursors())[ID]
            assert cursor.failing_since_ms == now_ms
            assert cursor.failed_at_ms == now_ms + 2 * HOUR_MS

    play(story)


def test_cursor_that_is_damaged_feeds_nothing_and_harms_nobody(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            await tell(world, 3)
            await world.journal.write(
                lambda writing: writing.db.execute("UPDATE subscription_cursor SET seq = seq + 1")
            )

            assert await feed.claim(5, 1000, world.clock.now_ms()) == ([], None)
            assert await world.journal.subscriptions.cursors() == {}

    play(story)


def test_overloaded_receiver_is_left_alone_for_a_while(play: Play) -> None:
    async def story(world: World) -> None:
        async with subscribed(world) as feed:
            await tell(world, 1)
            now_ms = world.clock.now_ms()
            feed.answered(Throttled(wait_s=9.0), now_ms, 0)

            assert await feed.claim(5, 1000, now_ms) == ([], now_ms + 9000)
            leases, _ = await feed.claim(5, 1000, now_ms + 9000)
            assert len(leases) == 1
            assert leases[0].call.state is CallState.PROCESSING

    play(story)


def test_data_that_is_too_long_is_told_by_its_number() -> None:
    event = StoredEvent(7, 0, "order.paid", None, None, None, json.dumps({"x": "y" * 30_000}))

    sent = json.loads(payload_of(event, "evt_7_x", "standard"))

    assert len(sent["body"]) < BODY_LIMIT_BYTES
    assert json.loads(sent["body"])["data"]["omitted"] is True
