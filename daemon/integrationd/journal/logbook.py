"""Attempts and webhooks read as one log, for those who think of both as exchanges; reads only.

The two tables are numbered apart, so a place in the log is a number of each: pages neither miss nor
repeat an entry, whatever the clocks said.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from integrationd.call import DEFAULT_TENANT
from integrationd.errors import NotFoundError
from integrationd.journal.access import Access

FAR = (1 << 63) - 1

_ATTEMPT = (
    "SELECT 0, e.seq, CAST(e.seq AS TEXT), e.call_id, e.tenant, e.connection, e.provider,"
    " e.operation, e.outcome, e.reason, e.detail, e.status_code, e.started_at_ms, e.duration_ms,"
    " NULL, c.reference_type, c.reference_id, c.provider_reference"
    " FROM attempt AS e LEFT JOIN call AS c ON c.seq = e.call_seq AND c.damaged_at_ms IS NULL"
)
_WEBHOOK = (
    "SELECT 1, e.seq, e.id, e.call_id, e.tenant, e.connection, e.provider,"
    " e.types, e.state, NULL, e.note, e.reply_status, e.received_at_ms, NULL,"
    " e.source, c.reference_type, c.reference_id, c.provider_reference"
    " FROM inbox AS e LEFT JOIN call AS c ON c.id = e.call_id AND c.damaged_at_ms IS NULL"
)
_BOTH = (
    " AND (:tenant IS NULL OR e.tenant = :tenant)"
    " AND (:provider IS NULL OR e.provider = :provider)"
    " AND (:connection IS NULL OR e.connection = :connection)"
    " AND (:reference_type IS NULL OR c.reference_type = :reference_type)"
    " ORDER BY e.seq DESC LIMIT :limit"
)
_OF_ATTEMPTS = (
    " WHERE e.seq < :before_attempt"
    " AND (:operation IS NULL OR e.operation = :operation)"
    " AND (:outcomes IS NULL OR e.outcome IN (SELECT value FROM json_each(:outcomes)))"
    " AND (:timed_out IS NULL"
    " OR (coalesce(e.reason, '') IN (SELECT value FROM json_each(:timeouts))) = :timed_out)"
    " AND (:since_ms IS NULL OR e.started_at_ms >= :since_ms)"
    " AND (:until_ms IS NULL OR e.started_at_ms < :until_ms)"
)
_OF_WEBHOOKS = (
    " WHERE e.seq < :before_webhook"
    " AND (:operation IS NULL OR e.types = :operation)"
    " AND (:states IS NULL OR e.state IN (SELECT value FROM json_each(:states)))"
    " AND (:since_ms IS NULL OR e.received_at_ms >= :since_ms)"
    " AND (:until_ms IS NULL OR e.received_at_ms < :until_ms)"
)
_WITHIN = " AND (:within IS NULL OR e.tenant = :within)"
# Each begins with what an index serves; the other reference, where given, narrows it further.
_REFERRED = (
    "SELECT {0} FROM call WHERE reference_id = :reference_id"
    " AND (:external_reference IS NULL OR provider_reference = :external_reference)"
)
_EXTERNAL = "SELECT {0} FROM call WHERE provider_reference = :external_reference"
_ERRORS = (
    "SELECT call_id, kind, number, started_at_ms, outcome, reason, detail, status_code FROM ("
    "SELECT *, row_number() OVER (PARTITION BY call_seq ORDER BY seq DESC) AS place FROM attempt"
    " WHERE call_seq IN (SELECT seq FROM call WHERE id IN (SELECT value FROM json_each(:calls)))"
    " AND outcome IN (SELECT value FROM json_each(:outcomes))"
    ") WHERE place <= :most ORDER BY place DESC"
)
_LAST_SENDS = (
    "SELECT call_id, max(started_at_ms) FROM attempt WHERE kind = 'send' AND call_seq IN"
    " (SELECT seq FROM call WHERE id IN (SELECT value FROM json_each(:calls))) GROUP BY call_seq"
)


class LogEntry(msgspec.Struct, frozen=True):
    """One exchange, without what was said in it.

    Attributes:
        is_inbound: A webhook; else an attempt.
        seq: Its number among those of its table.
        id: The webhook's id, or the attempt's number.
        call_id: The call that it is about.
        tenant: Whose it is.
        connection: What it came through.
        provider: The provider's code.
        operation: The call's operation, or what the provider calls what it tells.
        outcome: The attempt's outcome, or the webhook's state.
        reason: Machine word of an attempt.
        detail: A sentence for a person.
        status_code: The HTTP status that was answered, by them or by us.
        at_ms: When the attempt began or the webhook came, UTC milliseconds.
        duration_ms: How long an attempt took.
        source: Where a webhook came from.
        reference_type: The app's own reference of the call.
        reference_id: The same: its id.
        provider_reference: The provider's id of the call.
    """

    is_inbound: bool
    seq: int
    id: str
    call_id: str | None
    tenant: str
    connection: str
    provider: str
    operation: str
    outcome: str
    reason: str | None
    detail: str | None
    status_code: int | None
    at_ms: int
    duration_ms: int | None
    source: str | None
    reference_type: str | None
    reference_id: str | None
    provider_reference: str | None


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are listed; None means any.

    Attributes:
        tenant: Whose.
        provider: The provider's code.
        connection: What they came through.
        operation: The call's operation, or what the provider calls what it tells.
        reference_type: The app's own reference of the call.
        reference_id: The same: its id.
        external_reference: The provider's id of the call.
        outcomes: Outcomes of attempts; none of them are listed where it is empty.
        timed_out: Whether the reason of an attempt is one of ``timeouts``.
        timeouts: Reasons.
        states: States of webhooks; none of them are listed where it is empty.
        since_ms: Not before, UTC milliseconds.
        until_ms: Before.
    """

    tenant: str | None = None
    provider: str | None = None
    connection: str | None = None
    operation: str | None = None
    reference_type: str | None = None
    reference_id: str | None = None
    external_reference: str | None = None
    outcomes: Sequence[str] | None = None
    timed_out: bool | None = None
    timeouts: Sequence[str] = ()
    states: Sequence[str] | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class LogPlace(msgspec.Struct, frozen=True):
    """A place in the log: what follows has smaller numbers than these."""

    attempt: int = FAR
    webhook: int = FAR


class StoredFault(msgspec.Struct, frozen=True):
    """An attempt that did not come to what was wanted; fields as in ``StoredAttempt``."""

    call_id: str
    kind: str
    number: int
    started_at_ms: int
    outcome: str
    reason: str | None
    detail: str | None
    status_code: int | None


class Logbook:
    """The tables of attempts and of webhooks, for reading."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def list(
        self, wanted: LogFilter, *, after: LogPlace, limit: int
    ) -> tuple[Sequence[LogEntry], LogPlace]:
        """Return entries, the latest first, and the place at which the next page begins.

        Args:
            wanted: Which.
            after: Where to begin.
            limit: How many at most.
        """
        terms = {
            **msgspec.structs.asdict(wanted),
            **{name: _json(getattr(wanted, name)) for name in ("outcomes", "states", "timeouts")},
            "before_attempt": after.attempt,
            "before_webhook": after.webhook,
            "limit": limit,
        }
        attempts, webhooks = _statements(wanted)
        found = [
            [] if skipped else [_entry(row) for row in await self._access.rows_slowly(sql, terms)]
            for sql, skipped in (
                (attempts, wanted.outcomes is not None and not wanted.outcomes),
                (webhooks, wanted.states is not None and not wanted.states),
            )
        ]
        entries = merged(*found, limit=limit)
        return entries, LogPlace(*(_place_in(one, entries) for one in found))

    async def attempt(self, seq: int, within: str | None) -> LogEntry:
        """Return the entry of an attempt.

        Args:
            seq: Its number.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that number.
        """
        return await self._one(_ATTEMPT + " WHERE e.seq = :one" + _WITHIN, seq, within)

    async def webhook(self, webhook_id: str, within: str | None) -> LogEntry:
        """Return the entry of a webhook.

        Args:
            webhook_id: Its id.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
        """
        return await self._one(_WEBHOOK + " WHERE e.id = :one" + _WITHIN, webhook_id, within)

    async def _one(self, statement: str, one: int | str, within: str | None) -> LogEntry:
        found = await self._access.rows(statement, {"one": one, "within": within})
        if not found:
            raise NotFoundError(f"there is no log entry {str(one)[:80]!r}", code="no_such_entry")
        return _entry(found[0])

    async def faults(
        self, calls: Sequence[str], outcomes: Sequence[str], most: int
    ) -> Mapping[str, Sequence[StoredFault]]:
        """Return the latest attempts of calls that came to certain outcomes, in their order.

        Args:
            calls: Ids of the calls.
            outcomes: The outcomes.
            most: How many of each call at most.
        """
        terms = {"calls": _json(calls), "outcomes": _json(outcomes), "most": most}
        by_call: dict[str, list[StoredFault]] = defaultdict(list)
        for row in await self._access.rows(_ERRORS, terms):
            by_call[row[0]].append(StoredFault(*row))
        return by_call

    async def last_sends_ms(self, calls: Sequence[str]) -> Mapping[str, int]:
        """Return when the latest ended send of each call began, where there was one."""
        return dict(await self._access.rows(_LAST_SENDS, {"calls": _json(calls)}))

    async def told_types(self) -> Mapping[str, Sequence[str]]:
        """Return what each connection's webhooks have told of, in the provider's words."""
        found: dict[str, set[str]] = defaultdict(set)
        for connection, types in await self._access.rows_slowly(
            "SELECT DISTINCT connection, types FROM inbox"
        ):
            found[connection].update(filter(None, types.split(",")))
        return {connection: sorted(types) for connection, types in found.items()}


def merged(
    attempts: Sequence[LogEntry], webhooks: Sequence[LogEntry], *, limit: int
) -> Sequence[LogEntry]:
    """Return both as one list, the latest first; each keeps its own order."""
    both = heapq.merge(attempts, webhooks, key=lambda one: -one.at_ms)
    return [one for one, _ in zip(both, range(limit), strict=False)]


def _place_in(found: Sequence[LogEntry], taken: Sequence[LogEntry]) -> int:
    """Return the number below which the next page looks; what has come since is above it."""
    if not found:
        return 0
    of_kind = [one.seq for one in taken if one.is_inbound == found[0].is_inbound]
    return of_kind[-1] if of_kind else found[0].seq + 1


def _statements(wanted: LogFilter) -> tuple[str, str]:
    """Return the statements that list attempts and webhooks."""
    calls = ""
    if wanted.reference_id is not None:
        calls = _REFERRED
    elif wanted.external_reference is not None:
        calls = _EXTERNAL
    of_attempts, of_webhooks = _OF_ATTEMPTS, _OF_WEBHOOKS
    if calls:
        of_attempts += f" AND e.call_seq IN ({calls.format('seq')})"
        of_webhooks += f" AND e.call_id IN ({calls.format('id')})"
    if wanted.tenant not in (None, DEFAULT_TENANT):
        # It repeats the condition of the partial index that serves it.
        of_attempts += f" AND e.tenant <> '{DEFAULT_TENANT}'"
    return _ATTEMPT + of_attempts + _BOTH, _WEBHOOK + of_webhooks + _BOTH


def _json(values: Sequence[str] | None) -> str | None:
    return None if values is None else msgspec.json.encode(values).decode()


def _entry(row: tuple[object, ...]) -> LogEntry:
    named = dict(zip(LogEntry.__struct_fields__, row, strict=True))
    return msgspec.convert({**named, "is_inbound": bool(named["is_inbound"])}, LogEntry)
