"""Feeds: which subscriptions have something to be told, without a cost for those that have not.

A feed is asked for work by the line of its subscription, and only then reads the event log and
makes calls of it (:mod:`integrationd.journal.feeds`). Here is remembered who may have any: the log
is read once for all as it grows, and a subscription that wants none of it is not woken.
"""

from collections.abc import Callable, Iterable, Mapping

import anyio

from integrationd.call import Lease, is_subscription
from integrationd.clock import Clock
from integrationd.delivery.answers import Answer
from integrationd.delivery.patience import Failing, is_theirs
from integrationd.delivery.telling import payload_of
from integrationd.errors import JournalError
from integrationd.events import Bus, CallChanged, Committed
from integrationd.journal import FeedTerms, Journal, Transaction, Turn, is_told, note_failing, stop
from integrationd.sdk import outcome as said
from integrationd.settings import ConnectionSettings, FedConnection

READ_AT_ONCE = 500
WINDOW = 256
# What the app cannot take is never given up, and there may be much of it before it holds up more.
ENDLESS_WINDOW = 5000
JOURNAL_PAUSE_S = 1.0
SLOW_DOWN_S = 5.0
# While a receiver fails, it is written so often since when; a crash forgets no more than that.
NOTED_EVERY_MS = 3600 * 1000
ALL_TENANTS = "*"
GONE, FAILING = "gone", "failing"
_SLOWED = frozenset({"http_502", "http_504"})


class Feed:
    """One subscription's place in the event log, as its line sees it.

    Args:
        terms: What is fed to whom.
        is_endless: It is never switched off.
        journal: Where events and deliveries are.
        failing: Its failures without a success since, if it fails.
    """

    def __init__(
        self,
        terms: FeedTerms,
        journal: Journal,
        *,
        is_endless: bool,
        failing: Failing | None = None,
    ) -> None:
        self.terms = terms
        self._is_endless = is_endless
        self._journal = journal
        self._failing = self._noted = failing
        self._passed = 0
        self._stirred, self._fed = 1, 0
        self._hold_until_ms = 0
        self._is_over = False

    def under(self, terms: FeedTerms) -> "Feed":
        """Return the feed under other terms; what it was told of may have to be told anew."""
        if terms == self.terms and not self._is_over:
            return self
        fresh = Feed(terms, self._journal, is_endless=self._is_endless)
        if not self._is_over:
            fresh._failing, fresh._noted = self._failing, self._noted
        fresh._hold_until_ms = self._hold_until_ms
        return fresh

    @property
    def has_more(self) -> bool:
        """Whether there may be events that it has not been fed."""
        return self._fed < self._stirred

    @property
    def passed(self) -> int:
        """Up to which event it has been fed since the start; 0 if nothing was."""
        return self._passed

    def stir(self) -> None:
        """Take note that there may be an event for it, or that somebody wants one told again."""
        self._stirred += 1

    async def claim(self, room: int, lease_ms: int, now_ms: int) -> tuple[list[Lease], int | None]:
        """Claim deliveries, made of events as need be.

        Returns:
            The leases, and when there may be more: None while only an event can tell.
        """
        if self._is_over:
            return [], None
        if now_ms < self._hold_until_ms:
            return [], self._hold_until_ms
        stirred = self._stirred
        turn = Turn(self.terms, self._journal.calls, self._passed, has_more=self.has_more)
        claimed = await self._journal.leases.claim_from(turn, self.terms.connection, room, lease_ms)
        # Not before the commit is durable, for else nobody would look again.
        self._passed = turn.position
        if turn.is_at_end:
            self._fed = max(self._fed, stirred)
        return claimed

    def answered(
        self, answer: Answer, now_ms: int, reached_ms: int
    ) -> Callable[[Transaction], None] | None:
        """Learn from how a delivery went; return what to write in the commit of its settlement.

        Args:
            answer: What came of it.
            now_ms: The time.
            reached_ms: When anybody beyond the machine's own networks was last reached.
        """
        subscription = self.terms.subscription
        match answer:
            case said.Delivered():
                return self._note(None) if self._failing is not None else None
            case said.Rejected(reason=reason) if reason == GONE:
                self._is_over = True
                return lambda transaction: stop(transaction, subscription, GONE, now_ms)
            case said.Throttled(wait_s=wait_s):
                self._slow_down(wait_s, now_ms)
                return None
            case said.Retryable() | said.Uncertain():
                if answer.reason in _SLOWED:
                    self._slow_down(getattr(answer, "wait_s", None), now_ms)
                return self._failed(answer, now_ms, reached_ms)
            case _:
                return None

    def _failed(
        self, answer: said.Retryable | said.Uncertain, now_ms: int, reached_ms: int
    ) -> Callable[[Transaction], None] | None:
        if self._is_endless:
            return None
        counts = is_theirs(answer, now_ms, reached_ms)
        if self._failing is None:
            return self._note(Failing(now_ms, now_ms)) if counts else None
        self._failing = self._failing.after(now_ms, is_theirs=counts)
        if counts and self._failing.is_over:
            self._is_over = True
            subscription = self.terms.subscription
            return lambda transaction: stop(transaction, subscription, FAILING, now_ms)
        is_news = self._noted is None or now_ms - self._noted.looked_ms >= NOTED_EVERY_MS
        return self._note(self._failing) if is_news else None

    def _note(self, failing: Failing | None) -> Callable[[Transaction], None]:
        self._failing = self._noted = failing
        subscription = self.terms.subscription
        since_ms = failing.since_ms if failing else None
        looked_ms = failing.looked_ms if failing else None
        return lambda transaction: note_failing(transaction, subscription, since_ms, looked_ms)

    def _slow_down(self, wait_s: float | None, now_ms: int) -> None:
        wait_ms = round((SLOW_DOWN_S if wait_s is None else wait_s) * 1000)
        self._hold_until_ms = max(self._hold_until_ms, now_ms + wait_ms)


class Feeds:
    """All feeds, kept up with the configuration and with the log.

    Args:
        journal: Where events and deliveries are.
        bus: Where it is told that the log has grown, or a delivery has ended.
        clock: Where time is read.
        tell_due: Told of a lane that has work, and when.
        reached_ms: Returns when anybody beyond the machine's own networks was last reached.
    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        clock: Clock,
        tell_due: Callable[[str, int], None],
        reached_ms: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._tell_due = tell_due
        self._reached_ms = reached_ms
        self._feeds: dict[str, Feed] = {}
        self._failing: dict[str, Failing] = {}
        self._read_upto = 0
        self._last = 0
        self._grown = anyio.Event()
        bus.subscribe(Committed, self._on_commit)
        bus.subscribe(CallChanged, self._on_changed)

    def use(self, connections: Mapping[str, ConnectionSettings]) -> None:
        """Feed the subscriptions among these connections from now on."""
        before, self._feeds = self._feeds, {}
        for name, one in connections.items():
            if isinstance(one, FedConnection) and one.enabled:
                terms = terms_of(name, one)
                known = before.get(name)
                self._feeds[name] = known.under(terms) if known else self._new(terms, one)

    def _new(self, terms: FeedTerms, one: FedConnection) -> Feed:
        return Feed(
            terms,
            self._journal,
            is_endless=one.feed.is_endless,
            # Only of the time before the start; who is switched on again begins anew.
            failing=self._failing.pop(terms.subscription, None),
        )

    def find(self, connection: str) -> Feed | None:
        """Return the feed of a connection; None for those that are no subscription's."""
        return self._feeds.get(connection)

    def passed(self, connection: str) -> int:
        """Return up to which event a subscription has been fed, as far as is known here."""
        feed = self._feeds.get(connection)
        return feed.passed if feed is not None else 0

    def lanes(self) -> Iterable[str]:
        """Return the lanes that may have work although no call stands in them."""
        return [feed.terms.lane for feed in self._feeds.values()]

    def stir(self, connection: str) -> None:
        """Have a subscription look into the log, whatever has been seen of it."""
        feed = self._feeds.get(connection)
        if feed is not None:
            feed.stir()
            self._tell_due(feed.terms.lane, 0)

    def answered(self, connection: str, answer: Answer) -> Callable[[Transaction], None] | None:
        """Learn from how a delivery went; return what to write beside its settlement."""
        feed = self._feeds.get(connection)
        if feed is None:
            return None
        return feed.answered(answer, self._clock.now_ms(), self._reached_ms())

    async def recall(self) -> None:
        """Read since when each has been failing, before an earlier run of the daemon ended."""
        cursors = await self._journal.subscriptions.cursors()
        self._failing = {
            name: Failing(one.failing_since_ms, one.failed_at_ms)
            for name, one in cursors.items()
            if one.failing_since_ms is not None and one.failed_at_ms is not None
        }
        page = await self._journal.events.latest(0)
        self._read_upto = self._last = page.last

    async def run(self) -> None:
        """Wake the subscriptions that new events are for, for the daemon's life."""
        while True:
            self._grown = anyio.Event()
            try:
                await self._look()
            except JournalError:
                await self._clock.sleep(JOURNAL_PAUSE_S)
                continue
            if self._read_upto >= self._last:
                await self._grown.wait()

    async def _look(self) -> None:
        """Read what is new, once for all of them, unless all look into the log anyway."""
        while self._read_upto < self._last:
            feeds = list(self._feeds.values())
            if all(feed.has_more for feed in feeds):
                # They may be looking at this moment, too early for what is new.
                self._read_upto = self._last
                self._wake(feeds)
                return
            page = await self._journal.events.after(self._read_upto, READ_AT_ONCE)
            events = [event for event in page.events if is_told(event)]
            self._read_upto = page.upto
            self._wake(feed for feed in feeds if any(map(feed.terms.wanted.matches, events)))
            if page.is_at_end:
                return

    def _wake(self, feeds: Iterable[Feed]) -> None:
        for feed in feeds:
            feed.stir()
            self._tell_due(feed.terms.lane, 0)

    def _on_commit(self, event: Committed) -> None:
        if event.last_event > self._last:
            self._last = event.last_event
            self._grown.set()

    def _on_changed(self, event: CallChanged) -> None:
        """A delivery that has ended, or was tried once, lets the next one go."""
        call = event.call
        feed = self._feeds.get(call.connection or "") if is_subscription(call.connection) else None
        if feed is not None:
            self._tell_due(feed.terms.lane, 0)


def terms_of(name: str, one: FedConnection) -> FeedTerms:
    """Return what the connection of a subscription is fed."""
    feed = one.feed
    return FeedTerms(
        subscription=feed.subscription,
        connection=name,
        tenant=feed.tenant,
        deliveries_of=feed.tenant or ALL_TENANTS,
        events=feed.events,
        scheme=feed.scheme,
        is_ordered=feed.is_ordered,
        lives_ms=round(feed.lives_s * 1000),
        window=ENDLESS_WINDOW if feed.is_endless else WINDOW,
        payload_of=payload_of,
    )
