"""The event log: facts of the daemon itself are appended here, all are read here."""

import msgspec

from integrationd.call import EventRecord
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

    async def append(self, event: EventRecord, now_ms: int) -> None:
        """Append a fact that no call's change tells of.

        Raises:
            JournalError: The journal is full or not open.
        """
        await self._access.write(lambda writing: writing.chain.append(writing.db, event, now_ms))

    async def after(self, seq: int, limit: int) -> list[StoredEvent]:
        """Return events with a greater number, in order."""
        found = await self._access.rows(
            "SELECT seq, at_ms, type, tenant, call_id, connection, data FROM event"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        return [StoredEvent(*row) for row in found]
