"""The contract suite of webhooks: what every plugin that receives some has to show.

The tests are plain functions, run by any pytest. This module does not import pytest.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import msgspec
from pydantic import ValidationError

from integrationd.clock import SystemClock
from integrationd.sdk.outcome import Finding
from integrationd.sdk.provider import Provider
from integrationd.sdk.testing.checks import expect, require
from integrationd.sdk.testing.context import NOON_MS
from integrationd.sdk.testing.fakes import FakeConnection, class_in
from integrationd.sdk.testing.leaks import captured_logs, secrets_of
from integrationd.sdk.testing.mutations import altered, flipped, misshapen, rewritten, type_of
from integrationd.sdk.webhook import (
    Notice,
    Proof,
    Refusal,
    UnreadableError,
    Verified,
    WebhookReply,
    WebhookRequest,
)

NOON_S = NOON_MS // 1000
DELIVERIES = frozenset({"sent", "delivered", "failed", "bounced", "complained", "read"})
_LATER_S = 3600
_PATIENCE_S = 2.0


class WebhookContract:
    """What every plugin that receives webhooks has to show.

    What the scheme covers is found out from ``sign``: one that gives no headers stands for an
    address alone, one whose headers are the same for any body for a shared secret, and one in whose
    headers the time appears for signatures that grow stale.

    Attributes:
        plugin: The plugin file, or the provider class.
        config: The config of the connection, secrets as plain text.
        stranger: What of the config is different on an account that is not this one: the secret
            that proves webhooks. Empty where the address alone proves them.
        body: A good webhook, as the provider writes it, that tells something.
        unknown_body: One of an event that the plugin does not know; None where there is only one.
        path: What follows the address that was handed out, for example ``/validation``.
        tolerance_s: How many seconds old, or ahead, a signature may be, where it carries its time.
    """

    plugin: ClassVar[Path | type[Provider]]
    config: ClassVar[Mapping[str, Any]] = {}
    stranger: ClassVar[Mapping[str, Any]] = {}
    body: ClassVar[bytes]
    unknown_body: ClassVar[bytes | None] = None
    path: ClassVar[str] = ""
    tolerance_s: ClassVar[float] = 300

    def sign(self, body: bytes, at_s: int) -> Mapping[str, str]:
        """Return the headers that prove a body, signed as the provider does.

        Only those that the proof needs; none where the address alone proves it.

        Args:
            body: The raw bytes.
            at_s: When it is sent, unix seconds.
        """
        return {}

    def test_good_webhook_is_proved_and_told(self) -> None:
        """The provider's own webhook is proved, and tells something that has an id."""
        request = self.webhook()

        proof = expect(self.verify(request), Verified)
        notices = self.read(request)

        wanted = "token" if not self.headers() else proof.by
        require(proof.by == wanted, f"nothing is signed, so by='token', not {proof.by!r}")
        require(bool(notices), "a good webhook told nothing")
        require(all(one.event_id for one in notices), f"a notice has no event_id: {notices!r}")

    def test_changed_body_is_refused(self) -> None:
        """One flipped bit anywhere, a byte more, a byte less: none of it is proved."""
        if not self.covers_body():
            return
        headers = self.headers()

        for changed in [*flipped(self.body), self.body + b" ", self.body[:-1], b""]:
            self.check_refused(self.webhook(changed, headers=headers), f"body {changed[:80]!r}")

    def test_rewritten_body_is_refused(self) -> None:
        """The same JSON or form in other bytes is not what was signed."""
        if not self.covers_body():
            return
        headers = self.headers()

        for changed in rewritten(self.body):
            self.check_refused(self.webhook(changed, headers=headers), f"body {changed[:80]!r}")

    def test_wrong_secret_is_refused(self) -> None:
        """What another account's secret proves is nothing here; neither is what none proves."""
        if not self.headers():
            return
        require(bool(self.stranger), "set stranger: the config's secret on another account")

        self.check_refused(self.webhook(), "a stranger's webhook", self.receiver(**self.stranger))
        for secretless in self._secretless():
            self.check_refused(self.webhook(), "with no secret configured", secretless)

    def test_missing_empty_and_doubled_headers_are_refused(self) -> None:
        """Each header of the proof must be there, once, and say something."""
        good = list(self.headers().items())

        for number, (name, value) in enumerate(good):
            others = [*good[:number], *good[number + 1 :]]
            for given in ([], [""], [value, value], [value, "x"], ["x", value], ["", value]):
                odd = [*others, *((name, one) for one in given)]
                self.check_refused(self.webhook(headers=odd), f"{name} is {given!r}")

    def test_changed_header_is_refused(self) -> None:
        """What is nearly the signature, or nearly the time, proves nothing."""
        good = self.headers()

        for name, value in good.items():
            for other in (altered(value), value[:-4], f"{value}0", "x" * 10_000, "\xe9\xff\x00,=;"):
                request = self.webhook(headers={**good, name: other})
                self.check_refused(request, f"{name}: {other[:80]!r}")

    def test_untimely_signature_is_refused(self) -> None:
        """What was signed too long ago, or ahead of our clock, may be a replay."""
        if not self.is_timed():
            return
        margin_s = 60
        inside_s, outside_s = round(self.tolerance_s) - 1, round(self.tolerance_s) + margin_s

        for off_s in (-inside_s, inside_s):
            expect(self.verify(self.webhook(at_s=NOON_S + off_s)), Verified)
        for off_s in (-outside_s, outside_s, -10 * 365 * 86_400):
            self.check_refused(self.webhook(at_s=NOON_S + off_s), f"signed {off_s} s off")

    def test_address_alone_proves_only_where_nothing_is_signed(self) -> None:
        """Without a signature the unguessable address is needed; with one it is not enough."""
        unsigned = self.webhook(headers={})

        self.check_refused(dataclasses.replace(unsigned, token=bool(self.headers())), "no proof")

    def test_copy_has_the_same_ids_and_the_same_reply(self) -> None:
        """A copy that is sent again later is known for one, and answered like the first."""
        first, again = self.webhook(), self.webhook(at_s=NOON_S + _LATER_S, now_s=_LATER_S)
        expect(self.verify(again), Verified)

        one, two = self.read(first), self.read(again)

        require([n.event_id for n in one] == [n.event_id for n in two], f"{one!r} became {two!r}")
        require(self.reply(first) == self.reply(again), "a copy is answered differently")

    def test_reading_needs_no_proof(self) -> None:
        """It is read again from the inbox, where the headers of the proof are masked."""
        request = self.webhook()
        masked = dataclasses.replace(request, headers=[(name, "***") for name in self.headers()])

        one, two = self.read(request), self.read(masked)

        require(one == two, f"read from the inbox, {one!r} became {two!r}")

    def test_reply_is_good_and_fast(self) -> None:
        """The reply is a success, and all of it takes no noticeable time."""
        clock, request = SystemClock(), self.webhook()
        began = clock.monotonic()

        for _ in range(20):
            self.verify(request)
            self.read(request)
            status = self.reply(request).status
            require(200 <= status < 300, f"a good webhook is answered {status}")

        took_s = clock.monotonic() - began
        require(took_s < _PATIENCE_S, f"20 webhooks took {took_s:.1f} s")

    def test_unknown_event_changes_nothing(self) -> None:
        """An event of a later day is taken, answered as ever, and changes nothing."""
        if self.unknown_body is None:
            return
        request = self.webhook(self.unknown_body)
        expect(self.verify(request), Verified)

        notices = self.read(request)

        told = [n for n in notices if (n.finding, n.delivery, n.event) != (None, None, None)]
        require(not told, f"an unknown event told {told!r}")
        require(self.reply(request).status < 300, "an unknown event is not answered well")

    def test_misshapen_body_is_unreadable_at_worst(self) -> None:
        """Whatever a body holds, it is read, or ``UnreadableError`` says why it cannot be."""
        for body in misshapen(self.body):
            request = self.webhook(body)
            try:
                self.verify(request)
                self.reply(request)
                self.read(request)
            except UnreadableError:
                continue
            except Exception as error:
                raise AssertionError(f"{body[:200]!r} raised {error!r}") from error

    def test_handshake_without_its_secret_is_refused(self) -> None:
        """A ``GET`` from a passer-by is not answered as one from the provider."""
        for query in ({}, {"challenge": "<b>", "hub.challenge": "<b>", "hub.verify_token": ""}):
            asked = dataclasses.replace(self.webhook(b"", headers={}), method="GET", query=query)
            reply = self.receiver().answer_challenge(asked)
            require(reply is None or reply.status >= 400, f"a passer-by is answered {reply!r}")

    def test_refusals_tell_no_secret(self) -> None:
        """No refusal, notice or log line holds a secret, or the signature that would have fit."""
        lines: list[str] = []
        with captured_logs(lines):
            shown = [repr(self.verify(request)) for request in self._bad_ones()]
            shown += [repr(self.read(self.webhook())), repr(self.reply(self.webhook()))]
        hidden = [*secrets_of(self.receiver().config)]
        hidden += [value for value in self.headers().values() if len(value) > 15]

        for secret in hidden:
            where = [text for text in [*shown, *lines] if secret in text]
            require(not where, f"a secret is shown in {where}")

    def receiver(self, **changes: Any) -> Provider:
        """Make the provider as a connection would, with changes to the config."""
        cls = class_in(self.plugin) if isinstance(self.plugin, Path) else self.plugin
        require(cls.receives_webhooks(), f"{cls.__name__} does not override read_webhook")
        config = cls.Config.model_validate({**self.config, **changes})
        return cls(config, FakeConnection())

    def headers(self) -> Mapping[str, str]:
        """Return the headers that prove the good webhook."""
        return self.sign(self.body, NOON_S)

    def covers_body(self) -> bool:
        """Say whether the proof depends on the body."""
        return self.sign(self.body + b" ", NOON_S) != self.headers()

    def is_timed(self) -> bool:
        """Say whether the proof carries its time."""
        return any(str(NOON_S) in value for value in self.headers().values())

    def webhook(
        self,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        at_s: int = NOON_S,
        now_s: int = 0,
    ) -> WebhookRequest:
        """Return a webhook as the daemon would hand it over.

        Args:
            body: The good one when None.
            headers: Those that prove the body when None.
            at_s: When it was signed, unix seconds.
            now_s: When it comes, seconds after noon.
        """
        raw = self.body if body is None else body
        given = self.sign(raw, at_s) if headers is None else headers
        pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
        return WebhookRequest(
            method="POST",
            path=self.path,
            query={},
            headers=[
                ("content-type", type_of(self.body)),
                *((name.lower(), value) for name, value in pairs),
            ],
            body=raw,
            source="203.0.113.7",
            received_at_ms=NOON_MS + now_s * 1000,
            token=not self.headers(),
        )

    def verify(self, request: WebhookRequest, receiver: Provider | None = None) -> Proof:
        """Have a webhook proved."""
        return (receiver or self.receiver()).verify_webhook(request)

    def read(self, request: WebhookRequest) -> Sequence[Notice]:
        """Have a webhook read, and check the shape of what it tells."""
        notices = list(self.receiver().read_webhook(request))
        for notice in notices:
            texts = [notice.event_id, notice.type]
            texts += [one for one in (notice.our_reference, notice.provider_reference) if one]
            require(all(isinstance(one, str) for one in texts), f"no texts: {notice!r}")
            known = notice.finding is None or isinstance(notice.finding, get_args(Finding))
            require(known, f"{notice.finding!r} is no finding")
            require(notice.delivery in {None, *DELIVERIES}, f"{notice.delivery!r} is no delivery")
            msgspec.json.encode(notice.data)
        return notices

    def reply(self, request: WebhookRequest) -> WebhookReply:
        """Return the reply to a webhook that was kept."""
        return self.receiver().webhook_reply(request)

    def check_refused(
        self, request: WebhookRequest, why: str, receiver: Provider | None = None
    ) -> None:
        """Check that a webhook is refused, with a reason and a status that says so."""
        proof = self.verify(request, receiver)
        require(isinstance(proof, Refusal), f"taken, although {why}")
        refusal = expect(proof, Refusal)
        require(bool(refusal.reason and refusal.detail), f"refused without a reason: {refusal!r}")
        require(refusal.status in (400, 401, 403, 404), f"refused with {refusal.status}: {why}")

    def _secretless(self) -> Iterator[Provider]:
        """Give the provider without the secret, or with an empty one, where the config allows."""
        for name in self.stranger:
            for empty in (None, ""):
                try:
                    yield self.receiver(**{name: empty})
                except ValidationError:
                    continue

    def _bad_ones(self) -> Iterator[WebhookRequest]:
        good = self.headers()
        yield self.webhook(headers={})
        yield self.webhook(self.body + b" ", headers=good)
        yield dataclasses.replace(self.webhook(), token=False)
        for name, value in good.items():
            yield self.webhook(headers={**good, name: altered(value)})
            yield self.webhook(headers=[*good.items(), (name, value)])
