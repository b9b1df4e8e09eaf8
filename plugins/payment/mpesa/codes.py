"""What M-Pesa's codes mean: of requests that it rejects, of prompts, of money that it moved."""

import re
from typing import TypeAlias

from integrationd.sdk import Rejected, Retryable, Throttled, Uncertain, classify

from .wire import Reply

Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain

SUCCESS = "0"
ALREADY_REVERSED = "R000001"

# Of an access token that has run out or been replaced; yes, one of them comes with HTTP 404.
STALE_TOKEN = frozenset({"404.001.03", "400.003.01"})
_DUPLICATE = "500.002.1001"
# One code for all that goes wrong behind the gateway; only the message tells the cases apart.
_BEHIND_THE_GATEWAY = "500.001.1001"
_INTERNAL = "500.003.1001"
_BUSY = frozenset({"500.003.02", "500.003.03"})
_OVERLOAD = re.compile(r"spike ?arrest|quota", re.IGNORECASE)
_PROCESSING = re.compile(r"being processed", re.IGNORECASE)
_LOCKED = re.compile(r"lock subscriber", re.IGNORECASE)
_CREDENTIALS = re.compile(r"wrong credentials", re.IGNORECASE)
_MERCHANT = re.compile(r"merchant does not exist", re.IGNORECASE)
_LOCKED_S = 60.0

_WRONG = {
    "400.002.02": "invalid_request",
    "400.002.05": "invalid_request",
    "404.001.01": "unknown_resource",
    "405.001": "wrong_method",
}

# What a prompt ends with for good. Codes that only others report (26, 1001, 9999) are not in it.
PROMPT_FAILURES = {
    "1": ("insufficient_funds", "The customer has not enough money."),
    "2": ("below_minimum", "The amount is below the least that can be paid."),
    "3": ("above_maximum", "The amount is above the most that can be paid at once."),
    "4": ("daily_limit", "The customer would exceed the daily limit."),
    "8": ("balance_ceiling", "The receiving account would hold more than it may."),
    "17": ("too_soon", "The same customer was asked for the same amount within two minutes."),
    "1019": ("prompt_expired", "The prompt ran out before the customer had answered."),
    "1025": ("prompt_too_long", "The prompt was too long: shorten account and description."),
    "1032": ("cancelled", "The customer cancelled, or let the prompt run out."),
    "1037": ("unreachable", "The phone could not be reached, or nobody answered."),
    "2001": ("wrong_pin", "The customer entered a wrong PIN."),
    "2028": ("wrong_receiver", "Shortcode, till and kind of transaction do not fit together."),
    "8006": ("locked", "The credential is locked after repeated failures."),
    "SFC_IC0003": ("unknown_operator", "There is no such operator: check the shortcode or till."),
}
# The same of a payout or a reversal.
RESULT_FAILURES = {
    "1": "insufficient_funds",
    "11": "wrong_state",
    "21": "not_allowed",
    "2001": "wrong_initiator",
    "2006": "account_not_active",
    "2028": "not_allowed",
    "8006": "initiator_locked",
    ALREADY_REVERSED: "already_reversed",
    "R000002": "unknown_payment",
}
# What the status of a transaction reads where it failed for good, in lower case.
FAILED_STATUSES = frozenset({"failed", "declined", "cancelled", "expired"})


def is_still_processing(reply: Reply) -> bool:
    """Say whether a query found the customer still at it; M-Pesa calls that an error 500."""
    return reply.code == _BEHIND_THE_GATEWAY and bool(_PROCESSING.search(reply.message))


def is_duplicate(reply: Reply) -> bool:
    """Say whether a payout was refused because one with its id had arrived before."""
    return reply.code == _DUPLICATE


def is_already_registered(reply: Reply) -> bool:
    """Say whether the addresses of a shortcode were registered before."""
    return reply.code == _INTERNAL and "already" in reply.message.lower()


def failure_of(reply: Reply, now_ms: int) -> Failure | None:
    """Say what a reply means that is no success; None for one that is.

    Args:
        reply: The reply.
        now_ms: UTC milliseconds, for its ``Retry-After``.
    """
    if reply.is_success and not reply.code:
        return None
    return _turned_away(reply, now_ms) or _refused(reply) or _of_status(reply, now_ms)


def _turned_away(reply: Reply, now_ms: int) -> Failure | None:
    """Say what a reply means by which the gateway let nothing through, for now."""
    if reply.status == 429 or (
        not reply.is_success and (reply.code in _BUSY or _OVERLOAD.search(reply.text))
    ):
        wait_s = classify.retry_after_s(reply.retry_after, now_ms)
        return Throttled(wait_s=wait_s, detail=_told(reply))
    if reply.code == _BEHIND_THE_GATEWAY and _LOCKED.search(reply.message):
        detail = f"{_told(reply)} Another prompt is open on this phone."
        return Retryable(reason="subscriber_locked", detail=detail, wait_s=_LOCKED_S)
    return None


def _refused(reply: Reply) -> Rejected | None:
    if reply.code in STALE_TOKEN or reply.status == 401:
        detail = f"{_told(reply)} Check consumer_key and consumer_secret."
        return Rejected(reason="bad_credentials", detail=detail)
    if reply.code in _WRONG:
        return Rejected(reason=_WRONG[reply.code], detail=_told(reply))
    if reply.code == _BEHIND_THE_GATEWAY and _CREDENTIALS.search(reply.message):
        detail = f"{_told(reply)} Check that passkey and shortcode belong together."
        return Rejected(reason="bad_credentials", detail=detail)
    if reply.code == _BEHIND_THE_GATEWAY and _MERCHANT.search(reply.message):
        detail = f"{_told(reply)} Check shortcode, till and base_url."
        return Rejected(reason="unknown_shortcode", detail=detail)
    return None


def _of_status(reply: Reply, now_ms: int) -> Failure:
    """Go by the status; no 5xx says that nothing was done, nor does a code that reads like one."""
    failure = classify.of_status(reply.response, now_ms)
    if failure is None or reply.status >= 500 or reply.code.startswith("500."):
        return Uncertain(reason=f"http_{reply.status}", detail=_told(reply))
    return failure


def _told(reply: Reply) -> str:
    said = f"{reply.code} {reply.message}".strip() or reply.text or "nothing readable"
    return f"M-Pesa answered {reply.status}: {said.rstrip('.')}."
