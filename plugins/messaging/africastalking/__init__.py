"""Africa's Talking: text messages to phones in Africa, their reports, and what comes back."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx2

from integrationd.sdk import (
    Context,
    Delivered,
    Notice,
    Outcome,
    PartOutcome,
    Proof,
    Provider,
    Rejected,
    Retryable,
    SmsBalance,
    SmsSend,
    SmsSendBulk,
    Uncertain,
    WebhookRequest,
    classify,
    operation,
    signatures,
)

from .config import AfricasTalkingConfig
from .replies import (
    Failure,
    Said,
    balance_of,
    digits,
    entries_of,
    of_all,
    of_status,
    outcome_of,
    spread,
    total_of,
    unauthorised,
    warn,
)
from .reports import notices_of

# Of the attempt's time; the rest is for what has been heard to be returned and not lost.
_SHARE_FOR_BATCHES = 0.95
_LATER = Retryable(
    reason="not_sent_yet",
    detail="The requests for the recipients before took the attempt's time, or one failed.",
    sent=False,
)


class AfricasTalking(Provider):
    """Africa's Talking bulk SMS, at the sender's cost.

    Every hand-over is ``Delivered``, a message that the provider holds back for review (RiskHold)
    among them: it has been taken over, repeating it would send it twice, and what becomes of it
    is for the delivery report of its id to say. Holding its call open instead would help nobody,
    since the provider cannot be asked; so the log warns of it.

    There is no idempotency key: what is sent twice arrives twice and is billed twice. A request
    without a readable answer is therefore always in doubt, a 503 among them.

    *What becomes of messages, answers to them, and opt-outs* come to the connection's own lasting
    address, which ``/v1/webhook-endpoints`` tells. Enter it in the provider's dashboard, under "SMS
    Callback URLs", for delivery reports; with ``/incoming`` after it for incoming messages, and
    with ``/optout`` for bulk SMS opt-outs. The bare address takes all three. A report sets
    ``delivery`` on its call or recipient and makes ``sms.delivered`` or ``sms.failed``, the latter
    with the ``reason``; the others make ``sms.received`` and ``sms.opted_out``.

    Nothing of it is signed, and the provider does not say from where it calls. Whoever knows the
    address can make up reports: keep it like a password. No report can change the state of a call,
    nor have a message sent again.

    Source: Africa's Talking documentation, "Sending SMS",
    http://docs.africastalking.com/sms/sending/nodejs, and its client library,
    https://github.com/AfricasTalkingLtd/africastalking-python, ``africastalking/SMS.py``;
    "Sms Notifications", http://docs.africastalking.com/sms/notifications, read 2026-11-21.
    """

    code = "africastalking"
    Config = AfricasTalkingConfig

    config: AfricasTalkingConfig

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
        result = total_of(said.values()) if len(numbers) == len(request.recipients) else {}
        return of_all(said, result)

    @operation("sms.balance", repeat_safe=True)
    async def balance(self, _request: SmsBalance, ctx: Context) -> Outcome:
        """Ask how much money the account holds."""
        response = await ctx.http.get(
            "/version1/user", params={"username": self.config.username}, headers=self._headers()
        )
        failure = unauthorised(response) or classify.of_status(response, ctx.clock.now_ms())
        if failure is not None:
            return failure
        return balance_of(response)

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

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Take what comes to an address of ours, or from one that is listed; nothing is signed."""
        return signatures.by_address(request)

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what a report, an incoming message or an opt-out tells.

        Raises:
            UnreadableError: It is none of them, or lacks what it must have.
        """
        return notices_of(request)

    async def _hand_over(
        self, numbers: Sequence[str], request: SmsSend | SmsSendBulk, ctx: Context
    ) -> Said | Failure:
        """Make one request; what httpx2 raises is left to the caller."""
        response = await ctx.http.post(
            "/version1/messaging", data=self._form(numbers, request, ctx), headers=self._headers()
        )
        failure = unauthorised(response) or of_status(response, ctx.clock.now_ms())
        if failure is not None:
            return failure
        entries = entries_of(response)
        if not isinstance(entries, Mapping):
            return entries
        warn(ctx, entries.values())
        return {number: outcome_of(entries.get(digits(number))) for number in numbers}

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
                return said | spread(heard, batch, numbers[done + len(batch) :])
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

    def _form(
        self, numbers: Sequence[str], request: SmsSend | SmsSendBulk, ctx: Context
    ) -> dict[str, str]:
        sender = request.sender or self.config.sender_id or ctx.defaults.get("sms_sender")
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
