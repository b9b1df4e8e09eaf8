"""The recipients of a call to many: what an outcome means for each of them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

import msgspec

from integrationd.call import Part, PartState
from integrationd.sdk import outcome as said


def apply_outcome(parts: Sequence[Part], outcome: said.Outcome) -> tuple[Part, ...]:
    """Return the parts after a send to those that were open.

    A part that the plugin names gets its own outcome; the others share the outcome of the whole.
    """
    named = _by_recipient(outcome)
    whole = _of_the_whole(outcome)
    return tuple(
        _apply(part, named.get(part.recipient, whole)) if part.state is PartState.OPEN else part
        for part in parts
    )


def of_one(outcome: said.Outcome) -> said.Outcome:
    """Return what an outcome means for a call to one recipient, which has no parts."""
    if not isinstance(outcome, said.Delivered) or len(outcome.parts) != 1:
        return outcome
    part = outcome.parts[0].outcome
    if not isinstance(part, said.Delivered):
        return part
    return dataclasses.replace(outcome, reference=outcome.reference or part.reference, parts=())


def still_open(outcome: said.Outcome) -> said.Retryable:
    """Return the outcome of a call some of whose recipients are open after a send.

    It waits as long as any of them asks for, and spends an attempt only if any was sent to.
    """
    named = [one for one in _by_recipient(outcome).values() if isinstance(one, said.Retryable)]
    return said.Retryable(
        reason="parts_open",
        detail="Some recipients are still open.",
        wait_s=max((one.wait_s for one in named if one.wait_s is not None), default=None),
        sent=not named or any(one.sent for one in named),
    )


def close_open(parts: Sequence[Part], reason: str, detail: str) -> tuple[Part, ...]:
    """Return the parts with those still open given up."""
    return tuple(
        msgspec.structs.replace(part, state=PartState.FAILED, reason=reason, detail=detail)
        if part.state is PartState.OPEN
        else part
        for part in parts
    )


def reopen_unknown(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts with those of unknown outcome open again, to be sent once more."""
    return reopen(parts, frozenset({PartState.UNKNOWN}))


def reopen(parts: Sequence[Part], states: frozenset[PartState]) -> tuple[Part, ...]:
    """Return the parts with those in ``states`` open again."""
    return tuple(
        msgspec.structs.replace(part, state=PartState.OPEN) if part.state in states else part
        for part in parts
    )


def resolve_all(
    parts: Sequence[Part], state: PartState, reason: str | None, detail: str | None
) -> tuple[Part, ...]:
    """Return the parts with those open or unknown moved to ``state``."""
    unsettled = (PartState.OPEN, PartState.UNKNOWN)
    return tuple(
        msgspec.structs.replace(part, state=state, reason=reason, detail=detail)
        if part.state in unsettled
        else part
        for part in parts
    )


def has(parts: Iterable[Part], state: PartState) -> bool:
    """Say whether any part stands in ``state``."""
    return any(part.state is state for part in parts)


def changed(before: Sequence[Part], after: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts of ``after`` that differ from ``before``."""
    return tuple(new for old, new in zip(before, after, strict=True) if old != new)


def _by_recipient(outcome: said.Outcome) -> Mapping[str, said.PartOutcome]:
    if not isinstance(outcome, said.Delivered):
        return {}
    return {part.recipient: part.outcome for part in outcome.parts}


def _of_the_whole(outcome: said.Outcome) -> said.PartOutcome:
    match outcome:
        case said.Delivered():
            return said.Delivered(reference=outcome.reference)
        case said.Accepted():
            return said.Uncertain(reason="open", reference=outcome.reference)
        case said.Rejected() | said.Retryable() | said.Uncertain():
            return outcome
        case said.Throttled():
            return said.Retryable(reason="throttled", detail=outcome.detail, sent=False)
        case _:
            assert_never(outcome)


def _apply(part: Part, outcome: said.PartOutcome) -> Part:
    match outcome:
        case said.Delivered():
            return msgspec.structs.replace(
                part,
                state=PartState.DONE,
                reason=None,
                detail=None,
                provider_reference=outcome.reference or part.provider_reference,
            )
        case said.Rejected():
            state = PartState.FAILED
        case said.Retryable():
            state = PartState.OPEN
        case said.Uncertain():
            state = PartState.UNKNOWN
        case _:
            assert_never(outcome)
    return msgspec.structs.replace(
        part, state=state, reason=outcome.reason, detail=outcome.detail or None
    )
