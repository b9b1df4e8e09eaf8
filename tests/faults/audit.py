"""What is checked when the dust has settled: the daemon's books against everybody else's.

Each check returns sentences; no sentence means that all is as it should be.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tests.faults.daemon import DaemonProcess
from tests.faults.load import Book
from tests.faults.sink import Sink

from integrationd.journal import read_key, sqlite
from integrationd.journal.chain import FIRST_HEAD, link

PAGE = 500
SHOWN = 5
OPEN_STATES = ("pending", "processing", "waiting")
_TROUBLE = re.compile(r"Traceback|\[(?:error|critical)\s*\]|Error:")


@dataclass(frozen=True)
class Row:
    """A call as it lies in the journal."""

    id: str
    order: str | None
    state: str
    reason: str | None
    tries: int
    payload: Any


@dataclass(frozen=True)
class Books:
    """Everything that the journal holds at the end.

    Attributes:
        rows: The calls.
        interrupted: Sends that were begun and of which no result was ever recorded.
        faults: What is wrong with the journal itself.
    """

    rows: tuple[Row, ...]
    interrupted: int
    faults: tuple[str, ...]


async def ledger(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Return the ledger as the API tells it."""
    answer = await client.get("/v1/ledger")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def count_open(client: httpx2.AsyncClient) -> int:
    """Return how many calls are neither final nor unknown."""
    total = (await ledger(client))["total"]
    return sum(total[state] for state in OPEN_STATES)


async def check_api(client: httpx2.AsyncClient, book: Book) -> list[str]:
    """Compare the ledger, the status and the list of all calls with the clients' book."""
    status = (await client.get("/v1/status")).json()
    balance = await ledger(client)
    listed = {item["id"] async for item in _all_calls(client)}
    missing = [order for order, call_id in book.kept.items() if call_id not in listed]
    faults = list(_named("acknowledged, but not in the API's list", missing))
    if not balance["balances"]:
        faults.append(f"the ledger does not balance: {balance['items']}")
    if balance["total"]["accepted"] != len(listed):
        faults.append(f"accepted is {balance['total']['accepted']}, but {len(listed)} are listed")
    if status["journal"]["alarm"]:
        faults.append(f"alarm: {status['journal']['alarm']}")
    return faults


async def _all_calls(client: httpx2.AsyncClient) -> Any:
    parameters: dict[str, Any] = {"limit": PAGE}
    while True:
        page = (await client.get("/v1/calls", params=parameters)).json()
        for item in page["items"]:
            yield item
        if page["next"] is None:
            return
        parameters["cursor"] = page["next"]


def read_books(daemon: DaemonProcess) -> Books:
    """Read the journal of a daemon that has stopped, without changing it."""
    db = sqlite.connect(daemon.journal, read_only=True)
    try:
        rows = db.execute(
            "SELECT id, reference_id, state, reason, tries, payload"
            " FROM call JOIN call_body USING (seq)"
        ).fetchall()
        sends = db.execute("SELECT count(*) FROM attempt WHERE kind = 'send'").fetchone()[0]
        faults = [*_check_file(db), *_check_events(db, daemon.journal)]
    finally:
        db.close()
    found = tuple(
        Row(call_id, order, state, reason, tries, json.loads(payload))
        for call_id, order, state, reason, tries, payload in rows
    )
    return Books(found, sum(row.tries for row in found) - sends, tuple(faults))


def _check_file(db: sqlite.Connection) -> Iterator[str]:
    verdict = db.execute("PRAGMA integrity_check").fetchall()
    if verdict != [("ok",)]:
        yield f"integrity_check says {verdict[:SHOWN]}"
    accepted = db.execute("SELECT sum(accepted) FROM ledger").fetchone()[0]
    count = db.execute("SELECT count(*) FROM call").fetchone()[0]
    if accepted != count:
        yield f"the ledger has accepted {accepted}, but there are {count} calls"


def _check_events(db: sqlite.Connection, journal: Path) -> Iterator[str]:
    """Follow the chain from its beginning: no number is missing and no row was changed."""
    key, head = read_key(journal.with_name("instance.key")), FIRST_HEAD
    events = db.execute(
        "SELECT mac, seq, at_ms, type, tenant, call_id, connection, data FROM event ORDER BY seq"
    )
    for number, (mac, *fields) in enumerate(events, start=1):
        if fields[0] != number:
            yield f"event {number} is missing: {fields[0]} comes next"
            return
        head = link(key, head, *fields)
        if head != mac:
            yield f"event {number} breaks the chain"
            return


def check_calls(books: Books, book: Book) -> list[str]:
    """Compare the journal with the clients' book."""
    by_id = {row.id: row for row in books.rows}
    known = [row for row in books.rows if row.order in book.ordered]
    strange = [row.id for row in books.rows if row.order not in book.ordered]
    twice = Counter(row.order for row in books.rows)
    faults = [
        *_named("acknowledged, but lost", lost(books, book)),
        *_named("kept, but never ordered", strange),
        *_named("kept twice", [str(order) for order, count in twice.items() if count > 1]),
        *_named("still open", [row.id for row in books.rows if row.state in OPEN_STATES]),
        *_named(
            "unknown without a reason",
            [row.id for row in books.rows if row.state == "unknown" and not row.reason],
        ),
        *_named(
            "not kept as it was sent",
            [row.id for row in known if row.payload != book.ordered[str(row.order)].payload],
        ),
        *_named(
            "acknowledged under the id of another call",
            [
                order
                for order, call_id in book.kept.items()
                if call_id in by_id and by_id[call_id].order != order
            ],
        ),
    ]
    if len(by_id) != len(books.rows):
        faults.append("call ids are not unique")
    return faults + list(books.faults)


def lost(books: Books, book: Book) -> list[str]:
    """Return the orders that were acknowledged and are not in the journal."""
    kept = {row.id for row in books.rows}
    return [order for order, call_id in book.kept.items() if call_id not in kept]


def check_effects(books: Books, book: Book, sink: Sink, output: str) -> list[str]:
    """Compare the journal with what the providers saw."""
    http = ("post", "put", "get")
    kinds = {order.id: order.kind for order in book.ordered.values()}
    done = [str(row.order) for row in books.rows if row.state == "completed"]
    written = set(re.findall(r"order (\S+)\.", output))
    kept = {row.order for row in books.rows}
    seen = sink.effects
    return [
        *_named(
            "POSTed more than once",
            [order for order, count in seen.items() if count > 1 and kinds.get(order) == "post"],
        ),
        *_named("seen by the sink, but not kept", [order for order in seen if order not in kept]),
        *_named(
            "completed, but never seen by the sink",
            [order for order in done if kinds.get(order) in http and not seen[order]],
        ),
        *_named(
            "completed, but never written by the console",
            [order for order in done if kinds.get(order) == "sms" and order not in written],
        ),
    ]


def check_output(output: str) -> list[str]:
    """Look for what a daemon writes when something went wrong inside."""
    return list(
        _named("trouble in the log", [s for s in output.splitlines() if _TROUBLE.search(s)])
    )


def _named(what: str, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        yield f"{len(ids)} {what}: {', '.join(ids[:SHOWN])}{more}"
