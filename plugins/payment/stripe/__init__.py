"""Stripe: payment pages, payment intents, refunds, and what subscriptions need."""

import re
from collections.abc import Sequence
from typing import Any

import pydantic

from integrationd.sdk import (
    Accepted,
    Asked,
    BillingCancel,
    BillingCustomer,
    BillingPortal,
    Context,
    Delivered,
    Done,
    Finding,
    HttpProviderConfig,
    NeverHappened,
    Notice,
    Outcome,
    PaymentInitiate,
    PaymentRefund,
    PaymentVerify,
    Proof,
    Provider,
    Refusal,
    Rejected,
    Retryable,
    SecretStr,
    Uncertain,
    UnreadableError,
    WebhookRequest,
    operation,
    query,
    signatures,
    to_rfc3339,
)

from .forms import (
    customer_form,
    intent_form,
    is_id,
    refund_form,
    session_form,
    why_not_initiate,
    why_not_refund,
)
from .lookup import INTENTS, KINDS, REFUNDS, SESSIONS, Lookup, reading_of, unreadable
from .notices import Event, ends_at, notices_of
from .objects import Object, Reading, id_of
from .wire import Failure, Wire

API = "https://api.stripe.com"
API_VERSION = "2026-10-28.endive"

# Keys are kept for 24 hours at least. The hour is for a request that is slow to arrive.
KEY_LIFETIME_S = 23 * 3600.0
# What was made is listed under Stripe's time, and a machine's own may be off.
_CLOCKS_DIFFER_S = 3600
_DAY_S = 86400


class Stripe(Provider):
    """Stripe Checkout, PaymentIntents, refunds, customers, billing portal and subscriptions.

    ``payment.initiate`` makes a payment page, or with the channel ``intent`` a payment intent for
    a page of the app's own. Stripe answers a key that it knows with its first answer, whatever
    that was, and a 5xx among them: so a send without a usable answer is repeated under its key for
    as long as Stripe keeps that, and afterwards looked for by the reference in its metadata.

    A session's life is not part of the request, which must stay the same under one key. Instead
    the query closes what is still unpaid after ``open_for_s``.

    Source: Stripe API reference, https://docs.stripe.com/api, with "Idempotent requests", "Errors",
    "Receive events in your webhook endpoint", and the official client stripe-python 16.1.0,
    https://github.com/stripe/stripe-python; read 2026-11-21.
    """

    code = "stripe"

    class Config(HttpProviderConfig):
        """The account, and how its payments are made.

        Attributes:
            secret_key: ``sk_...``, or ``rk_...`` with the permissions for what is used.
            webhook_secret: ``whsec_...``, the endpoint's signing secret; a list while two of them
                are valid.
            base_url: Stripe's one host; the key says whether money is real.
            stripe_version: The version of the API that requests are made in, never the account's.
            stripe_account: The connected account (``acct_...``) that requests are made for.
            success_url: Where customers come back to, unless the payment has a ``return_url``;
                ``{CHECKOUT_SESSION_ID}`` in it becomes the session's id.
            cancel_url: Where they come back to unpaid, unless the payment has a ``cancel_url``.
            open_for_s: Seconds after which what is still unpaid is closed, a day at most.
        """

        secret_key: SecretStr
        webhook_secret: SecretStr | tuple[SecretStr, ...] = ()
        base_url: str = API
        stripe_version: str = pydantic.Field(
            API_VERSION, pattern=r"^\d{4}-\d{2}-\d{2}(\.[a-z_]+)?$"
        )
        stripe_account: str | None = pydantic.Field(None, pattern=r"^acct_[A-Za-z0-9]+$")
        success_url: str | None = pydantic.Field(None, pattern=r"^https?://\S+$")
        cancel_url: str | None = pydantic.Field(None, pattern=r"^https?://\S+$")
        open_for_s: int = pydantic.Field(_DAY_S, ge=60, le=_DAY_S)

        @pydantic.field_validator("secret_key")
        @classmethod
        def _is_a_secret_key(cls, key: SecretStr) -> SecretStr:
            text = key.get_secret_value()
            if text.startswith("pk_"):
                raise ValueError("is the publishable key; the secret one begins with sk_ or rk_")
            if not is_id(text, "sk_", "rk_"):
                raise ValueError("must begin with sk_ or rk_ and be one word")
            return key

        @pydantic.field_validator("webhook_secret")
        @classmethod
        def _are_whole(
            cls, given: SecretStr | tuple[SecretStr, ...]
        ) -> SecretStr | tuple[SecretStr, ...]:
            for secret in (given,) if isinstance(given, SecretStr) else given:
                if not re.fullmatch(r"whsec_[!-~]+", secret.get_secret_value()):
                    raise ValueError("must be the whole signing secret, whsec_ included")
            return given

        @property
        def webhook_secrets(self) -> list[str]:
            """Those that are valid now."""
            given = self.webhook_secret
            secrets = (given,) if isinstance(given, SecretStr) else given
            return [secret.get_secret_value() for secret in secrets]

        @property
        def is_live(self) -> bool | None:
            """Whether money is real; None where the key does not tell."""
            modes = {"live": True, "test": False}
            return modes.get(self.secret_key.get_secret_value().split("_")[1])

    config: Config

    def __init__(self, config: Any, connection: Any) -> None:
        super().__init__(config, connection)
        headers = {
            "Authorization": f"Bearer {config.secret_key.get_secret_value()}",
            "Stripe-Version": config.stripe_version,
        }
        if config.stripe_account is not None:
            headers["Stripe-Account"] = config.stripe_account
        self._wire = Wire(headers)
        self._lookup = Lookup(self._wire)

    def unsupported(self, operation: str, request: Any) -> str | None:
        """Say what Stripe cannot do, or which id is none of its."""
        match request:
            case PaymentInitiate():
                return why_not_initiate(request, self.config.success_url)
            case PaymentRefund():
                return why_not_refund(request)
            case PaymentVerify(provider_reference=str(given)) if not is_id(given, *KINDS):
                return (
                    f"{given!r} is no session (cs_...), payment intent (pi_...) or refund (re_...)"
                )
            case BillingPortal(customer_id=given) | BillingCancel(subscription_id=given):
                return None if is_id(given) else f"{given!r} is no id of Stripe's"
            case _:
                return None

    @operation("payment.initiate", repeat_safe=True, key_lifetime_s=KEY_LIFETIME_S)
    async def initiate(self, request: PaymentInitiate, ctx: Context) -> Outcome:
        """Make a payment page, or a payment intent."""
        if request.channel == "intent":
            told = await self._wire.post(ctx, INTENTS, intent_form(request, ctx.reference))
        else:
            urls = self.config.success_url, self.config.cancel_url
            told = await self._wire.post(ctx, SESSIONS, session_form(request, ctx.reference, *urls))
        reading = reading_of(told)
        if not isinstance(reading, Reading):
            return reading
        return Accepted(result=reading.result, reference=reading.id)

    @query("payment.initiate")
    async def became_of_payment(self, asked: Asked, ctx: Context) -> Finding:
        """Ask by Stripe's id, or look for our reference; close what nobody has paid in time."""
        path = INTENTS if asked.request.channel == "intent" else SESSIONS
        made = asked.provider_reference or await self._lookup.listed(
            ctx, path, ctx.reference, _about_the_time(asked, ctx)
        )
        if made is None:
            return _never(asked, ctx)
        reading = await self._lookup.known(ctx, made)
        since_s = reading.closable_since_s
        if since_s is not None and ctx.clock.now_ms() // 1000 - since_s >= self.config.open_for_s:
            reading = await self._closed(reading, ctx)
        return reading.finding

    @operation("payment.verify", repeat_safe=True)
    async def verify(self, request: PaymentVerify, ctx: Context) -> Outcome:
        """Say how a payment or a refund stands."""
        thing_id = request.provider_reference
        if thing_id is None and request.reference is not None:
            thing_id = await self._found(request.reference, ctx)
        if thing_id is None:
            return Rejected(
                reason="not_found",
                detail=f"Stripe knows no payment with the reference {request.reference}. One that "
                "was made by channel 'intent' within the last minutes may not be known yet.",
            )
        reading = await self._lookup.by_id(ctx, thing_id)
        return Delivered(result=reading.result) if isinstance(reading, Reading) else reading

    @operation("payment.refund", repeat_safe=True, key_lifetime_s=KEY_LIFETIME_S)
    async def refund(self, request: PaymentRefund, ctx: Context) -> Outcome:
        """Give a payment back, in whole or in part."""
        payment = await self._refundable(request, ctx)
        if not isinstance(payment, dict):
            return payment
        form = refund_form(request, payment, ctx.reference)
        reading = reading_of(await self._wire.post(ctx, REFUNDS, form))
        if not isinstance(reading, Reading):
            return reading
        match reading.state:
            case "paid":
                return Delivered(result=reading.result, reference=reading.id)
            case "open":
                return Accepted(result=reading.result, reference=reading.id)
            case _:
                return Rejected(reason=reading.reason, detail=reading.detail)

    @query("payment.refund")
    async def became_of_refund(self, asked: Asked, ctx: Context) -> Finding:
        """Ask by Stripe's id, or look for our reference among the refunds of the payment."""
        made = asked.provider_reference
        if made is None:
            of_payment = _named(asked.request.payment) or _about_the_time(asked, ctx)
            made = await self._lookup.listed(ctx, REFUNDS, ctx.reference, of_payment)
        if made is None:
            return _never(asked, ctx)
        return (await self._lookup.known(ctx, made)).finding

    @operation("billing.customer", repeat_safe=True, key_lifetime_s=KEY_LIFETIME_S)
    async def customer(self, request: BillingCustomer, ctx: Context) -> Outcome:
        """Make a customer."""
        form = customer_form(request, ctx.reference)
        told = await self._wire.post(ctx, "/v1/customers", form)
        if not isinstance(told, dict):
            return told
        made = id_of(told)
        if made is None:
            return unreadable(told)
        return Delivered(result={"customer_id": made}, reference=made)

    @query("billing.customer")
    async def became_of_customer(self, asked: Asked, ctx: Context) -> Finding:
        """Look for our reference among the customers made at the time."""
        made = await self._lookup.listed(
            ctx, "/v1/customers", ctx.reference, _about_the_time(asked, ctx)
        )
        if made is None:
            return _never(asked, ctx)
        return Done(result={"customer_id": made}, reference=made)

    @operation("billing.portal", repeat_safe=True, key_lifetime_s=KEY_LIFETIME_S)
    async def portal(self, request: BillingPortal, ctx: Context) -> Outcome:
        """Make the address of a customer's billing page."""
        form = {"customer": request.customer_id, "return_url": request.return_url}
        told = await self._wire.post(ctx, "/v1/billing_portal/sessions", form)
        if not isinstance(told, dict):
            return told
        url = told.get("url")
        return Delivered(result={"url": url}) if isinstance(url, str) else unreadable(told)

    @operation("billing.cancel", repeat_safe=True, key_lifetime_s=KEY_LIFETIME_S)
    async def cancel(self, request: BillingCancel, ctx: Context) -> Outcome:
        """End a subscription; one that has ended already is no failure."""
        path = f"/v1/subscriptions/{request.subscription_id}"
        reason = {"cancellation_details": {"comment": request.reason}}
        if request.when == "now":
            told = await self._wire.delete(ctx, path, reason)
        else:
            told = await self._wire.post(ctx, path, {"cancel_at_period_end": True, **reason})
        if isinstance(told, Rejected) and told.reason != "bad_credentials":
            stands = await self._wire.get(ctx, path)
            told = stands if _has_ended(stands) else told
        if not isinstance(told, dict):
            return told
        return Delivered(result=_of_subscription(told), reference=id_of(told))

    @query("billing.cancel")
    async def became_of_cancel(self, asked: Asked, ctx: Context) -> Finding:
        """Look whether the subscription has ended, or will at the end of its period."""
        request: BillingCancel = asked.request
        stands = await self._wire.known(ctx, f"/v1/subscriptions/{request.subscription_id}")
        will_end = request.when == "period_end" and stands.get("cancel_at_period_end") is True
        if _has_ended(stands) or will_end:
            return Done(result=_of_subscription(stands), reference=id_of(stands))
        return NeverHappened(proof=f"Stripe says that it is {stands.get('status')} and goes on.")

    async def test_connection(self, ctx: Context) -> str:
        """Ask for the balance, and say whether the key is for real money.

        Raises:
            PermissionError: The key was refused.
            ConnectionError: There was no usable answer.
        """
        mode = {True: "live", False: "test", None: "an unknown"}[self.config.is_live]
        told = await self._wire.get(ctx, "/v1/balance")
        match told:
            case dict():
                return f"the key is good, in {mode} mode"
            case Rejected(reason="bad_credentials", detail=detail):
                raise PermissionError(detail)
            case Rejected(reason="permission_missing"):
                return f"the key is known, in {mode} mode, but may not read the balance"
            case _:
                raise ConnectionError(told.detail or "no usable answer")

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Prove that it is signed with one of the endpoint's secrets, and lately."""
        secrets = self.config.webhook_secrets
        if not secrets:
            return Refusal(
                "secret_missing",
                "Set webhook_secret of the connection to the signing secret of Stripe's endpoint.",
            )
        return signatures.timestamped_hmac(request, secrets, header="Stripe-Signature")

    def claims_webhook(self, request: WebhookRequest) -> bool:
        """Say whether an event is of this connection's account; the platform's own names none."""
        return bool(request.json().get("account") == self.config.stripe_account)

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what an event tells.

        Raises:
            UnreadableError: It is no event, or not about the money that the key is for.
        """
        event = Event(request.json())
        is_live = self.config.is_live
        if is_live is not None and event.livemode is (not is_live):
            modes = ("test", "live")
            raise UnreadableError(
                f"it is a {modes[not is_live]} event, but the connection's key is {modes[is_live]}"
            )
        if event.account not in (None, self.config.stripe_account):
            return ()
        return notices_of(event)

    async def _closed(self, reading: Reading, ctx: Context) -> Reading:
        """Close what nobody has paid; as it was where that fails, as when it is just being paid."""
        if reading.id.startswith("pi_"):
            path, form = f"{INTENTS}/{reading.id}/cancel", {"cancellation_reason": "abandoned"}
        else:
            path, form = f"{SESSIONS}/{reading.id}/expire", {}
        closed = reading_of(await self._wire.post(ctx, path, form, with_key=False))
        return closed if isinstance(closed, Reading) else reading

    async def _found(self, reference: str, ctx: Context) -> str | None:
        """Find a payment by our reference: one begun, else a page that is still open."""
        found = await self._lookup.searched(ctx, reference)
        if found is not None:
            return found
        since_s = ctx.clock.now_ms() // 1000 - _DAY_S - _CLOCKS_DIFFER_S
        return await self._lookup.listed(ctx, SESSIONS, reference, {"created": {"gte": since_s}})

    async def _refundable(self, request: PaymentRefund, ctx: Context) -> dict[str, str] | Failure:
        """Return what is to be refunded, as the form names it.

        A page is not refunded, but its payment. An amount says little without the currency that
        the payment was made in, so that is looked at first.
        """
        named = _named(request.payment)
        if named and request.amount is None:
            return named
        path = next(path for kind, path in _PAYMENTS.items() if request.payment.startswith(kind))
        with ctx.preliminary():
            told = await self._wire.get(ctx, f"{path}/{request.payment}")
        if isinstance(told, Uncertain):
            return Retryable(reason=told.reason, detail=told.detail)
        if not isinstance(told, dict):
            return told
        paid_in = str(told.get("currency")).upper()
        if request.currency is not None and request.currency != paid_in:
            detail = f"The payment was made in {paid_in}, not in {request.currency}."
            return Rejected(reason="currency_differs", detail=detail)
        named = named or _named(id_of(told.get("payment_intent")) or "")
        if not named:
            detail = f"Nothing has been paid on the page {request.payment}."
            return Rejected(reason="not_paid", detail=detail)
        return named


_PAYMENTS = {"pi_": INTENTS, "cs_": SESSIONS, "ch_": "/v1/charges", "py_": "/v1/charges"}


def _named(payment: str) -> dict[str, str]:
    """Return a payment as forms and filters name it; nothing for a page."""
    if payment.startswith("pi_"):
        return {"payment_intent": payment}
    return {"charge": payment} if payment.startswith(("ch_", "py_")) else {}


def _about_the_time(asked: Asked, ctx: Context) -> dict[str, Any]:
    """Return the filter of a list for all that the sends of a call can have made.

    It is open to the future, and begins with the earlier of two times: the machine's clock may
    have been set since.
    """
    since_s = min(asked.sent_at_ms, ctx.clock.now_ms()) // 1000 - _CLOCKS_DIFFER_S
    return {"created": {"gte": max(since_s, 0)}}


def _never(asked: Asked, ctx: Context) -> NeverHappened:
    since = to_rfc3339(asked.sent_at_ms)
    return NeverHappened(
        proof=f"Stripe lists nothing with the reference {ctx.reference} since {since}."
    )


def _has_ended(told: Object | Failure) -> bool:
    return isinstance(told, dict) and told.get("status") == "canceled"


def _of_subscription(told: Object) -> dict[str, str]:
    result = {"status": str(told.get("status"))}
    ends = ends_at(told)
    return result if ends is None else result | {"ends_at": ends}
