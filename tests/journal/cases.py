"""What the journal's tests are made of: calls, attempts, settlements, and a raw way in."""

import contextlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
from tests.fake_clock import START_MS, FakeClock

from integrationd.call import (
    Attempt,
    AttemptKind,
    Call,
    EventRecord,
    Lease,
    Part,
    new_call_id,
    pinned_lane,
    route_lane,
)
from integrationd.events import Bus
from integrationd.journal import Journal, NewCall, Transaction, sqlite
from integrationd.retry import RetryPolicy
from integrationd.sdk import outcome as said
from integrationd.sdk.provider import QuerySchedule
from integrationd.settlement import Policy, Settlement, settle_finding, settle_send

KEY = b"k" * 32
DAY_MS = 24 * 3600 * 1000
LEASE_MS = 30_000
LANE = "default/sms.send"
CONNECTION = "main"
JITTER = random.Random(1)

POLICY = Policy(
    retry=RetryPolicy(attempts=5, first_s=1.0, cap_s=1.0),
    repeat_safe=False,
    reads_only=False,
    key_lifetime_s=None,
    can_ask=True,
    schedule=QuerySchedule(first_s=10.0, factor=2.0, cap_s=60.0, window_s=3600.0),
    on_uncertain="hold",
    max_repeats=0,
)


def a_call(
    now_ms: int = START_MS, *, tenant: str = "default", connection: str | None = None, **more: Any
) -> Call:
    """Return a call as it stands before it is accepted; ``connection`` pins it."""
    operation = more.pop("operation", "sms.send")
    lane = pinned_lane(connection, tenant) if connection else route_lane(tenant, operation)
    usual: dict[str, Any] = {
        "id": new_call_id(now_ms),
        "lane": lane,
        "connection": connection,
        "requested_connection": connection,
        "created_at_ms": now_ms,
        "due_at_ms": now_ms,
        "give_up_at_ms": now_ms + 3 * DAY_MS,
    }
    return Call(tenant=tenant, operation=operation, **{**usual, **more})


def new(
    payload: bytes = b'{"to":"+254700000001","text":"hello"}',
    *,
    metadata: bytes | None = None,
    recipients: Sequence[str] = (),
    key: str | None = None,
    digest: bytes = b"d" * 32,
    **call: Any,
) -> NewCall:
    """Return a call to be accepted, with a payload and options of its own."""
    return NewCall(
        call=a_call(**call),
        payload=payload,
        metadata=metadata,
        recipients=tuple(recipients),
        idempotency_key=key,
        digest=digest,
    )


def attempt_of(lease: Lease, outcome: str = "delivered", *, started_ms: int = START_MS) -> Attempt:
    """Return the exchange made under a lease."""
    call = lease.call
    return Attempt(
        kind=lease.kind,
        number=call.tries if lease.kind is AttemptKind.SEND else call.queries + 1,
        connection=call.connection or CONNECTION,
        provider="console",
        plugin_digest="0123456789ab",
        started_at_ms=started_ms,
        duration_ms=12,
        outcome=outcome,
        reason=None,
        detail=None,
        sent=True,
        status_code=200,
        request='{"to":"+2547…"}',
        response="ok",
    )


def sent(lease: Lease, outcome: said.Outcome, now_ms: int, policy: Policy = POLICY) -> Settlement:
    """Decide what a send under a lease came to."""
    return settle_send(
        lease.call, lease.parts, outcome, policy, started_ms=now_ms, now_ms=now_ms, jitter=JITTER
    )


def asked(lease: Lease, finding: said.Finding, now_ms: int) -> Settlement:
    """Decide what a query under a lease came to."""
    return settle_finding(lease.call, lease.parts, finding, POLICY, now_ms=now_ms, jitter=JITTER)


def delivered(lease: Lease, now_ms: int = START_MS) -> Settlement:
    """Decide that a send was delivered."""
    return sent(lease, said.Delivered(result={"id": "m-1"}, reference="m-1"), now_ms)


async def accept(journal: Journal, one: NewCall) -> Call:
    """Accept one call."""
    (receipt,) = await journal.calls.accept([one])
    assert receipt.call is not None
    return receipt.call


async def claim(
    journal: Journal, lane: str = LANE, *, limit: int = 10, connection: str = CONNECTION
) -> list[Lease]:
    """Claim what is due in a lane."""
    leases, _ = await journal.leases.claim(lane, connection, limit, LEASE_MS)
    return leases


async def claim_one(journal: Journal, lane: str = LANE) -> Lease:
    """Claim the one call that is due in a lane."""
    (lease,) = await claim(journal, lane)
    return lease


async def complete(journal: Journal, lease: Lease, now_ms: int = START_MS) -> None:
    """Settle a lease as delivered."""
    assert await journal.leases.settle(lease, delivered(lease, now_ms), attempt_of(lease)) is None


class Heard:
    """Everything of some types that a bus has told, in order."""

    def __init__(self, bus: Bus, *kinds: type) -> None:
        self.events: list[Any] = []
        for kind in kinds:
            bus.subscribe(kind, self.events.append)


@contextlib.asynccontextmanager
async def opened(
    path: Path, clock: FakeClock | None = None, bus: Bus | None = None
) -> AsyncIterator[Journal]:
    """Open a journal and close it again."""
    journal = Journal(path, KEY, bus or Bus(), clock or FakeClock())
    try:
        await journal.open()
        yield journal
    finally:
        await journal.close()


@contextlib.asynccontextmanager
async def kept_alive(journal: Journal) -> AsyncIterator[None]:
    """Run what brings a journal back after a fault."""
    async with anyio.create_task_group() as group:
        group.start_soon(journal.run)
        yield
        group.cancel_scope.cancel()


async def until(clock: FakeClock, done: Callable[[], bool], within_s: float = 10) -> None:
    """Let the clock run on, a second for every real blink, until something is done."""
    with anyio.fail_after(within_s):
        while not done():
            await clock.advance(1.0)
            await anyio.sleep(0.002)


async def passes(clock: FakeClock, journal: Journal, condition: str) -> None:
    """Let the clock run on until the journal is in a condition."""
    await until(clock, lambda: journal.condition == condition)


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite.Connection]:
    """Give a connection that knows nothing of the journal's rules but the schema's."""
    connection = sqlite.connect(path)
    try:
        yield connection
    finally:
        connection.close()


def copied(path: Path, target: Path) -> Path:
    """Copy a journal as it lies on the disk, as a kill would leave it.

    Another process copies, since closing a file drops the locks that this one holds on it.
    """
    target.mkdir()
    files = [str(file) for file in path.parent.glob(path.name + "*") if file.suffix != ".lock"]
    subprocess.run(["cp", *files, str(target)], check=True)
    return target / path.name


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in another process, with this one's modules."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def parts_by_state(parts: Sequence[Part]) -> dict[str, str]:
    """Return the recipients' states by recipient."""
    return {part.recipient: part.state.value for part in parts}


def decoded(payload: bytes | None) -> Any:
    """Return what JSON bytes hold."""
    assert payload is not None
    return msgspec.json.decode(payload)


class Steered:
    """The writing connection, with a hand on its commits.

    Attributes:
        before_commit: Called in the committing thread before each COMMIT; may raise or block.
        after_commit: Called in the committing thread after each COMMIT; may raise.
        commits: How many have been begun.
        statements: What has been executed, with its parameters.
    """

    def __init__(self, connection: sqlite.Connection) -> None:
        self._connection = connection
        self.before_commit: Callable[[], None] = lambda: None
        self.after_commit: Callable[[], None] = lambda: None
        self.commits = 0
        self.statements: list[tuple[str, sqlite.Parameters]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, parameters: sqlite.Parameters = ()) -> Any:
        self.statements.append((statement, parameters))
        if statement != "COMMIT":
            return self._connection.execute(statement, parameters)
        self.commits += 1
        self.before_commit()
        done = self._connection.execute(statement)
        self.after_commit()
        return done


def steer(journal: Journal) -> Steered:
    """Put a hand on the commits of an open journal."""
    writer = journal._writer
    assert writer is not None
    steered = Steered(writer._db)
    writer._db = cast("sqlite.Connection", steered)
    return steered


def fail(name: str) -> Callable[[], None]:
    """Return what raises an error of the library, as its driver makes it."""

    def raise_it() -> None:
        error = sqlite.SqliteError(f"made up: {name}")
        vars(error)["sqlite_errorname"] = name
        raise error

    return raise_it


def joined(*words: str) -> str:
    """Return a statement from its words, none of which comes from outside."""
    return " ".join(words)


def note(name: str) -> Callable[[Transaction], int]:
    """Return a write that appends one event."""
    return lambda writing: writing.chain.append(writing.db, EventRecord(type=name, data={}), 1)
