"""What the provider tells by itself: delivery reports, incoming messages and opt-outs.

Nothing in them is signed. A report can say only what became of a message, never settle its call.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from integrationd.sdk import Notice, UnreadableError, WebhookRequest

Fields: TypeAlias = Mapping[str, str]

# What follows the address that was handed out, where the operator wants to tell them apart.
INCOMING, OPT_OUT = "/incoming", "/optout"

# By the provider's status in lower case; None while the message is still on its way.
_DELIVERIES: Mapping[str, str | None] = {
    "sent": None,
    "submitted": None,
    "buffered": None,
    "success": "delivered",
    "rejected": "failed",
    "failed": "failed",
    "absentsubscriber": "failed",
    "expired": "failed",
}
# Why a message was not delivered, in the words that a refused send has as well; in lower case,
# since the provider spells them now so, now so.
_REASONS: Mapping[str, str] = {
    "absentsubscriber": "absent",
    "deliveryfailure": "delivery_failure",
    "donotdisturbrejection": "do_not_disturb",
    "insufficientcredit": "insufficient_balance",
    "invalidlinkid": "invalid_link_id",
    "notnetworksubcriber": "not_on_network",
    "notnetworksubscriber": "not_on_network",
    "useraccountsuspended": "suspended",
    "userdoesnotexist": "invalid_recipient",
    "userinblacklist": "opted_out",
    "userisinactive": "inactive",
    "usernotsubscribedtoproduct": "not_subscribed",
}
_NUMBER = re.compile(r"\+?([0-9]{7,15})")
_DAY_MS = 86_400_000


def notices_of(request: WebhookRequest) -> Sequence[Notice]:
    """Return the one thing that a webhook tells.

    Raises:
        UnreadableError: It is neither a report nor an incoming message nor an opt-out, or lacks
            what it must have.
    """
    fields = request.form()
    reader = _READERS.get(request.path)
    if reader is None:
        raise UnreadableError(f"{request.path[:80]!r} follows no address of ours")
    return [reader(fields, request.received_at_ms)]


def _of_any(fields: Fields, at_ms: int) -> Notice:
    """Tell by the fields what it is, as the dashboard takes one address for everything."""
    if "status" in fields:
        return _of_report(fields, at_ms)
    if "text" in fields:
        return _of_incoming(fields, at_ms)
    if "senderId" in fields:
        return _of_opt_out(fields, at_ms)
    raise UnreadableError("it has neither status (a report) nor text nor senderId (an opt-out)")


def _of_report(fields: Fields, _at_ms: int) -> Notice:
    message_id, told = _required(fields, "id"), _required(fields, "status")
    recipient = _number(fields.get("phoneNumber", ""))
    status = told.lower()
    delivery = _DELIVERIES.get(status)
    return Notice(
        event_id=f"{message_id}:{told}:{recipient}",
        type=f"report.{status if status in _DELIVERIES else 'unknown'}",
        provider_reference=message_id,
        delivery=delivery,
        recipient=recipient or None,
        data=_data_of_report(fields, told, is_failed=delivery == "failed"),
    )


def _data_of_report(fields: Fields, status: str, *, is_failed: bool) -> dict[str, str]:
    why = fields.get("failureReason", "")
    data = {
        "status": status,
        "reason": _reason(why or status) if is_failed else "",
        "failure_reason": why,
        "network_code": fields.get("networkCode", ""),
        "retry_count": fields.get("retryCount", ""),
    }
    return _told(data)


def _of_incoming(fields: Fields, _at_ms: int) -> Notice:
    message_id, sender = _required(fields, "id"), _required(fields, "from")
    data = {
        "message_id": message_id,
        "from": _number(sender),
        "to": fields.get("to", ""),
        "sent_at": fields.get("date", ""),
        "link_id": fields.get("linkId", ""),
        "cost": fields.get("cost", ""),
        "network_code": fields.get("networkCode", ""),
    }
    return Notice(
        event_id=f"received:{message_id}",
        type="incoming",
        event="sms.received",
        # An empty message is one all the same.
        data=_told(data) | {"text": fields.get("text", "")},
    )


def _of_opt_out(fields: Fields, at_ms: int) -> Notice:
    sender, phone = _required(fields, "senderId"), _number(_required(fields, "phoneNumber"))
    return Notice(
        # It has no id. With the day, since who has opted in again may opt out again.
        event_id=f"opted_out:{sender}:{phone}:{at_ms // _DAY_MS}",
        type="opt_out",
        event="sms.opted_out",
        data={"phone": phone, "sender": sender},
    )


_READERS: Mapping[str, Callable[[Fields, int], Notice]] = {
    "": _of_any,
    INCOMING: _of_incoming,
    OPT_OUT: _of_opt_out,
}


def _required(fields: Fields, name: str) -> str:
    value = fields.get(name, "").strip()
    if not value:
        raise UnreadableError(f"it has no {name}")
    return value


def _reason(told: str) -> str:
    """Return our word for the provider's, or its own in the same style where we have none."""
    known = _REASONS.get(told.strip().lower())
    return known or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", told.strip()).lower()


def _number(told: str) -> str:
    """Return a number as we write it; a plus that nobody escaped has become a space."""
    found = _NUMBER.fullmatch(told.strip())
    return f"+{found[1]}" if found else told.strip()


def _told(data: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in data.items() if value}
