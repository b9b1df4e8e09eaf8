"""Subscriptions as delivery takes them: each a connection of its own, with what signs opened."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from integrationd.call import subscription_connection
from integrationd.journal import StoredSubscription
from integrationd.masking import Masker
from integrationd.registry import ConnectionSpec
from integrationd.settings import (
    APP_SCHEDULE_S,
    SCHEDULES_S,
    BreakerOverride,
    FedConnection,
    FeedSettings,
    Problem,
    Settings,
    fed_connection,
    key_path,
)

APP = "app"
APP_REST_S = 10.0
APP_CONNECTION = subscription_connection(APP)


class TimedSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What signs, and when.

    Attributes:
        secret: The secret.
        from_ms: From when on, UTC milliseconds.
        until_ms: Until when; for ever where None.
    """

    secret: str
    from_ms: int = 0
    until_ms: int | None = None


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What of a subscription is kept in the vault.

    Attributes:
        secrets: All that sign now or soon, the newest first.
        headers: The headers that are sent along.
    """

    secrets: tuple[TimedSecret, ...]
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Sealed":
        """Read what :meth:`text` wrote.

        Raises:
            msgspec.DecodeError: It is something else.
        """
        return msgspec.json.decode(text, type=cls)

    def text(self) -> str:
        """Return it as the vault keeps it."""
        return msgspec.json.encode(self).decode()

    @property
    def values(self) -> list[str]:
        """Everything in it that is secret."""
        return [*(one.secret for one in self.secrets), *self.headers.values()]

    def rotated(self, fresh: str, now_ms: int, overlap_ms: int, *, at_once: bool) -> "Sealed":
        """Return it with a new secret.

        Args:
            fresh: The new secret.
            now_ms: The time.
            overlap_ms: How long the one from before is still good.
            at_once: Whether both sign until then; else the new one begins when the old one ends.
        """
        ends_ms = now_ms + overlap_ms
        newest = TimedSecret(secret=fresh, from_ms=now_ms if at_once else ends_ms)
        kept = [
            msgspec.structs.replace(one, until_ms=min(one.until_ms or ends_ms, ends_ms))
            for one in self.secrets
            if one.from_ms <= now_ms and (one.until_ms is None or one.until_ms > now_ms)
        ]
        return msgspec.structs.replace(self, secrets=(newest, *kept) if overlap_ms else (newest,))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """A subscription with all that its connection is made from.

    Attributes:
        settings: Its connection's settings.
        config: What the provider ``webhook`` takes.
        secrets: What of that is to be masked.
    """

    settings: FedConnection
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    secrets: frozenset[str] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, stored: StoredSubscription, sealed: Sealed) -> "Fed":
        """Return a subscription as delivery takes it."""
        terms = stored.terms
        feed = FeedSettings(
            subscription=stored.id,
            tenant=stored.tenant,
            events=terms.events,
            scheme=terms.scheme,
            schedule_s=terms.schedule_s or SCHEDULES_S[terms.scheme],
        )
        config = {
            "url": terms.url,
            "scheme": terms.scheme,
            "allow_private": terms.allow_private,
            "secrets": [msgspec.to_builtins(one) for one in sealed.secrets],
            "headers": dict(sealed.headers),
        }
        settings = fed_connection(feed, {}, enabled=stored.active)
        return cls(settings=settings, config=config, secrets=frozenset(sealed.values))

    def spec(self, name: str) -> ConnectionSpec:
        """Return what its connection is made from."""
        return ConnectionSpec(
            name=name,
            provider=self.settings.provider,
            environment=self.settings.environment,
            config=self.config,
            timeout_s=self.settings.timeout or 0.0,
            enabled=self.settings.enabled,
            tenant=self.settings.tenant,
        )


def place_of(connection: str) -> str:
    """Return the table of the configuration that a connection is made from."""
    return "app" if connection == APP_CONNECTION else f"connections.{connection}"


def of_app(problem: Problem) -> Problem:
    """Return a problem of the app's own door as one of ``[app]``, where people wrote it."""
    for at in (key_path("connections", APP_CONNECTION), f"connections.{APP_CONNECTION}"):
        if problem.where.startswith(at):
            rest = problem.where.removeprefix(at).removeprefix(".config")
            rest = ".events_url" if rest == ".url" else rest
            return dataclasses.replace(problem, where=f"app{rest}")
    return problem


def specs_of(fed: Mapping[str, Fed]) -> Sequence[ConnectionSpec]:
    """Return what the connections of subscriptions are made from."""
    return [one.spec(name) for name, one in fed.items()]


def maskers_of(fed: Mapping[str, Fed]) -> dict[str, Masker]:
    """Return a masker for each, with its own secrets."""
    return {name: Masker(one.secrets) for name, one in fed.items()}


def with_fed(settings: Settings, fed: Mapping[str, Fed]) -> Settings:
    """Return settings with the connections of subscriptions beside the others."""
    more = {name: one.settings for name, one in fed.items()}
    return settings.model_copy(update={"connections": {**settings.connections, **more}})


def with_app(settings: Settings) -> Settings:
    """Return settings with the connection of the app's own door, where ``[app]`` opens one.

    Its secret is a reference like any other of a connection.
    """
    app = settings.app
    if app.events_url is None:
        return settings
    feed = FeedSettings(
        subscription=APP,
        events=app.events,
        scheme=app.scheme,
        is_ordered=True,
        is_endless=True,
        schedule_s=APP_SCHEDULE_S,
    )
    config = {
        "url": app.events_url,
        "scheme": app.scheme,
        "secret": app.secret,
        "allow_private": True,
        "persistent": True,
    }
    one = fed_connection(
        feed,
        config,
        concurrency=app.concurrency,
        timeout=app.timeout,
        # A probe costs nothing on this machine, and one call's trouble must not hold up others.
        breaker=BreakerOverride(open_for=APP_REST_S, successes=1),
    )
    more = {APP_CONNECTION: one}
    return settings.model_copy(update={"connections": {**settings.connections, **more}})
