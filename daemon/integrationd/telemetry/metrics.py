"""Metrics for Prometheus, fed by the bus."""

import math
from collections.abc import Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from integrationd import __version__
from integrationd.call import is_subscription
from integrationd.events import (
    AttemptEnded,
    Bus,
    CallAccepted,
    CallChanged,
    CallDamaged,
    Committed,
    ConfigMoved,
    JournalMoved,
    LeaseLost,
    LinkMoved,
    LoopHeldUp,
    PluginMoved,
    WebhookReceived,
    WebhookRefused,
)

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COMMIT_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_ROOM_LEVEL = {"ample": 0, "high": 1, "critical": 2}
_BREAKER_LEVEL = {"closed": 0, "half_open": 1, "open": 2}


class Metrics:
    """The daemon's metrics.

    Args:
        bus: Where facts are told.
    """

    def __init__(self, bus: Bus) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._define_counters()
        self._define_counters_of_changes()
        self._define_gauges()
        self._define_gauges_of_the_journal()
        bus.subscribe(CallAccepted, self._on_accepted)
        bus.subscribe(CallChanged, self._on_changed)
        bus.subscribe(AttemptEnded, self._on_attempt)
        bus.subscribe(Committed, self._on_commit)
        bus.subscribe(LeaseLost, lambda _event: self._leases_lost.inc())
        bus.subscribe(CallDamaged, lambda _event: self._damaged.inc())
        bus.subscribe(JournalMoved, self._on_journal)
        bus.subscribe(LinkMoved, lambda event: self._link.set(event.is_up))
        bus.subscribe(ConfigMoved, self._on_config)
        bus.subscribe(WebhookReceived, lambda event: self._webhooks(event.connection, "received"))
        bus.subscribe(WebhookRefused, lambda event: self._webhooks(event.connection, event.reason))
        bus.subscribe(PluginMoved, lambda event: self._plugins.labels(event.state).inc())
        bus.subscribe(
            LoopHeldUp, lambda event: self._held_up.labels(event.plugin).inc(event.seconds)
        )

    def _define_counters(self) -> None:
        into = self._registry
        self._accepted = Counter(
            "integrationd_calls_accepted",
            "Calls accepted.",
            ["tenant", "operation"],
            registry=into,
        )
        self._ended = Counter(
            "integrationd_calls_ended",
            "Calls that became final.",
            ["tenant", "state"],
            registry=into,
        )
        self._attempts = Counter(
            "integrationd_attempts",
            "Ended exchanges with providers.",
            ["tenant", "connection", "kind", "outcome"],
            registry=into,
        )
        self._latency = Histogram(
            "integrationd_attempt_seconds",
            "How long exchanges with providers took.",
            ["connection"],
            buckets=_LATENCY_BUCKETS_S,
            registry=into,
        )
        self._commit = Histogram(
            "integrationd_commit_seconds",
            "How long commits of the journal took.",
            buckets=_COMMIT_BUCKETS_S,
            registry=into,
        )
        self._writes = Counter("integrationd_journal_writes", "Writes made durable.", registry=into)
        self._leases_lost = Counter(
            "integrationd_leases_lost", "Results that came after their lease.", registry=into
        )
        self._damaged = Counter(
            "integrationd_calls_damaged", "Stored calls found damaged.", registry=into
        )

    def _define_counters_of_changes(self) -> None:
        into = self._registry
        self._reloads = Counter(
            "integrationd_config_reloads",
            "Configurations taken over or refused.",
            ["outcome"],
            registry=into,
        )
        self._plugins = Counter(
            "integrationd_plugin_changes",
            "Plugin files taken over, refused, or gone.",
            ["outcome"],
            registry=into,
        )
        self._hooks = Counter(
            "integrationd_webhooks",
            "Webhooks taken in, and refused by reason; copies are not counted.",
            ["connection", "outcome"],
            registry=into,
        )
        self._held_up = Counter(
            "integrationd_event_loop_held_up_seconds",
            "How long a plugin, or no known one, kept the daemon from doing anything else.",
            ["plugin"],
            registry=into,
        )

    def _define_gauges(self) -> None:
        into = self._registry
        self._depth = Gauge(
            "integrationd_calls",
            "Calls that are not final, by state.",
            ["tenant", "connection", "state"],
            registry=into,
        )
        self._oldest = Gauge(
            "integrationd_oldest_pending_seconds",
            "Age of the oldest pending call; 0 while there is none.",
            registry=into,
        )
        self._breaker = Gauge(
            "integrationd_breaker_state",
            "0 closed, 1 half-open, 2 open.",
            ["connection"],
            registry=into,
        )
        self._link = Gauge(
            "integrationd_link_up",
            "1 while the world beyond this machine's own networks can be reached.",
            registry=into,
        )
        self._link.set(1)
        self._rejected = Gauge(
            "integrationd_config_rejected",
            "1 while the configuration file is refused and the one from before goes on.",
            registry=into,
        )
        version = Gauge(
            "integrationd_build_info", "The version, as a label.", ["version"], registry=into
        )
        version.labels(__version__).set(1)

    def _define_gauges_of_the_journal(self) -> None:
        into = self._registry
        self._ready = Gauge(
            "integrationd_journal_ready", "1 while new calls are accepted.", registry=into
        )
        self._free = Gauge(
            "integrationd_journal_free_bytes", "Free room on the journal's disk.", registry=into
        )
        self._room = Gauge(
            "integrationd_journal_room_level",
            "0 ample, 1 under high_water, 2 under critical.",
            registry=into,
        )

    def _on_accepted(self, event: CallAccepted) -> None:
        self._accepted.labels(event.call.tenant, event.call.operation).inc()

    def _on_changed(self, event: CallChanged) -> None:
        if event.call.finished_at_ms is not None:
            self._ended.labels(event.call.tenant, event.call.state.value).inc()

    def _on_attempt(self, event: AttemptEnded) -> None:
        attempt, connection = event.attempt, _label(event.attempt.connection)
        self._attempts.labels(
            event.call.tenant, connection, attempt.kind.value, attempt.outcome
        ).inc()
        self._latency.labels(connection).observe(attempt.duration_ms / 1000)

    def _on_commit(self, event: Committed) -> None:
        self._commit.observe(event.seconds)
        self._writes.inc(event.writes)

    def _webhooks(self, connection: str, outcome: str) -> None:
        self._hooks.labels(connection, outcome).inc()

    def _on_config(self, event: ConfigMoved) -> None:
        self._reloads.labels(event.state).inc()
        self._rejected.set(1 if event.state == "rejected" else 0)

    def _on_journal(self, event: JournalMoved) -> None:
        self._ready.set(1 if event.condition == "ready" else 0)

    def note_room(self, free_bytes: int | None, level: str) -> None:
        """Take note of the room on the journal's disk.

        Args:
            free_bytes: What is free; None where nobody can tell.
            level: ``ample``, ``high`` or ``critical``.
        """
        self._free.set(math.nan if free_bytes is None else free_bytes)
        self._room.set(_ROOM_LEVEL[level])

    def render(
        self,
        depth: Mapping[tuple[str, str], Mapping[str, int]],
        oldest_ms: int | None,
        breakers: Mapping[str, str],
        within: str | None = None,
    ) -> tuple[bytes, str]:
        """Return the metrics as text and its content type.

        Args:
            depth: Calls by state, per tenant and connection.
            oldest_ms: Age of the oldest pending call in milliseconds, or None.
            breakers: Breaker state by connection.
            within: Only what is told of this tenant; everything if None.
        """
        self._depth.clear()
        for (tenant, connection), states in depth.items():
            for state, count in states.items():
                self._depth.labels(tenant, _label(connection), state).inc(count)
        self._oldest.set((oldest_ms or 0) / 1000)
        self._breaker.clear()
        for connection, state in breakers.items():
            # A receiver that fails is its own affair; 'integrationd subscriptions' tells of it.
            if not is_subscription(connection):
                self._breaker.labels(connection).set(_BREAKER_LEVEL.get(state, 0))
        told = self._registry if within is None else _OfTenant(self._registry, within)
        return generate_latest(told), CONTENT_TYPE_LATEST


def _label(connection: str) -> str:
    """Return a connection as a label; all subscriptions share one, since anybody may add some."""
    return "subscription" if is_subscription(connection) else connection


class _OfTenant(Collector):
    """What of the metrics is one tenant's."""

    def __init__(self, registry: CollectorRegistry, tenant: str) -> None:
        self._registry = registry
        self._tenant = tenant

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have samples of the tenant, with those samples."""
        for family in self._registry.collect():
            own = [one for one in family.samples if one.labels.get("tenant") == self._tenant]
            if own:
                shown = Metric(family.name, family.documentation, family.type)
                shown.samples = own
                yield shown
