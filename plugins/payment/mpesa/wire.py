"""What M-Pesa sends, as far as it can be relied on: replies, callbacks, times and amounts."""

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
import msgspec

from integrationd.sdk import Money, UnreadableError, classify

CURRENCY = "KES"
EAST_AFRICA = dt.timezone(dt.timedelta(hours=3))

_Shape = TypeVar("_Shape")

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")
_MOMENTS = ("%Y%m%d%H%M%S", "%d.%m.%Y %H:%M:%S")


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What M-Pesa answered a request with.

    Attributes:
        response: The whole response.
        said: Its body; empty where that is no JSON object.
    """

    response: httpx2.Response
    said: Mapping[str, Any]

    @classmethod
    def of(cls, response: httpx2.Response) -> "Reply":
        """Read a response."""
        try:
            said = msgspec.json.decode(response.content)
        except (msgspec.MsgspecError, RecursionError):
            said = {}
        return cls(response, said if isinstance(said, dict) else {})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.response.is_success

    @property
    def code(self) -> str:
        """The code of an error; empty where there is none."""
        return self.text_of("errorCode")

    @property
    def message(self) -> str:
        """What is said about an error."""
        return classify.excerpt(self.text_of("errorMessage").encode())

    @property
    def text(self) -> str:
        """The beginning of the body as one printable line."""
        return classify.excerpt(self.response.content)

    @property
    def retry_after(self) -> str:
        """The header of that name."""
        return str(self.response.headers.get("Retry-After", ""))

    def text_of(self, name: str) -> str:
        """Return a member as text; empty where it is missing or something else."""
        value = self.said.get(name)
        return str(value) if isinstance(value, str | int) else ""


class Prompted(msgspec.Struct):
    """What became of a prompt."""

    checkout_id: str = msgspec.field(name="CheckoutRequestID")
    code: str | int = msgspec.field(name="ResultCode")
    metadata: Any = msgspec.field(name="CallbackMetadata", default=None)


class _PromptBody(msgspec.Struct):
    prompted: Prompted = msgspec.field(name="stkCallback")


class PromptCallback(msgspec.Struct):
    """The callback of a prompt."""

    body: _PromptBody = msgspec.field(name="Body")


class Answer(msgspec.Struct):
    """What a payout, a reversal or a status query came to."""

    code: str | int = msgspec.field(name="ResultCode")
    said: str = msgspec.field(name="ResultDesc", default="")
    originator_id: str = msgspec.field(name="OriginatorConversationID", default="")
    conversation_id: str = msgspec.field(name="ConversationID", default="")
    transaction_id: str = msgspec.field(name="TransactionID", default="")
    parameters: Any = msgspec.field(name="ResultParameters", default=None)


class AnswerCallback(msgspec.Struct):
    """The callback of a payout, a reversal or a status query."""

    answer: Answer = msgspec.field(name="Result")


class CustomerPayment(msgspec.Struct):
    """What a customer pays, or is about to pay, to the shortcode unasked."""

    receipt: str = msgspec.field(name="TransID")
    amount: str | int | float = msgspec.field(name="TransAmount")
    kind: str = msgspec.field(name="TransactionType", default="")
    paid_at: str | int = msgspec.field(name="TransTime", default="")
    shortcode: str | int = msgspec.field(name="BusinessShortCode", default="")
    account: str | None = msgspec.field(name="BillRefNumber", default=None)
    payer: str | int = msgspec.field(name="MSISDN", default="")
    first_name: str | None = msgspec.field(name="FirstName", default=None)
    middle_name: str | None = msgspec.field(name="MiddleName", default=None)
    last_name: str | None = msgspec.field(name="LastName", default=None)

    @property
    def name(self) -> str:
        """The customer's whole name, as far as it is told."""
        names = (self.first_name, self.middle_name, self.last_name)
        return " ".join(name for name in names if name)


def read(body: bytes, shape: type[_Shape]) -> _Shape:
    """Return a callback's body in a shape.

    Raises:
        UnreadableError: It is not JSON, or lacks what it must have.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnreadableError(f"the body is no {shape.__name__}: {error}") from None


def pairs(holder: Any, member: str, name: str) -> dict[str, Any]:
    """Return a list of named values by name; the first value of a name that is repeated.

    The list may be a single entry instead, an entry may lack its value, and all of it may be
    missing.

    Args:
        holder: What holds the list, such as ``CallbackMetadata``.
        member: The list's name in it, such as ``Item``.
        name: What an entry calls its name: ``Name`` or ``Key``.
    """
    listed = holder.get(member) if isinstance(holder, dict) else None
    if isinstance(listed, dict):
        listed = [listed]
    found: dict[str, Any] = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("Value") not in (None, ""):
            found.setdefault(str(entry.get(name)), entry["Value"])
    return found


def kes(amount: Any) -> Money | None:
    """Return an amount in shillings, however it is written; None where it is none."""
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return None
    # A number with an exponent may be longer than all memory.
    return Money.of(amount, CURRENCY) if _AMOUNT.fullmatch(str(amount).strip()) else None


def moment(text: Any) -> str | None:
    """Return a time, which M-Pesa writes as in Nairobi, in RFC 3339; None where it is none."""
    for form in _MOMENTS:
        try:
            at = dt.datetime.strptime(str(text), form).replace(tzinfo=EAST_AFRICA)
            utc = at.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            continue
        return utc.isoformat(timespec="seconds").replace("+00:00", "Z")
    return None
