"""The inbox: webhooks as they came in, kept before they are answered, each once."""

from collections.abc import Sequence

import msgspec

from integrationd.call import Call, EventRecord
from integrationd.errors import NotFoundError
from integrationd.journal import rows, sqlite
from integrationd.journal.access import Access
from integrationd.journal.writer import Transaction

# What the checksum covers, in the order of the columns.
SEALED = (
    *("id", "tenant", "connection", "provider", "received_at_ms", "source", "method", "path"),
    *("query", "headers", "body", "proof", "address_call_id", "dedupe"),
)
_COLUMNS = (
    *("seq", *SEALED, "reply_status", "reply_type", "reply_body", "types", "state", "note"),
    *("call_id", "worked_at_ms", "repeats", "repeated_at_ms"),
)
_OPEN = (
    "SELECT * FROM inbox_record WHERE state IN ('new', 'held', 'unmatched') AND seq > ?"
    " ORDER BY seq LIMIT ?"
)
_LIST = (
    "SELECT * FROM inbox_record WHERE (?1 IS NULL OR connection = ?1)"
    " AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR call_id = ?3)"
    " AND (?4 IS NULL OR tenant = ?4) AND seq < ?5"
    " ORDER BY seq DESC LIMIT ?6"
)
_OF_ID = "SELECT * FROM inbox_record WHERE id = ? AND (?2 IS NULL OR tenant = ?2)"
_SEALED_OF = f"SELECT {', '.join(SEALED)}, sum FROM inbox WHERE seq = ?"  # noqa: S608 - constants
INSERT = (
    "INSERT INTO inbox (id, tenant, connection, provider, received_at_ms, source, method, path,"
    " query, headers, body, proof, address_call_id, dedupe, sum, reply_status, reply_type,"
    " reply_body, types, state, note)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_OF_PART = (
    "SELECT max(seq) FROM part JOIN call ON call.seq = part.call_seq"
    " WHERE part.provider_reference = ? AND call.connection = ?"
)
_BIG = 1 << 62
# In these its events have been told.
_TOLD = frozenset({"held", "unmatched", "applied"})
_FAULTS = frozenset({"unreadable", "failed"})


class InboxFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which webhooks are listed; None means any."""

    connection: str | None = None
    state: str | None = None
    call_id: str | None = None
    tenant: str | None = None


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that is to be kept.

    Attributes:
        id: UUIDv7.
        tenant: Whose connection it came to.
        connection: The connection.
        provider: The provider's code.
        received_at_ms: When, UTC milliseconds.
        source: The address that it came from.
        method: The HTTP method.
        path: What followed the address that was handed out.
        query: The query string.
        headers: Names and values as JSON, secrets masked.
        body: The raw bytes.
        proof: What proves it: ``signature``, ``secret`` or ``token``.
        address_call_id: The call that its address was handed out for, if it was for one.
        dedupe: What tells copies of it apart from others of the connection.
        reply_status: What is answered.
        reply_type: Content type of that.
        reply_body: Body of that.
        types: What the provider calls what it tells, comma-separated.
        state: ``new``, or ``unreadable``.
        note: Why it is unreadable.
    """

    id: str
    tenant: str
    connection: str
    provider: str
    received_at_ms: int
    source: str
    method: str
    path: str
    query: str
    headers: str
    body: bytes
    proof: str
    address_call_id: str | None
    dedupe: bytes
    reply_status: int
    reply_type: str
    reply_body: bytes
    types: str
    state: str = "new"
    note: str | None = None


class StoredWebhook(Received, frozen=True, kw_only=True):
    """A webhook of the inbox.

    Attributes:
        seq: Its number.
        state: ``new`` until it has been worked on; ``held`` until its call has ended its attempt;
            ``unmatched`` until a call turns up; then ``applied``, ``ignored``, ``unreadable`` or
            ``failed``.
        note: What came of it, for a person.
        call_id: The call that it is about.
        worked_at_ms: When it was last worked on.
        repeats: How many copies came after it.
        repeated_at_ms: When the last of them came.
    """

    seq: int
    call_id: str | None = None
    worked_at_ms: int | None = None
    repeats: int = 0
    repeated_at_ms: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What has come to one connection.

    Attributes:
        connection: The connection.
        received: How many webhooks, copies not counted.
        repeats: How many copies.
        last_received_at_ms: When the last of all came.
    """

    connection: str
    received: int
    repeats: int
    last_received_at_ms: int


class Inbox:
    """The table of webhooks."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def keep(self, received: Received) -> tuple[StoredWebhook, bool]:
        """Keep a webhook durably; a copy of one that is there is only counted.

        Returns:
            The webhook as it is kept, and whether this was a copy of it.

        Raises:
            JournalError: The journal is full or not open; the provider must send it again.
        """
        self._access.refuse_new_work()

        def job(transaction: Transaction) -> tuple[StoredWebhook, bool]:
            found = _copy_of(transaction.db, received)
            if found is None:
                kept = _insert(transaction.db, received)
                transaction.chain.append(transaction.db, _event(kept), kept.received_at_ms)
                return kept, False
            transaction.db.execute(
                "UPDATE inbox SET repeats = repeats + 1, repeated_at_ms = ? WHERE seq = ?",
                (received.received_at_ms, found.seq),
            )
            return found, True

        return await self._access.write(job)

    async def set_reply(self, seq: int, status: int, kind: str, body: bytes) -> None:
        """Note the reply that was decided after the webhook had been kept."""
        await self._access.write_surely(
            lambda transaction: transaction.db.execute(
                "UPDATE inbox SET reply_status = ?, reply_type = ?, reply_body = ? WHERE seq = ?",
                (status, kind, body, seq),
            )
        )

    async def open_ones(self, after: int, limit: int) -> Sequence[StoredWebhook]:
        """Return webhooks that are not done with, in the order in which they came."""
        return [_stored(row) for row in await self._access.rows(_OPEN, (after, limit))]

    async def get(self, webhook_id: str, within: str | None = None) -> StoredWebhook:
        """Return one webhook.

        Args:
            webhook_id: Its id.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none.
        """
        found = await self._access.rows(_OF_ID, (webhook_id, within))
        if not found:
            raise NotFoundError(f"there is no webhook {webhook_id[:80]!r}", code="no_such_webhook")
        return _stored(found[0])

    async def by_seq(self, seq: int) -> StoredWebhook | None:
        """Return the webhook of that number; None if it has been pruned."""
        found = await self._access.rows("SELECT * FROM inbox_record WHERE seq = ?", (seq,))
        return _stored(found[0]) if found else None

    async def endpoints(self) -> Sequence[Endpoint]:
        """Return what has come to each connection."""
        found = await self._access.rows_slowly(
            "SELECT connection, count(*), sum(repeats),"
            " max(max(received_at_ms, coalesce(repeated_at_ms, 0))) FROM inbox"
            " GROUP BY connection ORDER BY connection"
        )
        return [
            Endpoint(connection=row[0], received=row[1], repeats=row[2], last_received_at_ms=row[3])
            for row in found
        ]

    async def list(
        self, wanted: InboxFilter, *, before: int | None, limit: int
    ) -> Sequence[StoredWebhook]:
        """Return webhooks, the latest first.

        Args:
            wanted: Which.
            before: Only those with a lower number.
            limit: How many at most.
        """
        values = msgspec.structs.astuple(wanted)
        last = before if before is not None else _BIG
        found = await self._access.rows_slowly(_LIST, (*values, last, limit))
        return [_stored(row) for row in found]

    async def mark(
        self,
        seq: int,
        state: str,
        note: str | None,
        call_id: str | None,
        at_ms: int,
        events: Sequence[EventRecord] = (),
    ) -> None:
        """Note what came of a webhook, with the events that tell of it, in one commit.

        Events are told once: not again when it is worked on again. A fault does not undo what has
        come of it before.
        """

        def job(transaction: Transaction) -> None:
            row = transaction.db.execute("SELECT state FROM inbox WHERE seq = ?", (seq,)).fetchone()
            if row is None:
                return
            is_told = row[0] in _TOLD
            after = row[0] if is_told and state in _FAULTS else state
            transaction.db.execute(
                "UPDATE inbox SET state = ?, note = ?, call_id = coalesce(?, call_id),"
                " worked_at_ms = ? WHERE seq = ?",
                (after, note, call_id, at_ms, seq),
            )
            if call_id is not None:
                _give_to_tenant_of(transaction.db, seq, call_id)
            for event in () if is_told else events:
                transaction.chain.append(transaction.db, event, at_ms)

        await self._access.write_surely(job)

    async def find_call(
        self,
        connection: str,
        *,
        call_id: str | None,
        ours: str | None,
        theirs: str | None,
    ) -> int | None:
        """Return the number of the call that a notice is about, or None.

        Args:
            connection: What it came through.
            call_id: The call that its address was handed out for.
            ours: The reference that we gave to the provider.
            theirs: The provider's own id.
        """
        for sql, values in (
            ("SELECT seq FROM call WHERE id = ?", (call_id,)),
            (
                "SELECT seq FROM call WHERE reference_scope = ? AND own_reference = ?",
                (connection, ours),
            ),
            ("SELECT seq FROM call WHERE id = ? AND connection = ?", (ours, connection)),
            (
                "SELECT max(seq) FROM call WHERE provider_reference = ? AND connection = ?",
                (theirs, connection),
            ),
            (_OF_PART, (theirs, connection)),
        ):
            if None in values:
                continue
            found = await self._access.rows(sql, values)
            if found and found[0][0] is not None:
                seq: int = found[0][0]
                return seq
        return None

    async def payload(self, call: Call) -> bytes:
        """Return a call's payload; empty if it has been pruned."""
        found = await self._access.rows("SELECT payload FROM call_body WHERE seq = ?", (call.seq,))
        return found[0][0] if found else b""


def _give_to_tenant_of(db: sqlite.Connection, seq: int, call_id: str) -> None:
    """Have a webhook that came to a shared connection belong to the tenant of its call."""
    whose = db.execute("SELECT tenant FROM call WHERE id = ?", (call_id,)).fetchone()
    *sealed, kept_sum = db.execute(_SEALED_OF, (seq,)).fetchone()
    at = SEALED.index("tenant")
    # One that does not fit its checksum is not given a new one.
    if whose is None or whose[0] == sealed[at] or rows.seal(*sealed) != kept_sum:
        return
    sealed[at] = whose[0]
    db.execute(
        "UPDATE inbox SET tenant = ?, sum = ? WHERE seq = ?",
        (whose[0], rows.seal(*sealed), seq),
    )


def _event(kept: StoredWebhook) -> EventRecord:
    data = {"webhook": kept.id, "provider": kept.provider, "types": kept.types, "state": kept.state}
    return EventRecord(
        type="webhook.received", tenant=kept.tenant, connection=kept.connection, data=data
    )


def _insert(db: sqlite.Connection, received: Received) -> StoredWebhook:
    values = msgspec.structs.asdict(received)
    sealed = tuple(values[name] for name in SEALED)
    answered = (received.reply_status, received.reply_type, received.reply_body)
    about = (received.types, received.state, received.note)
    db.execute(INSERT, (*sealed, rows.seal(*sealed), *answered, *about))
    seq = db.execute("SELECT last_insert_rowid()").fetchone()[0]
    return StoredWebhook(seq=seq, **values)


def _copy_of(db: sqlite.Connection, received: Received) -> StoredWebhook | None:
    found = sqlite.fetch_all(
        db,
        "SELECT * FROM inbox_record WHERE connection = ? AND dedupe = ?",
        (received.connection, received.dedupe),
    )
    return _stored(found[0]) if found else None


def _stored(row: sqlite.Row) -> StoredWebhook:
    return StoredWebhook(**dict(zip(_COLUMNS, row, strict=True)))
