"""Damage is noticed and set aside, never served; what is sound goes on."""

import random
from pathlib import Path
from typing import Any

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import (
    CONNECTION,
    LANE,
    LEASE_MS,
    Heard,
    accept,
    attempt_of,
    claim,
    claim_one,
    complete,
    joined,
    new,
    raw,
    sent,
)

from integrationd.call import DEFAULT_TENANT, Call
from integrationd.errors import DamagedError
from integrationd.events import Bus, CallDamaged
from integrationd.journal import CallFilter, Journal
from integrationd.sdk import outcome as said
from integrationd.settlement import cancel, expire


def flipped(value: Any, source: random.Random) -> Any:
    """Return a value with one bit of its own flipped."""
    if isinstance(value, int):
        return value ^ (1 << source.randrange(0, 3))
    stored = bytearray(value.encode() if isinstance(value, str) else value)
    # The highest bit makes text undecodable, which is damage of its own kind.
    stored[source.randrange(len(stored))] ^= 1 << source.randrange(8)
    return bytes(stored)


def damage(path: Path, table: str, column: str, where: str, source: random.Random) -> None:
    """Flip one bit of a stored value, past every rule of the schema."""
    with raw(path) as db:
        db.text_factory = bytes
        rules = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in rules:
            db.execute(f"DROP TRIGGER {name.decode()}")
        db.execute("PRAGMA ignore_check_constraints = ON")
        found = db.execute(
            joined("SELECT", column, ", typeof(", column, ") FROM", table, "WHERE", where)
        )
        value, kind = found.fetchone()
        changed = flipped(value, source)
        assert changed != value
        cast = "CAST(? AS TEXT)" if kind == b"text" else "?"
        db.execute(joined("UPDATE", table, "SET", column, "=", cast, "WHERE", where), (changed,))


RECORD = (
    ("call", "id"),
    ("call", "tenant"),
    ("call", "operation"),
    ("call", "state"),
    ("call", "revision"),
    ("call", "tries"),
    ("call", "attempts"),
    ("call", "created_at_ms"),
    ("call", "give_up_at_ms"),
    ("call", "own_reference"),
    ("call", "reference_id"),
    ("call", "sum"),
)
BODY = (("call_body", "payload"), ("call_body", "metadata"), ("call_body", "sum"))
PART = (("part", "recipient"), ("part", "sum"), ("part", "state"))


async def three(journal: Journal) -> list[Call]:
    """Accept three calls, of which the second will be damaged."""
    return [
        await accept(
            journal,
            new(
                metadata=b'{"invoice":7}',
                recipients=("+254700000001", "+254700000002"),
                own_reference=f"ref-{number}",
                reference_scope="main",
                reference_id="INV-7",
                reference_type="invoice",
            ),
        )
        for number in range(3)
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("table", "column"), [*RECORD, *BODY, *PART])
async def test_claim_sets_a_damaged_call_aside_and_goes_on(
    path: Path, journal: Journal, bus: Bus, table: str, column: str, seed: int
) -> None:
    first, second, third = await three(journal)
    damaged = Heard(bus, CallDamaged)
    where = {"part": f"call_seq = {second.seq} AND position = 1"}
    damage(path, table, column, where.get(table, f"seq = {second.seq}"), random.Random(seed))

    leases = await claim(journal)

    assert [lease.call.seq for lease in leases] == [first.seq, third.seq]
    if column == "state":
        # It does not even look pending any more; whoever reads it next finds out.
        await journal.calls.list(CallFilter(), before=None, limit=10)
    assert len(damaged.events) == 1
    events = [event.type for event in await journal.events.after(0, 10)]
    assert events == ["journal.damaged"]
    assert (await journal.ledger.attention())["damaged"] == 1
    # It is out of the way from now on.
    assert await journal.leases.claim(LANE, CONNECTION, 10, LEASE_MS) == ([], None)


@pytest.mark.parametrize("column", ["state", "payload", "metadata", "recipient", "sum"])
async def test_damaged_call_is_not_served_by_its_id(
    path: Path, journal: Journal, column: str
) -> None:
    _, second, third = await three(journal)
    table = {"state": "call", "recipient": "part"}.get(column, "call_body")
    where = (
        f"call_seq = {second.seq} AND position = 0" if table == "part" else f"seq = {second.seq}"
    )
    damage(path, table, column, where, random.Random(5))

    with pytest.raises(DamagedError, match="fails its checksum"):
        await journal.calls.detail(second.id)

    if table == "call":
        with pytest.raises(DamagedError, match="fails its checksum"):
            await journal.calls.get(second.id)
    assert (await journal.calls.detail(third.id)).call == third


async def test_damaged_result_is_not_served(path: Path, journal: Journal) -> None:
    call = await accept(journal, new())
    await complete(journal, await claim_one(journal))
    damage(path, "call_result", "result", f"seq = {call.seq}", random.Random(1))

    with pytest.raises(DamagedError, match=f"the result of call {call.id} fails its checksum"):
        await journal.calls.detail(call.id)


@pytest.mark.parametrize(
    "lost",
    ["DELETE FROM call_body WHERE seq = 2", "DELETE FROM part WHERE call_seq = 2 AND position = 1"],
)
async def test_call_that_has_lost_what_belongs_to_it_is_damaged(
    path: Path, journal: Journal, lost: str
) -> None:
    first, second, third = await three(journal)
    with raw(path) as db:
        db.execute(lost)

    with pytest.raises(DamagedError):
        await journal.calls.detail(second.id)

    assert [lease.call.seq for lease in await claim(journal)] == [first.seq, third.seq]
    assert [event.type for event in await journal.events.after(0, 10)] == ["journal.damaged"]


@pytest.mark.parametrize("column", ["reason", "detail", "tenant", "operation"])
async def test_list_leaves_a_damaged_call_out_and_says_so(
    path: Path, journal: Journal, bus: Bus, column: str
) -> None:
    first, second, third = await three(journal)
    damaged = Heard(bus, CallDamaged)
    with raw(path) as db:
        # Not UTF-8: the library then refuses to read the whole list.
        db.execute(joined("UPDATE call SET", column, "= CAST(x'61ff62' AS TEXT) WHERE seq = 2"))

    for _ in range(2):
        listed = await journal.calls.list(CallFilter(), before=None, limit=10)
        assert listed == [third, first]

    assert [event.call_id for event in damaged.events] == [second.id]


async def test_deadlines_of_sound_calls_are_kept_beside_a_damaged_one(
    path: Path, journal: Journal, clock: FakeClock
) -> None:
    first, second, third = await three(journal)
    damage(path, "call", "operation", f"seq = {second.seq}", random.Random(2))
    await clock.advance(4 * 24 * 3600)

    late = await journal.leases.past_deadline(10)
    await journal.leases.expire([(call, expire(call, clock.now_ms())) for call in late])

    assert [call.id for call in late] == [first.id, third.id]
    assert await journal.leases.past_deadline(10) == []
    assert (await journal.calls.get(first.id)).state == "expired"


@pytest.mark.parametrize(("table", "column"), [("call", "connection"), *BODY, *PART])
async def test_reclaiming_goes_on_beside_a_damaged_call(
    path: Path, journal: Journal, table: str, column: str
) -> None:
    first, second, third = await three(journal)
    await claim(journal)
    where = {"part": f"call_seq = {second.seq} AND position = 1"}
    damage(path, table, column, where.get(table, f"seq = {second.seq}"), random.Random(3))

    leases = await journal.leases.leased(None, 10)

    assert [lease.call.id for lease in leases] == [first.id, third.id]
    assert [len(lease.parts) for lease in leases] == [2, 2]


@pytest.mark.parametrize(("table", "column"), [("call", "ask_until_ms"), ("call", "detail"), *BODY])
async def test_asking_goes_on_beside_a_damaged_call(
    path: Path, journal: Journal, clock: FakeClock, table: str, column: str
) -> None:
    calls = [await accept(journal, new(metadata=b"{}")) for _ in range(3)]
    for lease in await claim(journal):
        waiting = sent(lease, said.Accepted(reference="r"), clock.now_ms())
        await journal.leases.settle(lease, waiting, attempt_of(lease))
    damage(path, table, column, f"seq = {calls[1].seq}", random.Random(4))
    await clock.advance(60)

    leases, next_ms = await journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 10, LEASE_MS)

    assert [lease.call.id for lease in leases] == [calls[0].id, calls[2].id]
    assert next_ms is None


async def test_call_that_was_set_aside_is_moved_by_nobody(path: Path, journal: Journal) -> None:
    _, second, _ = await three(journal)
    damage(path, "call_body", "payload", f"seq = {second.seq}", random.Random(6))
    await claim(journal)

    with pytest.raises(DamagedError, match="set aside"):
        await journal.calls.change(second.id, lambda call, _: cancel(call, "ana", START_MS))


async def test_settling_mends_what_was_damaged_while_the_call_was_leased(
    path: Path, journal: Journal
) -> None:
    call = await accept(journal, new())
    lease = await claim_one(journal)
    damage(path, "call", "tries", f"seq = {call.seq}", random.Random(7))

    await complete(journal, lease)

    assert (await journal.calls.get(call.id)).state == "completed"
