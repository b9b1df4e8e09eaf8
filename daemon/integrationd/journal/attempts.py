"""Attempts: the log of every ended exchange, masked before it was written."""

import msgspec

from integrationd.call import DEFAULT_TENANT
from integrationd.errors import NotFoundError
from integrationd.journal.access import Access

_COLUMNS = (
    "SELECT seq, call_id, tenant, operation, kind, number, connection, provider, plugin_digest,"
    " started_at_ms, duration_ms, outcome, reason, detail, sent, status_code, request, response,"
    " rule FROM attempt"
)
_OF_CALL = _COLUMNS + (  # noqa: S608 - two constants
    " WHERE call_seq IN (SELECT seq FROM call WHERE id = :call_id) AND seq < :before"
    " AND (:tenant IS NULL OR tenant = :tenant)"
    " ORDER BY seq DESC LIMIT :limit"
)
_FILTERED = (
    " AND (:connection IS NULL OR connection = :connection)"
    " AND (:outcome IS NULL OR outcome = :outcome) AND (:tenant IS NULL OR tenant = :tenant)"
    " ORDER BY seq DESC LIMIT :limit"
)
_LATEST = _COLUMNS + " WHERE seq < :before" + _FILTERED
# It repeats the condition of the partial index that serves it.
_OF_TENANT = (
    _COLUMNS
    + f" WHERE seq < :before AND tenant = :tenant AND tenant <> '{DEFAULT_TENANT}'"
    + _FILTERED
)
_ONE = _COLUMNS + " WHERE seq = ? AND (?2 IS NULL OR tenant = ?2)"
_FAR = (1 << 63) - 1


class StoredAttempt(msgspec.Struct, frozen=True):
    """An attempt as it is kept; fields as in :class:`integrationd.call.Attempt`.

    Attributes:
        rule: The rule that decided what followed.
    """

    seq: int
    call_id: str
    tenant: str
    operation: str
    kind: str
    number: int
    connection: str
    provider: str
    plugin_digest: str
    started_at_ms: int
    duration_ms: int
    outcome: str
    reason: str | None
    detail: str | None
    sent: bool
    status_code: int | None
    request: str | None
    response: str | None
    rule: str


class AttemptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempts to list; None means any."""

    call_id: str | None = None
    connection: str | None = None
    outcome: str | None = None
    tenant: str | None = None


class Attempts:
    """The table of attempts, for reading."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def list(
        self, wanted: AttemptFilter, *, before: int | None, limit: int
    ) -> list[StoredAttempt]:
        """Return attempts, the latest first."""
        statement = _statement(wanted)
        terms = {**msgspec.structs.asdict(wanted), "before": before or _FAR, "limit": limit}
        found = await self._access.rows(statement, terms)
        return [_stored(row) for row in found]

    async def get(self, seq: int, within: str | None = None) -> StoredAttempt:
        """Return one attempt.

        Args:
            seq: Its number.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that number.
        """
        found = await self._access.rows(_ONE, (seq, within))
        if not found:
            raise NotFoundError(f"there is no attempt {seq}", code="no_such_attempt")
        return _stored(found[0])


def _statement(wanted: AttemptFilter) -> str:
    if wanted.call_id is not None:
        return _OF_CALL
    return _LATEST if wanted.tenant in (None, DEFAULT_TENANT) else _OF_TENANT


def _stored(row: tuple[object, ...]) -> StoredAttempt:
    named = dict(zip(StoredAttempt.__struct_fields__, row, strict=True))
    return msgspec.convert({**named, "sent": bool(named["sent"])}, StoredAttempt)
