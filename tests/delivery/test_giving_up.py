"""Who is given up, and who is not: receivers that fail, our link, the app; in virtual days."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.delivery.live_world import LiveWorld, answered, lived

from integrationd.call import EventRecord, subscription_connection
from integrationd.journal import StoredSubscription, SubscriptionTerms
from integrationd.registry import ConnectionSpec, LoadedPlugins
from integrationd.sdk.reach import View
from integrationd.settings import APP_SCHEDULE_S, FeedSettings, Settings, fed_connection

ID = "one"
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
DAYS = 6
# Each minute of it is a probe.
DOWN_DAYS = 1.5
RECEIVER = '''
from typing import ClassVar

from integrationd.sdk import *


class Receiver(Provider):
    """Answers as it is told to."""

    code = "webhook"
    mood: ClassVar[str] = "500"
    tries: ClassVar[list[str]] = []
    taken: ClassVar[list[str]] = []

    class Config(ProviderConfig):
        pass

    @operation("webhook.send", repeat_safe=True, reads_only=True)
    async def send(self, request, ctx):
        self.tries.append(self.mood)
        match self.mood:
            case "500":
                return Retryable(reason="http_500", detail="It is broken.")
            case "offline":
                return Retryable(reason="dns_failure", detail="No such name.", sent=False)
            case _:
                self.taken.append(request.body)
                return Delivered()
'''
OTHERS = {
    "provider": {"provider": "rehearsal"},
    "printer": {"provider": "rehearsal"},
}


class Names:
    """Knows who is outside by name, and nobody to ask about the link."""

    def leads_outside(self, connection: str) -> bool:
        return connection in ("provider", subscription_connection(ID))

    def note_reached(self, connection: str) -> None:
        pass

    async def look(self, but: str | None) -> View:
        return View(None)


Story = Callable[["Told"], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]


class Told:
    """A world in which one receiver is told of an event every six hours."""

    def __init__(self, world: LiveWorld) -> None:
        self.world = world
        self.receiver: Any = world.load(RECEIVER, "webhook.py").provider

    async def subscribe(self) -> None:
        """Have a subscription told of orders."""
        now_ms = self.world.clock.now_ms()
        terms = SubscriptionTerms(url="https://shop.example/")
        new = StoredSubscription(
            id=ID, tenant=None, terms=terms, created_at_ms=now_ms, changed_at_ms=now_ms
        )
        await self.world.journal.subscriptions.add(new, "test")
        await self.use(FeedSettings(subscription=ID, events=("order.*",)))

    async def open_door(self) -> None:
        """Have the app told of calls."""
        await self.world.journal.subscriptions.begin("app")
        await self.use(
            FeedSettings(
                subscription="app",
                events=("call.*",),
                is_ordered=True,
                is_endless=True,
                schedule_s=APP_SCHEDULE_S,
            )
        )

    async def use(self, feed: FeedSettings) -> None:
        """Go on with a feed, beside other connections."""
        world, name = self.world, subscription_connection(feed.subscription)
        settings = Settings.model_validate({"connections": OTHERS})
        connections = {**settings.connections, name: fed_connection(feed, {})}
        loaded = LoadedPlugins(versions=dict(world._versions), faults=())
        specs = [
            ConnectionSpec(
                name=name, provider=one.provider, environment="sandbox", config={}, timeout_s=20.0
            )
            for name, one in connections.items()
        ]
        world.registry.commit(await world.registry.plan(loaded, specs))
        world.delivery.use(settings.model_copy(update={"connections": connections}), {})

    async def pass_days(self, days: float, mood: str, others: str | None = None) -> None:
        """Let days pass with an event every six hours.

        Args:
            days: How many.
            mood: How the receiver answers.
            others: Which other connection gets an answer every five minutes.
        """
        self.receiver.mood = mood
        until_ms = self.world.clock.now_ms() + round(days * DAY_MS)
        while (now_ms := self.world.clock.now_ms()) < until_ms:
            record = EventRecord(type="order.paid", data={})
            await self.world.journal.events.append(record, now_ms)
            pause_ms = min(6 * HOUR_MS, until_ms - now_ms)
            steps = pause_ms // (5 * MINUTE_MS) if others else 1
            for _ in range(steps):
                if others is not None:
                    self.world.bus.publish(answered(others, self.world.clock.now_ms()))
                await anyio.sleep(pause_ms / steps / 1000)

    async def tell(self, calls: int, kind: str) -> None:
        """Append an event about each of so many calls."""
        for number in range(calls):
            record = EventRecord(type=kind, data={}, call_id=f"{number:036}")
            await self.world.journal.events.append(record, self.world.clock.now_ms())

    async def stopped(self) -> str | None:
        """Return why it was switched off."""
        found = await self.world.journal.subscriptions.get(ID, None)
        assert found.active is (found.stopped is None)
        return found.stopped


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(story: Story) -> None:
        async def within(world: LiveWorld) -> None:
            await story(Told(world))

        lived(tmp_path, Names())(within)

    return run


def test_six_days_of_500_switch_off(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(4.9, "500")
        assert await told.stopped() is None

        await told.pass_days(1.1, "500")

        assert await told.stopped() == "failing"

    play(story)


def test_six_days_offline_switch_nothing_off(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(DAYS, "offline")
        await told.pass_days(0.1, "500")

        assert told.receiver.tries.count("offline") > DAYS
        assert await told.stopped() is None

    play(story)


@pytest.mark.slow
def test_days_offline_between_failures_do_not_count(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(3, "500", others="provider")
        await told.pass_days(DAYS, "offline")
        await told.pass_days(1, "500")
        assert await told.stopped() is None

        await told.pass_days(1.1, "500")

        assert await told.stopped() == "failing"

    play(story)


@pytest.mark.slow
def test_answers_from_our_own_network_say_nothing_of_the_link(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(DAYS, "offline", others="printer")

        assert await told.stopped() is None

    play(story)


@pytest.mark.slow
def test_name_that_is_gone_switches_off_while_others_answer(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(DAYS, "offline", others="provider")

        assert await told.stopped() == "failing"

    play(story)


@pytest.mark.slow
def test_one_success_begins_anew(play: Play) -> None:
    async def story(told: Told) -> None:
        await told.subscribe()
        await told.pass_days(4, "500")
        await told.pass_days(0.5, "fine")
        await told.pass_days(4, "500")

        assert await told.stopped() is None

    play(story)


@pytest.mark.parametrize("mood", [pytest.param("500", marks=pytest.mark.slow), "offline"])
def test_app_that_is_down_for_days_gets_everything_in_the_order_of_each_call(
    play: Play, mood: str
) -> None:
    async def story(told: Told) -> None:
        await told.open_door()
        told.receiver.mood = mood
        await told.tell(40, "call.waiting")
        await anyio.sleep(DOWN_DAYS * DAY_MS / 1000)
        await told.tell(40, "call.completed")
        await anyio.sleep(HOUR_MS / 1000)
        assert told.receiver.taken == []

        told.receiver.mood = "fine"
        await anyio.sleep(10 * MINUTE_MS / 1000)

        taken = [json.loads(one) for one in told.receiver.taken]
        about = [(one["data"]["call_id"], one["type"]) for one in taken]
        assert len(about) == len(set(about)) == 80
        for number in range(40):
            own = [kind for call_id, kind in about if call_id == f"{number:036}"]
            assert own == ["call.waiting", "call.completed"]

    play(story)
