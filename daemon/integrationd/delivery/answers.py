"""Answers: what plugins return or raise, and what that means when it is neither."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from integrationd.call import AttemptKind
from integrationd.sdk import classify
from integrationd.sdk import outcome as said

Answer: TypeAlias = said.Outcome | said.Finding

# How classify begins the reasons that a provider's own reply gave.
PROVIDER_REFUSAL = "http_"
UNAUTHORISED = 401
# What a plugin without HTTP gives as the reason of a refusal for the same cause.
BAD_CREDENTIALS = "bad_credentials"
# What the daemon makes of such a refusal once newer credentials are in force.
RENEWED = "credentials_renewed"

_NAMES: Mapping[type, str] = {
    said.Delivered: "delivered",
    said.Accepted: "accepted",
    said.Rejected: "rejected",
    said.Throttled: "throttled",
    said.Retryable: "retryable",
    said.Uncertain: "uncertain",
    said.Done: "done",
    said.Refused: "refused",
    said.Pending: "pending",
    said.NeverHappened: "never_happened",
    said.CannotTell: "cannot_tell",
}


def name_of(answer: Answer) -> str:
    """Return the answer's name in snake case; ``partial`` where not all recipients were served."""
    if isinstance(answer, said.Delivered) and any(
        not isinstance(part.outcome, said.Delivered) for part in answer.parts
    ):
        return "partial"
    return _NAMES[type(answer)]


def reason_of(answer: Answer) -> tuple[str | None, str | None]:
    """Return the answer's machine word and its sentence, where it has them."""
    detail = getattr(answer, "detail", None) or getattr(answer, "proof", None)
    return getattr(answer, "reason", None), detail or None


def is_an_answer(value: Any, kind: AttemptKind) -> bool:
    """Say whether a plugin may end an attempt of this kind with ``value``."""
    wanted = said.Outcome if kind is AttemptKind.SEND else said.Finding
    return isinstance(value, wanted)


def is_unauthorised(answer: Answer, status: int | None) -> bool:
    """Say whether a provider refused an attempt because it did not know the credentials.

    Args:
        answer: What the plugin made of it.
        status: The status of the last reply, if there was one.
    """
    return isinstance(answer, said.Rejected) and (
        status == UNAUTHORISED or answer.reason == BAD_CREDENTIALS
    )


def fault_of(error: Exception, sent: bool | None, now_ms: int) -> said.Outcome:
    """Turn what a plugin raised into an outcome, by what had left the machine until then.

    Args:
        error: What was raised; a ``TimeoutError`` is the attempt's own deadline.
        sent: False if certainly nothing had left, True if something had, None if nobody knows.
        now_ms: The time, for a reply's Retry-After.
    """
    if isinstance(error, said.OutcomeError):
        return error.outcome
    meant = _meaning(error, now_ms)
    if isinstance(meant, said.Throttled):
        return meant
    if isinstance(meant, said.Rejected) and (
        sent is not True or meant.reason.startswith(PROVIDER_REFUSAL)
    ):
        # Else something had been sent before that may have taken effect.
        return meant
    reason, detail = reason_of(meant)
    reason, detail = reason or "plugin_error", detail or ""
    if sent is False:
        return said.Retryable(reason=reason, detail=detail, sent=False)
    return said.Uncertain(reason=reason, detail=detail)


def _meaning(error: Exception, now_ms: int) -> said.Outcome:
    if isinstance(error, TimeoutError):
        return said.Uncertain(reason="timeout", detail="No answer before the attempt's deadline.")
    return classify.of_error(error, now_ms)
