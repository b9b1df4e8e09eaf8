"""What a plugin says an exchange came to.

A *send* ends in an :data:`Outcome`, a *query* ends in a :data:`Finding`. Both are closed unions:
code that handles them matches every member. The daemon, not the plugin, decides what follows.

The question behind the send outcomes is always **could it have arrived?**

=============  ===================  ==========================================================
outcome        could have arrived   what the daemon does
=============  ===================  ==========================================================
Delivered      yes, and is done     completes the call
Accepted       yes, effect is open  waits for a notice or asks
Rejected       the provider refused fails the call
Throttled      no, asked to wait    tries again after the wait; spends no attempt
Retryable      see ``sent``         tries again with backoff
Uncertain      maybe                repeats only where that is safe, else asks or holds
=============  ===================  ==========================================================
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from integrationd.sdk.money import Money

JsonObject: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What became of one recipient of a call to many.

    Attributes:
        recipient: The recipient exactly as the request named it.
        outcome: What the provider said about this one.
    """

    recipient: str
    outcome: "PartOutcome"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The provider did it, or took a message over for good.

    Attributes:
        result: What the contract promises as the result; a mapping that JSON can hold.
        reference: The provider's own id for the effect, if it gave one.
        parts: One entry per recipient where the request had several.
    """

    result: JsonObject = dataclasses.field(default_factory=dict)
    reference: str | None = None
    parts: Sequence[Part] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The provider took the request on; its effect is still open (a payment prompt, a transfer).

    Attributes:
        result: What is known so far: redirect, instructions, status.
        reference: The provider's own id, by which it can be asked.
        ask_after_s: Seconds until a query makes sense; the daemon's schedule when None.
    """

    result: JsonObject = dataclasses.field(default_factory=dict)
    reference: str | None = None
    ask_after_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The provider refused for good; repeating it unchanged is pointless.

    Attributes:
        reason: A short machine word, for example ``invalid_recipient``.
        detail: A sentence for a person.
    """

    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """The provider did not act and asked us to come back later.

    Attributes:
        wait_s: Seconds it asked for; the daemon's backoff when None.
        detail: A sentence for a person.
    """

    wait_s: float | None = None
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retryable:
    """Nothing happened and trying again may help.

    Attributes:
        reason: A short machine word, for example ``connection_refused``.
        detail: A sentence for a person.
        sent: Whether the request reached the provider. One that never left spends no attempt.
        wait_s: Seconds the provider asked for, if it did.
    """

    reason: str
    detail: str = ""
    sent: bool = True
    wait_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """The request may have arrived and nobody knows what came of it.

    Attributes:
        reason: A short machine word, for example ``timeout``.
        detail: A sentence for a person.
        reference: The provider's own id, if it became known.
    """

    reason: str
    detail: str = ""
    reference: str | None = None


class OutcomeError(Exception):
    """Ends an attempt with an outcome from wherever in a plugin it is raised.

    Args:
        outcome: What the exchange came to; of a query, only its reason and detail count.
    """

    def __init__(self, outcome: "Outcome") -> None:
        super().__init__(getattr(outcome, "detail", "") or type(outcome).__name__)
        self.outcome = outcome


Outcome: TypeAlias = Delivered | Accepted | Rejected | Throttled | Retryable | Uncertain
PartOutcome: TypeAlias = Delivered | Rejected | Retryable | Uncertain


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The provider says that it happened.

    Attributes:
        result: What the contract promises as the result.
        reference: The provider's own id.
        paid: What was paid, where it was about money. The daemon holds it against what was asked:
            anything else leaves the call unknown, for a person to look at.
    """

    result: JsonObject = dataclasses.field(default_factory=dict)
    reference: str | None = None
    paid: Money | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The provider says that it was refused or has failed for good.

    Attributes:
        reason: A short machine word.
        detail: A sentence for a person.
    """

    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The provider says that it is still open.

    A webhook that nobody signed says this too, whatever it claims: the daemon keeps what it tells
    and asks the provider at once.

    Attributes:
        ask_after_s: Seconds until the next query; the daemon's schedule when None.
        result: What is known so far, part of the result once it is done.
        paid: What is said to have been paid; held against what was asked like that of ``Done``.
    """

    ask_after_s: float | None = None
    result: JsonObject = dataclasses.field(default_factory=dict)
    paid: Money | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NeverHappened:
    """The provider proves that the request never arrived, so that it may be sent again.

    Attributes:
        proof: What the provider said, in words that an auditor accepts.
    """

    proof: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CannotTell:
    """The provider could not be asked, or did not know.

    Attributes:
        reason: A short machine word.
        detail: A sentence for a person.
    """

    reason: str = "no_answer"
    detail: str = ""


Finding: TypeAlias = Done | Refused | Pending | NeverHappened | CannotTell
