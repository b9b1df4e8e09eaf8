"""Mail servers on loopback: the real aiosmtpd, and one that drops or falls silent on command."""

import asyncio
import base64
import contextlib
import dataclasses
import email.message
import email.parser
import email.policy
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tests.sdk.scripted_server import Peer, ScriptedServer, serving

from integrationd.clock import SystemClock
from integrationd.delivery.answers import fault_of
from integrationd.registry import builtin_plugins
from integrationd.sdk import CATALOGUE, Context, Outcome
from integrationd.sdk.exchange import Exchange, recording
from integrationd.sdk.testing import FakeConnection, make_context
from integrationd.sdk.testing.fakes import class_in

SMTP_PLUGIN = builtin_plugins() / "messaging" / "smtp.py"
Smtp = class_in(SMTP_PLUGIN)
USER, PASSWORD = "school", "s3cret-p4ssword"
ANN, BEN, CAT = "ann@x.test", "Ben <ben@x.test>", "cat@x.test"
MAIL: dict[str, Any] = {
    "from": "Shule <no-reply@shule.test>",
    "to": ANN,
    "subject": "Fees",
    "text": "Due on Friday.",
}
CLOSE = "close"
RESET = "reset"
SILENCE = "silence"


@dataclasses.dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the tests' own."""

    ca: trustme.CA
    file: Path

    def server(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        """Return what a server of that name speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        return context


def make_authority(directory: Path) -> Authority:
    """Make an authority whose certificate lies in a file of the directory."""
    ca = trustme.CA()
    file = directory / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return Authority(ca, file)


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """A message as the server took it."""

    sender: str
    recipients: tuple[str, ...]
    options: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> email.message.EmailMessage:
        """The message, parsed."""
        parser = email.parser.BytesParser(email.message.EmailMessage, policy=email.policy.SMTP)
        return parser.parsebytes(self.content)


class Mailbox:
    """A handler for aiosmtpd that keeps what it is given.

    Args:
        replies: What to answer to ``MAIL``, ``DATA`` or a recipient's address; 250 for the rest.
    """

    def __init__(self, replies: Mapping[str, str] | None = None) -> None:
        self.replies = dict(replies or {})
        self.port = 0
        self.connections = 0
        self.sign_ins: list[str] = []
        self.taken: list[Taken] = []

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender."""
        if refusal := self.replies.get("MAIL"):
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Take a recipient, or as many as are allowed."""
        limit = int(self.replies.get("limit", 100))
        if refusal := self.replies.get(address):
            return refusal
        if len(envelope.rcpt_tos) >= limit:
            return self.replies.get("full", "452 4.5.3 Too many recipients")
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep a message."""
        if refusal := self.replies.get("DATA"):
            return refusal
        content = envelope.original_content or b""
        self.taken.append(
            Taken(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                tuple(envelope.mail_options),
                content,
            )
        )
        return f"250 2.0.0 queued as Q{len(self.taken)}"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        """Let the one user in."""
        self.sign_ins.append(mechanism)
        is_known = given == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_known, handled=False)


@contextlib.asynccontextmanager
async def mail_server(
    box: Mailbox | None = None,
    *,
    implicit_tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[Mailbox]:
    """Run aiosmtpd in this event loop.

    Args:
        box: What handles its mail.
        implicit_tls: TLS from the first byte.
        options: As ``aiosmtpd.smtp.SMTP`` takes them; ``tls_context`` offers STARTTLS.
    """
    box, loop = box or Mailbox(), asyncio.get_running_loop()
    # It logs what it reads, bodies and sign-ins included; only the plugin's own words count.
    logging.getLogger("mail").disabled = True
    logging.getLogger("mail.log").disabled = True
    sessions: list[SMTP] = []

    def session() -> SMTP:
        box.connections += 1
        made = SMTP(
            box,
            loop=loop,
            hostname="mail.test",
            authenticator=box.authenticate,
            **{"enable_SMTPUTF8": True} | options,
        )
        sessions.append(made)
        return made

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=implicit_tls)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for one in sessions:
            await _end(one)


async def _end(session: SMTP) -> None:
    if session.transport is not None:
        session.transport.close()
    running = session._handler_coroutine
    if running is not None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)


class Dialogue:
    """What a scripted server answers to each command, and what it heard.

    Args:
        replies: By command in lower case, ``greeting`` and ``message`` among them: a reply, one of
            CLOSE, RESET and SILENCE, or a list of these, of which the last is kept.
    """

    def __init__(self, **replies: str | Sequence[str]) -> None:
        self._replies = {
            name: [given] if isinstance(given, str) else list(given)
            for name, given in (_FRIENDLY | replies).items()
        }
        self.heard: list[str] = []
        self.messages: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        """Follow the dialogue on one connection."""
        if not await self._answer(peer, "greeting"):
            return
        while line := await peer.reader.readline():
            text = line.decode().rstrip("\r\n")
            verb = text.partition(" ")[0].lower()
            self.heard.append(text)
            if not await self._answer(peer, verb) or verb == "quit":
                return
            if verb == "data" and self._last.startswith("354"):
                self.messages.append(await peer.reader.readuntil(b"\r\n.\r\n"))
                if not await self._answer(peer, "message"):
                    return

    async def _answer(self, peer: Peer, name: str) -> bool:
        given = self._replies.get(name, ["500 5.5.1 What?"])
        self._last = given.pop(0) if len(given) > 1 else given[0]
        match self._last:
            case "close":
                return False
            case "reset":
                peer.reset()
                return False
            case "silence":
                await peer.reader.read()
                return False
            case reply:
                await peer.send(f"{reply}\r\n".encode())
                return True


_FRIENDLY: dict[str, Any] = {
    "greeting": "220 mail.test ESMTP",
    "ehlo": "250-mail.test\r\n250-SIZE 1000000\r\n250 8BITMIME",
    "mail": "250 2.1.0 OK",
    "rcpt": "250 2.1.5 OK",
    "data": "354 Go on",
    "message": "250 2.0.0 queued as Q1",
    "rset": "250 OK",
    "noop": "250 OK",
    "quit": "221 Bye",
}


@contextlib.asynccontextmanager
async def scripted(
    dialogue: Dialogue, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a server that follows the dialogue on every connection."""
    async with serving(dialogue, tls) as server:
        yield server


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a send came to.

    Attributes:
        outcome: What the daemon has from it.
        sent: Whether a message may have left.
        exchanges: What is kept of it.
    """

    outcome: Outcome
    sent: bool | None
    exchanges: Sequence[Exchange]


def provider(port: int, *, timeout_s: float = 10.0, **config: Any) -> Any:
    """Make the provider, for a server on loopback without TLS unless the config says otherwise."""
    base = {"host": "127.0.0.1", "port": port, "security": "none", "allow_private": True}
    return Smtp(Smtp.Config.model_validate(base | config), FakeConnection(timeout_s=timeout_s))


def decoded(operation: str, payload: Mapping[str, Any]) -> Any:
    """Decode a payload as the daemon does."""
    return msgspec.json.decode(msgspec.json.encode(payload), type=CATALOGUE[operation].request)


async def send(
    port: int,
    payload: Mapping[str, Any] = MAIL,
    *,
    operation: str = "email.send",
    still_open: Sequence[str] | None = None,
    attempt: int = 1,
    timeout_s: float = 10.0,
    **config: Any,
) -> Sent:
    """Send once, as the daemon does; ``still_open`` is all recipients unless it is given."""
    request = decoded(operation, payload)
    parts = CATALOGUE[operation].recipients(request)
    ctx = make_context(
        operation,
        attempt=attempt,
        clock=SystemClock(),
        open_recipients=parts if still_open is None else still_open,
    )
    ctx.timeout_s = timeout_s
    made = provider(port, timeout_s=timeout_s, **config)
    with recording(ctx.mark_sent) as recorder:
        outcome = await _outcome(made, operation, request, ctx)
    await made.aclose()
    return Sent(outcome=outcome, sent=ctx.sent, exchanges=recorder.exchanges)


async def _outcome(made: Any, operation: str, request: Any, ctx: Context) -> Outcome:
    method: Callable[..., Any] = Smtp.operations()[operation].method
    try:
        outcome: Outcome = await method(made, request, ctx)
    except Exception as error:  # noqa: BLE001 - as the daemon does
        return fault_of(error, ctx.sent, ctx.clock.now_ms())
    return outcome


def plain_credentials() -> str:
    """Return the sign-in as AUTH PLAIN writes it."""
    return base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
