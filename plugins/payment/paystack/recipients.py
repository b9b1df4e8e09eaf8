"""To whom payouts go: whose account it is, and the code that Paystack has for it."""

import re
from typing import TypeAlias

from integrationd.sdk import Context, PaymentPayout, Rejected, Retryable, Uncertain

from .readings import text_of
from .requests import recipient_body
from .wire import Failure, Json, Wire, data_of, unreadable, without_effect

_Key: TypeAlias = tuple[str, ...]

_MOST_KEPT = 1000
# Where Paystack can tell whose account it is.
_RESOLVED = frozenset({"nuban", "ghipss"})
_WORD = re.compile(r"[^\W\d_]{2,}")


class Recipients:
    """Finds the code of a recipient, and remembers it.

    Asking for the same account twice gives the same code, so that all of it may be repeated.

    Args:
        wire: How Paystack is spoken to.
        check_names: Whether the name of an account is compared with that of the payout.
    """

    def __init__(self, wire: Wire, *, check_names: bool) -> None:
        self._wire = wire
        self._check_names = check_names
        self._codes: dict[_Key, str] = {}

    async def code_of(self, request: PaymentPayout, ctx: Context) -> str | Failure:
        """Return the code of a payout's recipient."""
        body = recipient_body(request)
        known = self._codes.get(_key(body))
        if known is not None:
            return known
        with ctx.preliminary():
            wrong = await self._why_wrong(body, ctx)
            told = wrong or without_effect(await self._wire.post(ctx, "/transferrecipient", body))
        if not isinstance(told, dict):
            return told
        code = text_of(data_of(told).get("recipient_code"))
        if code is None:
            return _again(unreadable("names no recipient"))
        while len(self._codes) >= _MOST_KEPT:
            del self._codes[next(iter(self._codes))]
        self._codes[_key(body)] = code
        return code

    def forget(self, request: PaymentPayout) -> None:
        """Ask for the recipient anew next time: Paystack does not take it any more."""
        self._codes.pop(_key(recipient_body(request)), None)

    async def _why_wrong(self, body: Json, ctx: Context) -> Failure | None:
        """Say why no money may go to an account; None where nothing speaks against it."""
        if not self._check_names or body["type"] not in _RESOLVED:
            return None
        params = {"account_number": body["account_number"], "bank_code": body["bank_code"]}
        told = without_effect(await self._wire.get(ctx, "/bank/resolve", params))
        if isinstance(told, Rejected):
            return _unresolved(told)
        if not isinstance(told, dict):
            return told
        held_by = text_of(data_of(told).get("account_name"))
        if held_by is None:
            return _again(unreadable("does not name the account's holder"))
        if _words(held_by) & _words(body["name"]):
            return None
        return Rejected(
            reason="name_differs",
            detail=f"The account belongs to {held_by}, not to {body['name']}: nothing was sent. "
            "Correct the account or its name.",
        )


def _unresolved(refusal: Rejected) -> Rejected:
    if refusal.reason in {"bad_credentials", "ip_not_allowed"}:
        return refusal
    return Rejected(
        reason="account_not_confirmed",
        detail=f"Paystack could not say whose account it is, so nothing was sent. "
        f"{refusal.detail} Check number and bank_code, or set check_account_names = false.",
    )


def _again(doubt: Uncertain) -> Retryable:
    return Retryable(reason=doubt.reason, detail=doubt.detail)


def _key(body: Json) -> _Key:
    return tuple(str(value) for value in body.values())


def _words(name: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(name)}
