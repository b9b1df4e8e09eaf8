"""One attempt, as a straight line: decode, send under a deadline, decide, settle.

Exceptions of plugins are caught in one place. The result is written in one place, also while the
daemon is stopping: what may have arrived is never put back as if it had not.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import msgspec
import structlog

from integrationd.call import Attempt, AttemptKind, Lease, PartState
from integrationd.clock import Clock
from integrationd.delivery.answers import (
    RENEWED,
    Answer,
    fault_of,
    is_an_answer,
    is_unauthorised,
    name_of,
    reason_of,
)
from integrationd.delivery.exchange_log import describe
from integrationd.delivery.link import Link
from integrationd.delivery.sound import sound
from integrationd.delivery.terms import Terms
from integrationd.events import Bus, LeaseLost
from integrationd.journal import Transaction
from integrationd.journal.leases import Leases
from integrationd.masking import Masker
from integrationd.personal import PersonalData
from integrationd.registry import Connection, ServedOperation
from integrationd.registry.containment import contained
from integrationd.retry import Jitter
from integrationd.sdk import outcome as said
from integrationd.sdk.context import Context
from integrationd.sdk.exchange import Recorder, recording
from integrationd.sdk.provider import Asked
from integrationd.settlement import (
    Policy,
    Settlement,
    may_still_repeat,
    of_one,
    settle_finding,
    settle_late_outcome,
    settle_send,
    settle_unrepeatable,
)

Renew: TypeAlias = Callable[[Connection], Awaitable[bool]]

SETTLE_GRACE_S = 30.0
_NO_SECRETS = Masker()
DIGEST_SHOWN = 12


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A lease with everything that its attempt needs."""

    lease: Lease
    connection: Connection
    terms: Terms
    served: ServedOperation
    request: Any
    policy: Policy
    context: Context


@dataclasses.dataclass(slots=True, kw_only=True)
class _Exchange:
    """What came of talking to the provider."""

    answer: Answer
    started_ms: int
    began: float
    recorder: Recorder | None = None


async def never_renewed(_connection: Connection) -> bool:
    """Say that credentials have not changed."""
    return False


def no_callbacks(_call_id: str) -> str:
    """Say that no webhook can arrive."""
    return ""


def no_defaults(_tenant: str) -> Mapping[str, str]:
    """Say that a tenant's calls say everything themselves."""
    return {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What attempts may ask the daemon for.

    Attributes:
        link: Knows whether this machine's own link is to blame for a failure.
        renew: Asked when a provider did not know the credentials of a connection: whether those
            in force have changed since it was made.
        callback_base: Returns the address that a call's provider sends its webhooks to, by the
            call's id; empty where nothing can arrive.
        defaults_of: Returns what a tenant's calls take that do not say it themselves.
        personal: Masks what tells who a person is in what is kept of exchanges.
    """

    link: Link
    renew: Renew = never_renewed
    callback_base: Callable[[str], str] = no_callbacks
    defaults_of: Callable[[str], Mapping[str, str]] = no_defaults
    personal: PersonalData = dataclasses.field(default_factory=PersonalData)


class Attempts:
    """Makes attempts for the lines.

    Args:
        leases: Where results are written.
        bus: Where lost leases are told.
        clock: Where time is read.
        jitter: Randomness for backoff.
        maskers: Mask what is kept of an exchange, by connection, each with its own secrets.
        means: What they may ask for.
    """

    def __init__(
        self,
        leases: Leases,
        bus: Bus,
        clock: Clock,
        jitter: Jitter,
        maskers: Mapping[str, Masker],
        means: Means,
    ) -> None:
        self._leases = leases
        self._bus = bus
        self._clock = clock
        self._jitter = jitter
        self._maskers = maskers
        self._means = means
        self._log = structlog.get_logger("integrationd.plugin")

    async def run(
        self,
        lease: Lease,
        connection: Connection,
        terms: Terms,
        on_answer: Callable[[Answer], Callable[[Transaction], None] | None],
    ) -> None:
        """Make one attempt and settle it.

        Args:
            lease: The right to make it.
            connection: What it goes through.
            terms: The rules of that connection.
            on_answer: Told the answer at once; may return statements for the same commit.
        """
        work = self._prepared(lease, connection, terms)
        if isinstance(work, Settlement):
            on_answer(said.CannotTell())
            await self._leases.settle(lease, work)
            return
        exchange = _Exchange(
            answer=_interrupted(work, None),
            started_ms=self._clock.now_ms(),
            began=self._clock.monotonic(),
        )
        try:
            await self._talk(work, exchange)
        except anyio.get_cancelled_exc_class():
            exchange.answer = _interrupted(work, work.context.sent)
            with anyio.move_on_after(SETTLE_GRACE_S, shield=True):
                await self._settle(work, exchange, on_answer(exchange.answer))
            raise
        await self._settle(work, exchange, on_answer(exchange.answer))

    def _prepared(self, lease: Lease, connection: Connection, terms: Terms) -> "_Work | Settlement":
        try:
            with contained():
                return self._prepare(lease, connection, terms)
        except Exception as error:  # noqa: BLE001 - a plugin's contract and rules may raise anything
            broken = said.Retryable(
                reason="plugin_error",
                detail=f"The plugin's rules for this call raised {type(error).__name__}.",
                sent=False,
            )
            return self._decide_plainly(lease, broken, terms)

    def _prepare(self, lease: Lease, connection: Connection, terms: Terms) -> "_Work | Settlement":
        call = lease.call
        served = connection.plugin.operations.get(call.operation)
        if served is None:
            gone = _no_longer_offered(call.operation, connection)
            return self._decide_plainly(lease, gone, terms)
        try:
            request = served.decode(lease.payload)
        except msgspec.DecodeError as error:
            # The contract has become stricter since the call was accepted.
            refused = said.Rejected(reason="invalid_payload", detail=str(error))
            return self._decide_plainly(lease, refused, terms)
        until_ms = self._means.link.keeps_trying_until_ms
        policy = terms.policy(call, connection, served, request, until_ms)
        now_ms = self._clock.now_ms()
        if lease.kind is AttemptKind.SEND and not may_still_repeat(call, policy, now_ms):
            return settle_unrepeatable(call, lease.parts, policy, now_ms, self._jitter)
        if lease.kind is AttemptKind.QUERY and not policy.can_ask:
            nobody = said.CannotTell(reason="cannot_ask", detail="This provider cannot be asked.")
            return settle_finding(
                call, lease.parts, nobody, policy, now_ms=now_ms, jitter=self._jitter
            )
        return _Work(
            lease=lease,
            connection=connection,
            terms=terms,
            served=served,
            request=request,
            policy=policy,
            context=self._context(lease, connection, served, request),
        )

    def _decide_plainly(
        self, lease: Lease, refused: said.Rejected | said.Retryable, terms: Terms
    ) -> Settlement:
        policy = dataclasses.replace(Policy.for_refusal(), retry=terms.retry)
        now_ms = self._clock.now_ms()
        if lease.kind is AttemptKind.QUERY:
            nobody = said.CannotTell(reason=refused.reason, detail=refused.detail)
            return settle_finding(
                lease.call, lease.parts, nobody, policy, now_ms=now_ms, jitter=self._jitter
            )
        return settle_send(
            lease.call,
            lease.parts,
            refused,
            policy,
            started_ms=now_ms,
            now_ms=now_ms,
            jitter=self._jitter,
        )

    def _context(
        self, lease: Lease, connection: Connection, served: ServedOperation, request: Any
    ) -> Context:
        call = lease.call
        own = getattr(request, "reference", None)
        return Context(
            call_id=call.id,
            tenant=call.tenant,
            operation=call.operation,
            connection=connection.name,
            environment=connection.environment,
            attempt=call.tries,
            reference=own if isinstance(own, str) and own else call.id,
            idempotency_key=call.id,
            timeout_s=connection.timeout_s,
            clock=self._clock,
            log=self._log,
            client=connection.client,
            provider_reference=call.provider_reference,
            defaults=self._means.defaults_of(call.tenant),
            open_recipients=_open_recipients(lease, served, request),
            callback_base=self._means.callback_base(call.id),
            tokens=connection.tokens(self._clock),
            fetch_token=connection.provider.fetch_token,
        )

    async def _talk(self, work: _Work, exchange: _Exchange) -> None:
        """Have the plugin send or ask, under the connection's deadline; nothing escapes but a stop.

        What the plugin raises becomes an answer, by what had left the machine until then.
        """
        context = work.context
        with recording(context.mark_sent) as recorder:
            exchange.recorder = recorder
            try:
                with anyio.fail_after(work.connection.timeout_s), contained():
                    exchange.answer = await _ask_plugin(work)
            except Exception as error:  # noqa: BLE001 - plugins may raise anything
                exchange.answer = fault_of(error, context.sent, self._clock.now_ms())
        if not is_an_answer(exchange.answer, work.lease.kind):
            exchange.answer = _as_answer(exchange.answer, work)
        exchange.answer = sound(exchange.answer, self._masker(work))
        if isinstance(exchange.answer, said.Delivered) and not work.lease.parts:
            exchange.answer = of_one(exchange.answer)
        status = _last_status(exchange)
        exchange.answer = await self._means.link.explain(
            work.connection.name, exchange.answer, status
        )
        if is_unauthorised(exchange.answer, status) and await self._means.renew(work.connection):
            exchange.answer = said.Retryable(
                reason=RENEWED,
                detail="The provider did not know the credentials; newer ones are in force now.",
                # It acted on nothing, so that no attempt is spent.
                sent=False,
            )

    async def _settle(
        self,
        work: _Work,
        exchange: _Exchange,
        beside: Callable[[Transaction], None] | None,
    ) -> None:
        settlement = self._decide(work, exchange)
        attempt = self._record(work, exchange)
        moved_on = await self._leases.settle(work.lease, settlement, attempt, beside)
        if moved_on is None:
            return
        lost = LeaseLost(work.lease.call.id, work.connection.name, attempt.outcome)
        self._bus.publish(lost)
        await self._weigh_late(work, exchange.answer)

    def _decide(self, work: _Work, exchange: _Exchange) -> Settlement:
        answer, now_ms = exchange.answer, self._clock.now_ms()
        if isinstance(answer, said.Finding):
            return settle_finding(
                work.lease.call,
                work.lease.parts,
                answer,
                work.policy,
                now_ms=now_ms,
                jitter=self._jitter,
            )
        return settle_send(
            work.lease.call,
            work.lease.parts,
            answer,
            work.policy,
            started_ms=exchange.started_ms,
            now_ms=now_ms,
            jitter=self._jitter,
        )

    async def _weigh_late(self, work: _Work, answer: Answer) -> None:
        """Use a result that came after its lease as evidence about the call as it now stands."""
        for _ in range(3):
            current, parts = await self._leases.look(work.lease.call.seq)
            if current is None or current.last_lease_id != work.lease.call.last_lease_id:
                return
            settlement = _late(current, parts, answer, work.policy, self._clock.now_ms())
            if settlement is None or await self._leases.store_late(current, settlement):
                return

    def _masker(self, work: _Work) -> Masker:
        common, tokens = self._maskers.get(work.connection.name, _NO_SECRETS), work.context.tokens
        return common if tokens is None else tokens.masker(common)

    def _record(self, work: _Work, exchange: _Exchange) -> Attempt:
        call, answer = work.lease.call, exchange.answer
        reason, detail = reason_of(answer)
        masker = self._masker(work)
        personal = self._means.personal
        seen = describe(exchange.recorder, masker, personal)
        number = call.tries if work.lease.kind is AttemptKind.SEND else call.queries + 1
        return Attempt(
            kind=work.lease.kind,
            number=number,
            connection=work.connection.name,
            provider=work.connection.code,
            plugin_digest=work.connection.plugin.digest[:DIGEST_SHOWN],
            started_at_ms=exchange.started_ms,
            duration_ms=max(0, round((self._clock.monotonic() - exchange.began) * 1000)),
            outcome=name_of(answer),
            reason=reason,
            detail=personal.text(masker.text(detail)) if detail else None,
            sent=work.context.sent is not False,
            status_code=seen.status_code,
            request=seen.request,
            response=seen.response,
        )


def _open_recipients(lease: Lease, served: ServedOperation, request: Any) -> tuple[str, ...]:
    """Return who is still to be served; a call to one recipient has no parts."""
    if not lease.parts:
        return tuple(served.contract.recipients(request))
    return tuple(part.recipient for part in lease.parts if part.state is PartState.OPEN)


def _last_status(exchange: _Exchange) -> int | None:
    seen = exchange.recorder.exchanges if exchange.recorder else []
    return seen[-1].status if seen else None


def _no_longer_offered(operation: str, connection: Connection) -> said.Retryable:
    """The outcome of a call whose plugin has changed since it was accepted."""
    return said.Retryable(
        reason="not_offered",
        detail=f"The plugin of connection {connection.name!r} offers {operation} no more.",
        sent=False,
    )


async def _ask_plugin(work: _Work) -> Answer:
    provider = work.connection.provider
    if work.lease.kind is AttemptKind.SEND:
        return await work.served.declared.method(provider, work.request, work.context)
    call = work.lease.call
    asked = Asked(
        operation=call.operation,
        request=work.request,
        provider_reference=call.provider_reference,
        sent_at_ms=call.first_sent_at_ms or call.created_at_ms,
    )
    query = work.connection.plugin.queries[call.operation]
    return await query.method(provider, asked, work.context)


def _as_answer(value: Any, work: _Work) -> Answer:
    """Make an answer of the right kind out of whatever the plugin came back with."""
    if not is_an_answer(value, AttemptKind.SEND):
        wrong = TypeError(f"the plugin returned {type(value).__name__}, which is no outcome")
        value = fault_of(wrong, work.context.sent, work.context.clock.now_ms())
    if work.lease.kind is AttemptKind.SEND:
        outcome: said.Outcome = value
        return outcome
    reason, detail = reason_of(value)
    return said.CannotTell(reason=reason or "no_answer", detail=detail or "")


def _interrupted(work: _Work, sent: bool | None) -> Answer:
    """The answer of an attempt that the daemon itself cut short."""
    detail = "The daemon stopped during the attempt."
    if work.lease.kind is AttemptKind.QUERY:
        return said.CannotTell(reason="interrupted", detail=detail)
    if sent is False:
        return said.Retryable(reason="interrupted", detail=detail, sent=False)
    return said.Uncertain(reason="interrupted", detail=detail)


def _late(
    current: Any, parts: Any, answer: Answer, policy: Policy, now_ms: int
) -> Settlement | None:
    if isinstance(answer, said.Finding):
        return None
    return settle_late_outcome(current, parts, answer, policy, now_ms)
