"""What every billing provider promises: customers, the page where they manage what they pay for."""

from typing import Literal

import msgspec

from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts.payment import Email, Metadata, Text, Url
from integrationd.sdk.contracts.sms import PhoneNumber


class BillingCustomer(Request, frozen=True, kw_only=True):
    """Make a customer at the provider.

    Attributes:
        email: Where receipts go.
        name: The name on them.
        phone: For the provider's records.
        description: For your own.
        metadata: Kept with the customer.
    """

    email: Email | None = None
    name: Text | None = None
    phone: PhoneNumber | None = None
    description: Text | None = None
    metadata: Metadata = msgspec.field(default_factory=dict)


class BillingCustomerResult(Result, frozen=True, kw_only=True):
    """The customer.

    Attributes:
        customer_id: The provider's id, for ``customer.id`` of payments.
    """

    customer_id: str


class BillingPortal(Request, frozen=True, kw_only=True):
    """Make the address of the page where a customer manages subscriptions and cards.

    Attributes:
        customer_id: The provider's id of the customer.
        return_url: Where the customer comes back to.
    """

    customer_id: Text
    return_url: Url | None = None


class BillingPortalResult(Result, frozen=True, kw_only=True):
    """Where to send the customer now; the address is good for a short while.

    Attributes:
        url: The address.
    """

    url: str


class BillingCancel(Request, frozen=True, kw_only=True):
    """End a subscription.

    Attributes:
        subscription_id: The provider's id of it.
        when: At once, or when the paid period is over.
        reason: For the provider's records.
    """

    subscription_id: Text
    when: Literal["now", "period_end"] = "period_end"
    reason: Text | None = None


class BillingCancelResult(Result, frozen=True, kw_only=True):
    """The subscription as it is then.

    Attributes:
        status: As the provider names it.
        ends_at: When it ends, RFC 3339, where that is known.
    """

    status: str
    ends_at: str | None = None


CONTRACTS = (
    Contract(
        operation="billing.customer",
        request=BillingCustomer,
        result=BillingCustomerResult,
        summary="Make a customer at the provider.",
    ),
    Contract(
        operation="billing.portal",
        request=BillingPortal,
        result=BillingPortalResult,
        effect=False,
        summary="Make the address of a customer's billing page.",
    ),
    Contract(
        operation="billing.cancel",
        request=BillingCancel,
        result=BillingCancelResult,
        summary="End a subscription.",
    ),
)
