"""What each tenant may have accepted: so many calls per second, and so many per day.

A call that was accepted before, under the same idempotency key, counts for nothing. Tenants
without limits are asked about nowhere.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from integrationd.clock import Clock
from integrationd.errors import TooManyError, UnprocessableError
from integrationd.journal import Journal, NewCall, Quota, Receipt
from integrationd.limiter import Limiter, Rate
from integrationd.registry import Tenants
from integrationd.settings import TenantSettings

DAY_MS = 86_400_000


class Allowances:
    """Counts what tenants with limits have had accepted.

    Args:
        tenants: Those in force, with their limits.
        journal: Where calls are, and how many came in today.
        clock: Where time is read.
    """

    def __init__(self, tenants: Tenants, journal: Journal, clock: Clock) -> None:
        self._tenants = tenants
        self._journal = journal
        self._clock = clock
        self._paces: dict[str, Limiter] = {}

    async def accept(self, new: Sequence[NewCall]) -> list[Receipt]:
        """Keep the calls, all or none, if their tenants may have so many more.

        Raises:
            TooManyError: A tenant has had as many as it may for now; nothing was kept.
            UnprocessableError: They are more than a tenant may ever have at once, or one of them
                cannot be kept.
            ConflictError: A provider reference is taken.
            JournalError: The journal cannot take them.
        """
        limited = self._limited(new)
        if not limited:
            return await self._journal.calls.accept(new)
        wanted = await self._wanted(new, limited)
        with self._taken(wanted, limited) as taken:
            receipts = await self._journal.calls.accept(new, quotas=self._quotas(limited))
            for receipt in receipts:
                if not receipt.is_replay and receipt.call is not None:
                    taken[receipt.call.tenant] -= 1
        return receipts

    def _limited(self, new: Sequence[NewCall]) -> Mapping[str, TenantSettings]:
        """Return those whose calls these are and that have limits."""
        limited = self._tenants.limited
        if not limited:
            return limited
        return {one: limited[one] for one in {one.call.tenant for one in new} & limited.keys()}

    async def _wanted(
        self, new: Sequence[NewCall], limited: Mapping[str, TenantSettings]
    ) -> Counter[str]:
        """Count the calls of tenants with a rate, but for those that were accepted before."""
        paced = [
            one
            for one in new
            if one.call.tenant in limited and limited[one.call.tenant].rate_limit is not None
        ]
        seen: set[tuple[str, str]] = set()
        wanted: Counter[str] = Counter()
        for one in paced:
            key = one.idempotency_key
            if key is not None:
                if (one.call.tenant, key) in seen:
                    continue
                seen.add((one.call.tenant, key))
                if await self._journal.calls.is_known(one.call.tenant, key):
                    continue
            wanted[one.call.tenant] += 1
        return wanted

    @contextmanager
    def _taken(
        self, wanted: Counter[str], limited: Mapping[str, TenantSettings]
    ) -> Iterator[Counter[str]]:
        """Take the calls off their tenants' paces, and put back what was not accepted.

        Whoever works inside counts down what was; what is left over, or all if it fails, was not.
        """
        now_ms = self._clock.now_ms()
        paces = {tenant: self._pace(tenant, limited[tenant]) for tenant in wanted}
        for tenant, count in wanted.items():
            _refuse_too_fast(tenant, paces[tenant], count, now_ms)
        for tenant, count in wanted.items():
            self._paces[tenant] = paces[tenant].take(count, now_ms)
        unused = Counter(wanted)
        try:
            yield unused
        except Exception:
            unused = wanted
            raise
        finally:
            for tenant in wanted:
                if unused[tenant] > 0:
                    self._paces[tenant] = self._paces[tenant].put_back(unused[tenant])

    def _pace(self, tenant: str, settings: TenantSettings) -> Limiter:
        rate = Rate.per_second(settings.rate_limit or 1, settings.burst)
        known = self._paces.get(tenant)
        if known is None:
            return Limiter(rate)
        return known if known.rate == rate else known.under(rate)

    def _quotas(self, limited: Mapping[str, TenantSettings]) -> dict[str, Quota]:
        now_ms = self._clock.now_ms()
        return {
            tenant: Quota(tenant, settings.daily_quota, now_ms)
            for tenant, settings in limited.items()
            if settings.daily_quota is not None
        }


def _refuse_too_fast(tenant: str, pace: Limiter, count: int, now_ms: int) -> None:
    """Refuse what the rate does not allow now.

    Raises:
        TooManyError: It will later.
        UnprocessableError: It never will, since so many are more than a burst.
    """
    burst = pace.rate.burst
    if count > burst:
        raise UnprocessableError(
            f"{count} calls at once are more than the tenant {tenant} may have, which is {burst}",
            code="over_burst",
            hint=f"Send at most {burst} at a time, or have an admin raise the tenant's burst.",
        )
    if count > pace.available(now_ms):
        wait_ms = pace.next_ms(now_ms, count) - now_ms
        raise TooManyError(
            f"the tenant {tenant} has had as many calls accepted as its rate allows for now",
            code="tenant_rate",
            retry_after_s=max(1, -(-wait_ms // 1000)),
            hint="Repeat the request then, or have an admin raise the tenant's rate_limit.",
        )
