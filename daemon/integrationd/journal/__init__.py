"""The journal: the one part that speaks SQL. Every accepted call is kept here until it is over."""

from integrationd.journal.api_keys import KeysAtHand, NewApiKey, StoredApiKey
from integrationd.journal.attempts import AttemptFilter, StoredAttempt
from integrationd.journal.breakers import store_breaker
from integrationd.journal.calls import CallDetail, CallFilter, NewCall, Receipt
from integrationd.journal.inbox import Endpoint, Inbox, InboxFilter, Received, StoredWebhook
from integrationd.journal.journal import Condition, Journal, JournalStatus
from integrationd.journal.keys import load_or_make_key, read_key, read_secret, write_secret
from integrationd.journal.ledger import LedgerLine
from integrationd.journal.retention import Kept, Retention
from integrationd.journal.secret_rows import Sealed, StoredSecret
from integrationd.journal.secrets import Rotated, Secrets, stored_vault
from integrationd.journal.writer import Transaction

__all__ = [
    "AttemptFilter",
    "CallDetail",
    "CallFilter",
    "Condition",
    "Endpoint",
    "Inbox",
    "InboxFilter",
    "Journal",
    "JournalStatus",
    "Kept",
    "KeysAtHand",
    "LedgerLine",
    "NewApiKey",
    "NewCall",
    "Receipt",
    "Received",
    "Retention",
    "Rotated",
    "Sealed",
    "Secrets",
    "StoredApiKey",
    "StoredAttempt",
    "StoredSecret",
    "StoredWebhook",
    "Transaction",
    "load_or_make_key",
    "read_key",
    "read_secret",
    "store_breaker",
    "stored_vault",
    "write_secret",
]
