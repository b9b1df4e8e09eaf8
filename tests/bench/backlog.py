"""Journals with many pending calls, made quickly."""

from collections.abc import Iterator
from pathlib import Path

from tests.bench.load import CALL

from integrationd.call import DEFAULT_TENANT, Call, Priority, new_call_id, route_lane
from integrationd.journal import NewCall, rows, sqlite
from integrationd.journal.database import open_writer

OPERATION = CALL["operation"]
LANE = route_lane(DEFAULT_TENANT, OPERATION)
PAYLOAD = b'{"method":"POST","path":"/orders","json":{"text":"%s"}}' % (b"x" * 1000)
MONTH_MS = 30 * 86_400_000

# One call in ten is urgent, one can wait.
_PRIORITIES = (Priority.HIGH, *[Priority.NORMAL] * 8, Priority.LOW)


def new_call(now_ms: int) -> NewCall:
    """Return a call as the API hands it to the journal."""
    return NewCall(call=_call(now_ms, Priority.NORMAL), payload=PAYLOAD)


def _call(now_ms: int, priority: Priority) -> Call:
    return Call(
        id=new_call_id(now_ms),
        tenant=DEFAULT_TENANT,
        operation=OPERATION,
        lane=LANE,
        priority=priority,
        created_at_ms=now_ms,
        due_at_ms=now_ms,
        give_up_at_ms=now_ms + MONTH_MS,
    )


def _calls(count: int, first_ms: int) -> Iterator[Call]:
    for number in range(count):
        priority = _PRIORITIES[number % len(_PRIORITIES)]
        yield _call(first_ms + number, priority).replace(seq=number + 1)


def _bodies(count: int) -> Iterator[tuple[int, bytes, None, int]]:
    for seq in range(1, count + 1):
        yield seq, PAYLOAD, None, rows.seal(seq, PAYLOAD, None)


def make(file: Path, count: int, first_ms: int) -> Path:
    """Make a journal with pending calls that are due from ``first_ms`` on, one each millisecond.

    It is as the journal itself would write it, but for the syncs.
    """
    file.parent.mkdir()
    opened, _ = open_writer(file)
    opened.close()
    db = sqlite.connect(file)
    try:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN")
        db.executemany(rows.INSERT_CALL, map(rows.insert_values, _calls(count, first_ms)))
        db.executemany(rows.INSERT_BODY, _bodies(count))
        db.execute("COMMIT")
        assert db.execute("SELECT sum(pending) FROM ledger").fetchone()[0] == count
        db.execute("PRAGMA journal_mode = WAL").fetchall()
    finally:
        db.close()
    return file
