"""What is read back: lists with filters and pages, attempts, breakers across restarts, the key."""

from pathlib import Path
from typing import Any

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    Heard,
    accept,
    attempt_of,
    complete,
    new,
    opened,
    sent,
)

from integrationd.call import Breaker, pinned_lane
from integrationd.errors import ConfigError, NotFoundError
from integrationd.events import BreakerMoved, Bus
from integrationd.journal import (
    AttemptFilter,
    CallFilter,
    Journal,
    load_or_make_key,
    read_key,
)
from integrationd.sdk import outcome as said


async def crowd(journal: Journal, clock: FakeClock) -> None:
    """Accept six calls: two completed, two waiting, one processing, one pending."""
    for number in range(6):
        await accept(
            journal,
            new(
                tenant="ab"[number % 2],
                operation="sms.send" if number < 3 else "email.send",
                connection="main",
                reference_type="invoice" if number % 3 else "order",
                reference_id=str(number % 2),
            ),
        )
    outcomes: tuple[said.Outcome, ...] = (said.Delivered(),) * 2 + (said.Accepted(),) * 2
    for number, outcome in enumerate(outcomes):
        lane = pinned_lane("main", "ab"[number % 2])
        leases, _ = await journal.leases.claim(lane, "main", 1, 1000)
        settlement = sent(leases[0], outcome, clock.now_ms())
        await journal.leases.settle(leases[0], settlement, attempt_of(leases[0]))
    await journal.leases.claim(pinned_lane("main", "a"), "main", 1, 1000)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"state": "completed"}, [2, 1]),
        ({"state": "waiting"}, [4, 3]),
        ({"state": "processing"}, [5]),
        ({"state": "pending"}, [6]),
        ({"state": "failed"}, []),
        ({"tenant": "a"}, [5, 3, 1]),
        ({"operation": "email.send", "tenant": "b"}, [6, 4]),
        ({"connection": "main", "state": "waiting", "tenant": "a"}, [3]),
        ({"connection": "backup"}, []),
        ({"reference_id": "0"}, [5, 3, 1]),
        ({"reference_id": "0", "reference_type": "order"}, [1]),
        ({"reference_type": "order"}, [4, 1]),
        ({"reference_id": "1", "state": "completed"}, [2]),
    ],
)
async def test_list_finds_the_calls_that_are_wanted_the_latest_first(
    journal: Journal, clock: FakeClock, wanted: dict[str, Any], found: list[int]
) -> None:
    await crowd(journal, clock)

    calls = await journal.calls.list(CallFilter(**wanted), before=None, limit=10)

    assert [call.seq for call in calls] == found


async def test_list_goes_on_where_the_page_before_ended(journal: Journal, clock: FakeClock) -> None:
    await crowd(journal, clock)

    first = await journal.calls.list(CallFilter(), before=None, limit=4)
    second = await journal.calls.list(CallFilter(), before=first[-1].seq, limit=4)

    assert [call.seq for call in (*first, *second)] == [6, 5, 4, 3, 2, 1]


async def test_call_that_does_not_exist_is_not_found(journal: Journal) -> None:
    for looking in (journal.calls.get, journal.calls.detail):
        with pytest.raises(NotFoundError, match="there is no call nobody"):
            await looking("nobody")
    with pytest.raises(NotFoundError, match="there is no call nobody"):
        await journal.calls.acknowledge("nobody", by="uid:1000")


async def test_attempts_are_found_by_number_call_connection_and_outcome(
    journal: Journal,
) -> None:
    calls = [await accept(journal, new()) for _ in range(3)]
    for lease in (await journal.leases.claim(calls[0].lane, "main", 3, 1000))[0]:
        await complete(journal, lease)

    async def found(**wanted: Any) -> list[int]:
        listed = await journal.attempts.list(AttemptFilter(**wanted), before=None, limit=10)
        return [attempt.seq for attempt in listed]

    assert await found() == [3, 2, 1]
    assert await found(call_id=calls[1].id) == [2]
    assert await found(outcome="delivered", connection="main") == [3, 2, 1]
    assert await found(tenant="nobody") == []
    assert (await journal.attempts.get(2)).call_id == calls[1].id
    assert (await journal.attempts.get(2)).sent is True
    with pytest.raises(NotFoundError):
        await journal.attempts.get(4)


async def test_journal_is_busy_while_a_write_is_under_way(journal: Journal) -> None:
    assert not journal.is_busy
    busy: list[bool] = []

    await journal.write(lambda _: busy.append(journal.is_busy))

    assert busy == [True]
    assert not journal.is_busy


async def test_breaker_survives_a_restart_and_its_moves_are_events(
    path: Path, clock: FakeClock, bus: Bus
) -> None:
    heard = Heard(bus, BreakerMoved)
    moves = [("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("closed", "open")]
    async with opened(path, clock, bus) as journal:
        for number, (before, after) in enumerate(moves):
            moved = BreakerMoved(connection="main", before=before, after=after)
            record = Breaker(connection="main", record=after.encode(), changed_at_ms=number)
            await journal.breakers.store(record, moved)

    async with opened(path, clock) as journal:
        (kept,) = await journal.breakers.all()
        events = [event.type for event in await journal.events.after(0, 10)]

    assert kept == Breaker(connection="main", record=b"open", changed_at_ms=3)
    assert events == ["breaker.opened", "breaker.closed", "breaker.opened"]
    assert [event.after for event in heard.events] == ["open", "half_open", "closed", "open"]


def test_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "state" / "instance.key"

    made = load_or_make_key(file)

    assert len(made) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(file) == read_key(file) == made


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("ab" * 32, 0o640, "is open to others"),
        ("ab" * 31, 0o600, "does not hold a key"),
        ("not hex", 0o600, "does not hold a key"),
        ("", 0o600, "is empty"),
    ],
)
def test_key_file_that_cannot_serve_is_refused(
    tmp_path: Path, text: str, mode: int, told: str
) -> None:
    file = tmp_path / "instance.key"
    file.write_text(text)
    file.chmod(mode)

    with pytest.raises(ConfigError, match=told):
        load_or_make_key(file)

    assert file.read_text() == text
