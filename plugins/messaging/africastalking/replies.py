"""What the provider's answers mean for each recipient, for a whole request and for the account."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

import httpx2
import msgspec

from integrationd.sdk import (
    Context,
    Delivered,
    Outcome,
    Part,
    PartOutcome,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
    classify,
)

Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain
Said: TypeAlias = dict[str, PartOutcome]

_Shape = TypeVar("_Shape")

_MONEY = re.compile(r"([A-Z]{3})\s+(-?[0-9]+(?:\.[0-9]+)?)")
_SENT_TO_SOME = re.compile(r"sent to 0*[1-9]", re.IGNORECASE)
_NO_ID = frozenset({"", "none", "null"})

_HELD = 401
_TAKEN_OVER = frozenset({100, 101, 102, _HELD})
_ALARMS = {_HELD: "africastalking_held_for_review", 405: "africastalking_balance_used_up"}

# The provider's own name of a status, our word for it, and what to make of it.
_FAILURES: Mapping[int, tuple[str, str, str]] = {
    402: ("InvalidSenderId", "invalid_sender", "register the sender, or leave it out"),
    403: ("InvalidPhoneNumber", "invalid_recipient", "there is no such number"),
    404: ("UnsupportedNumberType", "unsupported_number", "this number takes no messages"),
    405: ("InsufficientBalance", "insufficient_balance", "top up the account, then send again"),
    406: ("UserInBlacklist", "opted_out", "the recipient has opted out"),
    407: ("CouldNotRoute", "no_route", "no network takes messages for this number"),
    409: ("DoNotDisturbRejection", "do_not_disturb", "no advertising, or not at this hour"),
    500: ("InternalServerError", "internal_server_error", "a fault of the provider's own"),
    501: ("GatewayError", "gateway_error", "a fault of the network's gateway"),
    502: ("RejectedByGateway", "rejected_by_gateway", "the network refused the message"),
}
_PASSING = frozenset({500, 501})
_CODE_OF_FAILURE = {name.lower(): code for code, (name, _, _) in _FAILURES.items()}
_CODE_OF_TAKEN = {"processed": 100, "sent": 101, "success": 101, "queued": 102, "riskhold": _HELD}
_CODE_OF_NAME = _CODE_OF_TAKEN | _CODE_OF_FAILURE


class Entry(msgspec.Struct):
    """What the provider said about one recipient; nothing in it is of a type to rely on."""

    number: Any = None
    statusCode: Any = None  # noqa: N815 - the provider's name
    status: Any = None
    cost: Any = None
    messageId: Any = None  # noqa: N815 - the provider's name

    @property
    def code(self) -> int:
        """The status as a number; its name, however it is spelt, stands in for a missing one."""
        told = str(self.statusCode)
        return int(told) if told.isdecimal() else _CODE_OF_NAME.get(str(self.status).lower(), 0)


class _MessageData(msgspec.Struct):
    Recipients: list[Entry]
    Message: Any = ""


class _Reply(msgspec.Struct):
    SMSMessageData: _MessageData


class _UserData(msgspec.Struct):
    balance: str


class _Account(msgspec.Struct):
    UserData: _UserData


def warn(ctx: Context, entries: Iterable[Entry]) -> None:
    """Tell the operator what no outcome tells: held messages, and an account that ran dry."""
    codes = [entry.code for entry in entries]
    for code, event in _ALARMS.items():
        if code in codes:
            ctx.log.warning(
                event, connection=ctx.connection, call=ctx.call_id, recipients=codes.count(code)
            )


def unauthorised(response: httpx2.Response) -> Rejected | None:
    """Say what a refusal of the credentials means, or None where it is none."""
    if response.status_code != 401:
        return None
    said = classify.excerpt(response.content) or "without a reason"
    return Rejected(
        reason="http_401",
        detail=f"The provider answered 401 ({said}). Check username and api_key; both must be the "
        "sandbox's or both not, and a new key is refused for some minutes. Check the sender, too.",
    )


def of_status(response: httpx2.Response, now_ms: int) -> Failure | None:
    """Say what a status means for a send, of which no 5xx says that it was not done."""
    failure = classify.of_status(response, now_ms)
    if isinstance(failure, Retryable) and response.status_code >= 500:
        return Uncertain(reason=failure.reason, detail=failure.detail)
    return failure


def balance_of(response: httpx2.Response) -> Outcome:
    """Return what the account holds."""
    account = _decoded(response, _Account)
    money = _MONEY.fullmatch(account.UserData.balance.strip()) if account else None
    if money is None:
        return _unreadable(response)
    return Delivered(result={"currency": money[1], "balance": money[2]})


def entries_of(response: httpx2.Response) -> Mapping[str, Entry] | Failure:
    """Return what the provider said about each recipient, by the digits of its number."""
    reply = _decoded(response, _Reply)
    if reply is None:
        return _unreadable(response)
    if not reply.SMSMessageData.Recipients:
        return _refused_whole(_shown(reply.SMSMessageData.Message))
    found: dict[str, Entry] = {}
    for entry in reply.SMSMessageData.Recipients:
        number = digits(str(entry.number))
        # Named twice, a recipient to whom it was once handed over has it.
        if number not in found or found[number].code not in _TAKEN_OVER:
            found[number] = entry
    return found


def _refused_whole(message: str) -> Failure:
    """Say what an answer without any recipient means, which is a failure; the message has why."""
    compact = re.sub(r"[^a-z]", "", message.lower())
    for name, code in _CODE_OF_FAILURE.items():
        if name in compact:
            return _failure(code, message)
    if _SENT_TO_SOME.search(message):
        return Uncertain(
            reason="contradictory_reply",
            detail=f"The provider named no recipient, and yet said: {message}",
        )
    return Rejected(
        reason="refused",
        detail=f"The provider took none of it: {message.rstrip('.') or 'it gave no reason'}.",
    )


def _failure(code: int, said: str) -> Rejected | Retryable:
    _, reason, advice = _FAILURES[code]
    kind = Retryable if code in _PASSING else Rejected
    return kind(reason=reason, detail=f"The provider said {said}: {advice}.")


def outcome_of(entry: Entry | None) -> PartOutcome:
    """Say what became of one recipient."""
    if entry is None:
        return Uncertain(
            reason="not_in_reply", detail="The provider's answer does not name this recipient."
        )
    code = entry.code
    if code in _TAKEN_OVER:
        message_id = _message_id(entry)
        named = {} if message_id is None else {"message_id": message_id}
        return Delivered(reference=message_id, result=named | _price(entry.cost))
    if code in _FAILURES:
        return _failure(code, _shown(entry.status or code))
    return Uncertain(
        reason="unknown_status",
        detail=f"The provider's status {_shown(entry.status)} ({_shown(entry.statusCode)}) is none "
        "that it documents.",
        reference=_message_id(entry),
    )


def _message_id(entry: Entry) -> str | None:
    told = entry.messageId.strip() if isinstance(entry.messageId, str) else ""
    return None if told.lower() in _NO_ID else told


def _price(cost: Any) -> dict[str, str]:
    money = _MONEY.fullmatch(cost.strip()) if isinstance(cost, str) else None
    return {"currency": money[1], "cost": money[2]} if money else {}


def total_of(outcomes: Iterable[PartOutcome]) -> dict[str, str]:
    """Add up what a bulk costs; nothing where a price is missing or the currencies differ."""
    prices = [outcome.result for outcome in outcomes if isinstance(outcome, Delivered)]
    currencies = {str(price.get("currency", "")) for price in prices}
    if len(currencies) != 1 or "" in currencies:
        return {}
    total = sum((Decimal(price["cost"]) for price in prices), Decimal())
    return {"currency": currencies.pop(), "cost": f"{total:f}"}


def of_all(said: Said, total: Mapping[str, str]) -> Outcome:
    """Join what was said about each recipient into the outcome of the whole."""
    first = next(iter(said.values()))
    if all(isinstance(outcome, Retryable) for outcome in said.values()):
        return first
    return Delivered(
        result=total,
        parts=[Part(recipient=number, outcome=outcome) for number, outcome in said.items()],
    )


def spread(failure: Failure, batch: Sequence[str], later: Sequence[str]) -> Said:
    """Say what a failed request means for its own recipients, and for those of later ones.

    A refusal of a whole request names no recipient, and so holds for the later ones as well.
    """
    if isinstance(failure, Rejected):
        return dict.fromkeys((*batch, *later), failure)
    if isinstance(failure, Throttled):
        failure = Retryable(reason="throttled", detail=failure.detail, sent=False)
    return dict.fromkeys(batch, failure)


def _decoded(response: httpx2.Response, kind: type[_Shape]) -> _Shape | None:
    """Read JSON whatever content type it came under, since the provider is not exact in it."""
    try:
        return msgspec.json.decode(response.content.removeprefix(b"\xef\xbb\xbf"), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _unreadable(response: httpx2.Response) -> Uncertain:
    said = classify.excerpt(response.content) or "nothing"
    return Uncertain(
        reason="unreadable_reply",
        detail=f"The provider answered {response.status_code} and what cannot be read: {said}",
    )


def _shown(value: Any) -> str:
    return classify.excerpt(str(value).encode("utf-8", "replace"))


def digits(number: str) -> str:
    """Return what of a number tells it from others, however it is written."""
    return re.sub(r"[^0-9]", "", number)
