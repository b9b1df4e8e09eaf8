"""Erasure: nothing of a subject is left, nothing else is touched, and the log still verifies."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import KEY, accept, attempt_of, claim_one, delivered, new, raw
from tests.journal_tools.conftest import webhook

from integrationd.call import Call, EventRecord, Part
from integrationd.errors import ConflictError
from integrationd.journal import Journal
from integrationd.journal.audit import audit, check_export, export_to
from integrationd.journal.erasure import Erased
from integrationd.journal.subject import Subject
from integrationd.journal.verify import verify
from integrationd.settlement import Settlement, cancel

PHONE = "+254712345678"
PAYLOAD = b'{"to":"+254712345678","text":"Hello Wanjiru"}'
OTHER = b'{"to":"+254700000001","text":"Hello Otieno"}'


async def deliver(journal: Journal, payload: bytes, to: str, *, detail: str = "ok") -> str:
    call = await accept(journal, new(payload, metadata=b'{"who":"x"}', recipients=(to, "b")))
    lease = await claim_one(journal)
    one = msgspec.structs.replace(
        attempt_of(lease), request=payload.decode(), response=f"{to}: {detail}"
    )
    assert await journal.leases.settle(lease, delivered(lease), one) is None
    return call.id


async def fill(journal: Journal) -> tuple[str, str, str]:
    """Keep a call of the subject, one of somebody else, and an open one; return their ids."""
    mine = await deliver(journal, PAYLOAD, PHONE)
    other = await deliver(journal, OTHER, "+254700000001")
    kept = msgspec.structs.replace(webhook(1), body=b'{"msisdn":"254712345678"}')
    await journal.inbox.keep(kept)
    told = EventRecord(type="payment.received", tenant="default", data={"payer": "0712345678"})
    await journal.events.append(told, 1)
    waiting = await accept(journal, new(PAYLOAD))
    return mine, other, waiting.id


async def erase(journal: Journal, *, dry_run: bool = False) -> Erased:
    return await journal.erasures.erase("default", PHONE, "ana", dry_run=dry_run)


async def test_erasure_blanks_all_that_names_the_subject(journal: Journal, path: Path) -> None:
    mine, other, waiting = await fill(journal)

    erased = await erase(journal)

    assert (erased.calls, erased.attempts, erased.webhooks, erased.events) == (1, 1, 1, 1)
    assert erased.open_calls == [waiting]
    found = await journal.calls.detail(mine)
    assert (found.payload, found.metadata, found.result) == (b'{"erased":true}', None, None)
    assert {part.recipient for part in found.parts} == {"erased"}
    assert (await journal.calls.detail(other)).payload == OTHER
    assert verify(path, KEY).findings == []
    assert audit(path, KEY).findings == []


async def test_erasure_leaves_nothing_in_the_files(journal: Journal, path: Path) -> None:
    mine, _, waiting = await fill(journal)
    await journal.calls.change(waiting, _cancelled)

    await erase(journal)
    await journal.close()

    for file in path.parent.glob("journal.db*"):
        assert b"712345678" not in file.read_bytes(), file.name
    assert mine


def _cancelled(call: Call, _parts: Sequence[Part]) -> Settlement:
    return cancel(call, "ana", 1)


async def test_erasure_counts_first_where_it_is_asked_to(journal: Journal) -> None:
    mine, _, _ = await fill(journal)

    counted = await erase(journal, dry_run=True)

    assert (counted.calls, counted.event) == (1, None)
    assert (await journal.calls.detail(mine)).payload == PAYLOAD


async def test_erasure_is_told_by_an_event_without_the_subject(journal: Journal) -> None:
    await fill(journal)

    erased = await erase(journal)

    assert erased.event is not None
    (told,) = await journal.events.after(erased.event - 1, 1)
    assert told.type == "privacy.erased"
    assert '"by":"ana"' in told.data
    assert "712345678" not in told.data


async def test_erased_call_cannot_be_sent_again(journal: Journal, clock: FakeClock) -> None:
    await fill(journal)
    await journal.write(
        lambda writing: writing.db.execute("UPDATE call_body SET erased_event = 1 WHERE seq = 3")
    )
    (found,) = await journal.rows("SELECT id FROM call WHERE seq = 3")

    def again(call: Call, _parts: Sequence[Part]) -> Settlement:
        return Settlement(call=call, rule="again")

    with pytest.raises(ConflictError, match="was erased"):
        await journal.calls.change(found[0], again)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attempt SET request = 'forged' WHERE erased_event IS NOT NULL",
        "UPDATE attempt SET erased_event = NULL, erased_seal = NULL",
        "UPDATE event SET data = '{}' WHERE erased_event IS NOT NULL",
        "UPDATE event SET erased_event = 2 WHERE erased_event IS NOT NULL",
        "UPDATE event SET data = '{\"erased\":true}', erased_event = 3, erased_seal = x'00'",
    ],
)
async def test_erasure_cannot_be_faked_or_changed(
    journal: Journal, path: Path, statement: str
) -> None:
    await fill(journal)
    await erase(journal)
    await journal.close()
    with raw(path) as db:
        db.execute(statement)

    assert audit(path, KEY).findings


async def test_export_of_before_an_erasure_still_fits(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    await fill(journal)
    export = tmp_path / "audit.jsonl"
    with export.open("wb") as file:
        export_to(path, KEY, file)

    await erase(journal)

    assert audit(path, KEY, against=export).findings == []
    with export.open("wb") as file:
        export_to(path, KEY, file)
    assert check_export(export, KEY).events == 5


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("+254712345678", "call 0712345678 now"),
        ("+254 712 345 678", '"254712345678"'),
        ("+2348031234567", "08031234567"),
        ("+263771234567", "0771234567"),
        ("wanjiru@example.org", "to=wanjiru%40example.org&x=1"),
        ("wanjiru@example.org", "Wanjiru@Example.org."),
        ("INV-1", 'ref "INV-1"'),
    ],
)
def test_subject_is_found_in_its_spellings(subject: str, text: str) -> None:
    assert Subject(subject).is_in([text.encode()])


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("+254712345678", "10712345678"),
        ("+254712345678", "2547123456789"),
        ("wanjiru@example.org", "awanjiru@example.org"),
        ("wanjiru@example.org", "wanjiru@example.org.ke"),
        ("INV-1", "INV-11"),
        ("INV-1", "INV-1-2"),
    ],
)
def test_subject_is_not_found_in_what_only_looks_alike(subject: str, text: str) -> None:
    assert not Subject(subject).is_in([text])
