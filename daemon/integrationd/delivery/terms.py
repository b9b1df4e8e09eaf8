"""The terms on which a call goes through a connection: settings, plugin and contract joined."""

import dataclasses
from typing import Any

from integrationd.call import Call
from integrationd.registry import Connection, ServedOperation
from integrationd.retry import RetryPolicy
from integrationd.sdk.contract import OnUncertain
from integrationd.sdk.provider import QuerySchedule
from integrationd.settings import (
    ConnectionLimits,
    ConnectionSettings,
    DeliverySettings,
    FedConnection,
    FeedSettings,
)
from integrationd.settlement import Policy

_NO_QUERY = QuerySchedule()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for the calls of one connection.

    Attributes:
        settings: The connection's own settings.
        limits: Its limits, defaults filled in.
        retry: How often and how long its calls are tried.
    """

    settings: ConnectionSettings
    limits: ConnectionLimits
    retry: RetryPolicy

    @classmethod
    def of(cls, settings: ConnectionSettings, delivery: DeliverySettings) -> "Terms":
        """Join a connection's settings with those of ``[delivery]``."""
        limits = settings.limits(delivery)
        retry = RetryPolicy(
            attempts=limits.attempts,
            first_s=delivery.backoff_first,
            factor=delivery.backoff_factor,
            cap_s=delivery.backoff_cap,
            give_up_after_s=limits.give_up_after_s,
        )
        if isinstance(settings, FedConnection):
            retry = _of_feed(settings.feed, retry)
        return cls(settings=settings, limits=limits, retry=retry)

    def policy(
        self,
        call: Call,
        connection: Connection,
        served: ServedOperation,
        request: Any,
        keeps_trying_until_ms: int = 0,
    ) -> Policy:
        """Return the rules for one call; nothing is given up before a time that is named."""
        contract = served.contract
        query = connection.plugin.queries.get(call.operation)
        repeats = self.settings.max_repeats
        return Policy(
            retry=self.retry,
            repeat_safe=served.is_repeat_safe(connection.provider, request),
            reads_only=not contract.effect or served.only_reads(connection.provider, request),
            key_lifetime_s=served.key_lifetime_s(connection.provider, request),
            can_ask=query is not None,
            schedule=self.settings.query.over(query.schedule) if query else _NO_QUERY,
            on_uncertain=self._on_uncertain(call, contract.on_uncertain),
            max_repeats=contract.max_repeats if repeats is None else repeats,
            asked=contract.money(request),
            keeps_trying_until_ms=keeps_trying_until_ms,
        )

    def _on_uncertain(self, call: Call, default: OnUncertain) -> OnUncertain:
        """The call's wish goes before the connection's, and that before the contract's."""
        if call.on_uncertain in ("hold", "repeat"):
            return "hold" if call.on_uncertain == "hold" else "repeat"
        return self.settings.on_uncertain or default


def _of_feed(feed: FeedSettings, retry: RetryPolicy) -> RetryPolicy:
    return dataclasses.replace(
        retry, attempts=feed.attempts, waits_s=feed.waits_s, give_up_after_s=feed.lives_s
    )
