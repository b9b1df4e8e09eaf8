"""Africa's Talking: text messages to phones in Africa, one or many, and the account's balance."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

import httpx2
import msgspec
import pydantic

from integrationd.sdk import (
    Context,
    Delivered,
    HttpProviderConfig,
    Outcome,
    Part,
    PartOutcome,
    Provider,
    Rejected,
    Retryable,
    SecretStr,
    SmsBalance,
    SmsSend,
    SmsSendBulk,
    Throttled,
    Uncertain,
    classify,
    operation,
)

Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain
Said: TypeAlias = dict[str, PartOutcome]

_Shape = TypeVar("_Shape")

PRODUCTION = "https://api.africastalking.com"
SANDBOX = "https://api.sandbox.africastalking.com"
SANDBOX_USERNAME = "sandbox"

# Of the attempt's time; the rest is for what has been heard to be returned and not lost.
_SHARE_FOR_BATCHES = 0.95

_MONEY = re.compile(r"([A-Z]{3})\s+(-?[0-9]+(?:\.[0-9]+)?)")
_SENT_TO_SOME = re.compile(r"sent to 0*[1-9]", re.IGNORECASE)
_NO_ID = frozenset({"", "none", "null"})

_HELD = 401
_TAKEN_OVER = frozenset({100, 101, 102, _HELD})
_ALARMS = {_HELD: "africastalking_held_for_review", 405: "africastalking_balance_used_up"}
_LATER = Retryable(
    reason="not_sent_yet",
    detail="The requests for the recipients before took the attempt's time, or one failed.",
    sent=False,
)

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


class _Entry(msgspec.Struct):
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
    Recipients: list[_Entry]
    Message: Any = ""


class _Reply(msgspec.Struct):
    SMSMessageData: _MessageData


class _UserData(msgspec.Struct):
    balance: str


class _Account(msgspec.Struct):
    UserData: _UserData


class AfricasTalking(Provider):
    """Africa's Talking bulk SMS, at the sender's cost.

    Every hand-over is ``Delivered``, a message that the provider holds back for review (RiskHold)
    among them: it has been taken over, repeating it would send it twice, and what becomes of it
    is for the delivery report of its id to say. Holding its call open instead would help nobody,
    since the provider cannot be asked; so the log warns of it.

    There is no idempotency key: what is sent twice arrives twice and is billed twice. A request
    without a readable answer is therefore always in doubt, a 503 among them.

    Source: Africa's Talking documentation, "Sending SMS",
    http://docs.africastalking.com/sms/sending/nodejs, and its client library,
    https://github.com/AfricasTalkingLtd/africastalking-python, ``africastalking/SMS.py``.
    """

    code = "africastalking"

    class Config(HttpProviderConfig):
        """The account, and how its messages are sent.

        Attributes:
            username: The app's name; exactly ``sandbox`` for the sandbox.
            api_key: The app's key; a new one may be refused for some minutes.
            base_url: The production host, or the sandbox's if the username is ``sandbox``.
            sender_id: The registered name or short code that messages come from unless they name
                one; the shared default of the provider when None.
            enqueue: Whether the provider takes messages over now and gives them to the networks
                later; its own default when None.
            batch_size: How many recipients one request has at most.
        """

        username: str = pydantic.Field(pattern=r"^\S+$")
        api_key: SecretStr
        base_url: str = PRODUCTION
        sender_id: str | None = pydantic.Field(None, pattern=r"^[A-Za-z0-9 ._&+-]{1,15}$")
        enqueue: bool | None = None
        batch_size: int = pydantic.Field(200, ge=1, le=1000)

        @pydantic.model_validator(mode="before")
        @classmethod
        def _go_to_the_sandbox(cls, given: Any) -> Any:
            if isinstance(given, Mapping) and given.get("username") == SANDBOX_USERNAME:
                return {"base_url": SANDBOX, **given}
            return given

        @pydantic.field_validator("username")
        @classmethod
        def _names_the_sandbox_exactly(cls, username: str) -> str:
            if username != SANDBOX_USERNAME and username.lower() == SANDBOX_USERNAME:
                raise ValueError(f"must be exactly {SANDBOX_USERNAME!r} to reach the sandbox")
            return username

        @pydantic.field_validator("api_key")
        @classmethod
        def _fits_into_a_header(cls, key: SecretStr) -> SecretStr:
            if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
                raise ValueError("is empty, or contains a character that no key has")
            return key

    config: Config

    @operation("sms.send", repeat_safe=False)
    async def send(self, request: SmsSend, ctx: Context) -> Outcome:
        """Hand one message over."""
        said = await self._hand_over((request.to,), request, ctx)
        return said[request.to] if isinstance(said, Mapping) else said

    @operation("sms.send_bulk", repeat_safe=False)
    async def send_bulk(self, request: SmsSendBulk, ctx: Context) -> Outcome:
        """Hand a message to many over, batch by batch, for those who have not got it yet."""
        numbers = ctx.open_recipients
        if len(numbers) <= self.config.batch_size:
            said = await self._hand_over(numbers, request, ctx)
        else:
            said = await self._hand_over_in_batches(numbers, request, ctx)
        if not isinstance(said, Mapping):
            return said
        # What earlier attempts cost is not known here, and half a sum would be a wrong one.
        result = _total(said.values()) if len(numbers) == len(request.recipients) else {}
        return _of_all(said, result)

    @operation("sms.balance", repeat_safe=True)
    async def balance(self, _request: SmsBalance, ctx: Context) -> Outcome:
        """Ask how much money the account holds."""
        response = await ctx.http.get(
            "/version1/user", params={"username": self.config.username}, headers=self._headers()
        )
        failure = _unauthorised(response) or classify.of_status(response, ctx.clock.now_ms())
        if failure is not None:
            return failure
        account = _decoded(response, _Account)
        money = _MONEY.fullmatch(account.UserData.balance.strip()) if account else None
        if money is None:
            return _unreadable(response)
        return Delivered(result={"currency": money[1], "balance": money[2]})

    async def test_connection(self, ctx: Context) -> str:
        """Ask for the balance and say what it is.

        Raises:
            PermissionError: The username or the key was refused.
            ConnectionError: There was no usable answer.
        """
        match await self.balance(SmsBalance(), ctx):
            case Delivered(result=held):
                return f"the account holds {held['currency']} {held['balance']}"
            case Rejected(reason="http_401", detail=detail):
                raise PermissionError(detail)
            case outcome:
                raise ConnectionError(getattr(outcome, "detail", "") or "no usable answer")

    async def _hand_over(
        self, numbers: Sequence[str], request: SmsSend | SmsSendBulk, ctx: Context
    ) -> Said | Failure:
        """Make one request; what httpx2 raises is left to the caller."""
        response = await ctx.http.post(
            "/version1/messaging", data=self._form(numbers, request), headers=self._headers()
        )
        failure = _unauthorised(response) or _of_status(response, ctx.clock.now_ms())
        if failure is not None:
            return failure
        entries = _entries(response)
        if not isinstance(entries, Mapping):
            return entries
        _warn(ctx, entries.values())
        return {number: _outcome(entries.get(_digits(number))) for number in numbers}

    async def _hand_over_in_batches(
        self, numbers: Sequence[str], request: SmsSendBulk, ctx: Context
    ) -> Said | Failure:
        """Make one request after the other until one fails, or the time would not be enough.

        What was heard of earlier batches is kept whatever becomes of a later one, since nobody may
        be sent to again who has the message.
        """
        said: dict[str, PartOutcome] = dict.fromkeys(numbers, _LATER)
        ends_s, slowest_s, done = ctx.clock.monotonic() + ctx.timeout_s * _SHARE_FOR_BATCHES, 0.0, 0
        while done < len(numbers):
            began_s = ctx.clock.monotonic()
            if ends_s - began_s <= slowest_s:
                break
            batch = numbers[done : done + self.config.batch_size]
            heard = await self._within(ends_s - began_s, batch, request, ctx)
            if not isinstance(heard, Mapping):
                if done == 0 and not isinstance(heard, Uncertain):
                    return heard
                return said | _spread(heard, batch, numbers[done + len(batch) :])
            said |= heard
            done += len(batch)
            slowest_s = max(slowest_s, ctx.clock.monotonic() - began_s)
        return said

    async def _within(
        self, seconds: float, numbers: Sequence[str], request: SmsSendBulk, ctx: Context
    ) -> Said | Failure:
        try:
            async with asyncio.timeout(seconds):
                return await self._hand_over(numbers, request, ctx)
        except (httpx2.HTTPError, TimeoutError) as error:
            return classify.of_error(error, ctx.clock.now_ms())

    def _headers(self) -> dict[str, str]:
        # Without Accept the provider answers in XML.
        return {"apiKey": self.config.api_key.get_secret_value(), "Accept": "application/json"}

    def _form(self, numbers: Sequence[str], request: SmsSend | SmsSendBulk) -> dict[str, str]:
        sender = request.sender or self.config.sender_id
        form = {
            "username": self.config.username,
            "to": ",".join(numbers),
            "message": request.message,
            "bulkSMSMode": "1",
        }
        if sender is not None:
            form["from"] = sender
        if self.config.enqueue is not None:
            form["enqueue"] = "1" if self.config.enqueue else "0"
        return form


def _warn(ctx: Context, entries: Iterable[_Entry]) -> None:
    """Tell the operator what no outcome tells: held messages, and an account that ran dry."""
    codes = [entry.code for entry in entries]
    for code, event in _ALARMS.items():
        if code in codes:
            ctx.log.warning(
                event, connection=ctx.connection, call=ctx.call_id, recipients=codes.count(code)
            )


def _unauthorised(response: httpx2.Response) -> Rejected | None:
    if response.status_code != 401:
        return None
    said = classify.excerpt(response.content) or "without a reason"
    return Rejected(
        reason="http_401",
        detail=f"The provider answered 401 ({said}). Check username and api_key: both must be the "
        "sandbox's or both not, and a new key is refused for some minutes. Check the sender, too.",
    )


def _of_status(response: httpx2.Response, now_ms: int) -> Failure | None:
    """Say what a status means for a send, of which no 5xx says that it was not done."""
    failure = classify.of_status(response, now_ms)
    if isinstance(failure, Retryable) and response.status_code >= 500:
        return Uncertain(reason=failure.reason, detail=failure.detail)
    return failure


def _entries(response: httpx2.Response) -> Mapping[str, _Entry] | Failure:
    """Return what the provider said about each recipient, by the digits of its number."""
    reply = _decoded(response, _Reply)
    if reply is None:
        return _unreadable(response)
    if not reply.SMSMessageData.Recipients:
        return _refused_whole(_shown(reply.SMSMessageData.Message))
    found: dict[str, _Entry] = {}
    for entry in reply.SMSMessageData.Recipients:
        number = _digits(str(entry.number))
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


def _outcome(entry: _Entry | None) -> PartOutcome:
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


def _message_id(entry: _Entry) -> str | None:
    told = entry.messageId.strip() if isinstance(entry.messageId, str) else ""
    return None if told.lower() in _NO_ID else told


def _price(cost: Any) -> dict[str, str]:
    money = _MONEY.fullmatch(cost.strip()) if isinstance(cost, str) else None
    return {"currency": money[1], "cost": money[2]} if money else {}


def _total(outcomes: Iterable[PartOutcome]) -> dict[str, str]:
    """Add up what a bulk costs; nothing where a price is missing or the currencies differ."""
    prices = [outcome.result for outcome in outcomes if isinstance(outcome, Delivered)]
    currencies = {str(price.get("currency", "")) for price in prices}
    if len(currencies) != 1 or "" in currencies:
        return {}
    total = sum((Decimal(price["cost"]) for price in prices), Decimal())
    return {"currency": currencies.pop(), "cost": f"{total:f}"}


def _of_all(said: Said, total: Mapping[str, str]) -> Outcome:
    """Join what was said about each recipient into the outcome of the whole."""
    first = next(iter(said.values()))
    if all(isinstance(outcome, Retryable) for outcome in said.values()):
        return first
    return Delivered(
        result=total,
        parts=[Part(recipient=number, outcome=outcome) for number, outcome in said.items()],
    )


def _spread(failure: Failure, batch: Sequence[str], later: Sequence[str]) -> Said:
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


def _digits(number: str) -> str:
    return re.sub(r"[^0-9]", "", number)
