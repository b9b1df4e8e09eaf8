"""The rows of subscriptions and their cursors: sealed, checked, copied."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from integrationd.errors import DamagedError
from integrationd.journal import rows, sqlite

SUBSCRIPTION = (
    "SELECT seq, id, tenant, settings, active, stopped, stopped_at_ms, created_at_ms,"
    " changed_at_ms, sum FROM subscription"
)
CURSOR = (
    "SELECT id, seq, replay_after, replay_upto, failing_since_ms, failed_at_ms, sum"
    " FROM subscription_cursor"
)
_STORE = (
    "REPLACE INTO subscription (seq, id, tenant, settings, active, stopped, stopped_at_ms,"
    " created_at_ms, changed_at_ms, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_STORE_CURSOR = (
    "REPLACE INTO subscription_cursor (id, seq, replay_after, replay_upto, failing_since_ms,"
    " failed_at_ms, sum) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_WITHOUT_CURSOR = "SELECT id FROM subscription WHERE id NOT IN (SELECT id FROM subscription_cursor)"
_AHEAD = (
    "SELECT id, seq FROM subscription_cursor WHERE seq > (SELECT coalesce(max(seq), 0) FROM event)"
)
# The app's own door stands in no table; what is left of a lost subscription does no harm.
_OF_NONE = "SELECT id FROM subscription_cursor WHERE id NOT IN (SELECT id FROM subscription)"
_json = msgspec.json.Encoder(order="deterministic").encode


class SubscriptionTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says about a subscription, secrets aside.

    Attributes:
        name: What people call it.
        description: What it is for.
        url: Where events go.
        events: Names of events, prefixes such as ``payment.*``, or ``*``.
        scheme: ``standard`` or ``simple``.
        headers: The names of the headers that are sent along.
        schedule_s: Seconds from one attempt to the next, the first one's wait too.
        allow_private: Whether it may be in a private network.
    """

    name: str = ""
    description: str = ""
    url: str
    events: tuple[str, ...] = ("*",)
    scheme: str = "standard"
    headers: tuple[str, ...] = ()
    schedule_s: tuple[float, ...] = ()
    allow_private: bool = False


class StoredSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as it is kept.

    Attributes:
        seq: Its number in the order of making; 0 before it is kept.
        id: Its id.
        tenant: Whose events it is told of; everybody's when None.
        terms: What a person said.
        active: Whether it is told.
        stopped: Why the daemon switched it off by itself, or None.
        stopped_at_ms: When that was, UTC milliseconds, as are all times.
        created_at_ms: When it was made.
        changed_at_ms: When it was last changed.
    """

    seq: int = 0
    id: str
    tenant: str | None
    terms: SubscriptionTerms
    active: bool = True
    stopped: str | None = None
    stopped_at_ms: int | None = None
    created_at_ms: int
    changed_at_ms: int


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription has been told.

    Attributes:
        id: Of which subscription.
        seq: The number of the last event that was looked at.
        replay_after: Where telling once more stands; None where nothing is told again.
        replay_upto: Where that ends.
        failing_since_ms: When the first of the failures without a success in between was, moved on
            by the time that is not the receiver's doing.
        failed_at_ms: When the last of them was, to about an hour.
    """

    id: str
    seq: int
    replay_after: int | None = None
    replay_upto: int | None = None
    failing_since_ms: int | None = None
    failed_at_ms: int | None = None


def of_row(row: sqlite.Row) -> StoredSubscription:
    """Return the subscription in a row of :data:`SUBSCRIPTION`.

    Raises:
        DamagedError: It fails its checksum, or cannot be read.
    """
    rows.check(f"subscription {row[1]}", row[-1], *row[1:-1])
    try:
        terms = msgspec.json.decode(row[3], type=SubscriptionTerms)
    except msgspec.DecodeError as error:
        raise DamagedError(f"subscription {row[1]} cannot be read: {error}") from error
    return StoredSubscription(
        seq=row[0],
        id=row[1],
        tenant=row[2],
        terms=terms,
        active=bool(row[4]),
        stopped=row[5],
        stopped_at_ms=row[6],
        created_at_ms=row[7],
        changed_at_ms=row[8],
    )


def cursor_of(row: sqlite.Row) -> Cursor:
    """Return the cursor in a row of :data:`CURSOR`.

    Raises:
        DamagedError: It fails its checksum.
    """
    rows.check(f"the cursor of subscription {row[0]}", row[-1], *row[:-1])
    return Cursor(
        id=row[0],
        seq=row[1],
        replay_after=row[2],
        replay_upto=row[3],
        failing_since_ms=row[4],
        failed_at_ms=row[5],
    )


def store(db: sqlite.Connection, one: StoredSubscription) -> int:
    """Write a subscription and return its number."""
    sealed: tuple[Any, ...] = (
        one.id,
        one.tenant,
        _json(one.terms).decode(),
        int(one.active),
        one.stopped,
        one.stopped_at_ms,
        one.created_at_ms,
        one.changed_at_ms,
    )
    made = db.execute(_STORE, (one.seq or None, *sealed, rows.seal(*sealed)))
    return one.seq or made.lastrowid or 0


def store_cursor(db: sqlite.Connection, cursor: Cursor) -> None:
    """Write a cursor."""
    values = msgspec.structs.astuple(cursor)
    db.execute(_STORE_CURSOR, (*values, rows.seal(*values)))


def read_cursor(db: sqlite.Connection, subscription: str) -> Cursor | None:
    """Return a subscription's cursor; None where it has none.

    Raises:
        DamagedError: It fails its checksum.
    """
    row = db.execute(f"{CURSOR} WHERE id = ?", (subscription,)).fetchone()
    return None if row is None else cursor_of(row)


def sorted_out(found: Iterable[sqlite.Row]) -> tuple[list[StoredSubscription], list[str]]:
    """Return the subscriptions that fit their checksums, and the ids of the others."""
    sound, damaged = [], []
    for row in found:
        try:
            sound.append(of_row(row))
        except DamagedError:
            damaged.append(str(row[1]))
    return sound, damaged


def check(db: sqlite.Connection, note: Callable[[str], None]) -> None:
    """Compare every row with its checksum and with the log, and tell of those that do not fit.

    Args:
        db: A journal, of this version or an earlier one.
        note: Called with what is wrong, in words.
    """
    if not _has_tables(db):
        return
    for row, read in _all(db):
        try:
            read(row)
        except DamagedError as error:
            note(str(error))
    for (subscription,) in db.execute(_WITHOUT_CURSOR):
        note(f"subscription {subscription} has no cursor")
    for subscription, seq in db.execute(_AHEAD):
        note(f"subscription {subscription} stands at event {seq}, which is not in the log")


def copy(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Copy what fits its checksum into an empty journal.

    The new journal's log begins anew, so everybody is told it from its beginning.
    """
    if not _has_tables(old):
        return
    for row in old.execute(f"{SUBSCRIPTION} ORDER BY seq"):
        with contextlib.suppress(DamagedError, sqlite.IntegrityError):
            saved = of_row(row)
            store(new, saved)
            store_cursor(new, Cursor(id=saved.id, seq=0))
    for (own,) in old.execute(_OF_NONE):
        store_cursor(new, Cursor(id=own, seq=0))


def _has_tables(db: sqlite.Connection) -> bool:
    found = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'subscription'").fetchone()
    return found is not None


def _all(
    db: sqlite.Connection,
) -> Iterable[tuple[sqlite.Row, Callable[[sqlite.Row], StoredSubscription | Cursor]]]:
    for row in db.execute(f"{SUBSCRIPTION} ORDER BY seq"):
        yield row, of_row
    for row in db.execute(CURSOR):
        yield row, cursor_of
