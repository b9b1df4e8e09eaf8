"""The configuration: what it may say, how it is read, and where its secrets come from."""

from integrationd.settings.changes import Change, changes, needing_restart
from integrationd.settings.load import find_config, load, load_addresses
from integrationd.settings.model import (
    ApiSettings,
    BreakerOverride,
    BreakerSettings,
    ConnectionLimits,
    ConnectionSettings,
    DeliverySettings,
    JournalSettings,
    LogSettings,
    PluginSettings,
    QueryOverride,
    RetentionSettings,
    RouteSettings,
    Settings,
)
from integrationd.settings.references import (
    ResolvedConfig,
    SecretReader,
    UnusableError,
    no_vault,
    referenced_files,
    resolve,
    resolve_all,
    vault_references,
)
from integrationd.settings.table import Problem, RejectedConfigError
from integrationd.settings.vault import SECRET_NAME_PATTERN, VaultSettings
from integrationd.settings.webhooks import ConnectionWebhooks, WebhookSettings

__all__ = [
    "SECRET_NAME_PATTERN",
    "ApiSettings",
    "BreakerOverride",
    "BreakerSettings",
    "Change",
    "ConnectionLimits",
    "ConnectionSettings",
    "ConnectionWebhooks",
    "DeliverySettings",
    "JournalSettings",
    "LogSettings",
    "PluginSettings",
    "Problem",
    "QueryOverride",
    "RejectedConfigError",
    "ResolvedConfig",
    "RetentionSettings",
    "RouteSettings",
    "SecretReader",
    "Settings",
    "UnusableError",
    "VaultSettings",
    "WebhookSettings",
    "changes",
    "find_config",
    "load",
    "load_addresses",
    "needing_restart",
    "no_vault",
    "referenced_files",
    "resolve",
    "resolve_all",
    "vault_references",
]
