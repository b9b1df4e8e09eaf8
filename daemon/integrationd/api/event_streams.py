"""Streams of the event log: each reader at its own pace, memory the same however slow it is.

A stream keeps nothing but a number. Those that are at the end of the log read it together; one
that has fallen behind reads the journal by itself until it has caught up.
"""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import ClassVar

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from integrationd.api.event_views import frame, sign_of_life
from integrationd.clock import Clock
from integrationd.errors import JournalError, RequestError
from integrationd.events import Bus, Committed
from integrationd.journal import EventFilter, EventLog, EventPage, StoredEvent
from integrationd.personal import PersonalData

MOST_STREAMS = 128
MOST_OF_ONE = 32
HEARTBEAT_S = 15.0
RETRY_MS = 2000
# Read at a time; a stream has no more than these in memory.
CHUNK = 50
CHUNK_BYTES = 64 * 1024
# Kept for those that are at the end.
RECENT = 256
# On a busy log a stream is woken no more often than this.
BREATH_S = 0.01
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # A proxy that waits for the end of the answer would wait for ever.
    (b"x-accel-buffering", b"no"),
]


class TooManyStreamsError(RequestError):
    """As many streams as can be are open."""

    status: ClassVar[int] = 503
    code = "too_many_streams"
    hint = "Close streams that nobody reads, or poll GET /v1/events with its cursor."


class EventsPrunedError(RequestError):
    """What follows the cursor is not kept any more, or never was there."""

    status: ClassVar[int] = 410
    code = "events_gone"


def check_cursor(after: int, page: EventPage) -> None:
    """Refuse a cursor after which events are missing; 0 begins with the first that is kept.

    Raises:
        EventsPrunedError: Those that follow it were pruned, or it lies behind the end of the log.
    """
    if after > page.last:
        raise EventsPrunedError(
            f"the log ends at event {page.last}, so there is none after {after}",
            hint="The journal may have been restored from a backup; go on after"
            f" {page.last}, and look at what your app had seen since.",
        )
    if 0 < after < page.first - 1:
        raise EventsPrunedError(
            f"events {after + 1} to {page.first - 1} have been pruned",
            hint=f"Begin again after {page.first - 1}, and bring your app up to date by its calls."
            " [retention] events says how long events are kept.",
        )


class Tail:
    """The end of the log, read once for all streams that are there.

    Args:
        log: The event log.
        bus: Tells of commits.
        clock: For measuring waits.
    """

    def __init__(self, log: EventLog, bus: Bus, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        # Without gaps, up to `_upto`.
        self._recent: deque[StoredEvent] = deque(maxlen=RECENT)
        self._upto = 0
        self._end = 0
        self._moved = anyio.Event()
        self._reading = anyio.Lock()
        bus.subscribe(Committed, self._on_committed)

    async def after(self, seq: int, wanted: EventFilter) -> EventPage:
        """Return what follows a number, as far as one step goes.

        Raises:
            JournalError: The journal cannot be read.
        """
        if seq == self._upto < self._end:
            async with self._reading:
                if seq == self._upto:
                    await self._extend()
        if self._recent and self._recent[0].seq - 1 <= seq <= self._upto:
            return self._remembered(seq, wanted)
        page = await self._log.after(seq, CHUNK, wanted)
        self._end = max(self._end, page.last)
        if page.is_at_end and page.upto > self._upto:
            self._recent.clear()
            self._upto = page.upto
        return page

    async def moved(self, seq: int, seconds: float) -> None:
        """Wait until the log goes on after a number, but no longer than so many seconds."""
        if self._end <= seq:
            await self._clock.wait(self._moved, seconds)

    def forget(self) -> None:
        """Keep nothing in memory, since nobody is there."""
        self._recent.clear()

    def wake(self) -> None:
        """End every wait."""
        self._moved.set()
        self._moved = anyio.Event()

    async def _extend(self) -> None:
        page = await self._log.after(self._upto, CHUNK)
        self._end = max(self._end, page.last)
        if page.events and page.events[0].seq == self._upto + 1:
            self._recent.extend(page.events)
            self._upto = page.upto
        else:
            # Some were pruned meanwhile, so what follows must not look as if it followed on.
            self._recent.clear()

    def _remembered(self, seq: int, wanted: EventFilter) -> EventPage:
        later = islice(self._recent, seq + 1 - self._recent[0].seq, None)
        found = tuple(islice((one for one in later if wanted.matches(one)), CHUNK))
        upto = found[-1].seq if len(found) == CHUNK else self._upto
        return EventPage(events=found, upto=upto, first=seq + 1, last=max(self._end, self._upto))

    def _on_committed(self, committed: Committed) -> None:
        if committed.last_event > self._end:
            self._end = committed.last_event
            self.wake()


class EventStreams:
    """All streams that are open.

    Args:
        log: The event log.
        bus: Tells of commits.
        clock: Where time is read.
        personal: Masks what tells who a person is, where that is asked for.

    Attributes:
        tail: Where they read.
        clock: Where time is read.
        personal: The same.
        is_closed: Whether the daemon is stopping.
    """

    def __init__(
        self, log: EventLog, bus: Bus, clock: Clock, personal: PersonalData | None = None
    ) -> None:
        self.tail = Tail(log, bus, clock)
        self.clock = clock
        self.personal = personal or PersonalData()
        self.is_closed = False
        self._open: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    def close(self) -> None:
        """End every stream, now and from now on; readers come back to the next daemon."""
        self.is_closed = True
        self.tail.wake()

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Count one stream of a caller.

        Raises:
            TooManyStreamsError: There are too many.
        """
        if self.count >= MOST_STREAMS:
            raise TooManyStreamsError(f"{MOST_STREAMS} streams of events are open")
        if self._open[caller] >= MOST_OF_ONE:
            raise TooManyStreamsError(f"{caller} has {MOST_OF_ONE} streams of events open")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            self._open += Counter()
            if not self._open:
                self.tail.forget()


class EventStream(Response):
    """One stream, as an answer.

    Args:
        streams: All of them.
        caller: Whose it is.
        after: The number to begin after.
        wanted: Which events.
        is_let_in: Says whether the caller may still read.
    """

    def __init__(
        self,
        streams: EventStreams,
        caller: str,
        after: int,
        wanted: EventFilter,
        is_let_in: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._streams = streams
        self._caller = caller
        self._after = after
        self._wanted = wanted
        self._is_let_in = is_let_in

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Tell events until the reader goes away, may not read any more, or the daemon stops."""
        with self._streams.place(self._caller):
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                # What ends it here is told when the reader comes back.
                with contextlib.suppress(JournalError, EventsPrunedError):
                    await self._tell(send)
                await send(_body(b"", is_last=True))
                group.cancel_scope.cancel()

    async def _tell(self, send: Send) -> None:
        clock, tail = self._streams.clock, self._streams.tail
        await send(_body(b"retry: %d\n" % RETRY_MS + sign_of_life(self._after)))
        beat_s = clock.monotonic() + HEARTBEAT_S
        while not self._streams.is_closed:
            page = await tail.after(self._after, self._wanted)
            check_cursor(self._after, page)
            if not self._is_let_in():
                return
            for chunk in _chunks(page.events, self._streams.personal):
                await send(_body(chunk))
            self._after = page.upto
            if page.events:
                beat_s = clock.monotonic() + HEARTBEAT_S
            elif clock.monotonic() >= beat_s:
                await send(_body(sign_of_life(self._after)))
                beat_s = clock.monotonic() + HEARTBEAT_S
            if page.is_at_end:
                await clock.sleep(BREATH_S)
            if page.is_at_end and not self._streams.is_closed:
                await tail.moved(self._after, max(beat_s - clock.monotonic(), 0.0))


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    scope.cancel()


def _chunks(events: tuple[StoredEvent, ...], personal: PersonalData) -> Iterator[bytes]:
    """Return the frames of events, joined up to a size that is worth a write."""
    frames: list[bytes] = []
    size = 0
    for event in events:
        frames.append(frame(event, personal))
        size += len(frames[-1])
        if size >= CHUNK_BYTES:
            yield b"".join(frames)
            frames, size = [], 0
    if frames:
        yield b"".join(frames)


def _body(told: bytes, *, is_last: bool = False) -> Message:
    return {"type": "http.response.body", "body": told, "more_body": not is_last}
