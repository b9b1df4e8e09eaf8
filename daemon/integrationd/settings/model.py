"""What may stand in ``integrationd.toml``: one frozen model per table.

Attributes have the names of the keys. Durations are float seconds, rates are calls per second,
sizes are bytes; the file writes them with units (:mod:`integrationd.settings.units`). Relative
paths are joined to the directory that :data:`BASE_DIR` names in the validation context.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from integrationd.sdk.contract import OnUncertain
from integrationd.sdk.provider import CODE_PATTERN, OPERATION_PATTERN, QuerySchedule
from integrationd.settings.app import AppSettings
from integrationd.settings.link import LinkSettings
from integrationd.settings.privacy import PrivacySettings
from integrationd.settings.table import BODY_LIMIT_BYTES, LISTEN_PATTERN, FilePath, Table
from integrationd.settings.tenants import SHARED_SECRETS_OF, TenantId, TenantSettings
from integrationd.settings.units import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    Count,
    Delay,
    Margin,
    Number,
    Period,
    Rate,
    Size,
    Timeout,
    format_size,
)
from integrationd.settings.vault import VaultSettings
from integrationd.settings.webhooks import ConnectionWebhooks, WebhookSettings

CONNECTION_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NOT_AVAILABLE = "is not available in this version"

_SOCKET_PATH_LIMIT_BYTES = 107
_MODE_PATTERN = re.compile(r"0?[0-7]{3}")


def _connection_name(name: str) -> str:
    if not CONNECTION_PATTERN.fullmatch(name):
        raise ValueError(
            "is no connection name: use a-z, 0-9, '_' and '-', begin with a letter or digit, "
            "at most 63 characters"
        )
    return name


def _provider_code(code: str) -> str:
    if not CODE_PATTERN.fullmatch(code):
        raise ValueError("is no provider code: use a-z, 0-9 and '_', begin with a letter")
    return code


def _operation_name(name: str) -> str:
    if not OPERATION_PATTERN.fullmatch(name):
        raise ValueError('is no operation: write category.verb, for example "sms.send"')
    return name


ConnectionName: TypeAlias = Annotated[str, AfterValidator(_connection_name)]
OperationName: TypeAlias = Annotated[str, AfterValidator(_operation_name)]
ProviderCode: TypeAlias = Annotated[str, AfterValidator(_provider_code)]
Position: TypeAlias = Annotated[Count, Field(ge=1, le=1000)]
Uid: TypeAlias = Annotated[Count, Field(ge=0, le=2**32 - 2)]


class ApiSettings(Table):
    """``[api]``: where the daemon listens, and for whom."""

    listen: str = "127.0.0.1:8700"
    socket: FilePath | None = Path("/run/integrationd/integrationd.sock")
    socket_mode: str = "0660"
    socket_group: str | None = Field(None, min_length=1)
    allowed_uids: tuple[Uid, ...] = ()
    staff_uids: tuple[Uid, ...] = ()
    read_uids: tuple[Uid, ...] = ()
    key_file: FilePath | None = None
    max_connections: Count = Field(512, ge=1, le=100_000)
    max_body: Size = Field(BODY_LIMIT_BYTES, ge=1024, le=BODY_LIMIT_BYTES)
    header_timeout: Timeout = 10.0
    body_timeout: Timeout = 30.0

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port to listen on, or None where TCP is switched off."""
        found = LISTEN_PATTERN.fullmatch(self.listen)
        return (found["v6"] or found["v4"], int(found["port"])) if found else None

    @property
    def socket_permissions(self) -> int:
        """The mode of the socket as a number, for ``chmod``."""
        return int(self.socket_mode, 8)

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: str) -> str:
        found = LISTEN_PATTERN.fullmatch(value)
        if not value:
            return value
        if found is None or int(found["port"]) > 65_535:
            raise ValueError('must be "ADDRESS:PORT", for example "127.0.0.1:8700", or "" for off')
        try:
            address = ipaddress.ip_address(found["v6"] or found["v4"])
        except ValueError:
            raise ValueError("must name an IP address: 127.0.0.1 or [::1]") from None
        if not address.is_loopback:
            raise ValueError(
                f"{address} is not a loopback address; this version listens on this machine only: "
                "use 127.0.0.1 or [::1]"
            )
        return value

    @field_validator("staff_uids", "read_uids")
    @classmethod
    def _has_one_role(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        for other in ("allowed_uids", "staff_uids"):
            both = sorted({*value} & {*info.data.get(other, ())})
            if both:
                raise ValueError(f"names {both[0]}, which has its role by {other} already")
        return value

    @field_validator("socket", mode="before")
    @classmethod
    def _switch_off(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("socket")
    @classmethod
    def _is_reachable(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and info.data.get("listen") == "":
            raise ValueError("and listen are both switched off; the daemon needs at least one")
        length = len(str(value or "").encode(errors="surrogateescape"))
        if length > _SOCKET_PATH_LIMIT_BYTES:
            raise ValueError(
                f"is {length} bytes long; the system allows {_SOCKET_PATH_LIMIT_BYTES}: "
                "choose a shorter directory"
            )
        return value

    @field_validator("socket_mode")
    @classmethod
    def _is_octal(cls, value: str) -> str:
        if not _MODE_PATTERN.fullmatch(value):
            raise ValueError('must be an octal mode in quotes, for example "0660"')
        return value


class JournalSettings(Table):
    """``[journal]``: where calls are kept."""

    path: FilePath = Path("/var/lib/integrationd/journal.db")
    key_file: FilePath | None = None
    encrypt_payloads: bool = False
    high_water: Size | None = Field(None, ge=0)
    critical: Size | None = Field(None, ge=0)

    @field_validator("critical")
    @classmethod
    def _is_not_over_high_water(cls, value: int | None, info: ValidationInfo) -> int | None:
        high = info.data.get("high_water")
        if value and high and value > high:
            raise ValueError(
                f"is more than high_water ({format_size(high)}); with less and less room free,"
                " high_water is to be reached first"
            )
        return value

    @field_validator("encrypt_payloads")
    @classmethod
    def _is_not_available(cls, value: bool) -> bool:
        if value:
            raise ValueError(NOT_AVAILABLE)
        return value


class RetentionSettings(Table):
    """``[retention]``: seconds for which finished things are kept."""

    calls: Period = 30 * DAY_S
    attempts: Period = 30 * DAY_S
    events: Period = 180 * DAY_S
    inbox: Period = 90 * DAY_S


class BreakerSettings(Table):
    """``[delivery.breaker]``: when a connection is left alone, and when it is tried again."""

    failures: Count = Field(5, ge=1, le=1000)
    open_for: Delay = 60.0
    successes: Count = Field(3, ge=1, le=1000)
    failure_rate: Number | None = Field(None, gt=0, le=1)
    window: Count = Field(20, ge=1, le=10_000)


class BreakerOverride(Table):
    """``[connections.NAME.breaker]``: what differs from ``[delivery.breaker]``."""

    failures: Count | None = Field(None, ge=1, le=1000)
    open_for: Delay | None = None
    successes: Count | None = Field(None, ge=1, le=1000)
    failure_rate: Number | None = Field(None, gt=0, le=1)
    window: Count | None = Field(None, ge=1, le=10_000)

    def over(self, common: BreakerSettings) -> BreakerSettings:
        """Return the common settings with this connection's own put over them."""
        return common.model_copy(update=self.model_dump(exclude_none=True))


class DeliverySettings(Table):
    """``[delivery]``: how calls are attempted; connections may override most of it.

    A lease lasts ``timeout`` plus ``lease_margin``, so that no attempt can outlive its lease.
    """

    concurrency: Count = Field(256, ge=1, le=10_000)
    attempts: Count = Field(5, ge=1, le=1000)
    backoff_first: Delay = 1.0
    backoff_factor: Number = Field(2.0, ge=1, le=100)
    backoff_cap: Delay = 15 * MINUTE_S
    give_up_after: Period = 72 * HOUR_S
    timeout: Timeout = 30.0
    lease_margin: Margin = 10.0
    breaker: BreakerSettings = BreakerSettings()

    @field_validator("backoff_cap")
    @classmethod
    def _is_not_under_the_first(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("backoff_first", 0):
            raise ValueError("must not be shorter than backoff_first")
        return value


class LogSettings(Table):
    """``[log]``: how the daemon tells what it does."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class PluginSettings(Table):
    """``[plugins]``: where plugins of your own are found."""

    paths: tuple[FilePath, ...] = ()


class QueryOverride(Table):
    """``[connections.NAME.query]``: what differs from the plugin's own query schedule."""

    first: Delay | None = None
    factor: Number | None = Field(None, ge=1, le=100)
    cap: Delay | None = None
    window: Period | None = None

    @field_validator("cap", "window")
    @classmethod
    def _is_not_under_the_first(cls, value: float | None, info: ValidationInfo) -> float | None:
        first = info.data.get("first")
        if value is not None and first is not None and value < first:
            raise ValueError("must not be shorter than first")
        return value

    def over(self, schedule: QuerySchedule) -> QuerySchedule:
        """Return the plugin's schedule with this connection's own figures put over it."""
        own = self.model_dump(exclude_none=True)
        units = {"first": "first_s", "factor": "factor", "cap": "cap_s", "window": "window_s"}
        return dataclasses.replace(schedule, **{units[key]: own[key] for key in own})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What holds for the attempts of one connection, defaults filled in.

    Attributes:
        timeout_s: Seconds that one attempt may take in all.
        lease_s: Seconds for which a call is leased: the timeout and the margin.
        attempts: Sends that may have arrived, at most.
        give_up_after_s: Seconds after acceptance at which the call fails.
        breaker: When the connection is left alone.
    """

    timeout_s: float
    lease_s: float
    attempts: int
    give_up_after_s: float
    breaker: BreakerSettings


class ConnectionSettings(Table):
    """``[connections.NAME]``: a named, credentialed use of a provider.

    ``config`` is validated by the provider's own model, after its references are resolved.
    """

    provider: ProviderCode
    environment: Literal["sandbox", "production"] = "sandbox"
    enabled: bool = True
    config: Mapping[str, Any] = Field(default_factory=dict, repr=False)
    rate_limit: Rate | None = None
    burst: Count = Field(1, ge=1, le=10_000)
    concurrency: Count = Field(8, ge=1, le=10_000)
    timeout: Timeout | None = None
    attempts: Count | None = Field(None, ge=1, le=1000)
    give_up_after: Period | None = None
    on_uncertain: OnUncertain | None = None
    max_repeats: Count | None = Field(None, ge=0, le=100)
    breaker: BreakerOverride = BreakerOverride()
    query: QueryOverride = QueryOverride()
    webhook: ConnectionWebhooks = ConnectionWebhooks()
    tenant: TenantId | None = None
    primary: bool = False
    order: Mapping[OperationName, Position] = Field(default_factory=dict)

    @property
    def secrets_of(self) -> str:
        """The tenant whose secrets ``vault:`` means here; what all share has a vault of its own."""
        return self.tenant or SHARED_SECRETS_OF

    def limits(self, delivery: DeliverySettings) -> ConnectionLimits:
        """Return this connection's limits, with those of ``[delivery]`` where it names none."""
        timeout_s = self.timeout or delivery.timeout
        return ConnectionLimits(
            timeout_s=timeout_s,
            lease_s=timeout_s + delivery.lease_margin,
            attempts=self.attempts or delivery.attempts,
            give_up_after_s=self.give_up_after or delivery.give_up_after,
            breaker=self.breaker.over(delivery.breaker),
        )


class RouteSettings(Table):
    """``[routes."category.verb"]``: which connections serve an operation, the first that can."""

    order: tuple[ConnectionName, ...]
    when_missing: Literal["refuse", "hold"] = "refuse"

    @field_validator("order")
    @classmethod
    def _names_some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name a connection")
        twice = next((name for name in value if value.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"names {twice!r} twice")
        return value


class FixedTables(Table):
    """The tables that every configuration has, and that the environment may override."""

    api: ApiSettings = ApiSettings()
    journal: JournalSettings = JournalSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    delivery: DeliverySettings = DeliverySettings()
    link: LinkSettings = LinkSettings()
    log: LogSettings = LogSettings()
    privacy: PrivacySettings = PrivacySettings()
    plugins: PluginSettings = PluginSettings()
    vault: VaultSettings = VaultSettings()
    app: AppSettings = AppSettings()

    @property
    def master_key(self) -> str:
        """Where the vault's master key is; in a file beside the journal unless said otherwise."""
        return self.vault.master_key or f"file:{self.journal.path.with_name('master.key')}"

    @property
    def api_key_file(self) -> Path:
        """The file with the key that TCP clients show; beside the journal unless named."""
        return self.api.key_file or self.journal.path.with_name("api.key")

    @property
    def instance_key_file(self) -> Path:
        """The file with the key that chains events; beside the journal unless named."""
        return self.journal.key_file or self.journal.path.with_name("instance.key")


class Settings(FixedTables):
    """The whole of ``integrationd.toml``."""

    tenants: Mapping[TenantId, TenantSettings] = Field(default_factory=dict)
    connections: Mapping[ConnectionName, ConnectionSettings] = Field(default_factory=dict)
    routes: Mapping[OperationName, RouteSettings] = Field(default_factory=dict)
