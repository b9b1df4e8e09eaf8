"""The contract suite: what every plugin has to show, inherited by its test class.

The tests are plain functions, run by any pytest without a plugin for asyncio. This module does not
import pytest.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import httpx2
import msgspec

from integrationd.sdk import classify
from integrationd.sdk.context import Context
from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import contract_of
from integrationd.sdk.outcome import (
    Accepted,
    Delivered,
    Outcome,
    OutcomeError,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.provider import CODE_PATTERN, Provider
from integrationd.sdk.testing.checks import expect, require
from integrationd.sdk.testing.context import CapturedLog, FakeClock, hold_token, make_context
from integrationd.sdk.testing.fakes import (
    FakeConnection,
    Handler,
    answered_by,
    answering,
    class_in,
    fake_client,
    raising,
)
from integrationd.sdk.testing.leaks import captured_logs, secrets_of

SEND_LIMIT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one send under test came to.

    Attributes:
        outcome: What the plugin returned, or what the daemon makes of what it raised.
        requests: The HTTP requests that it made, in order.
        log: What it logged.
    """

    outcome: Outcome
    requests: Sequence[httpx2.Request]
    log: Sequence[str]


class LocalPluginContract:
    """What every plugin has to show, over whatever transport it speaks.

    Attributes:
        plugin: The plugin file, or the provider class.
        config: The config of the connection, secrets as plain text.
        operation: The operation to send.
        payload: A payload that the plugin can send.
    """

    plugin: ClassVar[Path | type[Provider]]
    config: ClassVar[Mapping[str, Any]] = {}
    operation: ClassVar[str]
    payload: ClassVar[Mapping[str, Any]]

    def test_operation_is_declared_with_a_contract(self) -> None:
        """The provider has a code and declares the operation, for which there is a contract."""
        code = getattr(self.provider_class(), "code", "")
        require(CODE_PATTERN.fullmatch(code) is not None, f"{code!r} is no provider code")
        require(self.contract().operation == self.operation, "the contract is for another one")

    def test_send_ends_in_success_that_keeps_the_contract(self) -> None:
        """A good send is delivered or accepted, and its result is what the contract promises."""
        self.check_success(self.send())

    def test_secrets_appear_nowhere(self) -> None:
        """No secret of the config is in a representation, an outcome or the log."""
        self.check_secrets([self.send()])

    def provider_class(self) -> type[Provider]:
        """Return the provider class under test."""
        if isinstance(self.plugin, Path):
            return class_in(self.plugin)
        return self.plugin

    def contract(self) -> Contract:
        """Return the contract of the operation under test."""
        declared = self.provider_class().operations()[self.operation]
        return contract_of(declared.name, declared.contract)

    def request(self) -> Any:
        """Return the payload as the contract's typed request."""
        return msgspec.json.decode(msgspec.json.encode(self.payload), type=self.contract().request)

    def provider(self) -> Provider:
        """Make the provider as a connection would."""
        cls = self.provider_class()
        return cls(cls.Config.model_validate(dict(self.config)), FakeConnection())

    def may_repeat(self) -> bool:
        """Say whether the request may be sent twice, with one effect or with none."""
        declared = self.provider_class().operations()[self.operation]
        provider, request = self.provider(), self.request()
        return not self.contract().effect or any(
            rule if isinstance(rule, bool) else rule(provider, request)
            for rule in (declared.repeat_safe, declared.reads_only)
        )

    def send(
        self, handler: Handler | None = None, *, attempt: int = 1, clock: FakeClock | None = None
    ) -> Sent:
        """Send the payload once; HTTP requests are answered by ``handler``.

        Args:
            handler: Turns a request into a response, or raises an ``httpx2`` error.
            attempt: The attempt's number.
            clock: Where the plugin reads time; one of its own when None.
        """
        return anyio.run(self.send_async, handler, attempt, clock or FakeClock())

    async def send_async(self, handler: Handler | None, attempt: int, clock: FakeClock) -> Sent:
        """Do what :meth:`send` does, inside a running event loop."""
        provider, request, log = self.provider(), self.request(), CapturedLog()
        ctx = make_context(
            self.operation,
            clock=clock,
            log=log,
            attempt=attempt,
            open_recipients=self.contract().recipients(request),
        )
        made: list[httpx2.Request] = []
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(provider.aclose)
            if handler is not None:
                client = fake_client(provider.config, answered_by(handler, ctx, made))
                ctx.client = await stack.enter_async_context(client)
            await hold_token(ctx, provider)
            with anyio.fail_after(SEND_LIMIT_S), captured_logs(log.lines):
                outcome = await self._outcome(provider, request, ctx)
        return Sent(outcome=outcome, requests=made, log=log.lines)

    async def _outcome(self, provider: Provider, request: Any, ctx: Context) -> Outcome:
        method = type(provider).operations()[self.operation].method
        try:
            return await method(provider, request, ctx)
        except OutcomeError as error:
            return error.outcome
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Plugins leave these to the daemon; anything else that they raise is a fault.
            return classify.of_error(error, ctx.clock.now_ms())

    def check_success(self, sent: Sent) -> None:
        """Check an outcome that should be a success, and its result and parts."""
        outcome = expect(sent.outcome, Delivered, Accepted)
        msgspec.convert(dict(outcome.result), self.contract().result)
        if isinstance(outcome, Delivered):
            named = [part.recipient for part in outcome.parts]
            known = list(self.contract().recipients(self.request()))
            require(set(named) <= set(known), f"parts name {named}, the request {known}")

    def check_secrets(self, sends: Sequence[Sent]) -> None:
        """Check that what the sends left behind shows no secret of the config."""
        provider = self.provider()
        shown = [repr(provider), repr(provider.config)]
        for sent in sends:
            shown += [repr(sent.outcome), *sent.log]
        for secret in secrets_of(provider.config):
            where = [text for text in shown if secret in text]
            require(not where, f"a secret of the config is shown in {where}")


class PluginContract(LocalPluginContract):
    """What every plugin that speaks HTTP has to show.

    Attributes:
        accepted: Answers as the provider does when it takes the request.
        refused: Answers as the provider does when it refuses the request for good.
        requests_per_send: How many HTTP requests one send makes; more than one only where the
            provider needs a token or an upload first.
    """

    accepted: ClassVar[Handler]
    refused: ClassVar[Handler]
    requests_per_send: ClassVar[int] = 1

    def test_send_ends_in_success_that_keeps_the_contract(self) -> None:
        """What the provider takes is delivered or accepted, with the contract's result."""
        self.check_success(self.send(self._accepted()))

    def test_refusal_is_rejected_with_a_reason(self) -> None:
        """What the provider refuses for good is rejected, and says why."""
        outcome = expect(self.send(self._refused()).outcome, Rejected)

        require(bool(outcome.reason), "Rejected without a reason")

    def test_refused_connection_never_left(self) -> None:
        """A request that could not leave the machine is retryable and says so."""
        outcome = expect(self.send(raising(httpx2.ConnectError)).outcome, Retryable)

        require(not outcome.sent, "expected sent=False: no byte had left")

    def test_read_timeout_is_uncertain(self) -> None:
        """A request without an answer may have arrived."""
        self._check_unknown(self.send(raising(httpx2.ReadTimeout)).outcome)

    def test_answer_cut_short_is_uncertain(self) -> None:
        """A request whose answer broke off may have arrived."""
        self._check_unknown(self.send(raising(httpx2.RemoteProtocolError)).outcome)

    def test_too_many_requests_obeys_retry_after(self) -> None:
        """A 429 is throttled for as long as it asks."""
        outcome = expect(self.send(answering(429, {"Retry-After": "7"})).outcome, Throttled)

        require(outcome.wait_s == 7.0, f"expected wait_s=7.0, not {outcome.wait_s}")

    def test_server_error_is_no_success(self) -> None:
        """A 500 or 503 without a readable body is neither success nor a crash."""
        for status in (500, 503):
            expect(self.send(answering(status)).outcome, Retryable, Throttled, Uncertain)

    def test_success_that_cannot_be_read_is_no_failure(self) -> None:
        """A 200 with garbage in it says that something happened, but not what."""
        outcome = self.send(answering(200)).outcome

        if not self.may_repeat():
            expect(outcome, Delivered, Accepted, Uncertain)

    def test_one_send_makes_one_request(self) -> None:
        """The plugin does not retry by itself."""
        for handler in (self._accepted(), answering(503), raising(httpx2.ReadTimeout)):
            made = len(self.send(handler).requests)
            require(made <= self.requests_per_send, f"one send made {made} requests")

    def test_repeat_carries_the_same_key(self) -> None:
        """The second attempt, a minute later, gives the provider what the first gave it."""
        clock = FakeClock()
        first = self.send(self._accepted(), attempt=1, clock=clock)
        clock.advance(60)

        second = self.send(self._accepted(), attempt=2, clock=clock)

        one = [self.fingerprint(request) for request in first.requests]
        two = [self.fingerprint(request) for request in second.requests]
        require(one == two, f"the first attempt sent {one}, the second {two}")

    def test_secrets_appear_nowhere(self) -> None:
        """No secret of the config is in a representation, an outcome or the log."""
        handlers = (
            self._accepted(),
            self._refused(),
            answering(503),
            raising(httpx2.ReadTimeout),
        )
        self.check_secrets([self.send(handler) for handler in handlers])

    def fingerprint(self, request: httpx2.Request) -> object:
        """Return what must not change between attempts.

        Override it where the provider asks for a time stamp or a fresh signature.
        """
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in {"authorization", "date"}
        }
        return request.method, str(request.url), headers, request.content

    def _check_unknown(self, outcome: Outcome) -> None:
        if isinstance(outcome, Retryable) and self.may_repeat():
            require(outcome.sent, "expected sent=True: the request had left")
        else:
            expect(outcome, Uncertain)

    def _accepted(self) -> Handler:
        return type(self).accepted

    def _refused(self) -> Handler:
        return type(self).refused
