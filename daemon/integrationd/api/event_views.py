"""Events as the API shows them, in lists and in streams alike."""

import msgspec

from integrationd.api.people import masked_json
from integrationd.clock import to_rfc3339
from integrationd.journal import EventPage, StoredEvent
from integrationd.personal import PersonalData

_DAMAGED = b'{"damaged":true}'
_encode = msgspec.json.Encoder().encode


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A committed fact.

    Attributes:
        seq: Its number; numbers have no gaps, but a reader sees those of its filter only.
        type: Dotted name.
        at: When it happened.
        tenant: Whose it is; null where it concerns the whole daemon.
        call_id: The call that it is about.
        connection: The connection that it is about.
        data: What happened.
    """

    seq: int
    type: str
    at: str
    tenant: str | None
    call_id: str | None
    connection: str | None
    data: msgspec.Raw

    @classmethod
    def of(cls, event: StoredEvent) -> "EventView":
        """Show an event."""
        return cls(
            seq=event.seq,
            type=event.type,
            at=to_rfc3339(event.at_ms),
            tenant=event.tenant,
            call_id=event.call_id,
            connection=event.connection,
            data=msgspec.Raw(_readable(event.data.encode())),
        )


class EventsView(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the log.

    Attributes:
        next: Go on after this; never null, since a log has no end. Where it is what was asked
            for, there is nothing more yet.
    """

    items: list[EventView]
    next: str

    @classmethod
    def of(cls, page: EventPage) -> "EventsView":
        """Show a page."""
        return cls(items=[EventView.of(event) for event in page.events], next=str(page.upto))


def frame(event: StoredEvent, personal: PersonalData) -> bytes:
    """Return an event as a stream tells it."""
    told = _encode(EventView.of(event))
    if personal.is_masked:
        told = masked_json(told, personal)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), told)


def sign_of_life(upto: int) -> bytes:
    """Return what says that the stream stands, and that nothing up to a number is missing.

    It has no data, so a reader passes nothing on, but goes on after that number when it reconnects.
    """
    return b": here\nid: %d\n\n" % upto


def _readable(data: bytes) -> bytes:
    """Return the data, or that it is damaged: one bad row must not hold up all that follow."""
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return _DAMAGED
    return data
