"""Webhooks: what providers send to us, how a plugin proves that it is theirs, and what it means.

A provider that receives webhooks overrides three methods of :class:`integrationd.sdk.Provider`:

* ``verify_webhook(request)`` proves the sender from the raw bytes: :class:`Verified` or
  :class:`Refusal`, in a line or two with :mod:`integrationd.sdk.signatures`;
* ``read_webhook(request)`` says what it tells, as :class:`Notice` records, zero or more;
* ``webhook_reply(request)`` gives the reply that the provider expects, 200 and empty by default.

All three are plain functions of the request and the config: no network, no waiting. The daemon
keeps the request durably before it replies, and only then joins the notices to calls.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from integrationd.sdk.money import Money
from integrationd.sdk.outcome import Finding


class UnreadableError(Exception):
    """A webhook cannot be understood; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """A webhook as it came in.

    Attributes:
        method: ``POST``, or ``GET`` for a handshake.
        path: What follows the address that was handed out, for example ``/timeout``; else empty.
        query: The query's parameters.
        headers: Names in lower case with their values, in order, doubles included.
        body: The raw bytes; what is signed.
        source: The address that it came from, behind a trusted proxy the one that it names.
        received_at_ms: When, UTC milliseconds.
        token: Whether the address that it came to proves that we handed it out.
        listed: Whether it comes from the addresses that the operator lists for the connection.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Sequence[tuple[str, str]]
    body: bytes
    source: str
    received_at_ms: int
    token: bool = False
    listed: bool = False

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None where it is missing or given more than once."""
        values = [value for known, value in self.headers if known == name.lower()]
        return values[0] if len(values) == 1 else None

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            UnreadableError: It is none.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise UnreadableError("the body is not JSON") from None
        if not isinstance(value, dict):
            raise UnreadableError("the body is not a JSON object")
        return value

    def form(self) -> dict[str, str]:
        """Return the body as the fields of a form.

        Raises:
            UnreadableError: It is none.
        """
        try:
            pairs = parse_qsl(
                self.body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=1000
            )
        except ValueError:
            raise UnreadableError("the body is not a form") from None
        return dict(pairs)


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """The webhook is the provider's.

    Attributes:
        by: What proves it: ``signature``, ``secret``, or what only stands in for a proof:
            ``token`` for the address that it came to, ``address`` for the one that it came from.
    """

    by: str = "signature"


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """The webhook proves nothing; it is answered with a status and changes nothing.

    Attributes:
        reason: A machine word: ``signature_missing``, ``signature_wrong``, ``stale``, ``early``.
        detail: What is wrong, for the operator's log; never sent out.
        status: 401 where it may be forged, 400 where it is only too old or malformed.
    """

    reason: str
    detail: str
    status: int = 401


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that a webhook tells.

    The call is found by the address that was handed out for it, else by ``our_reference``, else by
    ``provider_reference``. What is about no call of ours becomes the event of its own that
    ``event`` names, such as ``payment.received`` for a customer who paid unasked.

    Attributes:
        event_id: The provider's id of what happened; the same for every copy that it sends.
        type: What the provider calls it.
        our_reference: The reference that we gave: ``ctx.reference`` or ``ctx.idempotency_key``.
        provider_reference: The provider's id of the effect.
        finding: What it means for the call; None where it changes nothing.
        delivery: What became of a message that had been handed over: ``delivered``, ``failed``,
            ``bounced``, ``complained``, ``read``.
        recipient: Of a message to many, whom ``delivery`` is about.
        event: The event to make where no call is found; None where that is of no interest.
        data: What the event tells.
    """

    event_id: str
    type: str
    our_reference: str | None = None
    provider_reference: str | None = None
    finding: Finding | None = None
    delivery: str | None = None
    recipient: str | None = None
    event: str | None = None
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReply:
    """What the provider is answered.

    Attributes:
        status: The HTTP status.
        body: The body.
        content_type: Its type, where there is one.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = ""

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> "WebhookReply":
        """Return a JSON reply."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status=status, body=body, content_type="application/json")

    @classmethod
    def of_text(cls, text: str, status: int = 200) -> "WebhookReply":
        """Return a plain text reply, which no browser takes for a page."""
        return cls(status=status, body=text.encode(), content_type="text/plain; charset=utf-8")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment that a customer made without being asked by a call of ours.

    Attributes:
        receipt: The provider's receipt number.
        money: How much.
        account: What the customer named as the account, such as a pupil's number.
        payer: The phone or name, as far as the provider tells it.
        paid_at: As the provider writes it.
        more: Whatever else an app may need.
    """

    receipt: str
    money: Money
    account: str = ""
    payer: str = ""
    paid_at: str = ""
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return it as the data of a ``payment.received`` event."""
        return {
            "receipt": self.receipt,
            "amount": self.money.text,
            "currency": self.money.currency,
            "account": self.account,
            "payer": self.payer,
            "paid_at": self.paid_at,
            **self.more,
        }


Proof: TypeAlias = Verified | Refusal
