"""The configuration: what it may say, how it is read, and where its secrets come from."""

from integrationd.settings.app import EVENTS_PATTERN, AppSettings
from integrationd.settings.changes import Change, changes, needing_restart
from integrationd.settings.joined import MadeOverApi, joined, strangers
from integrationd.settings.link import LinkSettings
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
from integrationd.settings.subscriptions import (
    APP_SCHEDULE_S,
    SCHEDULES_S,
    FedConnection,
    FeedSettings,
    fed_connection,
)
from integrationd.settings.table import Problem, RejectedConfigError, key_path
from integrationd.settings.tenants import SHARED_SECRETS_OF, TenantSettings
from integrationd.settings.vault import SECRET_NAME_PATTERN, VaultSettings
from integrationd.settings.webhooks import ConnectionWebhooks, WebhookSettings

__all__ = [
    "APP_SCHEDULE_S",
    "EVENTS_PATTERN",
    "SCHEDULES_S",
    "SECRET_NAME_PATTERN",
    "SHARED_SECRETS_OF",
    "ApiSettings",
    "AppSettings",
    "BreakerOverride",
    "BreakerSettings",
    "Change",
    "ConnectionLimits",
    "ConnectionSettings",
    "ConnectionWebhooks",
    "DeliverySettings",
    "FedConnection",
    "FeedSettings",
    "JournalSettings",
    "LinkSettings",
    "LogSettings",
    "MadeOverApi",
    "PluginSettings",
    "Problem",
    "QueryOverride",
    "RejectedConfigError",
    "ResolvedConfig",
    "RetentionSettings",
    "RouteSettings",
    "SecretReader",
    "Settings",
    "TenantSettings",
    "UnusableError",
    "VaultSettings",
    "WebhookSettings",
    "changes",
    "fed_connection",
    "find_config",
    "joined",
    "key_path",
    "load",
    "load_addresses",
    "needing_restart",
    "no_vault",
    "referenced_files",
    "resolve",
    "resolve_all",
    "strangers",
    "vault_references",
]
