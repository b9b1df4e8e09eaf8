"""Paystack: payment pages, refunds and payouts in Nigeria, Ghana, Kenya and South Africa."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from integrationd.sdk import (
    Accepted,
    Asked,
    CannotTell,
    Context,
    Delivered,
    Finding,
    NeverHappened,
    Notice,
    Outcome,
    OutcomeError,
    PaymentInitiate,
    PaymentPayout,
    PaymentRefund,
    PaymentVerify,
    Pending,
    Proof,
    Provider,
    QuerySchedule,
    Refused,
    Rejected,
    Uncertain,
    UnreadableError,
    WebhookRequest,
    operation,
    query,
    signatures,
)

from .config import DAY_S, PaystackConfig
from .notices import notices_of
from .readings import (
    CALL,
    Reading,
    metadata_of,
    money_in,
    read_refund,
    read_transaction,
    read_transfer,
    text_of,
)
from .recipients import Recipients
from .requests import (
    NAME,
    initialize_body,
    minor_of,
    recipient_body,
    refund_body,
    transfer_body,
    why_not_initiate,
    why_not_payout,
    why_not_refund,
)
from .wire import (
    DUPLICATE,
    Failure,
    Json,
    Wire,
    data_of,
    is_not_found,
    items_of,
    known,
    unreadable,
    without_effect,
)

Reader: TypeAlias = Callable[[Json], Reading]

# What was sent a moment ago may not be known yet.
_SETTLED_AFTER_S = 120.0
# Refunds are listed under Paystack's time, and a machine's own may be off.
_CLOCKS_DIFFER_S = 3600
_ASK_SOON_S = 2.0

_PAGE_LOST = "page_lost"
_NO_WAY_TO_PAY = (
    "Paystack made the payment page before and does not tell its address again, so that nobody can "
    "be sent there. Ask in a new call, with a new reference."
)

_PAYMENTS = QuerySchedule(first_s=15.0)
_PAYOUTS = QuerySchedule(first_s=10.0, window_s=7 * DAY_S)
# A bank takes up to ten working days.
_REFUNDS = QuerySchedule(first_s=30.0, cap_s=3600.0, window_s=21 * DAY_S)


class Paystack(Provider):
    """Paystack transactions, refunds and transfers.

    There is no idempotency key, but a reference is taken only once. A payment page may therefore
    be asked for again; if Paystack knows the reference by then, the first request had arrived. The
    address of the page is not told a second time, so that nobody can pay there: the call fails as
    ``page_lost`` and the app asks anew. A transfer of unknown outcome is asked about and sent again
    only under the same reference. A refund has no reference at all: ours carries a mark in its
    merchant's note, by which it is found among the refunds of its payment.

    Source: Paystack API reference, https://paystack.com/docs/api, its OpenAPI description,
    https://github.com/PaystackOSS/openapi, and samples,
    https://github.com/PaystackOSS/doc-code-snippets; read 2026-11-21.
    """

    code = "paystack"

    Config = PaystackConfig
    config: PaystackConfig

    def __init__(self, config: Any, connection: Any) -> None:
        super().__init__(config, connection)
        self._wire = Wire(config.secret_key.get_secret_value())
        self._recipients = Recipients(self._wire, check_names=config.check_account_names)

    def unsupported(self, operation: str, request: Any) -> str | None:
        """Say what Paystack cannot do."""
        match request:
            case PaymentInitiate():
                return why_not_initiate(request)
            case PaymentRefund():
                return why_not_refund(request)
            case PaymentPayout():
                return why_not_payout(request)
            case PaymentVerify(provider_reference=str(given)) if not NAME.fullmatch(given):
                return f"{given!r} is neither the reference nor the id of a payment"
            case _:
                return None

    @operation("payment.initiate", repeat_safe=True)
    async def initiate(self, request: PaymentInitiate, ctx: Context) -> Outcome:
        """Make a payment page."""
        body = initialize_body(request, ctx.reference, ctx.call_id, self.config.page_settings)
        told = await self._wire.post(ctx, "/transaction/initialize", body)
        if isinstance(told, Rejected) and told.reason == DUPLICATE:
            return await self._known_before(ctx)
        if not isinstance(told, dict):
            return told
        page = data_of(told)
        url = page.get("authorization_url")
        if not isinstance(url, str) or page.get("reference") != ctx.reference:
            return unreadable("has no address of a payment page for this reference")
        result = {
            "status": "pending",
            "provider_reference": ctx.reference,
            "reference": ctx.reference,
            "redirect_url": url,
            "amount": request.amount,
            "currency": request.currency,
        }
        if access_code := text_of(page.get("access_code")):
            # The page in the browser goes on with this; made anew there it would be a duplicate.
            result["client_secret"] = access_code
        return Accepted(result=result, reference=ctx.reference)

    @query("payment.initiate", _PAYMENTS)
    async def became_of_payment(self, asked: Asked, ctx: Context) -> Finding:
        """Ask by our reference; what nobody has paid in time counts as abandoned."""
        told = await self._wire.get(ctx, f"/transaction/verify/{quote(ctx.reference, safe='')}")
        if is_not_found(told):
            return _never("transaction", ctx)
        data = data_of(known(told))
        was_told = asked.provider_reference is not None
        if not was_told and not _is_ours(data, ctx):
            return Refused(reason=DUPLICATE, detail=_taken(ctx))
        reading = _about(read_transaction, data, ctx)
        if reading.status == "abandoned" and not was_told:
            return Refused(reason=_PAGE_LOST, detail=_NO_WAY_TO_PAY)
        age_ms = ctx.clock.now_ms() - asked.sent_at_ms
        if reading.status == "abandoned" and age_ms >= self.config.open_for_s * 1000:
            detail = f"Nobody paid on the page within {self.config.open_for_s} s."
            return Refused(reason="abandoned", detail=detail)
        return reading.finding

    @operation("payment.verify", repeat_safe=True)
    async def verify(self, request: PaymentVerify, ctx: Context) -> Outcome:
        """Say how a payment stands."""
        told = await self._transaction(request.reference or str(request.provider_reference), ctx)
        if not isinstance(told, dict):
            return told
        reading = _read(read_transaction, data_of(told))
        if not isinstance(reading, Reading):
            return reading
        return Delivered(result=reading.result, reference=reading.id)

    @operation("payment.refund", repeat_safe=False)
    async def refund(self, request: PaymentRefund, ctx: Context) -> Outcome:
        """Give a payment back, in whole or in part."""
        with ctx.preliminary():
            told = without_effect(await self._transaction(request.payment, ctx))
        if not isinstance(told, dict):
            return told
        payment = data_of(told)
        payment_id, currency = text_of(payment.get("id")), payment.get("currency")
        if payment_id is None:
            return Rejected(reason="not_found", detail=f"{request.payment} has no id at Paystack.")
        if request.currency is not None and request.currency != currency:
            detail = f"The payment was made in {currency}, not in {request.currency}."
            return Rejected(reason="currency_differs", detail=detail)
        body = refund_body(request, payment_id, _mark(ctx))
        return _outcome(await self._wire.post(ctx, "/refund", body), read_refund)

    @query("payment.refund", _REFUNDS)
    async def became_of_refund(self, asked: Asked, ctx: Context) -> Finding:
        """Ask by the refund's id, or look for ours among the refunds of the payment."""
        if asked.provider_reference is not None:
            path = f"/refund/{quote(asked.provider_reference, safe='')}"
            return _about(read_refund, data_of(known(await self._wire.get(ctx, path)))).finding
        payment = data_of(known(await self._transaction(asked.request.payment, ctx)))
        filters = {"transaction": text_of(payment.get("id")) or "", "perPage": "100"}
        listed = items_of(known(await self._wire.get(ctx, "/refund", filters)))
        for one in listed:
            if _mark(ctx) in str(one.get("merchant_note")):
                return _about(read_refund, one).finding
        if any(_may_be(one, asked) for one in listed):
            return CannotTell(
                reason="refund_not_told_apart",
                detail="The payment has a refund like this one that does not say whose it is: "
                "look in Paystack's dashboard whether it is this call's.",
            )
        return _too_early(asked, ctx) or _never("refund", ctx)

    @operation("payment.payout", repeat_safe=False)
    async def payout(self, request: PaymentPayout, ctx: Context) -> Outcome:
        """Send money to a bank account or a mobile wallet."""
        recipient = await self._recipients.code_of(request, ctx)
        if not isinstance(recipient, str):
            return recipient
        body = transfer_body(request, recipient, ctx.reference)
        told = await self._wire.post(ctx, "/transfer", body)
        if isinstance(told, Rejected):
            if told.reason == DUPLICATE:
                # Perhaps ours, of an attempt before this one: the transfer itself tells.
                return Uncertain(reason=DUPLICATE, detail=told.detail)
            self._recipients.forget(request)
        outcome = _outcome(told, read_transfer)
        if isinstance(outcome, Accepted) and "instructions" in outcome.result:
            ctx.log.warning(
                "paystack_transfer_needs_otp", connection=ctx.connection, call=ctx.call_id
            )
        return outcome

    @query("payment.payout", _PAYOUTS)
    async def became_of_payout(self, asked: Asked, ctx: Context) -> Finding:
        """Ask by our reference."""
        told = await self._wire.get(ctx, f"/transfer/verify/{quote(ctx.reference, safe='')}")
        if is_not_found(told):
            return _too_early(asked, ctx) or _never("transfer", ctx)
        data = data_of(known(told))
        if asked.provider_reference is None and not _goes_to(asked.request, data):
            return Refused(reason=DUPLICATE, detail=_taken(ctx))
        return _about(read_transfer, data, ctx).finding

    async def test_connection(self, ctx: Context) -> str:
        """Ask for the balance, and say whether the key is for real money.

        Raises:
            PermissionError: The key, or this machine's address, was refused.
            ConnectionError: There was no usable answer.
        """
        is_live = self.config.secret_key.get_secret_value().startswith("sk_live_")
        told = await self._wire.get(ctx, "/balance")
        match told:
            case dict():
                held = [money_in(one.get("balance"), one.get("currency")) for one in items_of(told)]
                shown = ", ".join(str(money) for money in held if money) or "not told"
                mode = "live" if is_live else "test"
                return f"the key is good, in {mode} mode; the balance is {shown}"
            case Rejected(reason="bad_credentials" | "ip_not_allowed", detail=detail):
                raise PermissionError(detail)
            case _:
                raise ConnectionError(told.detail or "no usable answer")

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Prove that it is signed with the account's key."""
        return signatures.hmac_of_body(
            request, self.config.keys, header="x-paystack-signature", algorithm="sha512"
        )

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what an event tells.

        Raises:
            UnreadableError: It has not the shape of what it claims to be.
        """
        return notices_of(request.json())

    async def _known_before(self, ctx: Context) -> Outcome:
        """Say what a duplicate reference means: that our first request arrived, or not ours."""
        told = await self._wire.get(ctx, f"/transaction/verify/{quote(ctx.reference, safe='')}")
        if not isinstance(told, dict):
            detail = f"Paystack knows the reference, but did not say more: {told.detail}"
            return Uncertain(reason=DUPLICATE, detail=detail)
        data = data_of(told)
        if not _is_ours(data, ctx):
            return Rejected(reason=DUPLICATE, detail=_taken(ctx))
        reading = _read(read_transaction, data)
        if not isinstance(reading, Reading):
            return reading
        if reading.state == "refused" or reading.status == "abandoned":
            return Rejected(reason=_PAGE_LOST, detail=_NO_WAY_TO_PAY)
        return Accepted(result=reading.result, reference=reading.id, ask_after_s=_ASK_SOON_S)

    async def _transaction(self, name: str, ctx: Context) -> Json | Failure:
        """Look a payment up by its reference, or else by its id."""
        told = await self._wire.get(ctx, f"/transaction/verify/{quote(name, safe='')}")
        if is_not_found(told) and name.isdigit():
            told = await self._wire.get(ctx, f"/transaction/{name}")
        if is_not_found(told):
            return Rejected(reason="not_found", detail=f"Paystack knows no payment {name}.")
        return told


def _read(read: Reader, data: Json) -> Reading | Uncertain:
    """Read what a send was answered."""
    try:
        return read(data)
    except UnreadableError as error:
        return unreadable(f"cannot be used: {error}")


def _about(read: Reader, data: Json, ctx: Context | None = None) -> Reading:
    """Read what a query was answered, which has to be about our reference where one is asked for.

    Raises:
        OutcomeError: It cannot be read, or is about something else.
    """
    if ctx is not None and data.get("reference") != ctx.reference:
        raise OutcomeError(unreadable("is about another reference"))
    reading = _read(read, data)
    if isinstance(reading, Reading):
        return reading
    raise OutcomeError(reading)


def _outcome(told: Json | Failure, read: Reader) -> Outcome:
    """Say what a send of money came to."""
    if not isinstance(told, dict):
        return told
    reading = _read(read, data_of(told))
    if not isinstance(reading, Reading):
        return reading
    match reading.state:
        case "done":
            return Delivered(result=reading.result, reference=reading.id)
        case "open":
            return Accepted(result=reading.result, reference=reading.id)
        case "refused":
            return Rejected(reason=reading.status, detail=reading.why)


def _is_ours(transaction: Json, ctx: Context) -> bool:
    return metadata_of(transaction).get(CALL) == ctx.call_id


def _mark(ctx: Context) -> str:
    """Return what tells our refund from others of the same payment."""
    return f"[integrationd {ctx.call_id}]"


def _may_be(refund: Json, asked: Asked) -> bool:
    """Say whether a refund without our mark may be ours: like it, and not from before it."""
    if "[integrationd " in str(refund.get("merchant_note")):
        return False
    request: PaymentRefund = asked.request
    if request.amount is not None and request.currency is not None:
        money = money_in(refund.get("amount"), refund.get("currency") or request.currency)
        if money is not None and money.minor(2) != minor_of(request.amount, request.currency):
            return False
    made = refund.get("createdAt") or refund.get("created_at")
    try:
        made_s = dt.datetime.fromisoformat(str(made)).timestamp()
    except ValueError:
        return True
    return made_s >= asked.sent_at_ms / 1000 - _CLOCKS_DIFFER_S


def _goes_to(request: PaymentPayout, transfer: Json) -> bool:
    """Say whether a transfer goes where the payout should; also where it does not tell."""
    recipient = transfer.get("recipient")
    details = recipient.get("details") if isinstance(recipient, dict) else None
    told = details.get("account_number") if isinstance(details, dict) else None
    return told in (None, recipient_body(request)["account_number"])


def _too_early(asked: Asked, ctx: Context) -> Pending | None:
    """Put an answer off that says that something is not known, yet."""
    left_s = _SETTLED_AFTER_S - (ctx.clock.now_ms() - asked.sent_at_ms) / 1000
    return Pending(ask_after_s=left_s) if left_s > 0 else None


def _never(kind: str, ctx: Context) -> NeverHappened:
    return NeverHappened(proof=f"Paystack knows no {kind} of the reference {ctx.reference}.")


def _taken(ctx: Context) -> str:
    return (
        f"The reference {ctx.reference} was used at Paystack before, and not by this call. "
        "Give a new one, or none."
    )
