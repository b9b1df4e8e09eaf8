"""The subscriptions of a running daemon: kept in the journal, signed from the vault, told.

Whatever is done to one is kept first and then taken over; a subscription that cannot be used, since
its secret cannot be opened for one, is left out and says why, and harms no other.
"""

import base64
import dataclasses
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import msgspec
import structlog

from integrationd.api.subscription_side import Again, Made, Shown, Wish
from integrationd.call import Call, subscription_connection
from integrationd.clock import Clock
from integrationd.delivery.feeds import Feeds, terms_of
from integrationd.delivery.telling import body_of, payload
from integrationd.errors import ConflictError, DamagedError, IntegrationdError, JournalError
from integrationd.events import Bus, ConfigMoved, JournalMoved, SubscriptionMoved
from integrationd.journal import (
    Cursor,
    DeliveryCounts,
    EventFilter,
    FeedTerms,
    Journal,
    StoredDelivery,
    StoredEvent,
    StoredSubscription,
    is_told,
)
from integrationd.settings import SHARED_SECRETS_OF
from integrationd.supervisor.fed import APP, Fed, Sealed, TimedSecret
from integrationd.supervisor.reload import Reloader
from integrationd.supervisor.secrets import Vault
from integrationd.supervisor.stored import Problems
from integrationd.supervisor.subscription_check import check_secret, check_wish

PAUSE_S = 1.0
COUNTED_AT_ONCE = 5000
SECRET_BYTES = 32
_NO_COUNTS = DeliveryCounts()
_MEND = "Stop the daemon and run 'integrationd verify', then 'integrationd salvage'."
_DAMAGED = f"Its row is damaged. {_MEND}"
_LOST = f"How far it has been told is damaged. {_MEND}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberParts:
    """What subscriptions work with.

    Attributes:
        journal: Where they are.
        vault: Where their secrets are.
        take: Has delivery go on with them; returns what is wrong with those that cannot be told.
        feeds: What they are told of.
        has_app: Says whether ``[app]`` opens a door.
        bus: Where changes are told.
        clock: Where time is read.
    """

    journal: Journal
    vault: Vault
    take: Callable[[Mapping[str, Fed]], Awaitable[Problems]]
    feeds: Feeds
    has_app: Callable[[], bool]
    bus: Bus
    clock: Clock


class Subscribers:
    """Everything about subscriptions that a running daemon does."""

    def __init__(self, parts: SubscriberParts) -> None:
        self._parts = parts
        self._journal = parts.journal
        self._table = parts.journal.subscriptions
        self._problems: dict[str, str] = {}
        self._fed: dict[str, Fed] = {}
        self._lock = anyio.Lock()
        self._moved = anyio.Event()
        self._log = structlog.get_logger("integrationd.subscriptions")
        parts.bus.subscribe(SubscriptionMoved, self._on_moved)
        parts.bus.subscribe(JournalMoved, self._on_journal)
        parts.bus.subscribe(ConfigMoved, self._on_config)

    # Keeping up with the journal.

    async def begin(self) -> None:
        """Have delivery know the subscriptions before it begins, as far as they can be read."""
        try:
            await self.load()
        except IntegrationdError as error:
            self._log.warning("subscriptions_not_taken_over", why=str(error))

    async def run(self) -> None:
        """Take over what has changed, for the daemon's life."""
        while True:
            self._moved = anyio.Event()
            try:
                await self.load()
            except IntegrationdError as error:
                # The disk is full or failing, or the registry refuses; it is tried again.
                self._log.warning("subscriptions_not_taken_over", why=str(error))
                await self._parts.clock.sleep(PAUSE_S)
                continue
            await self._moved.wait()

    async def load(self) -> None:
        """Read all subscriptions and have delivery go on with them.

        Raises:
            JournalError: The journal cannot be read.
        """
        async with self._lock:
            await self._begin_app()
            found, damaged = await self._table.all()
            problems = dict.fromkeys(damaged, _DAMAGED)
            cursors = await self._table.cursors()
            problems |= {one.id: _LOST for one in found if one.id not in cursors}
            opened = await self._opened(found, problems)
            fed = {
                subscription_connection(one.id): Fed.of(one, opened[one.id])
                for one in found
                if one.id in opened
            }
            left_out = await self._parts.take(fed)
            for name, told in left_out.items():
                problems[name.partition(":")[2]] = "; ".join(one.reason for one in told)
            self._fed, self._problems = fed, problems

    async def _begin_app(self) -> None:
        if not self._parts.has_app():
            return
        try:
            await self._table.begin(APP)
        except DamagedError as error:
            self._log.error("app_not_told", why=str(error), hint=error.hint)

    async def _opened(
        self, found: Sequence[StoredSubscription], problems: dict[str, str]
    ) -> dict[str, Sealed]:
        """Return what the vault holds for each; what cannot be opened is told."""
        if not found:
            return {}
        opened: dict[str, Sealed] = {}
        try:
            async with self._parts.vault.keyring(make=False) as keyring:
                rows = await self._journal.secrets.sealed()
        except JournalError:
            raise
        except IntegrationdError as error:
            problems.update({one.id: f"{error}. {error.hint}" for one in found})
            return {}
        for one in found:
            try:
                text = rows.open(keyring, _secrets_of(one), _secret_name(one.id))
                opened[one.id] = Sealed.read(text)
            except msgspec.DecodeError:
                problems[one.id] = "What the vault holds for it is no secret of a subscription."
            except IntegrationdError as error:
                problems[one.id] = f"{error}. {error.hint}"
        return opened

    def _on_moved(self, _event: SubscriptionMoved) -> None:
        self._moved.set()

    def _on_journal(self, _event: JournalMoved) -> None:
        self._moved.set()

    def _on_config(self, _event: ConfigMoved) -> None:
        # The app's door may have been opened.
        self._moved.set()

    # What a person asks for.

    async def list(self, within: str | None, *, before: int | None, limit: int) -> Sequence[Shown]:
        """Return subscriptions, the latest first."""
        found = await self._table.list(within, before=before, limit=limit)
        return await self._shown(found)

    async def get(self, subscription: str, within: str | None) -> Shown:
        """Return a subscription."""
        (shown,) = await self._shown([await self._table.get(subscription, within)])
        return shown

    async def _shown(self, found: Sequence[StoredSubscription]) -> Sequence[Shown]:
        if not found:
            return []
        cursors, counts = await self._table.cursors(), await self._table.counts()
        last = (await self._journal.events.latest(0)).last
        return [self._show(one, cursors.get(one.id), counts, last) for one in found]

    def _show(
        self,
        one: StoredSubscription,
        cursor: Cursor | None,
        counts: Mapping[str, DeliveryCounts],
        last: int,
    ) -> Shown:
        name = subscription_connection(one.id)
        passed = max(cursor.seq if cursor else 0, self._parts.feeds.passed(name))
        return Shown(
            stored=one,
            cursor=cursor,
            counts=counts.get(name, _NO_COUNTS),
            problem=self._problems.get(one.id, "") if one.active else "",
            behind=max(0, last - passed),
        )

    async def add(self, tenant: str | None, wish: Wish, secret: str | None, by: str) -> Made:
        """Make a subscription; its secret is made for it where none is given."""
        check_wish(wish)
        fresh = self._secret(wish.terms.scheme, secret)
        now_ms = self._parts.clock.now_ms()
        headers = dict(wish.headers or {})
        new = StoredSubscription(
            id=f"sub_{secrets.token_hex(8)}",
            tenant=tenant,
            terms=msgspec.structs.replace(wish.terms, headers=tuple(headers)),
            active=wish.active,
            created_at_ms=now_ms,
            changed_at_ms=now_ms,
        )
        # First, since without it nothing could be signed; one without a subscription does no harm.
        await self._seal(new, Sealed(secrets=(TimedSecret(secret=fresh),), headers=headers), by)
        kept = await self._table.add(new, by)
        await self.load()
        return Made(shown=await self.get(kept.id, None), secret=fresh)

    async def replace(self, subscription: str, within: str | None, wish: Wish, by: str) -> Shown:
        """Change a subscription; a scheme of other secrets needs a rotation at once."""
        check_wish(wish)
        before = await self._table.get(subscription, within)
        sealed = await self._sealed(before)
        if not sealed.secrets:
            raise ConflictError(
                f"the secret of subscription {before.id} cannot be opened",
                code="secret_unusable",
                hint="'integrationd subscriptions show' says why; rotate it to give it a new one.",
            )
        for one in sealed.secrets:
            check_secret(wish.terms.scheme, one.secret, "/scheme")
        if wish.headers is not None:
            sealed = msgspec.structs.replace(sealed, headers=dict(wish.headers))
            await self._seal(before, sealed, by)
        terms = msgspec.structs.replace(wish.terms, headers=tuple(sealed.headers))
        await self._table.replace(subscription, within, terms, active=wish.active, by=by)
        await self.load()
        self._parts.feeds.stir(subscription_connection(subscription))
        return await self.get(subscription, within)

    async def remove(self, subscription: str, within: str | None, by: str) -> None:
        """Delete a subscription; its secret goes last."""
        found = await self._table.remove(subscription, within, by)
        await self.load()
        try:
            await self._parts.vault.delete(_secrets_of(found), _secret_name(found.id), by)
        except IntegrationdError as error:
            self._log.warning("secret_left_behind", subscription=found.id, why=str(error))

    async def rotate(
        self, subscription: str, within: str | None, secret: str | None, overlap_s: float, by: str
    ) -> Made:
        """Give a subscription a new secret, the one from before being good for a while."""
        found = await self._table.get(subscription, within)
        scheme, now_ms = found.terms.scheme, self._parts.clock.now_ms()
        fresh, overlap_ms = self._secret(scheme, secret), round(overlap_s * 1000)
        sealed = await self._sealed(found)
        after = sealed.rotated(fresh, now_ms, overlap_ms, at_once=scheme == "standard")
        await self._seal(found, after, by)
        until_ms = now_ms + overlap_ms
        await self._table.note_rotated(found.id, within, by, old_until_ms=until_ms)
        await self.load()
        return Made(shown=await self.get(found.id, None), secret=fresh)

    async def test(self, subscription: str, within: str | None) -> Call:
        """Send a test event, which is in no log and goes to this subscription alone."""
        found = await self._table.get(subscription, within)
        if not found.active:
            raise ConflictError(
                f"subscription {found.id} is switched off",
                code="subscription_inactive",
                hint="Switch it on first.",
            )
        event = StoredEvent(
            seq=0,
            at_ms=self._parts.clock.now_ms(),
            type="subscription.test",
            tenant=found.tenant,
            call_id=None,
            connection=None,
            data="{}",
        )
        data = {"subscription": found.id, "name": found.terms.name}
        body = body_of(event, data, found.terms.scheme)
        webhook_id = f"evt_test_{secrets.token_hex(8)}"
        return await self._table.deliver(self._terms(found), payload(event.type, webhook_id, body))

    async def deliveries(
        self,
        subscription: str,
        within: str | None,
        *,
        state: str | None,
        before: int | None,
        limit: int,
    ) -> Sequence[StoredDelivery]:
        """Return deliveries, the latest first."""
        await self._table.get(subscription, within)
        return await self._table.deliveries(subscription, state=state, before=before, limit=limit)

    async def redeliver(self, subscription: str, within: str | None, call_id: str) -> Call:
        """Make one delivery once more."""
        found = await self._table.get(subscription, within)
        return await self._table.redeliver(self._terms(found), call_id)

    async def count_again(self, subscription: str, within: str | None, again: Again) -> int:
        """Return how many events :meth:`tell_again` would tell."""
        found = await self._table.get(subscription, within)
        after, upto = await self._range(again)
        return await self._count(found, after, upto)

    async def tell_again(self, subscription: str, within: str | None, again: Again, by: str) -> int:
        """Have events told once more; return how many."""
        found = await self._table.get(subscription, within)
        after, upto = await self._range(again)
        count = await self._count(found, after, upto)
        if count:
            await self._table.replay(found, after, upto, by)
            self._parts.feeds.stir(subscription_connection(found.id))
        return count

    async def _range(self, again: Again) -> tuple[int, int]:
        after, upto = again.after or 0, (await self._journal.events.latest(0)).last
        if again.upto is not None:
            upto = min(upto, again.upto)
        if again.from_ms is not None:
            after = max(after, await self._table.seq_at(again.from_ms))
        if again.until_ms is not None:
            upto = min(upto, await self._table.seq_at(again.until_ms))
        return after, upto

    async def _count(self, found: StoredSubscription, after: int, upto: int) -> int:
        wanted = EventFilter(types=found.terms.events, tenant=found.tenant)
        count = 0
        while after < upto:
            page = await self._journal.events.after(after, COUNTED_AT_ONCE, wanted)
            count += sum(is_told(event) and event.seq <= upto for event in page.events)
            if page.is_at_end:
                break
            after = page.upto
        return count

    def _terms(self, found: StoredSubscription) -> FeedTerms:
        name = subscription_connection(found.id)
        unsigned = Sealed(secrets=())
        fed = self._fed.get(name) or Fed.of(found, unsigned)
        return terms_of(name, fed.settings)

    def _secret(self, scheme: str, given: str | None) -> str:
        if given is not None:
            check_secret(scheme, given, "/secret")
            return given
        if scheme == "simple":
            return secrets.token_urlsafe(SECRET_BYTES)
        return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"

    async def _sealed(self, found: StoredSubscription) -> Sealed:
        """Return what the vault holds for a subscription; nothing where it cannot be opened."""
        opened = await self._opened([found], {})
        return opened.get(found.id, Sealed(secrets=()))

    async def _seal(self, found: StoredSubscription, sealed: Sealed, by: str) -> None:
        self._parts.vault.learn(sealed.values)
        name = _secret_name(found.id)
        await self._parts.vault.set(_secrets_of(found), name, sealed.text(), by)


def subscribers_of(
    journal: Journal, vault: Vault, reloader: Reloader, feeds: Feeds, bus: Bus, clock: Clock
) -> Subscribers:
    """Return the subscriptions of a daemon, taken over by its reloader."""
    parts = SubscriberParts(
        journal=journal,
        vault=vault,
        take=reloader.feed,
        feeds=feeds,
        has_app=lambda: reloader.settings.app.events_url is not None,
        bus=bus,
        clock=clock,
    )
    return Subscribers(parts)


def _secrets_of(found: StoredSubscription) -> str:
    return found.tenant or SHARED_SECRETS_OF


def _secret_name(subscription: str) -> str:
    return f"subscriptions.{subscription}"
