"""What the client does, as plans that any kind of driver can carry out.

A plan yields requests and pauses and is told what came of them; whether somebody blocks or awaits
meanwhile is the driver's affair. So the blocking and the async client do the same.
"""

import dataclasses
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from integrationd.client.errors import (
    BusyError,
    ClientError,
    ConflictError,
    UnexpectedAnswerError,
    UnreachableError,
    error_of,
)
from integrationd.client.exchange import Heard, Lost, Pause, Plan, Reply, Request
from integrationd.client.records import Call, Event, Ledger, NewCall, Resolution, Status
from integrationd.client.stream import EVENTS, Follower

_T = TypeVar("_T")

LONGEST_WAIT_S: Final = 60
PAGE_SIZE: Final = 200
LONGEST_KEY: Final = 255
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LOOK_AGAIN_S = 0.2
_SLACK_S = 0.1
_POLL_S = 1.0
# The daemon refused these before it did anything. A 503 is not among them: a write may be kept.
_NOTHING_DONE = frozenset({429, 507})
_NOT_NOW = _NOTHING_DONE | {503}
_ANYTHING: Any = Any


class Page(msgspec.Struct, frozen=True):
    """A part of a list."""

    items: list[dict[str, Any]]
    next: str | None = None


class CallPage(msgspec.Struct, frozen=True):
    """A part of the list of calls."""

    items: list[Call]
    next: str | None = None


class EventPage(msgspec.Struct, frozen=True):
    """A part of the event log; behind ``next`` it goes on, though perhaps not yet."""

    items: list[Event]
    next: str


class _Kept(msgspec.Struct, frozen=True):
    items: list[Call]


class Plans:
    """The plans of one client.

    Args:
        monotonic: Tells seconds that only grow.
        patience_s: Seconds from the first failure for which a request is repeated.
    """

    def __init__(self, monotonic: Callable[[], float], patience_s: float) -> None:
        self._now = monotonic
        self._patience_s = patience_s

    # Calls

    def send(self, new: NewCall, wait_s: float) -> Plan[Call]:
        """Hand a call over, once, and wait until it has been attempted."""
        until = self._now() + wait_s
        key = _checked(new.idempotency_key or _fresh_key())
        request = Request(
            method="POST",
            path="/v1/calls",
            headers={"Idempotency-Key": key.encode()},
            body=_encoded(msgspec.structs.replace(new, idempotency_key=None)),
        )
        call = _decoded((yield from self._asked(request, until=until, key=key)), Call)
        try:
            return (yield from self._settled(call, until, _is_answered))
        except (UnreachableError, BusyError):
            # It is kept all the same, and its id is what the caller needs.
            return call

    def send_many(self, new: Sequence[NewCall]) -> Plan[list[Call]]:
        """Hand calls over, each once, all or none."""
        keyed = [
            msgspec.structs.replace(one, idempotency_key=one.idempotency_key or _fresh_key())
            for one in new
        ]
        request = Request(method="POST", path="/v1/calls/batch", body=_encoded({"calls": keyed}))
        return _decoded((yield from self._asked(request)), _Kept).items

    def call(self, call_id: str) -> Plan[Call]:
        """Look at a call."""
        request = Request(method="GET", path=_path(call_id))
        return _decoded((yield from self._asked(request)), Call)

    def wait(self, call_id: str, timeout_s: float, *, is_final: bool) -> Plan[Call]:
        """Wait for a call."""
        until = self._now() + timeout_s
        is_enough = _is_final if is_final else _is_answered
        return (yield from self._settled((yield from self.call(call_id)), until, is_enough))

    def _settled(self, call: Call, until: float, is_enough: Callable[[Call], bool]) -> Plan[Call]:
        while not is_enough(call) and (left_s := until - self._now()) > 0:
            # The daemon waits for a first answer; what becomes of that is only seen by looking.
            if not call.is_open:
                yield Pause(min(_POLL_S, left_s))
            request = Request(method="GET", path=_path(call.id))
            wait_until = until if call.is_open else None
            call = _decoded((yield from self._asked(request, until=wait_until, within=until)), Call)
            if call.is_open:
                yield Pause(max(0.0, min(_LOOK_AGAIN_S, until - self._now())))
        return call

    def cancel(self, call_id: str) -> Plan[Call]:
        """Call a pending call off."""
        request = Request(method="DELETE", path=_path(call_id))
        try:
            return _decoded((yield from self._asked(request)), Call)
        except ConflictError:
            # It may be this very request that has done it, and whose answer was lost.
            call = yield from self.call(call_id)
            if call.state != "cancelled":
                raise
            return call

    def retry(self, call_id: str) -> Plan[Call]:
        """Have a failed or expired call sent again."""
        request = Request(method="POST", path=f"{_path(call_id)}/retry")
        return _decoded((yield from self._asked(request, is_repeatable=False)), Call)

    def resolve(self, call_id: str, resolution: Resolution, note: str) -> Plan[Call]:
        """Settle a call of unknown outcome."""
        body = _encoded({"resolution": resolution, "note": note})
        request = Request(method="POST", path=f"{_path(call_id)}/resolve", body=body)
        return _decoded((yield from self._asked(request, is_repeatable=False)), Call)

    # Events

    def publish(
        self, event_type: str, data: Mapping[str, Any], tenant: str | None, key: str | None
    ) -> Plan[Event]:
        """Publish an event of the app's own, once."""
        told = {"type": event_type, "data": data, **({"tenant": tenant} if tenant else {})}
        checked = _checked(key or _fresh_key())
        request = Request(
            method="POST",
            path=EVENTS,
            headers={"Idempotency-Key": checked.encode()},
            body=_encoded(told),
        )
        return _decoded((yield from self._asked(request, key=checked)), Event)

    def follower(self, after: int | None, filters: Mapping[str, str]) -> Follower:
        """Return what follows the stream of events."""
        return Follower(after, filters, self._patience_s)

    def event_page(self, after: int, filters: Mapping[str, str]) -> Plan[EventPage]:
        """Read the events behind a number, as many as come at a time."""
        params = {**filters, "after": str(after), "limit": str(PAGE_SIZE)}
        request = Request(method="GET", path=EVENTS, params=params)
        return _decoded((yield from self._asked(request)), EventPage)

    # Everything else

    def call_page(self, filters: Mapping[str, str | None], cursor: str | None) -> Plan[CallPage]:
        """Read a part of the list of calls."""
        request = Request(method="GET", path="/v1/calls", params=_page(filters, cursor))
        return _decoded((yield from self._asked(request)), CallPage)

    def page(self, path: str, filters: Mapping[str, str | None], cursor: str | None) -> Plan[Page]:
        """Read a part of any list."""
        request = Request(method="GET", path=path, params=_page(filters, cursor))
        return _decoded((yield from self._asked(request)), Page)

    def ledger(self) -> Plan[Ledger]:
        """Read the balance."""
        return _decoded((yield from self._asked(Request(method="GET", path="/v1/ledger"))), Ledger)

    def status(self) -> Plan[Status]:
        """Read how the daemon is."""
        return _decoded((yield from self._asked(Request(method="GET", path="/v1/status"))), Status)

    def request(
        self, method: str, path: str, body: object, params: Mapping[str, str] | None
    ) -> Plan[Any]:
        """Ask for anything that the API offers."""
        content = None if body is None else _encoded(body)
        request = Request(method=method.upper(), path=path, params=params or {}, body=content)
        is_repeatable = request.method in ("GET", "PUT")
        reply = yield from self._asked(request, is_repeatable=is_repeatable)
        return _decoded(reply, _ANYTHING) if reply.body else None

    # Asking

    def _asked(
        self,
        request: Request,
        *,
        is_repeatable: bool = True,
        until: float | None = None,
        within: float = math.inf,
        key: str | None = None,
    ) -> Plan[Reply]:
        """Ask until there is an answer, as long as that is safe and patience lasts.

        Args:
            request: What is asked.
            is_repeatable: Whether asking twice does no more than asking once.
            until: The moment until which the daemon may wait before it answers.
            within: The moment after which nothing is repeated.
            key: The idempotency key that the request carries, for errors.
        """
        ends: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            heard = yield self._with_wait(request, until)
            if isinstance(heard, Reply) and heard.status < HTTPStatus.MULTIPLE_CHOICES:
                return heard
            if ends is None:
                ends = min(within, self._now() + self._patience_s)
            next_s = max(pause_s, _retry_after_s(heard))
            if not _may_repeat(heard, is_repeatable) or self._now() + next_s > ends:
                raise _error_of(heard, key)
            yield Pause(next_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _with_wait(self, request: Request, until: float | None) -> Request:
        left_s = 0 if until is None else math.floor(until - self._now() + _SLACK_S)
        return dataclasses.replace(request, wait_s=max(0, min(left_s, LONGEST_WAIT_S)))


def _is_answered(call: Call) -> bool:
    return not call.is_open


def _is_final(call: Call) -> bool:
    return call.is_final


def event_filters(types: Sequence[str], tenant: str | None) -> dict[str, str]:
    """Return the options of the API by which some events are wanted."""
    filters = {"type": ",".join(types), "tenant": tenant}
    return {name: value for name, value in filters.items() if value}


def _fresh_key() -> str:
    return uuid.uuid4().hex


def _checked(key: str) -> str:
    if not (key.isprintable() and len(key) <= LONGEST_KEY):
        raise ValueError(f"an idempotency key has at most {LONGEST_KEY} printable characters")
    return key


def _path(call_id: str) -> str:
    return f"/v1/calls/{quote(call_id, safe='')}"


def _page(filters: Mapping[str, str | None], cursor: str | None) -> dict[str, str]:
    given = {name: value for name, value in filters.items() if value is not None}
    return {"limit": str(PAGE_SIZE), **given, **({"cursor": cursor} if cursor else {})}


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def _decoded(reply: Reply, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswerError(
            f"status {reply.status}, but not as integrationd answers: {error}"
        ) from error


def _error_of(heard: Heard, key: str | None) -> ClientError:
    match heard:
        case Reply(status=status, body=body):
            return error_of(status, body, key)
        case Lost(reason=reason, maybe_arrived=maybe_arrived):
            return UnreachableError(reason, maybe_arrived=maybe_arrived, idempotency_key=key)
        case None:
            return UnexpectedAnswerError("there was no answer")


def _may_repeat(heard: Heard, is_repeatable: bool) -> bool:
    match heard:
        case Reply(status=status):
            return status in _NOTHING_DONE or (is_repeatable and status in _NOT_NOW)
        case Lost(maybe_arrived=maybe_arrived):
            return is_repeatable or not maybe_arrived
        case None:
            return False


def _retry_after_s(heard: Heard) -> float:
    said = heard.headers.get("retry-after", "") if isinstance(heard, Reply) else ""
    return float(said) if said.isascii() and said.isdigit() else 0.0
