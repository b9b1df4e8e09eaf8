"""A provider of the tests whose webhooks say outright what they mean.

Source: none; nobody speaks like this.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Literal

import anyio
import msgspec

from integrationd.sdk import (
    Accepted,
    Asked,
    CannotTell,
    Context,
    Delivered,
    Done,
    Finding,
    Money,
    NeverHappened,
    Notice,
    Outcome,
    PaymentInitiate,
    Pending,
    Proof,
    Provider,
    ProviderConfig,
    QuerySchedule,
    Refused,
    SecretStr,
    Uncertain,
    UnreadableError,
    WebhookReply,
    WebhookRequest,
    operation,
    query,
    signatures,
)

Decision = Callable[[WebhookRequest], Coroutine[Any, Any, WebhookReply | None]]


class Tell(msgspec.Struct):
    """One thing that a webhook tells."""

    type: str
    id: str | None = None
    ours: str | None = None
    theirs: str | None = None
    what: Literal["done", "refused", "pending", "never"] | None = None
    amount: str | None = None
    currency: str = "KES"
    delivery: str | None = None
    recipient: str | None = None
    event: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Told(msgspec.Struct):
    """A webhook."""

    id: str
    tells: list[Tell]
    boom: str = ""
    account: str = ""


class Till(Provider):
    """Take payments, as far as a script in their metadata says so.

    Attributes:
        gates: Sends with the script ``slow`` wait for the event of their call's reference.
        sends: References of what was sent.
        asked: How often each call was asked about.
        findings: What queries come to, by the call's reference.
        decision: What ``decide_webhook`` does.
    """

    code = "till"
    gates: ClassVar[dict[str, anyio.Event]] = {}
    sends: ClassVar[list[str]] = []
    asked: ClassVar[Counter[str]] = Counter()
    findings: ClassVar[dict[str, Finding]] = {}
    decision: ClassVar[Decision | None] = None

    class Config(ProviderConfig):
        """How its webhooks are proved."""

        secret: SecretStr | None = None
        scheme: Literal["body", "timed", "standard", "shared", "address"] = "body"
        account: str | None = None

    @operation("payment.initiate", repeat_safe=False)
    async def initiate(self, request: PaymentInitiate, ctx: Context) -> Outcome:
        """Play a payment."""
        script = request.metadata.get("script", "accepted")
        theirs = request.metadata.get("theirs", f"till-{ctx.reference}")
        self.sends.append(ctx.reference)
        ctx.mark_sent()
        if script == "slow":
            await self.gates[ctx.reference].wait()
        if script == "uncertain":
            return Uncertain(reason="timeout", detail="No answer came.")
        if script == "delivered":
            return Delivered(result={"status": "paid"}, reference=theirs)
        return Accepted(result={"status": "pending"}, reference=theirs)

    @query("payment.initiate", QuerySchedule(first_s=600, factor=2, cap_s=3600, window_s=86_400))
    async def find(self, asked: Asked, ctx: Context) -> Finding:
        """Play a query."""
        self.asked[ctx.reference] += 1
        return self.findings.get(ctx.reference, CannotTell())

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Verify by the scheme of the config."""
        secrets = [self.config.secret.get_secret_value()] if self.config.secret else []
        match self.config.scheme:
            case "body":
                return signatures.hmac_of_body(request, secrets, header="x-till-signature")
            case "timed":
                return signatures.timestamped_hmac(request, secrets, header="till-signature")
            case "standard":
                return signatures.standard_webhook(request, secrets)
            case "shared":
                return signatures.shared_secret(request, secrets, header="till-hash")
            case _:
                return signatures.by_address(request)

    def claims_webhook(self, request: WebhookRequest) -> bool:
        """Claim what names the account."""
        return bool(request.json()["account"] == self.config.account)

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what it says."""
        try:
            told = msgspec.convert(request.json(), Told)
            notices = [self._notice(told, tell) for tell in told.tells]
        except ValueError as error:
            raise UnreadableError(f"it is not as agreed: {str(error)[:200]}") from error
        if told.boom == "bug":
            raise KeyError("a bug of the plugin")
        if told.boom == "exit":
            raise SystemExit(3)
        return notices

    def _notice(self, told: Told, tell: Tell) -> Notice:
        paid = Money.of(tell.amount, tell.currency) if tell.amount is not None else None
        findings: dict[str | None, Finding | None] = {
            "done": Done(result={"status": "paid"}, paid=paid, reference=tell.theirs),
            "refused": Refused(reason="insufficient_funds", detail="The till says no."),
            "pending": Pending(result={"receipt": "R1"}, paid=paid),
            "never": NeverHappened(proof="no such payment"),
            None: None,
        }
        return Notice(
            event_id=tell.id if tell.id is not None else told.id,
            type=tell.type,
            our_reference=tell.ours,
            provider_reference=tell.theirs,
            finding=findings[tell.what],
            delivery=tell.delivery,
            recipient=tell.recipient,
            event=tell.event,
            data=tell.data,
        )

    def webhook_reply(self, request: WebhookRequest) -> WebhookReply:
        """Return the reply that the till wants."""
        return WebhookReply.of_json({"ResultCode": 0})

    async def decide_webhook(self, request: WebhookRequest) -> WebhookReply | None:
        """Decide as the test wants it."""
        decision = type(self).decision
        return await decision(request) if decision is not None else None

    def answer_challenge(self, request: WebhookRequest) -> WebhookReply | None:
        """Answer the one who knows the secret."""
        secret = self.config.secret.get_secret_value() if self.config.secret else None
        if not secret or request.query.get("token") != secret:
            return None
        return WebhookReply.of_text(request.query.get("challenge", ""))
