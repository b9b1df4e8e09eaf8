"""Refused webhooks in the event log: one event a minute for each connection, with a count."""

from collections.abc import AsyncIterator

import anyio
import pytest
from tests.fake_clock import FakeClock

from integrationd.call import EventRecord
from integrationd.events import Bus, WebhookRefused
from integrationd.supervisor.refusals import WINDOW_S, Refusals


class Told:
    """What was told, and a hand on the bus and the clock."""

    def __init__(self) -> None:
        self.bus, self.clock = Bus(), FakeClock()
        self.events: list[EventRecord] = []
        self.refusals = Refusals(self.events.append, self.bus, self.clock)

    def refuse(self, connection: str = "till", reason: str = "signature_wrong") -> None:
        self.bus.publish(WebhookRefused(connection, "203.0.113.9", reason, "x", "school"))

    @property
    def counts(self) -> list[tuple[str | None, int]]:
        return [(event.connection, event.data["count"]) for event in self.events]


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    async with anyio.create_task_group() as group:
        group.start_soon(made.refusals.run)
        yield made
        group.cancel_scope.cancel()


async def test_first_refusal_is_told_at_once_with_whose_it_is(told: Told) -> None:
    told.refuse()

    (event,) = told.events
    assert (event.type, event.tenant, event.connection) == ("webhook.refused", "school", "till")
    assert event.data == {"count": 1, "reasons": {"signature_wrong": 1}}


async def test_flood_costs_one_event_a_minute(told: Told) -> None:
    for _ in range(1000):
        told.refuse()
    assert told.counts == [("till", 1)]

    await told.clock.advance(WINDOW_S)
    told.refuse(reason="stale")
    await told.clock.advance(WINDOW_S - 1)
    assert told.counts == [("till", 1), ("till", 999)]

    await told.clock.advance(1)
    assert told.counts == [("till", 1), ("till", 999), ("till", 1)]
    assert told.events[-1].data["reasons"] == {"stale": 1}


async def test_quiet_minute_is_not_told_and_the_next_refusal_is_at_once(told: Told) -> None:
    told.refuse()
    await told.clock.advance(2 * WINDOW_S)
    assert told.counts == [("till", 1)]

    told.refuse()

    assert told.counts == [("till", 1), ("till", 1)]


async def test_each_connection_has_a_minute_of_its_own(told: Told) -> None:
    told.refuse("a")
    await told.clock.advance(WINDOW_S / 2)
    told.refuse("b")
    told.refuse("a")
    told.refuse("b")
    await told.clock.advance(WINDOW_S / 2)
    assert told.counts == [("a", 1), ("b", 1), ("a", 1)]

    await told.clock.advance(WINDOW_S / 2)

    assert told.counts[3:] == [("b", 1)]


async def test_reasons_without_end_are_told_as_few(told: Told) -> None:
    told.refuse()
    for number in range(100):
        told.refuse(reason=f"reason_{number}")
    await told.clock.advance(WINDOW_S)

    reasons = told.events[-1].data["reasons"]
    assert len(reasons) == 21
    assert reasons["other"] == 80
