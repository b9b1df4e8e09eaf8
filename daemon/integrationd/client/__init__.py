"""The client for apps: typed, over the Unix socket or TCP, and safe to repeat.

It needs nothing else of the daemon, so that an app can use it alone. :class:`Client` blocks,
:class:`AsyncClient` awaits; both do the same.
"""

from integrationd.client.awaiting import AsyncClient
from integrationd.client.blocking import Client
from integrationd.client.errors import (
    AccessError,
    BusyError,
    ClientError,
    ConflictError,
    GoneError,
    InvalidError,
    NoAnswerError,
    NotFoundError,
    Problem,
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
)
from integrationd.client.records import (
    Attempt,
    Call,
    CallOptions,
    Event,
    Ledger,
    LedgerLine,
    NewCall,
    Part,
    Reference,
    Status,
)

__all__ = [
    "AccessError",
    "AsyncClient",
    "Attempt",
    "BusyError",
    "Call",
    "CallOptions",
    "Client",
    "ClientError",
    "ConflictError",
    "Event",
    "GoneError",
    "InvalidError",
    "Ledger",
    "LedgerLine",
    "NewCall",
    "NoAnswerError",
    "NotFoundError",
    "Part",
    "Problem",
    "ProblemError",
    "Reference",
    "Status",
    "UnexpectedAnswerError",
    "UnreachableError",
]
