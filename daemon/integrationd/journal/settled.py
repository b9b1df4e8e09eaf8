"""How a settlement is written: the call, its parts, its result, its attempt and its events."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from integrationd.call import (
    Attempt,
    AttemptKind,
    Call,
    CallState,
    EventRecord,
    is_subscription,
)
from integrationd.errors import ConflictError
from integrationd.journal import rows, sqlite
from integrationd.journal.writer import Transaction
from integrationd.settlement import Settlement, money_event, tells_of_money

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
    events = (*settlement.events, *_money_events(transaction, before, after))
    told = dataclasses.replace(settlement, events=events)
    _store_facts(transaction, after, told, now_ms, attempt)


def _money_events(transaction: Transaction, before: Call, after: Call) -> Sequence[EventRecord]:
    """Return what is told of a payment that has ended; it takes request and result to say it."""
    if not tells_of_money(before.state, after):
        return ()
    request, result = transaction.db.execute(
        "SELECT (SELECT payload FROM call_body WHERE seq = :seq),"
        " (SELECT result FROM call_result WHERE seq = :seq)",
        {"seq": after.seq},
    ).fetchone()
    return (money_event(after, _object(request), _object(result)),)


def _object(kept: bytes | None) -> Mapping[str, Any]:
    """Return what is kept; nothing where it was erased: the call is settled all the same."""
    try:
        found = msgspec.json.decode(kept) if kept else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


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
    sealed = _seal(transaction, after, attempt, settlement.rule) if attempt else None
    event_seq = None
    for number, event in enumerate(_told(after, settlement)):
        bound = _bind_digests(transaction, after, event, sealed) if number == 0 else event
        seq = transaction.chain.append(transaction.db, bound, now_ms)
        event_seq = seq if number == 0 else event_seq
    if attempt is not None and sealed is not None:
        _insert(transaction, after, attempt, settlement.rule, sealed, event_seq)
    if event_seq is not None and after.tries + after.queries > 1:
        transaction.db.execute(
            "UPDATE attempt SET event_seq = ? WHERE call_seq = ? AND event_seq IS NULL",
            (event_seq, after.seq),
        )


def _told(call: Call, settlement: Settlement) -> Sequence[EventRecord]:
    """Return what the log is told; not of how telling a subscriber goes, which would never end."""
    return () if is_subscription(call.requested_connection) else settlement.events


def _bind_digests(
    transaction: Transaction, call: Call, event: EventRecord, sealed: tuple[int, bytes] | None
) -> EventRecord:
    digests = [sealed[1].hex()] if sealed else []
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


def _seal(transaction: Transaction, call: Call, attempt: Attempt, rule: str) -> tuple[int, bytes]:
    fields = attempt_fields(attempt)
    return transaction.chain.seal_next(
        call.seq, call.id, call.tenant, call.operation, *fields, rule
    )


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


def store_attempt(transaction: Transaction, call: Call, attempt: Attempt, rule: str) -> None:
    """Insert an ended attempt that no event tells of yet."""
    sealed = _seal(transaction, call, attempt, rule)
    _insert(transaction, call, attempt, rule, sealed, None)


def _insert(
    transaction: Transaction,
    call: Call,
    attempt: Attempt,
    rule: str,
    sealed: tuple[int, bytes],
    event_seq: int | None,
) -> None:
    seq, digest = sealed
    transaction.db.execute(
        "INSERT INTO attempt (seq, call_seq, call_id, tenant, operation, kind, number, connection,"
        " provider, plugin_digest, started_at_ms, duration_ms, outcome, reason, detail, sent,"
        " status_code, request, response, rule, digest, event_seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            call.seq,
            call.id,
            call.tenant,
            call.operation,
            *attempt_fields(attempt),
            rule,
            digest,
            event_seq,
        ),
    )


def is_stored(db: sqlite.Connection, call: Call, attempt: Attempt, rule: str) -> bool:
    """Say whether exactly this attempt has been stored under that rule before."""
    found = db.execute(
        "SELECT kind, number, connection, provider, plugin_digest, started_at_ms, duration_ms,"
        " outcome, reason, detail, sent, status_code, request, response, rule FROM attempt"
        " WHERE call_seq = ?",
        (call.seq,),
    )
    return (*attempt_fields(attempt), rule) in found


def attempt_number(call: Call, kind: AttemptKind) -> int:
    """Return the number of the exchange that a leased call is now making."""
    return call.tries if kind is AttemptKind.SEND else call.queries + 1
