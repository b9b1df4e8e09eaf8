"""The users' words for ours, both ways. Pure; the users' documents have them in their tables."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, NoReturn, TypeAlias, get_args

from integrationd.call import CallState
from integrationd.errors import UnprocessableError

QueueStatus: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]
LogStatus: TypeAlias = Literal["pending", "success", "failed", "timeout"]
Direction: TypeAlias = Literal["outbound", "inbound"]

_QUEUE: Mapping[CallState, QueueStatus] = MappingProxyType(
    {
        CallState.PENDING: "pending",
        CallState.PROCESSING: "processing",
        CallState.WAITING: "processing",
        CallState.UNKNOWN: "processing",
        CallState.COMPLETED: "completed",
        CallState.FAILED: "failed",
        CallState.EXPIRED: "failed",
        CallState.CANCELLED: "cancelled",
    }
)
_PRIORITIES = {"high": 1, "normal": 0, "low": -1}
_OUTCOMES: Mapping[str, LogStatus] = MappingProxyType(
    {
        "delivered": "success",
        "accepted": "success",
        "done": "success",
        "pending": "pending",
        "partial": "failed",
        "rejected": "failed",
        "refused": "failed",
        "throttled": "failed",
        "retryable": "failed",
        "uncertain": "failed",
        "never_happened": "failed",
        "cannot_tell": "failed",
    }
)
# Why an exchange that failed is said to have run out of time.
TIMEOUTS = ("timeout", "connect_timeout", "http_408", "http_504")
_WEBHOOKS: Mapping[str, LogStatus] = MappingProxyType(
    {
        "new": "pending",
        "held": "pending",
        "unmatched": "pending",
        "applied": "success",
        "ignored": "success",
        "unreadable": "failed",
        "failed": "failed",
    }
)
QUEUE_STATUSES: Sequence[str] = get_args(QueueStatus)
LOG_STATUSES: Sequence[str] = get_args(LogStatus)
DIRECTIONS: Sequence[str] = get_args(Direction)
# Outcomes that an error log tells of.
FAULTS = tuple(outcome for outcome, word in _OUTCOMES.items() if word == "failed")


class Exchanges(NamedTuple):
    """Which exchanges a status of the log stands for.

    Attributes:
        outcomes: Outcomes of attempts.
        timed_out: Whether their reason is one of :data:`TIMEOUTS`; None where it does not matter.
        states: States of webhooks.
    """

    outcomes: Sequence[str]
    timed_out: bool | None
    states: Sequence[str]


def queue_status(state: str) -> QueueStatus:
    """Return the users' word for a call's state."""
    return _QUEUE[CallState(state)]


def states_of(status: str) -> Sequence[CallState]:
    """Return the states that a status of the queue stands for.

    Raises:
        UnprocessableError: There is no such status.
    """
    found = [state for state, word in _QUEUE.items() if word == status]
    if not found:
        _refuse(status, "status", _QUEUE.values())
    return found


def priority_number(name: str) -> int:
    """Return the users' number for a priority."""
    return _PRIORITIES[name]


def priority_name(number: str) -> str:
    """Return the priority that a number of the users stands for: above 0 high, below it low.

    Raises:
        UnprocessableError: It is no whole number.
    """
    digits = number.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise UnprocessableError(
            f"priority is a whole number, not {number[:40]!r}",
            hint="Above 0 is high, 0 normal, below 0 low.",
        )
    value = int(number)
    return "high" if value > 0 else "low" if value < 0 else "normal"


def log_status(outcome: str, reason: str | None) -> LogStatus:
    """Return the users' word for what an attempt came to."""
    word = _OUTCOMES[outcome]
    return "timeout" if word == "failed" and reason in TIMEOUTS else word


def webhook_status(state: str) -> LogStatus:
    """Return the users' word for what came of a webhook."""
    return _WEBHOOKS[state]


def exchanges_of(status: str) -> Exchanges:
    """Return the exchanges that a status of the log stands for.

    Raises:
        UnprocessableError: There is no such status.
    """
    words: Mapping[str, tuple[str, bool | None]] = {
        "pending": ("pending", None),
        "success": ("success", None),
        "failed": ("failed", False),
        "timeout": ("failed", True),
    }
    if status not in words:
        _refuse(status, "status", words)
    word, timed_out = words[status]
    states = () if timed_out else tuple(one for one, said in _WEBHOOKS.items() if said == status)
    outcomes = tuple(one for one, said in _OUTCOMES.items() if said == word)
    return Exchanges(outcomes, timed_out, states)


def is_inbound(direction: str) -> bool:
    """Say whether a direction is that of what providers send to us.

    Raises:
        UnprocessableError: There is no such direction.
    """
    if direction not in DIRECTIONS:
        _refuse(direction, "direction", DIRECTIONS)
    return direction == "inbound"


def _refuse(word: str, name: str, words: Iterable[str]) -> NoReturn:
    raise UnprocessableError(
        f"there is no {name} {word[:40]!r}; there are: {', '.join(dict.fromkeys(words))}"
    )
