"""Calls: accepted, looked at, and moved by a person."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from integrationd.call import (
    DEFAULT_TENANT,
    FINAL_STATES,
    SUBSCRIPTION_PREFIX,
    Call,
    CallState,
    Part,
    Priority,
)
from integrationd.clock import Clock
from integrationd.errors import (
    ConflictError,
    DamagedError,
    JournalFullError,
    NotFoundError,
    UnprocessableError,
)
from integrationd.events import CallAccepted, CallChanged
from integrationd.journal import rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.damage import sound
from integrationd.journal.settled import HAS_RESULT, store_settlement
from integrationd.journal.tenant_days import Quota, count_in
from integrationd.journal.writer import Transaction
from integrationd.settlement import Settlement
from integrationd.settlement.record import call_event

PARTS = (
    "SELECT position, recipient, state, reason, detail, provider_reference, delivery, sum"
    " FROM part WHERE call_seq = ? ORDER BY position"
)
# Of another tenant is as good as not there, also where it is damaged.
_OF_ID = "SELECT * FROM call_record WHERE id = ? AND (?2 IS NULL OR tenant = ?2)"
_ONE = (
    "SELECT r.*, b.payload, b.metadata, b.sum, x.result, x.sum FROM call_record AS r"
    " LEFT JOIN call_body AS b USING (seq) LEFT JOIN call_result AS x USING (seq)"
    " WHERE r.id = ? AND (?2 IS NULL OR r.tenant = ?2)"
)

_KNOWN = "SELECT call_id, digest FROM idempotency WHERE tenant = ? AND key = ?"

_SELECT = "SELECT * FROM call_record WHERE seq < coalesce(:before, 9223372036854775807)"
_LATEST = (
    " AND (:tenant IS NULL OR tenant = :tenant)"
    " AND (:operation IS NULL OR operation = :operation)"
    " AND (:connection IS NULL OR connection = :connection)"
    " AND (:reference_type IS NULL OR reference_type = :reference_type)"
    " AND (:state IS NULL OR state = :state)"
    # What subscribers are told is listed when somebody asks for it.
    " AND (coalesce(:operation, :connection, :reference_type) IS NOT NULL"
    f"  OR requested_connection IS NULL OR requested_connection NOT GLOB '{SUBSCRIPTION_PREFIX}*')"
    " AND damaged_at_ms IS NULL ORDER BY seq DESC LIMIT :limit"
)
# Each line repeats the condition of the partial index that serves it.
_BY_STATE = _SELECT + " AND state = :state AND state NOT IN ('processing', 'completed')" + _LATEST
_PROCESSING = _SELECT + " AND lease_id IS NOT NULL" + _LATEST
_BY_REFERENCE = _SELECT + " AND reference_id = :reference_id" + _LATEST
_OF_TENANT = _SELECT + f" AND tenant = :tenant AND tenant <> '{DEFAULT_TENANT}'" + _LATEST
_ANY = _SELECT + _LATEST


class NewCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be accepted.

    Attributes:
        call: The record, its ``seq`` still 0.
        payload: The payload exactly as it came.
        metadata: The app's own notes as JSON, or None.
        recipients: The recipients that become parts; empty for a call to one.
        idempotency_key: The app's key, or None.
        digest: SHA-256 of the parsed request, compared when the key comes again.
    """

    call: Call
    payload: bytes
    metadata: bytes | None = None
    recipients: tuple[str, ...] = ()
    idempotency_key: str | None = None
    digest: bytes = b""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request to accept a call.

    Attributes:
        call: The call as it now stands, or None if it has been pruned since.
        call_id: Its id.
        is_replay: It had been accepted before under the same idempotency key.
    """

    call: Call | None
    call_id: str
    is_replay: bool = False


class CallDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A call with everything that belongs to it but its attempts."""

    call: Call
    payload: bytes
    metadata: bytes | None
    result: bytes | None
    parts: tuple[Part, ...]


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to list; None means any."""

    state: str | None = None
    tenant: str | None = None
    operation: str | None = None
    connection: str | None = None
    reference_type: str | None = None
    reference_id: str | None = None


class Calls:
    """The table family of calls."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._last_seq = 0

    def begin_after(self, seq: int) -> None:
        """Number the next call ``seq + 1``; told when the journal is opened."""
        self._last_seq = max(self._last_seq, seq)

    async def accept(
        self,
        new: Sequence[NewCall],
        *,
        quotas: Mapping[str, Quota] = MappingProxyType({}),
    ) -> list[Receipt]:
        """Keep the calls, all or none, and return once they are durable.

        Args:
            new: The calls.
            quotas: How many calls a day may bring, for tenants where there is an end to them.

        Raises:
            TooManyError: They are more than a quota allows today.
            UnprocessableError: An idempotency key came before with another request, or they are
                more than a quota ever allows.
            ConflictError: A provider reference is taken on that connection.
            JournalHighWaterError: The disk is low on room, and one of them can wait.
            JournalFullError: The disk is full.
            JournalUnavailableError: The journal is recovering.
        """
        try:
            self._access.refuse_new_work(is_low=any(_can_wait(one) for one in new))
        except JournalFullError:
            replays = await self._replays(new)
            if len(replays) < len(new):
                raise
            return replays

        def job(transaction: Transaction) -> list[Receipt]:
            # One after the other, since a batch may name one key or reference twice.
            receipts = [
                self._known(transaction.db, one) or self._insert(transaction, one) for one in new
            ]
            if quotas:
                _count_fresh(transaction.db, receipts, quotas)
            return receipts

        heavy = len(new) > 16 or sum(len(one.payload) for one in new) > 65536
        return await self._access.write(job, heavy=heavy)

    async def is_known(self, tenant: str, key: str) -> bool:
        """Say whether a call of the tenant was accepted under that idempotency key."""
        return bool(await self._access.rows(_KNOWN, (tenant, key)))

    def _known(self, db: sqlite.Connection, new: NewCall) -> Receipt | None:
        if new.idempotency_key is None:
            return None
        found = db.execute(_KNOWN, (new.call.tenant, new.idempotency_key)).fetchone()
        if found is None:
            return None
        _refuse_other_request(found, new)
        return _replay(found, sqlite.fetch_all(db, _OF_ID, (found[0], new.call.tenant)))

    async def _replays(self, new: Sequence[NewCall]) -> list[Receipt]:
        """Answer, without a write, calls that were accepted before, up to the first that was not.

        Raises:
            UnprocessableError: An idempotency key came before with another request.
        """
        receipts: list[Receipt] = []
        for one in new:
            key, tenant = one.idempotency_key, one.call.tenant
            known = [] if key is None else await self._access.rows(_KNOWN, (tenant, key))
            if not known:
                break
            _refuse_other_request(known[0], one)
            kept = await self._access.rows(_OF_ID, (known[0][0], tenant))
            receipts.append(_replay(known[0], kept))
        return receipts

    def _refuse_taken_reference(self, db: sqlite.Connection, call: Call) -> None:
        if call.own_reference is None:
            return
        taken = db.execute(
            "SELECT id, tenant FROM call WHERE reference_scope = ? AND own_reference = ?",
            (call.reference_scope, call.own_reference),
        ).fetchone()
        if taken:
            # Where tenants share a connection, they share the provider's references too.
            other = f"that of call {taken[0]}" if taken[1] == call.tenant else "taken"
            raise ConflictError(
                f"reference {call.own_reference!r} is already {other} on {call.reference_scope}",
                code="reference_taken",
                pointer="/payload/reference",
                hint="A provider reference names one effect; use another for another.",
            )

    def insert(self, transaction: Transaction, new: NewCall) -> Call:
        """Keep a call inside a write; nobody is told of it.

        Raises:
            ConflictError: Its provider reference is taken on that connection.
        """
        self._refuse_taken_reference(transaction.db, new.call)
        self._last_seq += 1
        seq, db = self._last_seq, transaction.db
        call = new.call.replace(seq=seq, parts=len(new.recipients))
        db.execute(rows.INSERT_CALL, rows.insert_values(call))
        db.execute(
            rows.INSERT_BODY,
            (seq, new.payload, new.metadata, rows.seal(seq, new.payload, new.metadata)),
        )
        for position, recipient in enumerate(new.recipients):
            part = Part(position=position, recipient=recipient)
            db.execute(
                "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.part_values(seq, part)
            )
        if new.idempotency_key is not None:
            db.execute(
                "INSERT INTO idempotency (tenant, key, digest, call_id, created_at_ms)"
                " VALUES (?, ?, ?, ?, ?)",
                (call.tenant, new.idempotency_key, new.digest, call.id, call.created_at_ms),
            )
        return call

    def _insert(self, transaction: Transaction, new: NewCall) -> Receipt:
        call = self.insert(transaction, new)
        transaction.told.append(CallAccepted(call))
        return Receipt(call=call, call_id=call.id)

    async def get(self, call_id: str, within: str | None = None) -> Call:
        """Return a call.

        Args:
            call_id: Its id.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
            DamagedError: Its stored form is damaged.
        """
        found = await self._access.rows(_OF_ID, (call_id, within))
        if not found:
            raise _no_such_call(call_id)
        return rows.call_of(found[0])

    async def detail(self, call_id: str, within: str | None = None) -> CallDetail:
        """Return a call with its payload, result and parts.

        Args:
            call_id: Its id.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
            DamagedError: Its stored form is damaged.
        """
        found = await self._access.rows(_ONE, (call_id, within))
        if not found:
            raise _no_such_call(call_id)
        call = rows.call_of(found[0])
        payload, metadata, body_sum, result, result_sum = found[0][rows.CALL_WIDTH + 2 :]
        rows.check(f"the payload of call {call_id}", body_sum, call.seq, payload, metadata)
        if result is not None:
            rows.check(f"the result of call {call_id}", result_sum, call.seq, result)
        elif call.state in HAS_RESULT:
            raise DamagedError(f"the result of call {call_id} has been lost")
        parts = await self._access.rows(PARTS, (call.seq,)) if call.parts else []
        return CallDetail(
            call=call,
            payload=payload,
            metadata=metadata,
            result=result or None,
            parts=rows.parts_of(call, parts),
        )

    async def list(self, wanted: CallFilter, *, before: int | None, limit: int) -> list[Call]:
        """Return calls, the latest first, leaving out those that are damaged.

        Args:
            wanted: Which calls.
            before: Only calls with a smaller number; from the latest when None.
            limit: How many at most.
        """
        terms = {**msgspec.structs.asdict(wanted), "before": before, "limit": limit}
        found = await self._access.rows(_list_statement(wanted), terms)
        return await sound(self._access, self._clock.now_ms(), found, rows.call_of)

    async def change(
        self,
        call_id: str,
        decide: Callable[[Call, tuple[Part, ...]], Settlement],
        within: str | None = None,
    ) -> Call:
        """Move a call by a decision about how it stands now.

        Args:
            call_id: Its id.
            decide: Returns what to write, or refuses.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: The decision refuses.
            DamagedError: Its stored form is damaged.
        """

        def job(transaction: Transaction) -> Call:
            found = sqlite.fetch_all(transaction.db, _OF_ID, (call_id, within))
            if not found:
                raise _no_such_call(call_id)
            call = rows.call_of(found[0])
            if found[0][rows.CALL_WIDTH + 1] is not None:
                raise DamagedError(f"call {call_id} is set aside: what belongs to it is damaged")
            settlement = decide(call, parts_of(transaction.db, call))
            if settlement.call.state is CallState.PENDING:
                _refuse_erased(transaction.db, call)
            store_settlement(transaction, call, settlement, self._clock.now_ms())
            transaction.told.append(CallChanged(settlement.call, settlement.rule))
            return settlement.call

        return await self._access.write(job)

    async def acknowledge(self, call_id: str, by: str, within: str | None = None) -> Call:
        """Take note of the evidence against a final state, so that it is no longer shown.

        Args:
            call_id: Its id.
            by: Who takes note of it.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: There is no such evidence.
        """

        def decide(call: Call, _parts: tuple[Part, ...]) -> Settlement:
            if call.contradiction is None or call.state not in FINAL_STATES:
                raise ConflictError(f"nothing speaks against the state of call {call_id}")
            noted = call.replace(contradiction=None, revision=call.revision + 1)
            told = call_event(noted, "acknowledged", by=by, before=call.contradiction)
            return Settlement(call=noted, rule="contradiction acknowledged", events=(told,))

        return await self.change(call_id, decide, within)


def _can_wait(new: NewCall) -> bool:
    return new.call.priority is Priority.LOW


def _refuse_other_request(known: sqlite.Row, new: NewCall) -> None:
    if known[1] != new.digest:
        raise UnprocessableError(
            "this Idempotency-Key was used before with another request",
            code="idempotency_mismatch",
            hint="Use a new key for a new call; repeat a call with exactly the same body.",
        )


def _replay(known: sqlite.Row, kept: Sequence[sqlite.Row]) -> Receipt:
    call = rows.call_of(kept[0]) if kept else None
    return Receipt(call=call, call_id=known[0], is_replay=True)


def _refuse_erased(db: sqlite.Connection, call: Call) -> None:
    row = db.execute("SELECT erased_event FROM call_body WHERE seq = ?", (call.seq,)).fetchone()
    if row is not None and row[0] is not None:
        raise ConflictError(
            f"the payload of call {call.id} was erased, so it cannot be sent again",
            code="erased",
            hint=f"Event {row[0]} tells who asked for it.",
        )


def parts_of(db: sqlite.Connection, call: Call) -> tuple[Part, ...]:
    """Return the parts of a call as they stand inside a write.

    Raises:
        DamagedError: The stored form of one is damaged.
    """
    if not call.parts:
        return ()
    return rows.parts_of(call, sqlite.fetch_all(db, PARTS, (call.seq,)))


def _list_statement(wanted: CallFilter) -> str:
    if wanted.reference_id is not None:
        return _BY_REFERENCE
    if wanted.state == CallState.PROCESSING:
        return _PROCESSING
    if wanted.state not in (None, CallState.COMPLETED):
        return _BY_STATE
    return _ANY if wanted.tenant in (None, DEFAULT_TENANT) else _OF_TENANT


def _count_fresh(
    db: sqlite.Connection, receipts: Sequence[Receipt], quotas: Mapping[str, Quota]
) -> None:
    fresh = Counter(
        one.call.tenant for one in receipts if one.call is not None and not one.is_replay
    )
    for tenant, quota in quotas.items():
        if fresh[tenant]:
            count_in(db, quota, fresh[tenant])


def _no_such_call(call_id: Any) -> NotFoundError:
    return NotFoundError(
        f"there is no call {call_id}",
        code="no_such_call",
        hint="Finished calls are kept for [retention] calls; see 'integrationd calls'.",
    )
