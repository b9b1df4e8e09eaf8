"""How a settlement is written: the call, its parts, its result, its attempt and its events."""

from collections.abc import Mapping
from typing import Any

import msgspec

from integrationd.call import Attempt, AttemptKind, Call, CallState, EventRecord
from integrationd.errors import ConflictError
from integrationd.journal import rows, sqlite
from integrationd.journal.chain import digest_of
from integrationd.journal.writer import Transaction
from integrationd.settlement import Settlement

_json = msgspec.json.Encoder(order="deterministic").encode


# A call in these states has a result, empty if need be, so that a lost one is found out.
HAS_RESULT = frozenset({CallState.WAITING, CallState.COMPLETED})


class ChangedError(ConflictError):
    """The call has changed since it was read."""


def store_settlement(
    transaction: Transaction,
    before: Call,
    settlement: Settlement,
    now_ms: int,
    attempt: Attempt | None = None,
) -> None:
    """Write a settlement and everything that goes with it.

    Raises:
        ChangedError: The call has changed since ``before`` was read; nothing is written.
    """
    after = settlement.call
    if after.revision != before.revision:
        stored = transaction.db.execute(rows.STORE_CALL, rows.store_values(after, before.revision))
        if stored.rowcount != 1:
            raise ChangedError(f"call {before.id} has changed meanwhile", code="changed")
    for part in settlement.parts:
        transaction.db.execute(
            "REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows.part_values(after.seq, part),
        )
    if settlement.result is not None:
        known = _known_result(transaction, before)
        _store_result(transaction, "REPLACE", after, _json({**known, **settlement.result}))
    elif after.state in HAS_RESULT:
        _store_result(transaction, "INSERT OR IGNORE", after, b"")
    _store_facts(transaction, after, settlement, now_ms, attempt)


def _known_result(transaction: Transaction, call: Call) -> Mapping[str, Any]:
    """Return what was told while the call was open; it stays where nothing else is said."""
    if call.state not in (CallState.WAITING, CallState.UNKNOWN):
        return {}
    row = transaction.db.execute(
        "SELECT result FROM call_result WHERE seq = ?", (call.seq,)
    ).fetchone()
    return msgspec.json.decode(row[0]) if row is not None and row[0] else {}


def _store_result(transaction: Transaction, verb: str, call: Call, result: bytes) -> None:
    transaction.db.execute(
        verb + " INTO call_result (seq, result, sum) VALUES (?, ?, ?)",
        (call.seq, result, rows.seal(call.seq, result)),
    )


def _store_facts(
    transaction: Transaction,
    after: Call,
    settlement: Settlement,
    now_ms: int,
    attempt: Attempt | None,
) -> None:
    """Append the events and the attempt; the attempts' digests ride in the next event."""
    digest = _digest(after, attempt, settlement.rule) if attempt else None
    event_seq = None
    for number, event in enumerate(settlement.events):
        bound = _bind_digests(transaction, after, event, digest) if number == 0 else event
        seq = transaction.chain.append(transaction.db, bound, now_ms)
        event_seq = seq if number == 0 else event_seq
    if attempt is not None:
        store_attempt(transaction, after, attempt, settlement.rule, event_seq)
    if event_seq is not None and after.tries + after.queries > 1:
        transaction.db.execute(
            "UPDATE attempt SET event_seq = ? WHERE call_seq = ? AND event_seq IS NULL",
            (event_seq, after.seq),
        )


def _bind_digests(
    transaction: Transaction, call: Call, event: EventRecord, digest: bytes | None
) -> EventRecord:
    digests = [digest.hex()] if digest else []
    if call.tries + call.queries > 1:
        earlier = transaction.db.execute(
            "SELECT digest FROM attempt WHERE call_seq = ? AND event_seq IS NULL ORDER BY seq",
            (call.seq,),
        )
        digests = [row[0].hex() for row in earlier] + digests
    if not digests:
        return event
    return EventRecord(
        type=event.type,
        tenant=event.tenant,
        call_id=event.call_id,
        connection=event.connection,
        data={**event.data, "attempts": digests},
    )


def _digest(call: Call, attempt: Attempt, rule: str) -> bytes:
    return digest_of(call.id, *attempt_fields(attempt), rule)


def attempt_fields(attempt: Attempt) -> tuple[Any, ...]:
    """Return what an attempt's digest covers, in the order of the columns from ``kind`` on."""
    return (
        attempt.kind,
        attempt.number,
        attempt.connection,
        attempt.provider,
        attempt.plugin_digest,
        attempt.started_at_ms,
        attempt.duration_ms,
        attempt.outcome,
        attempt.reason,
        attempt.detail,
        int(attempt.sent),
        attempt.status_code,
        attempt.request,
        attempt.response,
    )


def store_attempt(
    transaction: Transaction, call: Call, attempt: Attempt, rule: str, event_seq: int | None
) -> None:
    """Insert an ended attempt."""
    transaction.db.execute(
        "INSERT INTO attempt (call_seq, call_id, tenant, operation, kind, number, connection,"
        " provider, plugin_digest, started_at_ms, duration_ms, outcome, reason, detail, sent,"
        " status_code, request, response, rule, digest, event_seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.seq,
            call.id,
            call.tenant,
            call.operation,
            *attempt_fields(attempt),
            rule,
            _digest(call, attempt, rule),
            event_seq,
        ),
    )


def is_stored(db: sqlite.Connection, call: Call, attempt: Attempt, rule: str) -> bool:
    """Say whether exactly this attempt has been stored under that rule before."""
    found = db.execute(
        "SELECT 1 FROM attempt WHERE call_seq = ? AND digest = ?",
        (call.seq, _digest(call, attempt, rule)),
    ).fetchone()
    return found is not None


def attempt_number(call: Call, kind: AttemptKind) -> int:
    """Return the number of the exchange that a leased call is now making."""
    return call.tries if kind is AttemptKind.SEND else call.queries + 1
