"""What every SMS provider promises: one text to one phone, one text to many, the balance."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from msgspec import Meta

from integrationd.sdk.contract import Contract, Request, Result

# "(?!\n)$" ends the text: Python's "$" alone would let a line break follow it.
PhoneNumber: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\+[1-9][0-9]{6,14}(?!\n)$",
        description="A phone number in E.164 form, for example +254711000111.",
    ),
]
Sender: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(\+?[0-9]{3,15}|(?=.*[A-Za-z])[A-Za-z0-9 ._&-]{1,11})(?!\n)$",
        description="A short code, a phone number, or a registered name of at most 11 characters.",
    ),
]
Message: TypeAlias = Annotated[
    str,
    Meta(
        max_length=1600,
        pattern=r"\S",
        description="The text; long ones are split and billed by the part.",
    ),
]
Amount: TypeAlias = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?(?!\n)$")]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z]{3}(?!\n)$", description="ISO 4217.")]


class SmsSend(Request, frozen=True, kw_only=True):
    """One text to one phone.

    Attributes:
        to: The recipient.
        message: The text.
        sender: Whom it comes from; the connection's default when None.
    """

    to: PhoneNumber
    message: Message
    sender: Sender | None = None


class SmsSendResult(Result, frozen=True, kw_only=True):
    """What is known once the provider has taken a text over.

    Attributes:
        message_id: The provider's id, by which delivery reports refer to it.
        segments: How many messages it is billed as.
        cost: What it costs, as a decimal.
        currency: The currency of ``cost``.
    """

    message_id: str | None = None
    segments: int | None = None
    cost: Amount | None = None
    currency: Currency | None = None


class SmsSendBulk(Request, frozen=True, kw_only=True):
    """One text to many phones; each recipient becomes a part.

    Attributes:
        recipients: The recipients, each once.
        message: The text.
        sender: Whom it comes from; the connection's default when None.
    """

    recipients: Annotated[tuple[PhoneNumber, ...], Meta(min_length=1, max_length=1000)]
    message: Message
    sender: Sender | None = None

    def __post_init__(self) -> None:
        """Refuse a recipient named twice, who would get the text twice.

        Raises:
            ValueError: A recipient stands in the list more than once.
        """
        seen: set[str] = set()
        for number in self.recipients:
            if number in seen:
                raise ValueError(f"recipients names {number} more than once")
            seen.add(number)


class SmsSendBulkResult(Result, frozen=True, kw_only=True):
    """What is known about the whole; each recipient's own result is on its part.

    Attributes:
        cost: What all of them cost, as a decimal.
        currency: The currency of ``cost``.
    """

    cost: Amount | None = None
    currency: Currency | None = None


class SmsBalance(Request, frozen=True, kw_only=True):
    """Ask how much money the account holds."""


class SmsBalanceResult(Result, frozen=True, kw_only=True):
    """How much money the account holds.

    Attributes:
        balance: The amount, as a decimal.
        currency: Its currency.
    """

    balance: Amount
    currency: Currency


def _recipients(request: SmsSendBulk) -> Sequence[str]:
    return request.recipients


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="sms.send",
        request=SmsSend,
        result=SmsSendResult,
        on_uncertain="repeat",
        max_repeats=1,
        summary="Send one text to one phone.",
    ),
    Contract(
        operation="sms.send_bulk",
        request=SmsSendBulk,
        result=SmsSendBulkResult,
        on_uncertain="repeat",
        max_repeats=1,
        recipients=_recipients,
        summary="Send one text to many phones.",
    ),
    Contract(
        operation="sms.balance",
        request=SmsBalance,
        result=SmsBalanceResult,
        effect=False,
        summary="Ask how much money the account holds.",
    ),
)
