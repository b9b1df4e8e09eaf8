"""The link: whether this machine can reach the world at all, and what that means for calls.

A failure that never left the machine may be the provider's or our own. So it is looked at once
who else can be reached (:mod:`integrationd.delivery.outside`): if nobody can, the link is down.
Meanwhile connections that lead outside are held, no breaker counts, nothing is given up; the world
is looked for every :data:`LOOK_EVERY_S`. Once it is back, sending begins with one attempt at a time
per connection and doubles every second.

    up ──(an attempt never left the machine, and nobody else can be reached)──> down
    down ──(somebody can be reached)──> up
"""

import dataclasses
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import msgspec

from integrationd.call import Breaker as StoredBreaker
from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.delivery.answers import Answer, reason_of
from integrationd.errors import JournalError
from integrationd.events import AttemptEnded, Bus, LinkMoved
from integrationd.sdk import outcome as said
from integrationd.sdk.reach import View
from integrationd.settlement import LINK_DOWN

LOOK_EVERY_S = 2.0
# After an outage nothing is given up for as long as it was, at most so long: what waited has a
# chance first.
GRACE_MS = 3600 * 1000
RAMP_S = 6
UNLIMITED = sys.maxsize
# Under this name the link stands among the breakers; no connection can have it.
STORED_AS = "@link"
# What the world being out of reach looks like from inside. A refused connection is an answer.
_OUT_OF_REACH = frozenset(
    {
        *("dns_failure", "connect_failure", "connect_timeout", "tls_failure"),
        *("bad_certificate", "connection_lost", "timeout"),
    }
)


class Sight(Protocol):
    """What looks for the world."""

    def leads_outside(self, connection: str) -> bool:
        """Say whether a connection leads beyond the machine's own networks."""
        ...

    def note_reached(self, connection: str) -> None:
        """Take note that somebody has answered through a connection."""
        ...

    async def look(self, but: str | None) -> View:
        """Say whether anybody outside can be reached, besides the host of one connection."""
        ...


class Blind:
    """Sees nobody, so that the link is never called down."""

    def leads_outside(self, connection: str) -> bool:
        """Say no."""
        return False

    def note_reached(self, connection: str) -> None:
        """Forget it."""

    async def look(self, but: str | None) -> View:
        """Say that nobody could be asked."""
        return View(None)


class _Stored(msgspec.Struct):
    """The link as it is kept."""

    is_up: bool
    since_ms: int
    why: str = ""
    grace_ms: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class LinkStatus:
    """How the link is.

    Attributes:
        is_up: Whether the world can be reached, as far as is known.
        since_ms: When that began, UTC milliseconds; None where it has been up ever since.
        why: What was found when it went down; empty while it is up.
    """

    is_up: bool
    since_ms: int | None
    why: str


class Link:
    """Watches the link, for delivery.

    Args:
        sight: What looks for the world.
        store: Keeps the link as it last moved, with the event that tells of it, in one commit.
        bus: Where it is told that attempts have ended, and that the link has moved.
        clock: Where time is read.
    """

    def __init__(
        self,
        sight: Sight,
        store: Callable[[StoredBreaker, EventRecord], Awaitable[None]],
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._sight = sight
        self._store = store
        self._bus = bus
        self._clock = clock
        self._is_watched = True
        self._is_up = True
        self._since_ms: int | None = None
        self._why = ""
        self._grace_ms = 0
        self._reached_ms = 0
        self._looking = anyio.Lock()
        self._moved = anyio.Event()
        self._untold: deque[tuple[StoredBreaker, EventRecord]] = deque(maxlen=100)
        bus.subscribe(AttemptEnded, self._on_attempt)

    def use(self, *, is_watched: bool) -> None:
        """Watch, or no longer; what is not watched is up."""
        self._is_watched = is_watched
        if not is_watched and not self._is_up:
            self._move(is_up=True, why="It is watched no longer.")

    def recall(self, stored: StoredBreaker) -> None:
        """Go on as an earlier run of the daemon left it."""
        kept = msgspec.json.decode(stored.record, type=_Stored)
        if not self._is_watched:
            return
        self._is_up, self._since_ms = kept.is_up, kept.since_ms
        self._why, self._grace_ms = kept.why, kept.grace_ms
        if not self._is_up:
            self._publish()

    @property
    def status(self) -> LinkStatus:
        """How the link is."""
        return LinkStatus(self._is_up, self._since_ms, self._why)

    def reached_ms(self) -> int:
        """Return when anybody outside was last reached, UTC milliseconds; 0 for never."""
        return self._reached_ms

    def holds(self, connection: str) -> bool:
        """Say whether a connection is to wait for the link."""
        return not self._is_up and self._sight.leads_outside(connection)

    def room(self, connection: str, running: int, now_ms: int) -> int:
        """Return how many attempts may start on a connection now, as far as the link goes."""
        if self.holds(connection):
            return 0
        allowed = self._allowed(connection, now_ms)
        return UNLIMITED if allowed == UNLIMITED else max(0, allowed - running)

    def next_ms(self, connection: str, running: int, now_ms: int) -> int | None:
        """Return when an attempt may start, as far as the link goes; None while it is down."""
        if self.holds(connection):
            return None
        if running < self._allowed(connection, now_ms) or self._since_ms is None:
            return now_ms
        return self._since_ms + (self._seconds_up(now_ms) + 1) * 1000

    def _allowed(self, connection: str, now_ms: int) -> int:
        """Return how many attempts may be under way while sending begins anew."""
        if self._since_ms is None or not self._is_up:
            return UNLIMITED
        seconds = self._seconds_up(now_ms)
        if seconds >= RAMP_S or not self._sight.leads_outside(connection):
            return UNLIMITED
        return 1 << seconds

    def _seconds_up(self, now_ms: int) -> int:
        # A clock that was set back does not begin the ramp anew.
        since_ms = now_ms if self._since_ms is None else self._since_ms
        return (now_ms - since_ms) // 1000 if now_ms >= since_ms else RAMP_S

    def gives_up(self, now_ms: int) -> bool:
        """Say whether calls may be given up because their time is over."""
        return self._is_up and now_ms >= self.keeps_trying_until_ms

    @property
    def keeps_trying_until_ms(self) -> int:
        """Until when nothing is given up after an outage; 0 where there was none."""
        # Nor where the clock was set back since: nobody would be given up for as long as that.
        if self._since_ms is None or self._since_ms > self._clock.now_ms():
            return 0
        return self._since_ms + self._grace_ms

    async def explain(self, connection: str, answer: Answer, status: int | None) -> Answer:
        """Return what an attempt came to once it is known whether the link is to blame.

        Args:
            connection: What it went through.
            answer: What it came to.
            status: The status of the last reply, if there was one.
        """
        reason, detail = reason_of(answer)
        if not self._may_be_ours(connection, answer, status) or not await self._is_ours(connection):
            return answer
        told = f"This machine's own link is down. {detail or reason or ''}".strip()
        if isinstance(answer, said.Retryable):
            return said.Retryable(reason=LINK_DOWN, detail=told, sent=False)
        return said.CannotTell(reason=LINK_DOWN, detail=told)

    def _may_be_ours(self, connection: str, answer: Answer, status: int | None) -> bool:
        match answer:
            case said.Retryable(sent=False) | said.CannotTell():
                is_mute = status is None and answer.reason in _OUT_OF_REACH
                return self._is_watched and is_mute and self._sight.leads_outside(connection)
            case _:
                return False

    async def _is_ours(self, connection: str) -> bool:
        failed_ms = self._clock.now_ms()
        # One look serves everybody who fails meanwhile. Who was reached before, however lately,
        # says nothing: it is when the link goes that many fail at once.
        async with self._looking:
            if not self._is_up or failed_ms < self._reached_ms <= self._clock.now_ms():
                return not self._is_up
            view = await self._sight.look(connection)
            if view.is_there:
                self._reached_ms = self._clock.now_ms()
            elif view.is_there is False:
                self._move(is_up=False, why=view.told)
            return not self._is_up

    async def run(self) -> None:
        """Look for the world while it is gone, for the daemon's life."""
        while True:
            self._moved = anyio.Event()
            await self._tell()
            if self._is_up and not self._untold:
                await self._moved.wait()
                continue
            await self._clock.wait(self._moved, LOOK_EVERY_S)
            if not self._is_up:
                async with self._looking:
                    await self._look_for_it()

    async def _look_for_it(self) -> None:
        view = await self._sight.look(None)
        # Where nobody can be asked any more, calls find out.
        if view.is_there is not False and not self._is_up:
            self._move(is_up=True, why="")

    def _on_attempt(self, event: AttemptEnded) -> None:
        attempt = event.attempt
        if attempt.status_code is None or not self._sight.leads_outside(attempt.connection):
            return
        self._sight.note_reached(attempt.connection)
        self._reached_ms = self._clock.now_ms()

    def _move(self, *, is_up: bool, why: str) -> None:
        now_ms = self._clock.now_ms()
        lasted_ms = 0 if self._since_ms is None else max(0, now_ms - self._since_ms)
        self._is_up, self._since_ms, self._why = is_up, now_ms, why
        self._grace_ms = min(lasted_ms, GRACE_MS) if is_up else 0
        record = msgspec.json.encode(_Stored(is_up, now_ms, why, self._grace_ms))
        data = {"down_s": round(lasted_ms / 1000)} if is_up else {"why": why}
        event = EventRecord(type="link.up" if is_up else "link.down", data=data)
        stored = StoredBreaker(connection=STORED_AS, record=record, changed_at_ms=now_ms)
        self._untold.append((stored, event))
        self._moved.set()
        self._publish()

    def _publish(self) -> None:
        self._bus.publish(LinkMoved(is_up=self._is_up, why=self._why))

    async def _tell(self) -> None:
        """Keep what the log has not been told yet, as soon as the disk allows."""
        while self._untold:
            first = self._untold[0]
            try:
                await self._store(*first)
            except JournalError:
                return
            if self._untold[0] is first:
                self._untold.popleft()
