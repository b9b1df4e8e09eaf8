"""A provider for rehearsals: its payload says what each send and each query comes to.

Source: none; it speaks to nobody. ``script`` and ``findings`` are lists of steps, one per send or
query; the last step is repeated. A step may carry a number after a colon, in seconds.
"""

from collections import Counter, defaultdict
from typing import Annotated, ClassVar

import anyio
import msgspec

from integrationd.sdk import (
    Accepted,
    Asked,
    CannotTell,
    Context,
    Contract,
    Delivered,
    Done,
    Finding,
    NeverHappened,
    Outcome,
    Part,
    PartOutcome,
    Pending,
    Provider,
    QuerySchedule,
    Refused,
    Rejected,
    Request,
    Result,
    Retryable,
    Throttled,
    Uncertain,
    operation,
    query,
)

Steps = Annotated[list[str], msgspec.Meta(min_length=1)]


class Act(Request, frozen=True):
    """What to play."""

    script: Steps = msgspec.field(default_factory=lambda: ["delivered"])
    findings: Steps = msgspec.field(default_factory=lambda: ["done"])
    recipients: list[str] = msgspec.field(default_factory=list)
    reference: str | None = None


class Played(Result, frozen=True):
    """What was played."""

    step: str = ""


def _contract(verb: str, **terms: object) -> Contract:
    return Contract(
        operation=f"rehearsal.{verb}",
        request=Act,
        result=Played,
        recipients=lambda act: act.recipients,
        **terms,  # type: ignore[arg-type] # named by the callers below
    )


class Rehearsal(Provider):
    """Play the outcomes that a test asks for, and count what was sent."""

    code = "rehearsal"
    sends: ClassVar[Counter[str]] = Counter()
    asked: ClassVar[Counter[str]] = Counter()
    times_ms: ClassVar[defaultdict[str, list[int]]] = defaultdict(list)

    @operation("rehearsal.ask", repeat_safe=False, contract=_contract("ask"))
    async def ask(self, request: Act, ctx: Context) -> Outcome:
        """Play a send that can be asked about."""
        return await self._play(request, ctx)

    @query("rehearsal.ask", QuerySchedule(first_s=5, factor=2, cap_s=60, window_s=600))
    async def find(self, asked: Asked, ctx: Context) -> Finding:
        """Play a query."""
        number = self.asked[ctx.call_id]
        self.asked[ctx.call_id] += 1
        return _finding(_step(asked.request.findings, number))

    @operation("rehearsal.hold", repeat_safe=False, contract=_contract("hold"))
    async def hold(self, request: Act, ctx: Context) -> Outcome:
        """Play a send that can neither be repeated nor asked about."""
        return await self._play(request, ctx)

    @operation(
        "rehearsal.repeat",
        repeat_safe=False,
        contract=_contract("repeat", on_uncertain="repeat"),
    )
    async def repeat(self, request: Act, ctx: Context) -> Outcome:
        """Play a message: an uncertain send is repeated once."""
        return await self._play(request, ctx)

    @operation(
        "rehearsal.keyed", repeat_safe=True, key_lifetime_s=3600, contract=_contract("keyed")
    )
    async def keyed(self, request: Act, ctx: Context) -> Outcome:
        """Play a send whose key the provider honours for an hour."""
        return await self._play(request, ctx)

    @operation("rehearsal.read", repeat_safe=True, contract=_contract("read", effect=False))
    async def read(self, request: Act, ctx: Context) -> Outcome:
        """Play a look-up."""
        return await self._play(request, ctx)

    async def _play(self, request: Act, ctx: Context) -> Outcome:
        number = self.sends[ctx.call_id]
        self.sends[ctx.call_id] += 1
        self.times_ms[ctx.call_id].append(ctx.clock.now_ms())
        step = _step(request.script, number)
        name, _, seconds = step.partition(":")
        if name == "slow":
            ctx.mark_sent()
            await anyio.sleep(float(seconds))
            return Delivered(result={"step": step})
        if name == "parts":
            return _parts(seconds, ctx)
        return _outcome(name, float(seconds) if seconds else None)


def _step(steps: list[str], number: int) -> str:
    return steps[min(number, len(steps) - 1)]


def _outcome(name: str, seconds: float | None) -> Outcome:
    if name == "raise":
        raise ValueError("the rehearsal fails")
    played: dict[str, Outcome] = {
        "delivered": Delivered(result={"step": name}, reference="ref-1"),
        "accepted": Accepted(result={"step": name}, reference="ref-1"),
        "rejected": Rejected(reason="refused", detail="The rehearsal refuses."),
        "throttled": Throttled(wait_s=seconds, detail="Slow down."),
        "retryable": Retryable(reason="busy", detail="Busy.", wait_s=seconds),
        "never_left": Retryable(reason="connection_refused", detail="Nobody listens.", sent=False),
        "uncertain": Uncertain(reason="timeout", detail="No answer."),
    }
    # Any other name plays a plugin that returns nonsense.
    return played.get(name)  # type: ignore[return-value] # on purpose, see above


def _parts(spelled: str, ctx: Context) -> Outcome:
    """One letter per open recipient: d delivered, r rejected, t retryable, u uncertain."""
    played: dict[str, PartOutcome] = {
        "d": Delivered(reference="ref-part"),
        "r": Rejected(reason="invalid_recipient"),
        "t": Retryable(reason="busy"),
        "u": Uncertain(reason="timeout"),
    }
    return Delivered(
        parts=[
            Part(recipient=recipient, outcome=played[letter])
            for recipient, letter in zip(ctx.open_recipients, spelled, strict=False)
        ]
    )


def _finding(step: str) -> Finding:
    match step:
        case "done":
            return Done(result={"step": step}, reference="ref-2")
        case "refused":
            return Refused(reason="declined", detail="The customer declined.")
        case "pending":
            return Pending()
        case "never":
            return NeverHappened(proof="The provider has no such reference.")
        case _:
            return CannotTell(reason="no_answer", detail="No answer.")
