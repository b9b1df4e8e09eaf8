"""The event log, for reading."""

import msgspec

from integrationd.journal.access import Access


class StoredEvent(msgspec.Struct, frozen=True):
    """One fact of the log.

    Attributes:
        seq: Its number; numbers have no gaps.
        at_ms: When it was appended, UTC milliseconds.
        type: Dotted name.
        tenant: Whose fact it is, or None.
        call_id: The call that it is about, or None.
        connection: The connection that it is about, or None.
        data: What happened, as JSON text.
    """

    seq: int
    at_ms: int
    type: str
    tenant: str | None
    call_id: str | None
    connection: str | None
    data: str


class EventLog:
    """The table of events."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def after(self, seq: int, limit: int) -> list[StoredEvent]:
        """Return events with a greater number, in order."""
        found = await self._access.rows(
            "SELECT seq, at_ms, type, tenant, call_id, connection, data FROM event"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        return [StoredEvent(*row) for row in found]
