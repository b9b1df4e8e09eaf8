"""Check a journal without a daemon: file, records, ledger, event chain and high-water mark."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from integrationd.call import FINAL_STATES, CallState
from integrationd.errors import DamagedError, JournalUnavailableError, NotFoundError
from integrationd.journal import (
    api_keys,
    directory_rows,
    evidence,
    oauth_rows,
    rows,
    secret_rows,
    sqlite,
    subscription_rows,
)

FINDINGS_LIMIT = 1000
_RECORDS = (
    "SELECT r.*, b.payload, b.metadata, b.sum, x.result, x.sum FROM call_record AS r"
    " LEFT JOIN call_body AS b USING (seq) LEFT JOIN call_result AS x USING (seq) ORDER BY r.seq"
)
_PARTS = (
    "SELECT call_seq, position, recipient, state, reason, detail, provider_reference, delivery,"
    " sum FROM part ORDER BY call_seq, position"
)
_WEBHOOKS = (
    "SELECT sum, id, tenant, connection, provider, received_at_ms, source, method, path, query,"
    " headers, body, proof, address_call_id, dedupe FROM inbox ORDER BY seq"
)


class VerifyReport(msgspec.Struct, kw_only=True):
    """What a check has found.

    Attributes:
        calls: Calls read.
        events: Events read.
        attempts: Attempts read.
        webhooks: Webhooks of the inbox read.
        commit: The number of the last commit.
        event: The number of the last event.
        mark: What the high-water mark beside it proves: ``sealed``, ``plain`` (of an earlier
            version), ``missing`` or ``forged``.
        findings: What is wrong, in words; the first thousand.
        more: How many findings are left out.
    """

    calls: int = 0
    events: int = 0
    attempts: int = 0
    webhooks: int = 0
    commit: int = 0
    event: int = 0
    mark: str = "missing"
    findings: list[str] = msgspec.field(default_factory=list)
    more: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def note(self, finding: str) -> None:
        """Add a finding."""
        if len(self.findings) < FINDINGS_LIMIT:
            self.findings.append(finding)
        else:
            self.more += 1


def verify(path: Path, key: bytes) -> VerifyReport:
    """Read the whole journal once and report what is wrong with it; nothing is changed.

    Memory does not grow with the journal. A running daemon is not disturbed.

    Raises:
        NotFoundError: There is no journal at ``path``.
        JournalUnavailableError: It cannot be read beside the daemon that owns it.
    """
    report = VerifyReport()
    # Before the journal is read, since a daemon at work goes on writing both.
    stored = evidence.mark_beside(path)
    with reading(path) as db:
        # One snapshot for everything, so that a daemon at work does not look like damage.
        db.execute("BEGIN")
        checks: list[Callable[[sqlite.Connection, VerifyReport], None]] = [
            _check_file,
            _check_calls,
            _check_parts,
            _check_ledger,
            _check_inbox,
            lambda db, report: secret_rows.check(db, report.note),
            lambda db, report: oauth_rows.check(db, report.note),
            lambda db, report: api_keys.check(db, report.note),
            lambda db, report: directory_rows.check(db, report.note),
            lambda db, report: subscription_rows.check(db, report.note),
            lambda db, report: _check_log(db, report, stored, key),
        ]
        for check in checks:
            try:
                check(db, report)
            except sqlite.SqliteError as error:
                report.note(f"the file cannot be read any further: {error}")
    return report


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite.Connection]:
    """Open a journal for reading only.

    Raises:
        NotFoundError: There is none at ``path``.
        JournalUnavailableError: It cannot be opened.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no journal at {path}", hint="Name it with --journal.")
    db = sqlite.connect(path)
    try:
        try:
            sqlite.prepare_reader(db)
            db.execute("SELECT count(*) FROM sqlite_schema")
        except sqlite.SqliteError as error:
            raise JournalUnavailableError(
                f"{path} cannot be read: {error}",
                hint="If a daemon owns it, stop that first; if it is damaged, run salvage.",
            ) from error
        yield db
    finally:
        db.close()


def _check_file(db: sqlite.Connection, report: VerifyReport) -> None:
    for (verdict,) in db.execute("PRAGMA integrity_check(100)"):
        if verdict != "ok":
            report.note(f"SQLite: {verdict}")


def _check_calls(db: sqlite.Connection, report: VerifyReport) -> None:
    for row in db.execute(_RECORDS):
        report.calls += 1
        try:
            _check_call(row)
        except DamagedError as error:
            report.note(str(error))


def _check_call(row: sqlite.Row) -> None:
    call = rows.call_of(row)
    payload, metadata, body_sum, result, result_sum = row[rows.CALL_WIDTH + 2 :]
    if payload is None:
        raise DamagedError(f"the payload of call {call.id} is missing")
    rows.check(f"the payload of call {call.id}", body_sum, call.seq, payload, metadata)
    if result is not None:
        rows.check(f"the result of call {call.id}", result_sum, call.seq, result)


def _check_parts(db: sqlite.Connection, report: VerifyReport) -> None:
    for row in db.execute(_PARTS):
        try:
            rows.part_of(row[0], row[1:])
        except DamagedError as error:
            report.note(str(error))
    wrong = db.execute(
        "SELECT c.id FROM call AS c WHERE c.parts <>"
        " (SELECT count(*) FROM part AS p WHERE p.call_seq = c.seq)"
    )
    for (call_id,) in wrong:
        report.note(f"call {call_id} has not all of its parts")


def _check_ledger(db: sqlite.Connection, report: VerifyReport) -> None:
    """Compare the counters with the rows and what was pruned."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for tenant, connection, state, count in db.execute(
        "SELECT tenant, coalesce(connection, ''), state, count(*) FROM call GROUP BY 1, 2, 3"
    ):
        counted[tenant, connection, state] = count
    told: Counter[tuple[str, str, str]] = Counter()
    for tenant, connection, accepted, *figures in db.execute(
        "SELECT tenant, connection, accepted, pending, processing, waiting, unknown, completed,"
        " failed, expired, cancelled, pruned_completed, pruned_failed, pruned_expired,"
        " pruned_cancelled FROM ledger"
    ):
        told.update(_kept(tenant, connection, figures))
        if accepted != sum(figures[: len(CallState)]):
            report.note(f"the ledger of {tenant}/{connection or '-'} does not balance")
    for place in sorted({*counted, *told}):
        if counted[place] != told[place]:
            report.note(
                f"the ledger says {told[place]} calls for {'/'.join(place)}, the rows say"
                f" {counted[place]}"
            )


def _kept(tenant: str, connection: str, figures: list[int]) -> dict[tuple[str, str, str], int]:
    states = [state.value for state in CallState]
    pruned = dict(zip((s.value for s in CallState if s in FINAL_STATES), figures[8:], strict=True))
    return {
        (tenant, connection, state): count - pruned.get(state, 0)
        for state, count in zip(states, figures, strict=False)
    }


def _check_log(db: sqlite.Connection, report: VerifyReport, stored: bytes, key: bytes) -> None:
    """Check events, attempts and the high-water mark."""
    report.commit = db.execute("SELECT seq FROM commit_mark").fetchone()[0]
    proven = evidence.check_log(db, key, report.note)
    report.events, report.attempts = proven.events, proven.attempts
    report.event = proven.end.event
    report.mark = evidence.check_mark(stored, key, report.commit, proven.end, report.note).value


def _check_inbox(db: sqlite.Connection, report: VerifyReport) -> None:
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'inbox'").fetchone():
        # Of an earlier version.
        return
    for checksum, *sealed in db.execute(_WEBHOOKS):
        report.webhooks += 1
        try:
            rows.check(f"webhook {sealed[0]}", checksum, *sealed)
        except DamagedError as error:
            report.note(str(error))
