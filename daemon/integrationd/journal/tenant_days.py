"""Daily quotas: how many calls a tenant had accepted today, counted in the commit that keeps them.

Only tenants with a quota have rows. The calls are the truth: where today's row is missing, since
the quota is new, or does not fit its checksum, it is counted anew from them.
"""

import msgspec

from integrationd.errors import TooManyError, UnprocessableError
from integrationd.journal import rows, sqlite

DAY_MS = 86_400_000
_FIND = "SELECT accepted, sum FROM tenant_day WHERE tenant = ? AND day = ?"
_STORE = (
    "INSERT INTO tenant_day (tenant, day, accepted, sum) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (tenant, day) DO UPDATE SET accepted = excluded.accepted, sum = excluded.sum"
)
_FORGET = "DELETE FROM tenant_day WHERE tenant = ? AND day < ?"
# Ids begin with their time, so those of today are a range.
_COUNT = "SELECT count(*) FROM call WHERE id >= ? AND tenant = ?"


class Quota(msgspec.Struct, frozen=True):
    """How many calls a tenant may have accepted in a day.

    Attributes:
        tenant: The tenant.
        limit: How many, at most.
        now_ms: The time, UTC milliseconds; it tells which day it is.
    """

    tenant: str
    limit: int
    now_ms: int

    @property
    def day(self) -> int:
        """The day, counted from 1970-01-01."""
        return self.now_ms // DAY_MS


def count_in(db: sqlite.Connection, quota: Quota, count: int) -> None:
    """Count calls that were inserted in this transaction, unless they are too many.

    Args:
        db: The connection, inside the transaction.
        quota: What the tenant may have.
        count: How many calls of it were inserted.

    Raises:
        TooManyError: The tenant has had as many today as it may.
        UnprocessableError: So many are more than it may have in a whole day.
    """
    found = db.execute(_FIND, (quota.tenant, quota.day)).fetchone()
    if found is None or found[1] != _seal(quota, found[0]):
        db.execute(_FORGET, (quota.tenant, quota.day))
        accepted = _of_today(db, quota)
    else:
        accepted = found[0] + count
    if accepted > quota.limit:
        raise _refusal(quota, count)
    db.execute(_STORE, (quota.tenant, quota.day, accepted, _seal(quota, accepted)))


def _seal(quota: Quota, accepted: int) -> int:
    return rows.seal(quota.tenant, quota.day, accepted)


def _of_today(db: sqlite.Connection, quota: Quota) -> int:
    """Count the tenant's calls of today, those of this transaction among them."""
    begin = f"{quota.day * DAY_MS:012x}"
    found = db.execute(_COUNT, (f"{begin[:8]}-{begin[8:]}", quota.tenant)).fetchone()
    count: int = found[0]
    return count


def _refusal(quota: Quota, count: int) -> TooManyError | UnprocessableError:
    if count > quota.limit:
        return UnprocessableError(
            f"{count} calls are more than the tenant {quota.tenant} may have in a day, which is"
            f" {quota.limit}",
            code="over_quota",
            hint="Send fewer at a time, or have an admin raise the tenant's daily_quota.",
        )
    return TooManyError(
        f"the tenant {quota.tenant} has had all the {quota.limit} calls accepted today that its"
        " quota allows",
        code="tenant_quota",
        retry_after_s=-(-(DAY_MS - quota.now_ms % DAY_MS) // 1000),
        hint="Repeat the request tomorrow (UTC), or have an admin raise the tenant's daily_quota.",
    )
