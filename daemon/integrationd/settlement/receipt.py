"""What became of a message after it had been handed over; it never changes the call's state."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from integrationd.call import Call, EventRecord, Part
from integrationd.settlement.record import Settlement

RULE = "receipt"

# In the order in which they may follow each other; a later word never gives way to an earlier one.
_ORDER = ("sent", "failed", "delivered", "bounced", "read", "complained")


def settle_receipt(
    call: Call,
    parts: Sequence[Part],
    delivery: str,
    *,
    recipient: str | None,
    provider_reference: str | None,
    told: Mapping[str, Any],
) -> Settlement | None:
    """Note what a receipt says; None if it is no news.

    Args:
        call: The call, whatever its state.
        parts: Its parts, where it has several recipients.
        delivery: ``delivered``, ``failed``, ``bounced``, ``complained`` or ``read``.
        recipient: Whom it is about, where the provider names the recipient.
        provider_reference: The provider's id of the message.
        told: What else the event is to tell, such as why a message failed.
    """
    part = _part(parts, recipient, provider_reference)
    if not _is_news(part.delivery if part is not None else call.delivery, delivery):
        return None
    changed: tuple[Part, ...] = ()
    after = call.replace(revision=call.revision + 1)
    if part is not None:
        changed = (msgspec.structs.replace(part, delivery=delivery),)
    else:
        after = after.replace(delivery=delivery)
    # Which recipient, but not who: no event is ever changed, whoever asks to be forgotten.
    about = {
        "part": part.position if part is not None else None,
        "provider_reference": provider_reference or call.provider_reference,
    }
    event = _event(call, delivery, {**told, **about})
    return Settlement(call=after, rule=RULE, parts=changed, events=(event,))


def _event(call: Call, delivery: str, told: Mapping[str, Any]) -> EventRecord:
    return EventRecord(
        type=f"{call.operation.partition('.')[0]}.{delivery}",
        tenant=call.tenant,
        call_id=call.id,
        connection=call.connection,
        data={
            **told,
            "operation": call.operation,
            "reference_type": call.reference_type,
            "reference_id": call.reference_id,
        },
    )


def _part(parts: Sequence[Part], recipient: str | None, reference: str | None) -> Part | None:
    for part in parts:
        if reference is not None and part.provider_reference == reference:
            return part
    return next((part for part in parts if part.recipient == recipient), None)


def _is_news(before: str | None, after: str) -> bool:
    if before is None or before not in _ORDER or after not in _ORDER:
        return before != after
    return _ORDER.index(after) > _ORDER.index(before)
