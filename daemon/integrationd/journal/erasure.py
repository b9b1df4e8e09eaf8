"""Erasure: what names one data subject is blanked, and the log still proves that nothing else was.

Finished calls only; what is still to be delivered is left and named. A row stays, with a valid
checksum, and says ``erased``. Attempts and events keep their digest or MAC and get a seal that only
the instance key makes, so that nobody else can blank them and call it an erasure.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from integrationd.call import Call, EventRecord
from integrationd.clock import Clock
from integrationd.journal import evidence, rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.calls import PARTS
from integrationd.journal.chain import FIRST_HEAD
from integrationd.journal.subject import Subject
from integrationd.journal.writer import Transaction

LOOKED_AT = 1_000
MOST_ROWS = 5_000
ERASED = "Erased."
BLANK = b'{"erased":true}'
_CALLS = (
    "SELECT c.seq, c.id, c.finished_at_ms, c.detail, c.ordering_key, c.own_reference,"
    " c.provider_reference, c.reference_id, c.contradiction, b.payload, b.metadata, x.result,"
    " (SELECT group_concat(recipient, char(10)) FROM part WHERE call_seq = c.seq)"
    " FROM call AS c LEFT JOIN call_body AS b USING (seq) LEFT JOIN call_result AS x USING (seq)"
    " WHERE c.tenant = ? AND c.seq > ? AND c.damaged_at_ms IS NULL ORDER BY c.seq LIMIT ?"
)
_INBOX = (
    "SELECT seq, state, path, query, headers, body, reply_body, note FROM inbox"
    " WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?"
)
_EVENTS = "SELECT seq, data FROM event WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?"
_ATTEMPTS = " ".join(
    ["SELECT", evidence.SEALED_COLUMNS, ", a.digest FROM attempt AS a WHERE a.call_seq = ?"]
)
_INBOX_SEALED = (
    "SELECT id, tenant, connection, provider, received_at_ms, source, method, path, query, headers,"
    " body, proof, address_call_id, dedupe FROM inbox WHERE seq = ?"
)
_COUNTED = ("calls", "attempts", "webhooks", "events")
_NAMING = ("ordering_key", "own_reference", "provider_reference", "reference_id", "contradiction")


class Erased(msgspec.Struct, kw_only=True):
    """What an erasure has blanked, or would.

    Attributes:
        calls: Finished calls that name the subject.
        attempts: Their attempts.
        webhooks: Webhooks of the inbox that name the subject and are done with.
        events: Events that name the subject.
        open_calls: The ids of calls that name the subject and are not finished: they are left.
        more: There is more; ask again once this is done.
        event: The number of the event that tells of it; None for a dry run.
    """

    calls: int = 0
    attempts: int = 0
    webhooks: int = 0
    events: int = 0
    open_calls: list[str] = msgspec.field(default_factory=list)
    more: bool = False
    event: int | None = None


class _Found(msgspec.Struct):
    calls: list[int] = msgspec.field(default_factory=list)
    webhooks: list[int] = msgspec.field(default_factory=list)
    events: list[int] = msgspec.field(default_factory=list)
    open_calls: list[str] = msgspec.field(default_factory=list)


class Erasures:
    """Erases what names a data subject."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def erase(self, tenant: str, text: str, by: str, *, dry_run: bool) -> Erased:
        """Blank what names a subject, in one commit, or only count it.

        Args:
            tenant: Whose subject it is.
            text: A phone number with its country code, an e-mail address, or a reference.
            by: Who asked for it.
            dry_run: Only count.

        Raises:
            JournalError: The journal is not open.
        """
        found = await self._find(tenant, Subject(text))
        more = sum(map(len, (found.calls, found.webhooks, found.events))) > MOST_ROWS
        if more:
            found = _first_of(found)
        erased = Erased(
            calls=len(found.calls),
            webhooks=len(found.webhooks),
            events=len(found.events),
            attempts=await self._attempts(found.calls),
            open_calls=found.open_calls,
            more=more,
        )
        if dry_run or not (found.calls or found.webhooks or found.events):
            return erased
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> Erased:
            data = {"by": by, "subject": transaction.chain.tag("subject", tenant, text.strip())}
            counts = {name: getattr(erased, name) for name in _COUNTED}
            told = EventRecord(type="privacy.erased", tenant=tenant, data={**data, **counts})
            event = transaction.chain.append(transaction.db, told, now_ms)
            _erase(transaction, found, Subject(text), event)
            return msgspec.structs.replace(erased, event=event)

        return await self._access.write(job, heavy=True)

    async def _find(self, tenant: str, subject: Subject) -> _Found:
        found = _Found()

        def call(row: sqlite.Row) -> None:
            if subject.is_in(row[3:]):
                if row[2] is None:
                    found.open_calls.append(row[1])
                else:
                    found.calls.append(row[0])

        def webhook(row: sqlite.Row) -> None:
            if row[1] not in ("new", "held") and subject.is_in(row[2:]):
                found.webhooks.append(row[0])

        def event(row: sqlite.Row) -> None:
            if subject.is_in(row[1:]):
                found.events.append(row[0])

        await self._walk(_CALLS, tenant, call)
        await self._walk(_INBOX, tenant, webhook)
        await self._walk(_EVENTS, tenant, event)
        return found

    async def _walk(self, statement: str, tenant: str, seen: Callable[[sqlite.Row], None]) -> None:
        after = 0
        while found := await self._access.rows_slowly(statement, (tenant, after, LOOKED_AT)):
            for row in found:
                seen(row)
            after = found[-1][0]

    async def _attempts(self, calls: Sequence[int]) -> int:
        count = 0
        for seq in calls:
            statement = "SELECT count(*) FROM attempt WHERE call_seq = ?"
            count += (await self._access.rows_slowly(statement, (seq,)))[0][0]
        return count


def _first_of(found: _Found) -> _Found:
    share = MOST_ROWS // 3
    return _Found(
        found.calls[:share], found.webhooks[:share], found.events[:share], found.open_calls
    )


def _erase(transaction: Transaction, found: _Found, subject: Subject, event: int) -> None:
    db = transaction.db
    # What is freed is overwritten, so that nothing of it stays in the file.
    db.execute("PRAGMA secure_delete = ON")
    try:
        for seq in found.calls:
            _erase_call(transaction, seq, subject, event)
        for seq in found.webhooks:
            _erase_webhook(db, seq, event)
        for seq in found.events:
            _erase_event(transaction, seq, event)
    finally:
        db.execute("PRAGMA secure_delete = OFF")


def _erase_call(transaction: Transaction, seq: int, subject: Subject, event: int) -> None:
    db = transaction.db
    found = db.execute(
        "SELECT * FROM call_record WHERE seq = ? AND finished_at_ms IS NOT NULL", (seq,)
    ).fetchone()
    if found is None:
        # Pruned, or retried, since it was found.
        return
    call = rows.call_of(found)
    _erase_record(db, call, subject)
    db.execute(
        "UPDATE call_body SET payload = ?, metadata = NULL, sum = ?, erased_event = ?"
        " WHERE seq = ?",
        (BLANK, rows.seal(seq, BLANK, None), event, seq),
    )
    db.execute(
        "UPDATE call_result SET result = x'', sum = ? WHERE seq = ?", (rows.seal(seq, b""), seq)
    )
    for row in db.execute(PARTS, (seq,)).fetchall():
        part = rows.part_of(seq, row)
        detail = ERASED if part.detail is not None else None
        blank = msgspec.structs.replace(part, recipient="erased", detail=detail)
        db.execute(
            "REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.part_values(seq, blank)
        )
    for row in db.execute(_ATTEMPTS, (seq,)).fetchall():
        _erase_attempt(transaction, row, event)


def _erase_record(db: sqlite.Connection, call: Call, subject: Subject) -> None:
    changes: dict[str, Any] = {
        name: None for name in _NAMING if subject.is_in([getattr(call, name)])
    }
    if call.detail is not None:
        changes["detail"] = ERASED
    after = call.replace(**changes, revision=call.revision + 1)
    db.execute(
        "UPDATE call SET detail = ?, ordering_key = ?, own_reference = ?, provider_reference = ?,"
        " reference_id = ?, contradiction = ?, revision = ?, sum = ? WHERE seq = ?",
        (
            after.detail,
            *(getattr(after, name) for name in _NAMING),
            after.revision,
            rows.seal_call(after),
            call.seq,
        ),
    )


def _erase_attempt(transaction: Transaction, row: sqlite.Row, event: int) -> None:
    *sealed, digest = row
    for at in evidence.ERASABLE:
        sealed[at] = None
    seal = transaction.chain.seal_erased(digest, event, *sealed)
    transaction.db.execute(
        "UPDATE attempt SET detail = NULL, request = NULL, response = NULL, erased_event = ?,"
        " erased_seal = ? WHERE seq = ?",
        (event, seal, sealed[0]),
    )


def _erase_webhook(db: sqlite.Connection, seq: int, event: int) -> None:
    found = db.execute(_INBOX_SEALED, (seq,)).fetchone()
    if found is None:
        return
    values = [*found[:7], "", "", "{}", BLANK, *found[11:]]
    db.execute(
        "UPDATE inbox SET path = '', query = '', headers = '{}', body = ?, reply_body = x'',"
        " note = ?, sum = ?, erased_event = ? WHERE seq = ?",
        (BLANK, ERASED, rows.seal(*values), event, seq),
    )


def _erase_event(transaction: Transaction, seq: int, event: int) -> None:
    """Blank what an event tells, but for the digests that it carries."""
    db = transaction.db
    row = db.execute(evidence.ONE_EVENT, (seq,)).fetchone()
    if row is None:
        return
    *fields, data, mac = row
    carried = evidence.digests_in(data)
    left = {"erased": True, **({"attempts": carried} if carried else {})}
    blank = msgspec.json.encode(left).decode()
    head = db.execute("SELECT mac FROM event WHERE seq = ?", (seq - 1,)).fetchone()
    if head is None:
        head = db.execute("SELECT mac FROM event_anchor").fetchone() or (FIRST_HEAD,)
    seal = transaction.chain.seal_erased(head[0] + mac, event, *fields, blank)
    db.execute(
        "UPDATE event SET data = ?, erased_event = ?, erased_seal = ? WHERE seq = ?",
        (blank, event, seal, seq),
    )
