"""What every payment provider promises: asking for money, asking about it, giving it back or out.

Amounts are decimals in major units with an ISO currency. A payment that was only asked for is
``waiting``; it is completed when the provider says that it was paid, in that amount.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts.sms import PhoneNumber
from integrationd.sdk.money import CurrencyCode, Money, PositiveAmount

PAYMENT_EXPIRES_IN_S = 15 * 60.0

Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f]*$")]
Url: TypeAlias = Annotated[str, Meta(max_length=2000, pattern=r"^https?://[^\s\x00-\x1f]+(?!\n)$")]
Reference: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._=-]{0,63}(?!\n)$",
        description="Given to the provider as ours; unique for each connection.",
    ),
]
Email: TypeAlias = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+(?!\n)$")]
Metadata: TypeAlias = Annotated[
    dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}$")], Annotated[str, Meta(max_length=500)]
    ],
    Meta(
        max_length=30, description="Given to the provider with the payment, as far as it takes it."
    ),
]


class Customer(Request, frozen=True, kw_only=True):
    """Who pays.

    Attributes:
        phone: The phone that is asked to pay.
        email: Where receipts and payment pages go.
        name: The name as the provider shows it.
        id: The provider's own id of the customer.
    """

    phone: PhoneNumber | None = None
    email: Email | None = None
    name: Text | None = None
    id: Text | None = None


class PaymentInitiate(Request, frozen=True, kw_only=True):
    """Ask a customer for money.

    Attributes:
        amount: How much, in major units.
        currency: Of what.
        customer: Who is asked.
        reference: Given to the provider as ours; else derived from the call's id.
        description: What for, as the customer reads it.
        account: What the customer pays into, such as a pupil's number, where the provider shows it.
        return_url: Where the customer comes back to after paying on a page.
        cancel_url: Where the customer comes back to without having paid.
        channel: Which of the provider's ways to pay; its default when None.
        metadata: Given to the provider with the payment.
    """

    amount: PositiveAmount
    currency: CurrencyCode
    customer: Customer = Customer()
    reference: Reference | None = None
    description: Text | None = None
    account: Text | None = None
    return_url: Url | None = None
    cancel_url: Url | None = None
    channel: Text | None = None
    metadata: Metadata = msgspec.field(default_factory=dict)


class PaymentResult(Result, frozen=True, kw_only=True):
    """A payment as far as it is known.

    Attributes:
        status: ``pending`` until the provider says what became of it.
        provider_reference: The provider's id of it.
        reference: Ours, as the provider has it.
        redirect_url: Where the customer has to be sent to pay.
        instructions: What the customer has to do, in words to show.
        receipt: The provider's receipt number once paid.
        amount: What was paid, or is asked for while pending.
        currency: Of what.
        fees: What the provider keeps of it.
        paid_at: RFC 3339.
        payer: Who paid, as the provider names them.
        client_secret: For the provider's library in the customer's browser.
    """

    status: Literal["pending", "paid", "failed", "refunded"] | UnsetType = UNSET
    provider_reference: str | UnsetType = UNSET
    reference: str | UnsetType = UNSET
    redirect_url: str | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    receipt: str | UnsetType = UNSET
    amount: str | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    fees: str | UnsetType = UNSET
    paid_at: str | UnsetType = UNSET
    payer: str | UnsetType = UNSET
    client_secret: str | UnsetType = UNSET


class PaymentVerify(Request, frozen=True, kw_only=True):
    """Ask what became of a payment; exactly one of the two names it.

    Attributes:
        provider_reference: The provider's id of it.
        reference: Ours.
    """

    provider_reference: Text | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if (self.provider_reference is None) == (self.reference is None):
            raise ValueError("give provider_reference or reference, and not both")


class PaymentRefund(Request, frozen=True, kw_only=True):
    """Give money back that was paid.

    Attributes:
        payment: The provider's id of the payment, or its receipt number.
        amount: How much in major units; all of it when None.
        currency: Of what; needed with an amount.
        reason: Why, for the provider's records.
        reference: Given to the provider as ours.
    """

    payment: Text
    amount: PositiveAmount | None = None
    currency: CurrencyCode | None = None
    reason: Text | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if self.amount is not None and self.currency is None:
            raise ValueError("an amount needs its currency")


class BankAccount(Request, frozen=True, kw_only=True):
    """An account at a bank or a mobile wallet's number there.

    Attributes:
        number: The account's number.
        bank_code: The bank, as the provider numbers it.
        name: Whose account it is.
    """

    number: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{4,34}$")]
    bank_code: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,20}$")]
    name: Text


class PaymentPayout(Request, frozen=True, kw_only=True):
    """Send money to somebody; exactly one of phone and account says where to.

    Attributes:
        amount: How much, in major units.
        currency: Of what.
        phone: A mobile wallet.
        account: A bank account.
        purpose: What kind of payment it is, where the provider asks.
        description: What for, as the receiver reads it.
        reference: Given to the provider as ours.
        name: Whose wallet it is.
    """

    amount: PositiveAmount
    currency: CurrencyCode
    phone: PhoneNumber | None = None
    account: BankAccount | None = None
    purpose: Literal["business", "salary", "promotion"] = "business"
    description: Text | None = None
    reference: Reference | None = None
    name: Text | None = None

    def __post_init__(self) -> None:
        if (self.phone is None) == (self.account is None):
            raise ValueError("give phone or account, and not both")


def money_of(request: Any) -> Money | None:
    """Return what a request asks for or sends; None where it names no amount."""
    if request.amount is None or request.currency is None:
        return None
    return Money.of(request.amount, request.currency)


CONTRACTS = (
    Contract(
        operation="payment.initiate",
        request=PaymentInitiate,
        result=PaymentResult,
        expires_in_s=PAYMENT_EXPIRES_IN_S,
        money=money_of,
        summary="Ask a customer for money.",
    ),
    Contract(
        operation="payment.verify",
        request=PaymentVerify,
        result=PaymentResult,
        effect=False,
        summary="Ask the provider what became of a payment.",
    ),
    Contract(
        operation="payment.refund",
        request=PaymentRefund,
        result=PaymentResult,
        money=money_of,
        summary="Give money back.",
    ),
    Contract(
        operation="payment.payout",
        request=PaymentPayout,
        result=PaymentResult,
        money=money_of,
        summary="Send money to a phone or a bank account.",
    ),
)
