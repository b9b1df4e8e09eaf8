"""Save what can be read of a damaged journal into a new one; the damaged one is left as it is.

Calls are read number by number, so that a page that cannot be read costs only what stands on it.
A call comes over whole or not at all: record, payload, parts and result must fit their checksums.
In the new journal it is walked to its state by the arrows of the diagram, so that the triggers
that keep the ledger see every step.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from integrationd.call import (
    ARROWS,
    FINAL_STATES,
    Call,
    CallState,
    EventRecord,
    is_subscription,
)
from integrationd.clock import Clock
from integrationd.errors import ConflictError, DamagedError
from integrationd.journal import (
    api_keys,
    database,
    directory_rows,
    inbox,
    oauth_rows,
    rows,
    secret_rows,
    sqlite,
    subscription_rows,
)
from integrationd.journal.backup import COMMAND_LINE
from integrationd.journal.chain import Chain, Position, read_commit
from integrationd.journal.mark import Mark, write_mark
from integrationd.journal.verify import reading
from integrationd.settlement.record import call_event, move

RANGE = 200
LOST_SHOWN = 1000
_WHOLE = (
    " b.payload, b.metadata, b.sum, x.result, x.sum FROM call_record AS r"
    " JOIN call_body AS b USING (seq) LEFT JOIN call_result AS x USING (seq)"
    " WHERE r.seq BETWEEN ? AND ? ORDER BY r.seq"
)
_KNOWS_ERASURE = "SELECT 1 FROM pragma_table_info('call_body') WHERE name = 'erased_event'"
_PARTS = (
    "SELECT position, recipient, state, reason, detail, provider_reference, delivery, sum"
    " FROM part WHERE call_seq = ? ORDER BY position"
)
_INBOX = (
    "SELECT id, tenant, connection, provider, received_at_ms, source, method, path, query, headers,"
    " body, proof, address_call_id, dedupe, sum, reply_status, reply_type, reply_body, types,"
    " state, note FROM inbox ORDER BY seq"
)


class SalvageReport(msgspec.Struct, kw_only=True):
    """What was saved.

    Attributes:
        kept: Calls saved.
        doubtful: Of these, how many became unknown, since they were being attempted.
        lost: Calls that could not be saved.
        webhooks: Webhooks of the inbox saved.
        lost_ids: Their ids, where they could be read; the first thousand.
    """

    kept: int = 0
    doubtful: int = 0
    lost: int = 0
    webhooks: int = 0
    lost_ids: list[str] = msgspec.field(default_factory=list)

    def lose(self, call_id: str | None) -> None:
        """Count a call that could not be saved."""
        self.lost += 1
        if call_id and len(self.lost_ids) < LOST_SHOWN:
            self.lost_ids.append(call_id)


def salvage(
    damaged: Path, into: Path, key: bytes, clock: Clock, *, by: str = COMMAND_LINE
) -> SalvageReport:
    """Save the intact calls of a damaged journal into a new one.

    Args:
        damaged: The journal.
        into: The new one.
        key: The instance key.
        clock: Where time is read.
        by: Who asked for it.

    Raises:
        ConflictError: There is a file at ``into`` already.
        NotFoundError: There is no journal at ``damaged``.
        JournalUnavailableError: Not even its schema can be read.
    """
    if into.exists():
        raise ConflictError(f"{into} exists already", hint="Name a new file.")
    report, now_ms = SalvageReport(), clock.now_ms()
    with reading(damaged) as old:
        new, _ = database.open_writer(into)
        try:
            chain = Chain(key, Position())
            new.execute("BEGIN IMMEDIATE")
            for row in _rows_of(old, report):
                _save(old, new, chain, row, report, now_ms)
            _save_the_rest(old, new, report)
            data = {"by": by, "from_file": str(damaged), "kept": report.kept, "lost": report.lost}
            told = EventRecord(type="journal.salvaged", data=data)
            _point_at(new, chain.append(new, told, now_ms))
            new.execute("UPDATE commit_mark SET seq = seq + 1")
            new.execute("COMMIT")
            commit = read_commit(new)
            write_mark(into.with_name(into.name + ".mark"), key, Mark(commit, *chain.position))
        except sqlite.SqliteError as error:
            raise sqlite.journal_error(error) from error
        finally:
            new.close()
    return report


def _point_at(new: sqlite.Connection, event: int) -> None:
    """Have erased calls name the event that says where the one of their erasure is to be read."""
    new.execute("UPDATE call_body SET erased_event = ? WHERE erased_event IS NOT NULL", (event,))


def _save_the_rest(old: sqlite.Connection, new: sqlite.Connection, report: SalvageReport) -> None:
    _save_keys(old, new)
    _save_inbox(old, new, report)
    _save_vault(old, new)
    _save_api_keys(old, new)
    _save_directory(old, new)


def _rows_of(old: sqlite.Connection, report: SalvageReport) -> Iterator[sqlite.Row]:
    """Read the calls in ranges, and one by one where a range cannot be read."""
    whole = _whole(old)
    for first in range(1, _last_seq(old) + 1, RANGE):
        try:
            yield from old.execute(whole, (first, first + RANGE - 1)).fetchall()
        except sqlite.SqliteError:
            yield from _one_by_one(old, whole, first, report)


def _whole(old: sqlite.Connection) -> str:
    """Return the statement that reads calls; before schema 8 nothing could be erased."""
    erased = "b.erased_event" if old.execute(_KNOWS_ERASURE).fetchone() else "NULL"
    return f"SELECT r.*, {erased}," + _WHOLE


def _one_by_one(
    old: sqlite.Connection, whole: str, first: int, report: SalvageReport
) -> Iterator[sqlite.Row]:
    for seq in range(first, first + RANGE):
        try:
            found = old.execute(whole, (seq, seq)).fetchone()
        except sqlite.SqliteError:
            report.lose(None)
            continue
        if found is not None:
            yield found


def _last_seq(old: sqlite.Connection) -> int:
    """Return the greatest number that any table knows of."""
    statements = (
        "SELECT max(seq) FROM call",
        "SELECT max(seq) FROM call_body",
        "SELECT max(call_seq) FROM attempt",
    )
    found = [0]
    for statement in statements:
        try:
            found.append(old.execute(statement).fetchone()[0] or 0)
        except sqlite.SqliteError:
            continue
    return max(found)


def _save(
    old: sqlite.Connection,
    new: sqlite.Connection,
    chain: Chain,
    row: sqlite.Row,
    report: SalvageReport,
    now_ms: int,
) -> None:
    erased, payload, metadata, body_sum, result, result_sum = row[rows.CALL_WIDTH + 2 :]
    try:
        call = rows.call_of(row)
        rows.check("payload", body_sum, call.seq, payload, metadata)
        if result is not None:
            rows.check("result", result_sum, call.seq, result)
        parts = rows.parts_of(call, _parts_of(old, call))
    except (DamagedError, sqlite.SqliteError):
        report.lose(str(row[1]) if row[1] else None)
        return
    saved = _walk(new, call, now_ms)
    new.execute(
        "INSERT INTO call_body (seq, payload, metadata, sum, erased_event) VALUES (?, ?, ?, ?, ?)",
        (call.seq, payload, metadata, body_sum, erased),
    )
    if result is not None:
        new.execute(
            "INSERT INTO call_result (seq, result, sum) VALUES (?, ?, ?)",
            (call.seq, result, result_sum),
        )
    for part in parts:
        new.execute(
            "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.part_values(call.seq, part)
        )
    report.kept += 1
    if saved.reason == "salvaged":
        report.doubtful += 1
        chain.append(new, call_event(saved, "unknown"), now_ms)


def _parts_of(old: sqlite.Connection, call: Call) -> Sequence[sqlite.Row]:
    return old.execute(_PARTS, (call.seq,)).fetchall() if call.parts else []


def _walk(new: sqlite.Connection, call: Call, now_ms: int) -> Call:
    """Insert the call as it was accepted and bring it to its state, arrow by arrow."""
    if call.state is CallState.PROCESSING and is_subscription(call.requested_connection):
        # Receivers drop copies.
        call = call.replace(**{**_columns(CallState.PENDING, call), "reason": "interrupted"})
    if call.state is CallState.PROCESSING:
        call = move(
            call,
            CallState.UNKNOWN,
            now_ms,
            "salvaged",
            "It was being attempted when the journal was damaged.",
            doubt=1,
        )
    begun = call.replace(**_columns(CallState.PENDING, call), revision=1)
    if call.state is CallState.PENDING:
        begun = call.replace(revision=1)
    new.execute(rows.INSERT_CALL, rows.insert_values(begun))
    path = _path(call.state)
    for step, state in enumerate(path, start=2):
        is_last = step == len(path) + 1
        after = call if is_last else begun.replace(**_columns(state, call))
        after = after.replace(revision=max(step, call.revision) if is_last else step)
        new.execute(rows.STORE_CALL, rows.store_values(after, step - 1))
    return call


def _columns(state: CallState, call: Call) -> dict[str, Any]:
    """Return what the schema asks for in a state that is only passed through."""
    is_leased = state is CallState.PROCESSING
    return {
        "state": state,
        "due_at_ms": call.created_at_ms if state is CallState.PENDING else None,
        "connection": call.connection or "salvaged",
        "ask_at_ms": None,
        "lease_id": 0 if is_leased else None,
        "lease_until_ms": call.created_at_ms if is_leased else None,
        "finished_at_ms": call.created_at_ms if state in FINAL_STATES else None,
        "reason": "salvaged",
    }


def _path(end: CallState) -> list[CallState]:
    """Return the shortest way from ``pending`` to a state."""
    found: dict[CallState, list[CallState]] = {CallState.PENDING: []}
    queue = [CallState.PENDING]
    while queue:
        here = queue.pop(0)
        for there in sorted(ARROWS[here]):
            if there not in found:
                found[there] = [*found[here], there]
                queue.append(there)
    return found[end]


def _save_keys(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Save the idempotency keys, as far as they can be read."""
    found: list[sqlite.Row] = []
    with contextlib.suppress(sqlite.SqliteError):
        # Not in one go, so that what stands before a damaged page is kept.
        found.extend(
            old.execute("SELECT tenant, key, digest, call_id, created_at_ms FROM idempotency")
        )
    new.executemany("INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, ?, ?)", found)


def _save_inbox(old: sqlite.Connection, new: sqlite.Connection, report: SalvageReport) -> None:
    """Save the webhooks that fit their checksums, so that copies of them are known as such."""
    with contextlib.suppress(sqlite.SqliteError):
        for row in old.execute(_INBOX):
            if rows.seal(*row[: len(inbox.SEALED)]) == row[len(inbox.SEALED)]:
                new.execute(inbox.INSERT, row)
                report.webhooks += 1


def _save_vault(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Save the secrets that fit their checksums, sealed as they are."""
    with contextlib.suppress(sqlite.SqliteError):
        secret_rows.copy(old, new)
        oauth_rows.copy(old, new)


def _save_api_keys(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Save the API keys that fit their checksums, so that apps stay let in."""
    with contextlib.suppress(sqlite.SqliteError):
        api_keys.copy(old, new)


def _save_directory(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Save the tenants, connections and subscriptions that fit their checksums."""
    with contextlib.suppress(sqlite.SqliteError):
        directory_rows.copy(old, new)
        subscription_rows.copy(old, new)
