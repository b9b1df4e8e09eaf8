"""Subscriptions and their deliveries survive backup, restore and salvage, and damage is found."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import KEY, LEASE_MS, complete, opened, raw

from integrationd.call import CallState, EventRecord, Lease, subscription_connection
from integrationd.journal import (
    CallFilter,
    FeedTerms,
    Journal,
    StoredEvent,
    StoredSubscription,
    SubscriptionTerms,
    Turn,
)
from integrationd.journal.backup import back_up_to, restore
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify

ONE, APP = "sub_1", "app"
EVENTS = 6


def terms_of(subscription: str) -> FeedTerms:
    return FeedTerms(
        subscription=subscription,
        connection=subscription_connection(subscription),
        tenant=None,
        deliveries_of="*",
        events=("order.*",),
        scheme="standard",
        is_ordered=False,
        lives_ms=1_000_000,
        window=100,
        payload_of=payload_of,
    )


def payload_of(event: StoredEvent, webhook_id: str, _scheme: str) -> bytes:
    return json.dumps({"id": webhook_id, "type": event.type, "body": event.data}).encode()


async def feed(journal: Journal, subscription: str, count: int) -> list[Lease]:
    """Make so many deliveries of events, and claim them."""
    terms = terms_of(subscription)
    turn = Turn(terms, journal.calls, 0, has_more=True)
    leases, _ = await journal.leases.claim_from(turn, terms.connection, count, LEASE_MS)
    return leases


def bodies(leases: Sequence[Lease]) -> list[int]:
    return [json.loads(json.loads(one.payload)["body"])["n"] for one in leases]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal with six events, and two that are told.

    The subscription has taken one, has one under way and one to be sent again; the app has one
    under way.
    """
    path = tmp_path / "journal.db"
    asyncio.run(_fill(path))
    return path


async def _fill(path: Path) -> None:
    async with opened(path) as journal:
        new = StoredSubscription(
            id=ONE,
            tenant=None,
            terms=SubscriptionTerms(url="https://shop.example/", name="shop"),
            created_at_ms=START_MS,
            changed_at_ms=START_MS,
        )
        await journal.subscriptions.add(new, "test")
        await journal.subscriptions.begin(APP)
        for number in range(EVENTS):
            record = EventRecord(type="order.paid", data={"n": number})
            await journal.events.append(record, START_MS)
        taken, _, _ = await feed(journal, ONE, 3)
        await complete(journal, taken)
        await feed(journal, APP, 1)


async def deliveries(journal: Journal) -> dict[str, list[CallState]]:
    """Return the states of all deliveries, by subscription, the latest first."""
    found = await journal.calls.list(CallFilter(operation="webhook.send"), before=None, limit=100)
    states: dict[str, list[CallState]] = {ONE: [], APP: []}
    for one in found:
        states[str(one.reference_id)].append(one.state)
    return states


def test_verify_finds_nothing_wrong_with_sound_subscriptions(path: Path) -> None:
    assert verify(path, KEY).findings == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE subscription SET settings = json('{}')", "subscription sub_1 fails its checksum"),
        ("UPDATE subscription SET tenant = 'other'", "subscription sub_1 fails its checksum"),
        ("UPDATE subscription SET active = 0", "subscription sub_1 fails its checksum"),
        (
            "UPDATE subscription_cursor SET seq = seq + 1 WHERE id = 'sub_1'",
            "the cursor of subscription sub_1 fails its checksum",
        ),
        (
            "UPDATE subscription_cursor SET seq = 0 WHERE id = 'app'",
            "the cursor of subscription app fails its checksum",
        ),
        ("DELETE FROM subscription_cursor", "subscription sub_1 has no cursor"),
        ("UPDATE subscription_cursor SET seq = 99", "sub_1 stands at event 99, which is not in"),
        ("UPDATE call_body SET payload = x'7b7d' WHERE seq = 1", "payload"),
    ],
)
def test_verify_finds_what_was_changed(path: Path, statement: str, words: str) -> None:
    with raw(path) as db:
        db.execute(statement)

    report = verify(path, KEY)

    assert any(words in finding for finding in report.findings), report.findings


async def test_backup_goes_on_where_it_stood_and_nothing_of_it_needs_a_person(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    target = tmp_path / "copy.db"
    back_up_to(path, target)
    async with opened(path) as journal:
        assert bodies(await feed(journal, ONE, 10)) == [3, 4, 5]

    report = restore(target, path, KEY, clock)

    assert report.doubtful == 0
    assert verify(path, KEY).is_sound
    async with opened(path) as journal:
        states = await deliveries(journal)
        assert CallState.UNKNOWN not in {*states[ONE], *states[APP]}
        # What was told since the backup is told again, under the same ids.
        assert bodies(await feed(journal, ONE, 10)) == [3, 4, 5]
        assert bodies(await feed(journal, APP, 10)) == [1, 2, 3, 4, 5]


async def test_salvage_keeps_subscriptions_and_what_is_on_its_way_to_them(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    into = tmp_path / "new.db"

    report = salvage(path, into, KEY, clock)

    assert (report.kept, report.lost, report.doubtful) == (4, 0, 0)
    assert verify(into, KEY).is_sound
    async with opened(into) as journal:
        states = await deliveries(journal)
        assert states[ONE] == [CallState.PENDING, CallState.PENDING, CallState.COMPLETED]
        assert states[APP] == [CallState.PENDING]
        (kept,) = (await journal.subscriptions.all())[0]
        assert kept.terms.name == "shop"


async def test_salvaged_journal_tells_its_own_log_from_the_beginning(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    """Its events are numbered anew, so that where anybody stood before means nothing there."""
    into = tmp_path / "new.db"

    salvage(path, into, KEY, clock)

    async with opened(into) as journal:
        last = (await journal.events.latest(0)).last
        cursors = await journal.subscriptions.cursors()
        assert {name: one.seq for name, one in cursors.items()} == {ONE: 0, APP: 0}
        await journal.events.append(EventRecord(type="order.paid", data={"n": 77}), START_MS)
        again = await feed(journal, ONE, 10)
        assert sorted(bodies(again)) == [1, 2, 77]
        assert last < EVENTS


async def test_salvage_drops_a_damaged_subscription_and_keeps_the_others(
    path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    with raw(path) as db:
        db.execute("UPDATE subscription SET tenant = 'other' WHERE id = 'sub_1'")
        db.execute("UPDATE subscription_cursor SET seq = 0 WHERE id = 'app'")

    salvage(path, tmp_path / "new.db", KEY, clock)

    async with opened(tmp_path / "new.db") as journal:
        assert await journal.subscriptions.all() == ([], [])
        assert (await journal.subscriptions.cursors())[APP].seq == 0
        assert (await deliveries(journal))[APP] == [CallState.PENDING]
