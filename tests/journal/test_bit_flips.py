"""Single bits flipped anywhere in the journal's file: what is served is what was written."""

import contextlib
import random
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    CONNECTION,
    LANE,
    LEASE_MS,
    accept,
    attempt_of,
    claim,
    complete,
    new,
    opened,
    sent,
)

from integrationd.call import DEFAULT_TENANT, Call, CallState, Lease
from integrationd.errors import IntegrationdError, JournalError
from integrationd.journal import CallFilter, Journal
from integrationd.sdk import outcome as said

FLIPS = 300
PENDING, COMPLETED, WAITING, LEASED = 8, 5, 4, 3


class Truth(msgspec.Struct):
    """What was written, by id."""

    calls: dict[str, Call]
    payloads: dict[str, bytes]
    parts: dict[str, Any]
    results: dict[str, bytes | None]


def an_order(number: int) -> Any:
    people = tuple(f"+25470000{number:02}{person}" for person in range(3)) if number % 3 else ()
    text = b'{"text":"order %d %s"}' % (number, b"x" * (number * 7 % 60))
    return new(
        text,
        id=f"00000000-0000-7000-8000-{number:012}",
        metadata=b'{"order":%d}' % number,
        recipients=people,
        reference_id="o",
    )


async def write_all(journal: Journal, clock: FakeClock) -> None:
    for number in range(COMPLETED + WAITING + LEASED + PENDING):
        await accept(journal, an_order(number))
    for lease in await claim(journal, limit=COMPLETED):
        await complete(journal, lease)
    for lease in await claim(journal, limit=WAITING):
        taken = sent(lease, said.Accepted(reference="r"), clock.now_ms())
        await journal.leases.settle(lease, taken, attempt_of(lease))
    await claim(journal, limit=LEASED)


async def remember(journal: Journal) -> Truth:
    calls = await journal.calls.list(CallFilter(), before=None, limit=1000)
    details = [await journal.calls.detail(call.id) for call in calls]
    return Truth(
        calls={one.call.id: one.call for one in details},
        payloads={one.call.id: one.payload for one in details},
        parts={one.call.id: one.parts for one in details},
        results={one.call.id: one.result for one in details},
    )


class Reading:
    """Reads everything in every way, compares it, and counts what was served."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.false: list[str] = []

    async def all(self, journal: Journal) -> None:
        for call_id in self.truth.calls:
            await self.tried("detail", self.detail(journal, call_id))
        await self.tried("list", self.listed(journal))
        await self.tried("deadline", self.deadlines(journal))
        await self.tried("leased", self.leases("leased", journal.leases.leased(None, 99)))
        due = journal.leases.claim(LANE, CONNECTION, 99, LEASE_MS)
        await self.tried("claim", self.claimed("claim", due))
        ask = journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 99, LEASE_MS)
        await self.tried("ask", self.claimed("ask", ask))

    async def tried(self, what: str, reading: Awaitable[None]) -> None:
        try:
            await reading
        except IntegrationdError as error:
            self.refused[f"{what}: {error.code}"] += 1

    def compare(self, what: str, found: Any, true: Any) -> None:
        self.served[what] += 1
        if found != true:
            self.false.append(f"{what}: {found!r} instead of {true!r}")

    async def detail(self, journal: Journal, call_id: str) -> None:
        found, truth = await journal.calls.detail(call_id), self.truth
        served = (found.call, found.payload, found.parts, found.result)
        self.compare(
            "detail",
            served,
            (
                truth.calls[call_id],
                truth.payloads[call_id],
                truth.parts[call_id],
                truth.results[call_id],
            ),
        )

    async def listed(self, journal: Journal) -> None:
        for call in await journal.calls.list(CallFilter(), before=None, limit=1000):
            self.compare("list", call, self.truth.calls.get(call.id))

    async def deadlines(self, journal: Journal) -> None:
        for call in await journal.leases.past_deadline(1000):
            self.compare("deadline", call, self.truth.calls.get(call.id))

    async def claimed(self, what: str, claiming: Awaitable[tuple[list[Lease], Any]]) -> None:
        async def only_leases() -> list[Lease]:
            return (await claiming)[0]

        await self.leases(what, only_leases())

    async def leases(self, what: str, claiming: Awaitable[list[Lease]]) -> None:
        for lease in await claiming:
            true = self.truth.calls.get(lease.call.id)
            as_leased = lease.call
            if what != "leased" and true is not None:
                as_leased = undone(lease.call, true)
            self.compare(
                what,
                (as_leased, lease.payload, lease.parts),
                (true, self.truth.payloads.get(lease.call.id), self.truth.parts.get(lease.call.id)),
            )


def undone(leased: Call, before: Call) -> Call:
    """Take back what claiming itself changes."""
    sending = leased.state is CallState.PROCESSING
    return leased.replace(
        state=before.state,
        revision=leased.revision - 1,
        tries=leased.tries - (1 if sending else 0),
        connection=before.connection,
        due_at_ms=before.due_at_ms,
        lease_id=None,
        lease_until_ms=None,
        last_lease_id=before.last_lease_id,
    )


async def test_bit_flips_are_never_served_as_good_data(path: Path) -> None:
    clock, source = FakeClock(), random.Random(17)
    async with opened(path, clock) as journal:
        await write_all(journal, clock)
        truth = await remember(journal)
    sound = path.read_bytes()
    written = [at for at, byte in enumerate(sound) if byte]
    await clock.advance(4 * 24 * 3600)
    reading = Reading(truth)

    for number in range(FLIPS):
        flipped = bytearray(sound)
        flipped[source.choice(written)] ^= 1 << source.randrange(8)
        copy = path.with_name(f"flip-{number}.db")
        copy.write_bytes(flipped)
        with contextlib.suppress(JournalError):
            async with opened(copy, clock) as journal:
                await reading.all(journal)
        copy.unlink()

    assert reading.false == []
    assert reading.refused["detail: damaged"] > FLIPS / 10
    # In so small a file every fourth written byte is the schema's, without which nothing goes.
    assert reading.served["detail"] > 0.5 * FLIPS * len(truth.calls)


async def test_sound_journal_is_served_whole(path: Path) -> None:
    clock = FakeClock()
    async with opened(path, clock) as journal:
        await write_all(journal, clock)
        reading = Reading(await remember(journal))
        await clock.advance(4 * 24 * 3600)

        await reading.all(journal)

    assert reading.false == []
    assert not reading.refused
    total = COMPLETED + WAITING + LEASED + PENDING
    assert reading.served == {
        "detail": total,
        "list": total,
        "deadline": PENDING,
        "leased": LEASED,
        "claim": PENDING,
        "ask": WAITING,
    }
