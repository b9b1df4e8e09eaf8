"""Server-sent events: bytes in, events out, and where to go on after a cut line."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx2
import msgspec

from integrationd.client.address import CONNECT_TIMEOUT_S
from integrationd.client.errors import (
    ClientError,
    UnexpectedAnswerError,
    UnreachableError,
    error_of,
)
from integrationd.client.exchange import Lost, Pause, Reply
from integrationd.client.records import Event

EVENTS: Final = "/v1/events"
CONTENT_TYPE: Final = "text/event-stream"
# The daemon sends a sign of life more often than this.
SILENCE_S: Final = 60
_LONGEST_FRAME_BYTES = 16 * 1024 * 1024
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0

_PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class Follower:
    """One stream of events, over as many connections as it takes.

    Until the first connection stands, patience is limited; from then on it is not.

    Args:
        after: The number of the last event that is known; None begins with what comes next.
        filters: Which events, as the API's options.
        patience_s: Seconds for which the first connection is tried.
    """

    def __init__(self, after: int | None, filters: Mapping[str, str], patience_s: float) -> None:
        self._last = after
        self._filters = filters
        self._patience_s = patience_s
        self._pause_s = _FIRST_PAUSE_S
        self._has_stood = False
        self._unread = b""

    def arguments(self) -> dict[str, Any]:
        """Return what to ask for now; the answer goes on where the last one ended."""
        headers = {"Accept": CONTENT_TYPE}
        if self._last is not None:
            headers["Last-Event-ID"] = str(self._last)
        self._unread = b""
        return {
            "method": "GET",
            "url": EVENTS,
            "params": self._filters,
            "headers": headers,
            "timeout": httpx2.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S),
        }

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Take what was read, and return the events that are whole with it.

        Raises:
            UnexpectedAnswerError: That is no stream of events.
        """
        self._has_stood = True
        *frames, self._unread = _frames(self._unread + chunk)
        if len(self._unread) > _LONGEST_FRAME_BYTES:
            raise UnexpectedAnswerError("the stream does not consist of events")
        for frame in frames:
            fields = _fields_of(frame)
            event = _event_in(fields[b"data"]) if b"data" in fields else None
            if event is not None and (self._last is None or event.seq > self._last):
                self._last, self._pause_s = event.seq, _FIRST_PAUSE_S
                yield event
            elif event is None:
                self._go_on_after(fields.get(b"id", b""))

    def _go_on_after(self, number: bytes) -> None:
        """Note that nothing is missing up to a number, though none of it was to be told."""
        if number.isdigit():
            self._last = max(self._last or 0, int(number))

    def pause_after(self, came: Reply | Lost | None) -> Pause:
        """Return for how long to pause before connecting again.

        Args:
            came: An answer that is no stream, or how the line was lost; None for an end in order.

        Raises:
            ClientError: Connecting again makes no sense.
        """
        error = _error_of(came)
        is_over = isinstance(came, Reply) and came.status not in _PASSING
        if error is not None and (is_over or (not self._has_stood and self._patience_s <= 0)):
            raise error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._patience_s -= pause_s
        return Pause(pause_s)


def is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Say whether an answer that begins so is a stream of events."""
    kind = headers.get("content-type", "")
    return status == HTTPStatus.OK and kind.partition(";")[0].strip() == CONTENT_TYPE


def _error_of(came: Reply | Lost | None) -> ClientError | None:
    match came:
        case Reply(status=status, body=body):
            return error_of(status, body)
        case Lost(reason=reason):
            return UnreachableError(reason, maybe_arrived=False)
        case None:
            return None


def _frames(read: bytes) -> list[bytes]:
    """Split at empty lines; the last piece is not whole yet. Lines end with LF here, or CR LF."""
    return read.replace(b"\r\n", b"\n").split(b"\n\n")


def _fields_of(frame: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        fields[name] = b"\n".join([fields[name], value]) if name in fields else value
    return fields


def _event_in(data: bytes) -> Event:
    try:
        return msgspec.json.decode(data, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswerError(f"this is not an event: {error}") from error
