"""What the routes of subscriptions need from the daemon; the supervisor passes it in."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from integrationd.call import Call
from integrationd.journal import Cursor, DeliveryCounts, StoredDelivery, StoredSubscription
from integrationd.journal import SubscriptionTerms as Terms


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants a subscription to be.

    Attributes:
        terms: What is kept in plain.
        headers: The headers that are sent along; those of before where None.
        active: Whether it is told.
    """

    terms: Terms
    headers: Mapping[str, str] | None = None
    active: bool = True


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription with how it stands.

    Attributes:
        stored: What is kept.
        cursor: How far it has been told; None where that is not known.
        counts: How many deliveries there are.
        problem: Why it cannot be told although it should be; empty where it can.
        behind: Up to how many events it has not looked at.
    """

    stored: StoredSubscription
    cursor: Cursor | None
    counts: DeliveryCounts
    problem: str
    behind: int


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that was made, or whose secret was changed, with the secret."""

    shown: Shown
    secret: str


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are to be told once more.

    Attributes:
        after: Only those with a greater number.
        upto: Only those up to this number.
        from_ms: Only those from this time on, UTC milliseconds.
        until_ms: Only those from before this time.
    """

    after: int | None = None
    upto: int | None = None
    from_ms: int | None = None
    until_ms: int | None = None


class SubscriptionSide(Protocol):
    """The subscriptions of the running daemon.

    ``within`` is the tenant that a subscription must be of; any where it is None. One that is not
    of it does not exist: ``NotFoundError``.
    """

    async def list(self, within: str | None, *, before: int | None, limit: int) -> Sequence[Shown]:
        """Return subscriptions, the latest first."""
        ...

    async def get(self, subscription: str, within: str | None) -> Shown:
        """Return a subscription."""
        ...

    async def add(self, tenant: str | None, wish: Wish, secret: str | None, by: str) -> Made:
        """Make a subscription; its secret is made for it where none is given.

        Raises:
            UnprocessableError: It cannot work; the error points at the member.
        """
        ...

    async def replace(self, subscription: str, within: str | None, wish: Wish, by: str) -> Shown:
        """Change a subscription.

        Raises:
            UnprocessableError: It cannot work; the error points at the member.
        """
        ...

    async def remove(self, subscription: str, within: str | None, by: str) -> None:
        """Delete a subscription."""
        ...

    async def rotate(
        self, subscription: str, within: str | None, secret: str | None, overlap_s: float, by: str
    ) -> Made:
        """Give a subscription a new secret, the one from before being good for a while."""
        ...

    async def test(self, subscription: str, within: str | None) -> Call:
        """Send a test event."""
        ...

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
        ...

    async def redeliver(self, subscription: str, within: str | None, call_id: str) -> Call:
        """Make one delivery once more."""
        ...

    async def count_again(self, subscription: str, within: str | None, again: Again) -> int:
        """Return how many events :meth:`tell_again` would tell."""
        ...

    async def tell_again(self, subscription: str, within: str | None, again: Again, by: str) -> int:
        """Have events told once more; return how many."""
        ...
