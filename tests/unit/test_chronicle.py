"""The chronicle: what happens to the daemon itself is in the event log, with its own time."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import KEY, opened

from integrationd.events import Bus, ConfigMoved, JournalMoved, PluginMoved, WebhookRefused
from integrationd.journal import Journal, StoredEvent, Watermarks
from integrationd.supervisor.chronicle import Chronicle

# More than any disk has.
HUGE = 2**60


class Scene:
    """A journal with a chronicle, and the bus that tells it.

    Attributes:
        journal: The journal.
        bus: Where facts are told.
        clock: Stands still.
    """

    def __init__(self, journal: Journal, bus: Bus, clock: FakeClock) -> None:
        self.journal = journal
        self.bus = bus
        self.clock = clock

    async def events(self, count: int) -> list[StoredEvent]:
        """Return the first events, once there are so many."""
        with anyio.fail_after(5):
            while len(found := await self.journal.events.after(0, 100)) < count:
                await anyio.sleep(0.01)
        return list(found)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    bus, clock = Bus(), FakeClock()
    async with (
        opened(tmp_path / "journal.db", clock, bus) as journal,
        anyio.create_task_group() as group,
    ):
        group.start_soon(Chronicle(journal, bus, clock).run)
        yield Scene(journal, bus, clock)
        group.cancel_scope.cancel()


async def test_journal_that_is_full_and_takes_calls_again_is_told(scene: Scene) -> None:
    for condition in ("full", "ready", "recovering", "ready"):
        scene.bus.publish(JournalMoved(condition, f"It is {condition}."))

    found = await scene.events(4)

    assert [(event.type, json.loads(event.data)["reason"]) for event in found] == [
        ("journal.full", "It is full."),
        ("journal.resumed", "It is ready."),
        ("journal.recovering", "It is recovering."),
        ("journal.resumed", "It is ready."),
    ]


async def test_disk_low_on_room_is_told_until_everything_is_taken_again(scene: Scene) -> None:
    scene.bus.publish(JournalMoved("ready", "Low.", is_low=True))
    scene.bus.publish(JournalMoved("full", "Nearly full."))
    scene.bus.publish(JournalMoved("ready", "Low again.", is_low=True))
    scene.bus.publish(JournalMoved("ready", ""))

    found = await scene.events(4)

    assert [(event.type, json.loads(event.data)["reason"]) for event in found] == [
        ("journal.high_water", "Low."),
        ("journal.full", "Nearly full."),
        ("journal.high_water", "Low again."),
        ("journal.resumed", ""),
    ]


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        (Watermarks(HUGE, 0), "journal.high_water"),
        (Watermarks(HUGE, HUGE), "journal.full"),
    ],
)
async def test_disk_that_has_little_room_at_the_start_is_told(
    tmp_path: Path, marks: Watermarks, kind: str
) -> None:
    bus, clock = Bus(), FakeClock()
    journal = Journal(tmp_path / "journal.db", KEY, bus, clock, marks)
    await journal.open()
    async with anyio.create_task_group() as group:
        group.start_soon(Chronicle(journal, bus, clock).run)
        (told,) = await Scene(journal, bus, clock).events(1)
        group.cancel_scope.cancel()
    await journal.close()

    assert told.type == kind


async def test_reloads_plugins_and_refused_webhooks_are_told_in_their_order(scene: Scene) -> None:
    scene.bus.publish(ConfigMoved("rejected", "a file has changed", ("line 3: no",)))
    scene.bus.publish(PluginMoved("loaded", "till.py", "till", "0123"))
    scene.bus.publish(WebhookRefused("till", "203.0.113.9", "stale", "x", "school"))

    found = await scene.events(3)

    assert [event.type for event in found] == [
        "config.rejected",
        "plugin.loaded",
        "webhook.refused",
    ]
    assert found[2].tenant == "school"
    assert "203.0.113.9" not in found[2].data
