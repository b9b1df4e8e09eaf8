"""How Paystack is spoken to: its envelope, and what its refusals mean for a send."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import httpx2
import msgspec

from integrationd.sdk import (
    Context,
    OutcomeError,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
    classify,
)

Json: TypeAlias = dict[str, Any]
Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain

BAD_CREDENTIALS = "bad_credentials"
DUPLICATE = "duplicate_reference"
NOT_FOUND = "not_found"

# What Paystack says, our word for it, and what the user can do about it.
_SAYINGS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"\bIP address\b", re.IGNORECASE),
        "ip_not_allowed",
        "Add this machine's public address to the API's IP whitelist in Paystack's dashboard.",
    ),
    (
        re.compile(r"balance is not enough", re.IGNORECASE),
        "insufficient_balance",
        "Top up the Paystack balance, then retry the call.",
    ),
    (
        re.compile(
            r"duplicate\b.*\breference|unique reference|reference\b.*\balready", re.IGNORECASE
        ),
        DUPLICATE,
        "",
    ),
    (re.compile(r"\b(transaction|transfer|refund)\b.*\bnot found", re.IGNORECASE), NOT_FOUND, ""),
)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,59}")


class Wire:
    """Makes the requests of one connection.

    Args:
        secret_key: The account's key, which also says whether money is real.
    """

    def __init__(self, secret_key: str) -> None:
        self._headers = {"Authorization": f"Bearer {secret_key}"}

    async def get(
        self, ctx: Context, path: str, params: Mapping[str, str] | None = None
    ) -> Json | Failure:
        """Read something; returns Paystack's envelope."""
        return _read(await ctx.http.get(path, params=params, headers=self._headers), ctx)

    async def post(self, ctx: Context, path: str, body: Json) -> Json | Failure:
        """Do something; members that are None are left out. Returns Paystack's envelope."""
        told = {name: value for name, value in body.items() if value is not None}
        return _read(await ctx.http.post(path, json=told, headers=self._headers), ctx)


def known(told: Json | Failure) -> Json:
    """Return what a query was answered.

    Raises:
        OutcomeError: Nothing could be learnt.
    """
    if isinstance(told, dict):
        return told
    raise OutcomeError(told)


def without_effect(told: Json | Failure) -> Json | Failure:
    """Return what came of a request that only prepares: repeating it is harmless."""
    if isinstance(told, Uncertain):
        return Retryable(reason=told.reason, detail=told.detail)
    return told


def data_of(told: Json) -> Json:
    """Return an envelope's object; empty where there is none."""
    data = told.get("data")
    return data if isinstance(data, dict) else {}


def items_of(told: Json) -> list[Json]:
    """Return the objects of an envelope's list."""
    data = told.get("data")
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []


def is_not_found(told: object) -> bool:
    """Say whether Paystack itself says that it knows no such thing."""
    return isinstance(told, Rejected) and told.reason == NOT_FOUND


def unreadable(what: str) -> Uncertain:
    """Return the outcome of a request that was answered with something else than it should be."""
    return Uncertain(reason="unreadable_reply", detail=f"Paystack's answer {what}.")


def _read(response: httpx2.Response, ctx: Context) -> Json | Failure:
    """Return the envelope of a request that worked, or what the answer means otherwise."""
    told = _object(response.content)
    failure = classify.of_status(response, ctx.clock.now_ms())
    if failure is None:
        return _taken(told, response)
    if response.status_code >= 500:
        # It may have acted before it failed, a 503 of its gateway among them.
        detail = getattr(failure, "detail", "")
        return Uncertain(reason=f"http_{response.status_code}", detail=detail)
    if isinstance(failure, Rejected) and response.status_code >= 400:
        return _refusal(told, response)
    return failure


def _taken(told: Json | None, response: httpx2.Response) -> Json | Failure:
    if told is None or not isinstance(told.get("status"), bool):
        said = classify.excerpt(response.content) or "nothing"
        return unreadable(f"({response.status_code}) cannot be read: {said}")
    return told if told["status"] else _refusal(told, response)


def _refusal(told: Json | None, response: httpx2.Response) -> Rejected:
    """Say what Paystack refused and, where it is known, what to do about it."""
    status = response.status_code
    if told is None or told.get("status") is not False:
        said = classify.excerpt(response.content) or "without a reason"
        return _rejected(status, None, f"Paystack answered {status}: {said}")
    message = str(told.get("message") or "without a reason")
    detail = f"Paystack answered {status}: {message}"
    for pattern, reason, advice in _SAYINGS:
        if pattern.search(message):
            return Rejected(reason=reason, detail=f"{detail}. {advice}".strip())
    meta = told.get("meta")
    step = meta.get("nextStep") if isinstance(meta, dict) else None
    more = f" ({step})" if isinstance(step, str) and step else ""
    return _rejected(status, told.get("code"), f"{detail}{more}")


def _rejected(status: int, code: object, detail: str) -> Rejected:
    if status == 401:
        advice = "Check secret_key of the connection: it may have been replaced in the dashboard."
        return Rejected(reason=BAD_CREDENTIALS, detail=f"{detail}. {advice}")
    is_word = isinstance(code, str) and _CODE.fullmatch(code) is not None
    return Rejected(reason=str(code) if is_word else f"http_{status}", detail=detail)


def _object(content: bytes) -> Json | None:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
