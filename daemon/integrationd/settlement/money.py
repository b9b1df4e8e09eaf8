"""What an app that keeps books is told of money: one event for each payment that has ended."""

from collections.abc import Mapping
from typing import Any

from integrationd.call import Call, CallState, EventRecord

_TYPES = {
    ("payment.initiate", True): "payment.succeeded",
    ("payment.initiate", False): "payment.failed",
    ("payment.refund", True): "payment.refunded",
    ("payment.refund", False): "payment.refund_failed",
    ("payment.payout", True): "payment.paid_out",
    ("payment.payout", False): "payment.payout_failed",
}
_ENDS = frozenset({CallState.COMPLETED, CallState.FAILED, CallState.EXPIRED})
# Who paid is personal, and no event is ever changed; it is in the call's result.
_TOLD = ("receipt", "fees", "paid_at")


def tells_of_money(before: CallState, after: Call) -> bool:
    """Say whether a call about money has just ended, other than by being called off."""
    return after.state is not before and after.state in _ENDS and (after.operation, True) in _TYPES


def money_event(call: Call, request: Mapping[str, Any], result: Mapping[str, Any]) -> EventRecord:
    """Return the event of a call about money that has ended.

    Args:
        call: The call as it now stands.
        request: What was asked for.
        result: What is known of it; what was paid counts for more than what was asked for.
    """
    is_done = call.state is CallState.COMPLETED
    data = {
        "operation": call.operation,
        "amount": result.get("amount") or request.get("amount"),
        "currency": result.get("currency") or request.get("currency"),
        "reference": result.get("reference") or request.get("reference"),
        "provider_reference": call.provider_reference,
        **{name: result.get(name) for name in _TOLD},
        "reason": None if is_done else call.reason,
        "detail": None if is_done else call.detail,
        "reference_type": call.reference_type,
        "reference_id": call.reference_id,
    }
    if "payment" in request:
        data["payment"] = request["payment"]
    return EventRecord(
        type=_TYPES[call.operation, is_done],
        tenant=call.tenant,
        call_id=call.id,
        connection=call.connection,
        data=data,
    )
