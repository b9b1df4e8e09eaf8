"""What M-Pesa's replies come to: outcomes of sends, findings of queries."""

from integrationd.sdk import (
    CannotTell,
    Done,
    Finding,
    Pending,
    Refused,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)

from .codes import PROMPT_FAILURES, SUCCESS, Failure, failure_of, is_still_processing
from .wire import CURRENCY, Reply


def not_taken(reply: Reply, now_ms: int) -> Failure | None:
    """Return why a request was not taken on; None if it was, which is not to say done."""
    failure = failure_of(reply, now_ms)
    code = reply.text_of("ResponseCode")
    if failure is not None or code == SUCCESS:
        return failure
    if not code:
        return unreadable(reply)
    said = reply.text_of("ResponseDescription") or "without a reason"
    return Rejected(reason="refused", detail=f"M-Pesa did not take it on: {code} {said}.")


def unreadable(reply: Reply) -> Uncertain:
    """Return what a reply means that may be a success, but lacks what one has."""
    return Uncertain(
        reason="unreadable_reply", detail=f"M-Pesa's answer cannot be read: {reply.text}"
    )


def no_token(reply: Reply, now_ms: int) -> Failure:
    """Say what an answer without a token means; whatever it is, the call has not been sent."""
    failure = failure_of(reply, now_ms)
    if isinstance(failure, Throttled):
        return failure
    if failure is not None and 400 <= reply.status < 500:
        detail = (
            f"M-Pesa gave no access token but {reply.status} {reply.text or 'without a reason'}. "
            "Check consumer_key, consumer_secret and base_url."
        )
        return Rejected(reason="bad_credentials", detail=detail)
    detail = f"M-Pesa gave no access token but {reply.status} {reply.text}"
    return Retryable(reason="no_token", detail=detail, sent=False)


def pending(amount: str, provider_reference: str) -> dict[str, str]:
    """Return the result of a request that was taken on."""
    return {
        "status": "pending",
        "provider_reference": provider_reference,
        "amount": amount,
        "currency": CURRENCY,
    }


def finding_of_prompt(reply: Reply, checkout_id: str, now_ms: int) -> Finding:
    """Say what the answer to a query about a prompt means."""
    if is_still_processing(reply):
        return Pending()
    failure = failure_of(reply, now_ms)
    if failure is not None:
        return finding_of_asking(failure)
    code = reply.text_of("ResultCode")
    if code == SUCCESS:
        paid = {"status": "paid", "provider_reference": checkout_id}
        return Done(result=paid, reference=checkout_id)
    if code in PROMPT_FAILURES:
        reason, detail = PROMPT_FAILURES[code]
        return Refused(reason=reason, detail=detail)
    said = f"{code} {reply.text_of('ResultDesc')}".strip() or reply.text
    return CannotTell(reason="unknown_code", detail=f"M-Pesa says what is not documented: {said}")


def finding_of_asking(failure: Failure | None) -> Finding:
    """Say what came of sending a query whose answer comes later, or why it could not be sent."""
    if failure is None:
        return Pending()
    return CannotTell(reason=getattr(failure, "reason", "throttled"), detail=failure.detail)
