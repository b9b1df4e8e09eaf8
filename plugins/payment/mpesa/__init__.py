"""M-Pesa (Daraja): prompts on phones, payouts, reversals, and money that customers send unasked."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from integrationd.sdk import (
    Accepted,
    Asked,
    CannotTell,
    Context,
    Delivered,
    Done,
    Finding,
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
    Token,
    Uncertain,
    WebhookReply,
    WebhookRequest,
    operation,
    query,
    signatures,
)

from . import c2b, requests
from .c2b import C2B_SIMULATE, REGISTER_URLS, C2bSimulate, RegisterUrls, Validator
from .codes import STALE_TOKEN, Failure, failure_of, is_already_registered, is_duplicate
from .config import MpesaConfig, forbidden_word
from .notices import (
    ORIGINAL,
    PAYOUT,
    RESULT,
    REVERSAL,
    TIMEOUT,
    VALIDATION,
    VERIFIED,
    notices_of,
    payment_of,
    seal,
)
from .replies import (
    finding_of_asking,
    finding_of_prompt,
    no_token,
    not_taken,
    pending,
    unreadable,
)
from .requests import Fields
from .wire import CustomerPayment, Reply, read

# M-Pesa does not say for how long it knows the id of a payout; a day is taken for granted.
_DUPLICATES_KNOWN_S = 24 * 3600.0
# A customer takes some twenty seconds to find the phone and enter the PIN.
_PROMPTED = QuerySchedule(first_s=25.0, factor=2.0, cap_s=900.0)
# Answers to these queries come by callback, so that haste would only pile them up.
_ANSWERED_LATER = QuerySchedule(first_s=60.0, factor=2.0, cap_s=3600.0)
_VERIFYING = QuerySchedule(first_s=60.0, factor=2.0, cap_s=300.0, window_s=900.0)
_THANKS = WebhookReply.of_json({"ResultCode": 0, "ResultDesc": "Accepted"})

_REFUSALS: Mapping[type, Callable[[Any, MpesaConfig], str | None]] = {
    PaymentInitiate: requests.refusal_of_prompt,
    PaymentPayout: requests.refusal_of_payout,
    PaymentRefund: requests.refusal_of_refund,
    PaymentVerify: requests.refusal_of_verify,
    RegisterUrls: c2b.refusal_of_registration,
    C2bSimulate: c2b.refusal_of_simulation,
}


class Mpesa(Provider):
    """M-Pesa through Daraja, in Kenya shillings.

    **Nothing that M-Pesa sends is signed.** So five things stand between a callback and a payment
    that counts:

    1. Callbacks are taken only at addresses that were handed out, each for one call; what
       customers pay unasked comes to the connection's own.
    2. The operator lists where M-Pesa calls from; behind a proxy, name that one under
       ``[webhooks] trusted_proxies``::

           [connections.mpesa.webhook]
           allow_from = ["196.201.214.200", "196.201.214.206", "196.201.214.207",
                         "196.201.214.208", "196.201.213.114", "196.201.213.44",
                         "196.201.212.127", "196.201.212.129", "196.201.212.136",
                         "196.201.212.138", "196.201.212.74", "196.201.212.69"]

    3. The CheckoutRequestID or OriginatorConversationID must be that of the call.
    4. What a callback says, success or failure, only makes the daemon ask M-Pesa.
    5. The amount is held against what was asked for.

    A *prompt* is asked about by its CheckoutRequestID, which answers at once; the callback adds
    the receipt. If the answer with that id was lost, only the callback brings it: until then
    nothing can be asked, and nothing is prompted a second time.

    *Payouts* and *reversals* can be asked about only by a status query, whose answer comes as
    another callback. A result that comes by itself, good or bad, or a timeout, makes the daemon
    send that query. Its answer counts only at an address that is sealed under the consumer secret
    and leaves this machine in no request but the query itself, so that whoever forges a result
    brings about a question and nothing else. An answer that is lost is asked for again, at growing
    intervals. That a transaction is not found proves nothing, for it may be found later. What is
    still open at the end of the window stays unknown, for a person to look at.
    A payout is sent again after a doubt, with the same id: M-Pesa refuses the second, which proves
    the first. A reversal is not; it is asked about, at the payment itself where need be.

    *Customers who pay unasked*: set ``callback_url`` to the connection's own lasting address, which
    ``/v1/webhook-endpoints`` tells, and send ``mpesa.register_urls`` once. Each confirmation
    becomes a ``payment.received`` event, of prompted payments as well: tell them by the receipt.
    No query stands behind these, so that the address list matters here most. With
    ``validation_url`` the app is asked first, by a POST of the payment as JSON, and answers
    ``{"accept": true}``, or ``{"accept": false, "reason": "account"}`` (or ``phone``, ``amount``,
    ``kyc``, ``shortcode``, ``other``).

    Source: Daraja 3.0, "M-Pesa Express", "Customer To Business", "Business To Customer",
    "Transaction Status" and "Reversals", https://developer.safaricom.co.ke/apis, and
    https://github.com/safaricom/mpesa-node-library, read 2026-11-21.
    """

    code = "mpesa"
    Config = MpesaConfig

    config: MpesaConfig

    def __init__(self, config: MpesaConfig, connection: Any) -> None:
        super().__init__(config, connection)
        self._validator = Validator(config)
        self._credential = config.credential() if config.may_move_money else ""

    def unsupported(self, operation: str, request: Any) -> str | None:
        """Say what M-Pesa does not do, or what this connection lacks for it."""
        refusal = _REFUSALS.get(type(request))
        return None if refusal is None else refusal(request, self.config)

    async def aclose(self) -> None:
        """Close what asks the app."""
        await self._validator.aclose()

    async def test_connection(self, ctx: Context) -> str:
        """Get an access token, which proves key and secret.

        Raises:
            OutcomeError: There was none.
        """
        await ctx.token()
        return f"M-Pesa gave an access token to the app of {self.config.shortcode}"

    async def fetch_token(self, ctx: Context) -> Token:
        """Get an access token; it makes the one before invalid, so that all calls share it.

        Raises:
            OutcomeError: There was none; nothing of the call itself has been sent.
        """
        key = self.config.consumer_key.get_secret_value()
        secret = self.config.consumer_secret.get_secret_value()
        basic = base64.b64encode(f"{key}:{secret}".encode()).decode()
        reply = Reply.of(
            await ctx.http.get(
                "/oauth/v1/generate",
                params={"grant_type": "client_credentials"},
                headers={"Authorization": f"Basic {basic}"},
            )
        )
        token, life = reply.text_of("access_token"), reply.text_of("expires_in")
        if not reply.is_success or not token:
            raise OutcomeError(no_token(reply, ctx.clock.now_ms()))
        return Token(access_token=token, expires_in_s=float(life) if life.isdecimal() else None)

    @operation("payment.initiate", repeat_safe=False)
    async def initiate(self, request: PaymentInitiate, ctx: Context) -> Outcome:
        """Prompt a customer on the phone."""
        callback = self._address(ctx)
        fields = requests.prompt(request, self.config, ctx.reference, callback, ctx.clock.now_ms())
        reply = await self._post("/mpesa/stkpush/v1/processrequest", fields, ctx)
        failure = not_taken(reply, ctx.clock.now_ms())
        if failure is not None:
            return failure
        checkout_id = reply.text_of("CheckoutRequestID")
        if not checkout_id:
            return unreadable(reply)
        result = pending(request.amount, checkout_id) | {
            "reference": fields["AccountReference"],
            "instructions": f"Enter the M-Pesa PIN on the phone {fields['PhoneNumber']}.",
        }
        return Accepted(result=result, reference=checkout_id)

    @query("payment.initiate", _PROMPTED)
    async def ask_about_prompt(self, asked: Asked, ctx: Context) -> Finding:
        """Ask what the customer did; without the prompt's id there is nothing to ask by."""
        if asked.provider_reference is None:
            return CannotTell(
                reason="no_checkout_id",
                detail="The answer with the CheckoutRequestID was lost; only the callback has it.",
            )
        reply = await self._ask_about(asked.provider_reference, ctx)
        return finding_of_prompt(reply, asked.provider_reference, ctx.clock.now_ms())

    @operation("payment.verify", repeat_safe=True)
    async def verify(self, request: PaymentVerify, ctx: Context) -> Outcome:
        """Ask about a prompt, which answers at once, or about a transaction, which does not."""
        named = request.provider_reference or ""
        if not named.startswith(requests.CHECKOUT_PREFIX):
            about = _about(named) if named else {"OriginalConversationID": ctx.reference}
            return await self._ask_for_status(about, VERIFIED, ctx) or Accepted()
        reply = await self._ask_about(named, ctx)
        match finding_of_prompt(reply, named, ctx.clock.now_ms()):
            case Done(result=result):
                return Delivered(result=result, reference=named)
            case Refused() | Pending() as finding:
                status = "failed" if isinstance(finding, Refused) else "pending"
                return Delivered(result={"status": status, "provider_reference": named})
            case finding:
                detail = getattr(finding, "detail", "")
                failure = failure_of(reply, ctx.clock.now_ms())
                return failure or Uncertain(reason="unknown_code", detail=detail)

    @query("payment.verify", _VERIFYING)
    async def ask_to_verify_again(self, asked: Asked, ctx: Context) -> Finding:
        """Ask again where the answer does not come."""
        named = asked.request.provider_reference
        about = _about(named) if named else {"OriginalConversationID": ctx.reference}
        return finding_of_asking(await self._ask_for_status(about, VERIFIED, ctx))

    @operation("payment.payout", repeat_safe=True, key_lifetime_s=_DUPLICATES_KNOWN_S)
    async def pay_out(self, request: PaymentPayout, ctx: Context) -> Outcome:
        """Send money to a phone; that one with this id had arrived before is as good."""
        fields = requests.payout(
            request,
            self.config,
            ctx.reference,
            self._address(ctx, RESULT),
            self._address(ctx, TIMEOUT),
        )
        fields["SecurityCredential"] = self._credential
        reply = await self._post("/mpesa/b2c/v3/paymentrequest", fields, ctx)
        if is_duplicate(reply):
            known = pending(request.amount, ctx.reference)
            return Accepted(result=known, reference=ctx.reference, ask_after_s=1.0)
        return not_taken(reply, ctx.clock.now_ms()) or Accepted(
            result=pending(request.amount, ctx.reference), reference=ctx.reference
        )

    @query("payment.payout", _ANSWERED_LATER)
    async def ask_about_payout(self, asked: Asked, ctx: Context) -> Finding:
        """Ask for its status; the answer comes to an address of its own."""
        about = {"OriginalConversationID": asked.provider_reference or ctx.reference}
        return finding_of_asking(await self._ask_for_status(about, PAYOUT, ctx))

    @operation("payment.refund", repeat_safe=False)
    async def reverse(self, request: PaymentRefund, ctx: Context) -> Outcome:
        """Reverse what a customer paid."""
        fields = requests.reversal(
            request, self.config, self._address(ctx, RESULT), self._address(ctx, TIMEOUT)
        )
        fields["SecurityCredential"] = self._credential
        reply = await self._post("/mpesa/reversal/v1/request", fields, ctx)
        failure = not_taken(reply, ctx.clock.now_ms())
        if failure is not None:
            return failure
        reversal_id = reply.text_of("OriginatorConversationID")
        if not reversal_id:
            return unreadable(reply)
        return Accepted(result=pending(request.amount or "0", reversal_id), reference=reversal_id)

    @query("payment.refund", _ANSWERED_LATER)
    async def ask_about_reversal(self, asked: Asked, ctx: Context) -> Finding:
        """Ask for its status, and for the payment's own: it may have been reversed before."""
        reversal_id = asked.provider_reference
        if reversal_id is not None:
            about = {"OriginalConversationID": reversal_id}
            failure = await self._ask_for_status(about, REVERSAL, ctx)
            if failure is not None:
                return finding_of_asking(failure)
        return finding_of_asking(
            await self._ask_for_status(_about(asked.request.payment), ORIGINAL, ctx)
        )

    @operation(REGISTER_URLS.operation, repeat_safe=False, contract=REGISTER_URLS)
    async def register_urls(self, request: RegisterUrls, ctx: Context) -> Outcome:
        """Register the connection's own addresses; in production that works once."""
        fields = c2b.registration(self.config, request)
        reply = await self._post("/mpesa/c2b/v2/registerurl", fields, ctx)
        if is_already_registered(reply):
            return Rejected(
                reason="already_registered",
                detail="The shortcode has addresses already; have M-Pesa delete them first.",
            )
        return not_taken(reply, ctx.clock.now_ms()) or Delivered(
            result={
                "confirmation_url": fields["ConfirmationURL"],
                "validation_url": fields["ValidationURL"],
            }
        )

    @operation(C2B_SIMULATE.operation, repeat_safe=False, contract=C2B_SIMULATE)
    async def simulate(self, request: C2bSimulate, ctx: Context) -> Outcome:
        """Pay as a customer would."""
        fields = c2b.simulation(self.config, request)
        reply = await self._post("/mpesa/c2b/v2/simulate", fields, ctx)
        # Misspelt by the provider.
        conversation_id = reply.text_of("OriginatorCoversationID")
        return not_taken(reply, ctx.clock.now_ms()) or Delivered(
            result={"conversation_id": conversation_id}, reference=conversation_id or None
        )

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Take what comes to an address of ours, or from one that is listed; nothing is signed."""
        return signatures.by_address(request)

    def claims_webhook(self, request: WebhookRequest) -> bool:
        """Say whether a customer's payment is to this connection's shortcode or till."""
        named = str(request.json().get("BusinessShortCode", ""))
        return named in {self.config.shortcode, self.config.till}

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what a callback tells.

        Raises:
            UnreadableError: It cannot be understood, or came to an address that is none.
        """
        return notices_of(request, self._secret)

    def webhook_reply(self, request: WebhookRequest) -> WebhookReply:
        """Thank for a callback; a validation is answered by the default until it is decided."""
        return self._validator.default if request.path == VALIDATION else _THANKS

    async def decide_webhook(self, request: WebhookRequest) -> WebhookReply | None:
        """Ask the app whether a customer may pay."""
        if request.path != VALIDATION:
            return None
        return await self._validator.decide(payment_of(read(request.body, CustomerPayment)))

    @property
    def _secret(self) -> str:
        return self.config.consumer_secret.get_secret_value()

    def _address(self, ctx: Context, path: str = "") -> str:
        """Return an address of the call's that M-Pesa takes.

        Raises:
            OutcomeError: There is none.
        """
        try:
            url = ctx.callback_url(path)
        except RuntimeError as error:
            raise OutcomeError(Rejected(reason="no_callback_url", detail=str(error))) from error
        word = forbidden_word(url)
        if word:
            why = f"holds {word!r}, which M-Pesa refuses in an address"
        elif self.config.is_production and not url.startswith("https://"):
            why = "must begin with https:// in production"
        else:
            return url
        raise OutcomeError(Rejected(reason="callback_url", detail=f"[webhooks] public_url {why}."))

    async def _ask_about(self, checkout_id: str, ctx: Context) -> Reply:
        fields = requests.signed(self.config, ctx.clock.now_ms())
        fields["CheckoutRequestID"] = checkout_id
        return await self._post("/mpesa/stkpushquery/v1/query", fields, ctx)

    async def _ask_for_status(
        self, about: dict[str, str], kind: str, ctx: Context
    ) -> Failure | None:
        """Ask for a transaction's status; None if the answer is on its way."""
        config = self.config
        party = config.payout_shortcode if kind == PAYOUT else None
        fields = requests.status(
            config,
            about,
            party or config.shortcode,
            self._address(ctx, f"/{kind}/{seal(self._secret)}"),
            self._address(ctx, TIMEOUT),
        )
        fields["SecurityCredential"] = self._credential
        reply = await self._post("/mpesa/transactionstatus/v1/query", fields, ctx)
        return not_taken(reply, ctx.clock.now_ms())

    async def _post(self, path: str, fields: Fields, ctx: Context) -> Reply:
        """Make a request, once more under a fresh token if M-Pesa does not take the one we have."""
        token = await ctx.token()
        reply = await _posted(path, fields, token, ctx)
        if reply.code not in STALE_TOKEN:
            return reply
        # The gateway let it not through, so that nothing of the call has been sent.
        ctx.sent = False
        return await _posted(path, fields, await ctx.token(refused=token), ctx)


async def _posted(path: str, fields: Fields, token: str, ctx: Context) -> Reply:
    headers = {"Authorization": f"Bearer {token}"}
    return Reply.of(await ctx.http.post(path, json=fields, headers=headers))


def _about(named: str) -> dict[str, str]:
    """Return by which of its names a transaction is asked about."""
    name = "TransactionID" if requests.is_receipt(named) else "OriginalConversationID"
    return {name: named}
