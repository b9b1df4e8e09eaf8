"""The journal: the one part that speaks SQL. Every accepted call is kept here until it is over."""

from integrationd.journal.api_keys import KeysAtHand, NewApiKey, StoredApiKey
from integrationd.journal.attempts import AttemptFilter, StoredAttempt
from integrationd.journal.breakers import store_breaker
from integrationd.journal.calls import CallDetail, CallFilter, NewCall, Receipt
from integrationd.journal.condition import Condition, JournalStatus
from integrationd.journal.directory import (
    DirectoryTables,
    NewSecrets,
    own_prefix,
    own_secrets,
    stored_directory,
)
from integrationd.journal.directory_rows import (
    ConnectionState,
    Directory,
    StoredConnection,
    StoredTenant,
)
from integrationd.journal.event_log import (
    EventFilter,
    EventLog,
    EventPage,
    NewEvent,
    Published,
    StoredEvent,
    read_after,
)
from integrationd.journal.feeds import FeedTerms, Turn, is_told
from integrationd.journal.inbox import Endpoint, Inbox, InboxFilter, Received, StoredWebhook
from integrationd.journal.journal import Journal
from integrationd.journal.keys import load_or_make_key, read_key, read_secret, write_secret
from integrationd.journal.ledger import LedgerLine
from integrationd.journal.logbook import LogEntry, LogFilter, LogPlace, StoredFault
from integrationd.journal.oauth_rows import StoredToken, TokenSecret
from integrationd.journal.oauth_states import BegunAuthorisation
from integrationd.journal.oauth_tokens import NewToken, OAuthTokens, TokenPlace
from integrationd.journal.retention import Kept, KeptHere, Retention
from integrationd.journal.room import Watermarks
from integrationd.journal.secret_rows import Sealed, StoredSecret
from integrationd.journal.secrets import Rotated, Secrets, stored_vault
from integrationd.journal.subscription_rows import Cursor, StoredSubscription, SubscriptionTerms
from integrationd.journal.subscriptions import (
    DeliveryCounts,
    StoredDelivery,
    no_such_subscription,
    note_failing,
    stop,
)
from integrationd.journal.tenant_days import Quota
from integrationd.journal.writer import Transaction

__all__ = [
    "AttemptFilter",
    "BegunAuthorisation",
    "CallDetail",
    "CallFilter",
    "Condition",
    "ConnectionState",
    "Cursor",
    "DeliveryCounts",
    "Directory",
    "DirectoryTables",
    "Endpoint",
    "EventFilter",
    "EventLog",
    "EventPage",
    "FeedTerms",
    "Inbox",
    "InboxFilter",
    "Journal",
    "JournalStatus",
    "Kept",
    "KeptHere",
    "KeysAtHand",
    "LedgerLine",
    "LogEntry",
    "LogFilter",
    "LogPlace",
    "NewApiKey",
    "NewCall",
    "NewEvent",
    "NewSecrets",
    "NewToken",
    "OAuthTokens",
    "Published",
    "Quota",
    "Receipt",
    "Received",
    "Retention",
    "Rotated",
    "Sealed",
    "Secrets",
    "StoredApiKey",
    "StoredAttempt",
    "StoredConnection",
    "StoredDelivery",
    "StoredEvent",
    "StoredFault",
    "StoredSecret",
    "StoredSubscription",
    "StoredTenant",
    "StoredToken",
    "StoredWebhook",
    "SubscriptionTerms",
    "TokenPlace",
    "TokenSecret",
    "Transaction",
    "Turn",
    "Watermarks",
    "is_told",
    "load_or_make_key",
    "no_such_subscription",
    "note_failing",
    "own_prefix",
    "own_secrets",
    "read_after",
    "read_key",
    "read_secret",
    "stop",
    "store_breaker",
    "stored_directory",
    "stored_vault",
    "write_secret",
]
