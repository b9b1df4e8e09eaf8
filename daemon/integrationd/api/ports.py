"""What the API needs from parts that it does not import; the supervisor passes it in."""

import datetime as dt
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from integrationd.call import Call
from integrationd.journal import StoredSecret, StoredWebhook
from integrationd.registry import Connection


class LineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection's line stands.

    Attributes:
        breaker: ``closed``, ``open`` or ``half_open``.
        breaker_until_ms: When an open breaker lets a probe through.
        running: Attempts under way.
        concurrency: How many may be under way at a time.
        rate_limit: The rate limit in words, or None.
        next_ms: When the next attempt may start; None while only an event can tell.
        waits_for_link: It leads outside, and this machine's link is down.
    """

    breaker: str
    breaker_until_ms: int | None
    running: int
    concurrency: int
    rate_limit: str | None
    next_ms: int | None
    waits_for_link: bool = False


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How this machine's own link is.

    Attributes:
        is_up: Whether the world can be reached, as far as is known.
        since_ms: When that began; None where it has been up ever since.
        why: What was found when it went down; empty while it is up.
    """

    is_up: bool
    since_ms: int | None
    why: str


class ConfigProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong, or not as it should be.

    Attributes:
        where: ``line N, column M``, ``table.key``, a plugin file, or an environment variable.
        reason: What is wrong and what would be right.
    """

    where: str
    reason: str


class ConfigStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration is in force, and what became of the file since.

    Attributes:
        file: The configuration file.
        state: ``applied``, or ``rejected`` while the file cannot be used and the one from before
            goes on.
        applied_at_ms: When the one in force was taken over, UTC milliseconds.
        rejected_at_ms: When the file was first refused as it is, or None.
        problems: Why it was.
        warnings: What goes on although it could not be read again, such as a secret.
    """

    file: str
    state: str
    applied_at_ms: int
    rejected_at_ms: int | None = None
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did, or would do.

    Attributes:
        outcome: ``applied``, ``unchanged`` or ``rejected``.
        changes: What is another than before, in words.
        problems: Why the configuration was refused.
        warnings: What to look at all the same: plugin files that cannot be used, secrets that
            could not be read again, connections that go away with calls waiting.
    """

    outcome: str
    changes: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()


class SecretChange(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that was set; never what it holds.

    Attributes:
        name: What ``vault:`` references call it.
        version: Its number among all that was ever set for the tenant.
        set_at_ms: When it was set, UTC milliseconds.
        notice: What to know about a master key that was made for it; empty where there was one.
    """

    name: str
    version: int
    set_at_ms: int
    notice: str


class VaultStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the vault is.

    Attributes:
        master_key: Where the master key is: a reference, never the key.
        state: ``usable``; ``not_made`` until the first secret needs it; or ``unusable``.
        master: What tells the master key from others; empty while it cannot be read.
        data_keys: How many data keys there are, one for each tenant with secrets.
        behind: How many of them another master key wraps; a rotation takes them over.
        secrets: How many secrets there are.
        problems: What is wrong, and what to do about it.
    """

    master_key: str
    state: Literal["usable", "not_made", "unusable"]
    master: str
    data_keys: int
    behind: int
    secrets: int
    problems: tuple[str, ...] = ()


class VaultRotation(msgspec.Struct, frozen=True, kw_only=True):
    """What a rotation of the master key has done.

    Attributes:
        master: What tells the master key of now from others.
        data_keys: How many data keys it wraps.
        sealed_anew: How many secrets were sealed anew under new data keys.
        kept_as: The file that the old master key is kept in, for backups made before; empty where
            it was not in a file.
    """

    master: str
    data_keys: int
    sealed_anew: int
    kept_as: str


class VaultSide(Protocol):
    """The vault of the running daemon."""

    async def list(self, tenant: str) -> Sequence[StoredSecret]:
        """Return a tenant's secrets, none of them opened."""
        ...

    async def status(self) -> VaultStatus:
        """Say how the vault is."""
        ...

    async def init(self) -> str:
        """Make the master key where there is none; return the notice, empty if there was one."""
        ...

    async def set(
        self, tenant: str, name: str, value: str, by: str
    ) -> tuple[SecretChange, ReloadReport]:
        """Keep a secret and have the daemon go on with it."""
        ...

    async def delete(self, tenant: str, name: str, by: str) -> None:
        """Delete a secret that no connection refers to.

        Raises:
            ConflictError: A connection refers to it.
            NotFoundError: There is none of that name.
        """
        ...

    async def rotate(self, by: str, *, data_keys: bool) -> VaultRotation:
        """Put a new master key in the place of the old one."""
        ...


class BegunConsent(msgspec.Struct, frozen=True, kw_only=True):
    """An authorisation that was begun.

    Attributes:
        connection: The connection's id.
        url: The address at which a person consents; good once.
        redirect_uri: Where the person is sent back to.
        expires_at: Until when it is good, in UTC.
    """

    connection: str
    url: str
    redirect_uri: str
    expires_at: dt.datetime


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """An authorisation that was taken back.

    Attributes:
        connection: The connection's id.
        revoked: Whether the provider has voided the token; it may have no way to.
    """

    connection: str
    revoked: bool


class AuthorisationSide(Protocol):
    """What begins and ends the authorisation of connections by a person."""

    def needs(self, connection: Connection) -> str:
        """Return why a person has to authorise a connection; empty where nobody has to."""
        ...

    def is_authorised(self, connection: Connection) -> bool | None:
        """Say whether a person's consent is at hand; None where none is needed."""
        ...

    async def begin(self, connection: Connection, by: str) -> BegunConsent:
        """Return the address at which a person consents.

        Raises:
            ConflictError: The connection needs no consent, or nobody could come back from there.
            VaultError: What the consent brings could not be kept.
        """
        ...

    async def give_back(self, connection: Connection, by: str) -> GivenBack:
        """Have the provider void the token of a connection, and forget it only then.

        Raises:
            ConflictError: The connection uses no OAuth.
            TokenRequestError: The provider has not voided it; it is kept.
        """
        ...


class WebhookSide(Protocol):
    """What takes webhooks in."""

    def replay(self, webhook: StoredWebhook) -> None:
        """Have a webhook of the inbox worked on again."""
        ...

    def address(self, connection: str) -> str | None:
        """Return the unguessable address of a connection; None where none can be given."""
        ...


class Configuration(Protocol):
    """The configuration of the running daemon."""

    def status(self) -> ConfigStatus:
        """Return which configuration is in force."""
        ...

    async def reload(self, cause: str, *, by: str | None = None) -> ReloadReport:
        """Read configuration, secrets and plugins anew and take them over, or nothing of it."""
        ...

    async def preview(self) -> ReloadReport:
        """Say what a reload would do; changes nothing."""
        ...


class Placement(Protocol):
    """Which connection serves what, and on which terms."""

    def for_new_call(self, operation: str, requested: str | None, tenant: str) -> Connection | None:
        """Return the connection that a tenant's new call would go through.

        None where its route holds. A connection of another tenant is none that exists.
        """
        ...

    def of_lane(self, lane: str) -> Connection | None:
        """Return the connection that serves a lane now."""
        ...

    def why_none(self, call: Call) -> str | None:
        """Say why a pending call has no connection, or None if it has one."""
        ...

    def attempts(self, connection: Connection | None) -> int:
        """Return how many sends of a call through the connection may arrive at most."""
        ...

    def give_up_after_s(self, connection: Connection | None) -> float:
        """Return how long a call through the connection is tried, in seconds."""
        ...


class Lines(Protocol):
    """The connections at work."""

    def line_status(self, connection: str) -> LineStatus:
        """Return how a connection's line stands.

        Raises:
            NotFoundError: There is no such connection.
        """
        ...

    def link_status(self) -> LinkStatus:
        """Return how this machine's own link is."""
        ...

    async def reset_breaker(self, connection: str, by: str) -> None:
        """Close a connection's breaker by hand.

        Raises:
            NotFoundError: There is no such connection.
        """
        ...
