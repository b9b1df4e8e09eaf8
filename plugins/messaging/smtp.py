"""SMTP: e-mail through a mail server's submission port."""

import asyncio
import contextlib
import dataclasses
import mimetypes
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate
from typing import Any, Literal, Self, TypeAlias

import aiosmtplib
import pydantic
from aiosmtplib import SMTPException, SMTPResponseException

from integrationd.sdk import CATALOGUE, Context, Outcome, SecretStr, classify, operation
from integrationd.sdk.contracts import email as mail
from integrationd.sdk.exchange import Exchange, Recorder, current_recorder
from integrationd.sdk.outcome import Delivered, Part, PartOutcome, Rejected, Retryable, Uncertain
from integrationd.sdk.provider import Provider, ProviderConfig
from integrationd.sdk.target import allowed_addresses

_Found: TypeAlias = dict[str, PartOutcome]
_Names: TypeAlias = dict[str, str]  # bare addresses, by what the request calls them

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_TROUBLE = (SMTPException, OSError, ValueError)
# RFC 5321, 4.5.4.1 asks for time between tries; greylisting servers insist on some minutes.
_WAITS_S = (15.0, 60.0, 300.0, 900.0)
_HINTS = {530: " Set username and password.", 535: " Check username and password."}
_ADVICE = {
    "bad_certificate": " If an authority of your own has signed it, name that in ca_file.",
    "the connection, starttls": " Where TLS comes first, as on port 465, set security = 'tls'.",
    "the connection, tls": " Where plain text is first, as on port 587, set security = 'starttls'.",
}
_REASONS: Mapping[type[Exception], str] = {
    ssl.SSLCertVerificationError: "bad_certificate",
    ssl.SSLError: "tls_failure",
    socket.gaierror: "dns_failure",
    ConnectionRefusedError: "connection_refused",
    TimeoutError: "timeout",
}


class Smtp(Provider):
    """E-mail through any submission server.

    Each attempt has a connection of its own: a server may close an idle one at any moment, and a
    sidecar has too little mail for handshakes to matter. The messages of a batch share one, and
    each goes to all of its recipients or to none. Every attempt gives the same Message-ID.

    Source: RFC 5321, https://www.rfc-editor.org/rfc/rfc5321 (sections 4.2.1, 4.5.3, 4.5.4.1, 6.1).
    Source: aiosmtplib 5.1, https://aiosmtplib.readthedocs.io/en/stable/.
    """

    code = "smtp"

    class Config(ProviderConfig):
        """Where mail is handed over, and as whom.

        Attributes:
            host: The server's name, as its certificate has it.
            port: When None as usual: 587 with ``starttls``, 465 with ``tls``, 25 with ``none``.
            security: ``starttls`` says nothing before TLS is on; ``tls`` begins with it.
            username: Who signs in, with ``password``; nobody does when None.
            sender: Written ``from``: who messages are from that do not say it.
            local_hostname: What this machine calls itself; its address when None.
            ca_file: A PEM file of the authorities to trust instead of the system's.
            allow_private: Let the server be at a private, loopback or link-local address.
            allow_plain_auth: Let the password cross the network unencrypted.
            connect_timeout_s: Seconds to find and reach the server, at most the connection's
                timeout, like ``read_timeout_s`` for the answer to a command.
            final_reply_timeout_s: Seconds for the answer to a message; too few send it twice.
        """

        host: str = pydantic.Field(pattern=r"^[^\s/@]+$")
        port: int | None = pydantic.Field(default=None, ge=1, le=65535)
        security: Literal["starttls", "tls", "none"] = "starttls"
        username: str | None = pydantic.Field(default=None, min_length=1)
        password: SecretStr = SecretStr("")
        sender: str | None = pydantic.Field(default=None, alias="from")
        local_hostname: str | None = pydantic.Field(default=None, pattern=r"^[A-Za-z0-9.:\[\]-]+$")
        ca_file: pydantic.FilePath | None = None
        allow_private: bool = False
        allow_plain_auth: bool = False
        connect_timeout_s: float = pydantic.Field(default=10.0, gt=0)
        read_timeout_s: float = pydantic.Field(default=60.0, gt=0)
        final_reply_timeout_s: float = pydantic.Field(default=600.0, gt=0)

        @pydantic.model_validator(mode="after")
        def _holds_together(self) -> Self:
            if self.sender is not None:
                mail.split_mailbox(self.sender, "from")
            if (self.username is None) == bool(self.password):
                raise ValueError("username and password go together: give both or neither")
            is_safe = self.security != "none" or self.host in {"localhost", "127.0.0.1", "::1"}
            if self.username and not is_safe and not self.allow_plain_auth:
                told = (
                    "security = 'none' would send the password unencrypted: use 'starttls', 'tls'"
                )
                raise ValueError(f"{told}, or set allow_plain_auth = true if nobody can listen")
            return self

    config: Config

    def __init__(self, config: Any, connection: Any) -> None:
        super().__init__(config, connection)
        self.port = self.config.port or _PORTS[self.config.security]
        self.where = f"{self.config.host}:{self.port}"
        uses_tls = self.config.security != "none"
        self.tls = ssl.create_default_context(cafile=self.config.ca_file) if uses_tls else None

    @operation("email.send", repeat_safe=False)
    async def send(self, request: mail.EmailSend, ctx: Context) -> Outcome:
        """Hand one message over to those of its recipients who are still open."""
        recipients = tuple(ctx.open_recipients) or request.recipients
        async with _Session(self, ctx) as session:
            found = await session.send(request, 1, recipients)
        done = Delivered(reference=session.id, result={"message_id": session.id})
        return _joined(done, found, ctx, is_all=len(recipients) == len(request.recipients))

    @operation("email.send_batch", repeat_safe=False)
    async def send_batch(self, request: mail.EmailSendBatch, ctx: Context) -> Outcome:
        """Hand messages over one after the other, on one connection."""
        names, found = CATALOGUE[ctx.operation].recipients(request), _Found()
        async with _Session(self, ctx) as session:
            for at, (name, message) in enumerate(zip(names, request.messages, strict=True), 1):
                if name in ctx.open_recipients:
                    [found[name], *_] = (await session.send(message, at)).values()
        return _joined(Delivered(), found, ctx, is_all=len(found) == len(names))

    async def test_connection(self, ctx: Context) -> str:
        """Connect, sign in and leave again; an error says what is wrong and what to do."""
        async with _Session(self, ctx) as session:
            if session.lost is not None:
                raise ConnectionError(session.lost.detail)
            await session.client.noop()
        return f"{self.where} answered and let {self.config.username or 'anybody'} in"

    def unsupported(
        self, operation: str, request: mail.EmailSend | mail.EmailSendBatch
    ) -> str | None:
        """Say that a message has no sender, or an attachment that would have to be fetched."""
        messages = request.messages if isinstance(request, mail.EmailSendBatch) else (request,)
        if not self.config.sender and not all(message.sender for message in messages):
            return "there is no sender: give 'from', or set it in the connection's config"
        if any(file.content is None for message in messages for file in message.attachments):
            return "a mail server fetches no attachments: give their content instead of a url"
        return None


class _Session:
    """The connection of one attempt; nothing is tried twice, and ``lost`` goes for all the rest.

    What goes wrong before a message is written was not sent; from then on it is in doubt.
    """

    def __init__(self, provider: Smtp, ctx: Context) -> None:
        ctx.not_sent_yet()
        self.lost: Rejected | Retryable | None = None
        self.id = ""
        self._config, self._provider, self._ctx = provider.config, provider, ctx
        self._began, self._step = ctx.clock.monotonic(), "connecting"
        self._is_dirty, self._bytes = False, 0
        self._answer: SMTPResponseException | None = None
        self.client = aiosmtplib.SMTP(
            hostname=self._config.host.rstrip("."),
            use_tls=self._config.security == "tls",
            start_tls=False,
            tls_context=provider.tls,
            timeout=self._config.read_timeout_s,
        )

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._left_s()):
                await self._open()
        except _TROUBLE as error:
            self.lost = self._meaning(error)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if recorder := current_recorder():
            self._record(recorder)
        try:
            # What the server makes of the goodbye changes nothing any more.
            with contextlib.suppress(*_TROUBLE):
                await self.client.quit(timeout=min(2.0, self._left_s()))
        finally:
            self.client.close()

    async def send(self, request: mail.EmailSend, number: int, to: Sequence[str] = ()) -> _Found:
        """Hand the call's ``number``-th message over to ``to``; without, to all or to none."""
        names, found = list(to or request.recipients), _Found()
        sender = request.sender or self._config.sender or ""
        try:
            self.id = f"<{self._ctx.call_id}.{number}@{_address(sender).domain}>"
            message = _message(request, sender, self.id, self._ctx.clock.now_ms())
            waiting = {name: _address(name).addr_spec for name in names}
        except ValueError as error:
            refused = Rejected(reason="invalid_message", detail=f"Not sent: {error}.")
            return dict.fromkeys(names, refused)
        self._is_whole = not to
        while waiting and self.lost is None:
            waiting = await self._transact(message, waiting, found)
        return found | dict.fromkeys(waiting, self.lost) if self.lost else found

    async def _transact(self, message: EmailMessage, to: _Names, found: _Found) -> _Names:
        """Make one transaction; return the recipients who need another."""
        rest, taken = dict(to), list[str]()
        try:
            content = re.sub(rb"(?m)^\.", b"..", message.as_bytes()) + b".\r\n"
            async with asyncio.timeout(self._left_s()):
                await self._begin(message, len(content))
                rest, taken = await self._name(to, found)
                if taken and (start := await self.client.execute_command(b"DATA")).code != 354:
                    raise SMTPResponseException(*start)
            if taken:
                found |= dict.fromkeys(taken, await self._write(content))
        except _TROUBLE as error:
            trouble = self._meaning(error)
            found |= {name: trouble for name in taken or rest if name not in found}
            rest = rest if taken else {}
        return rest

    async def _begin(self, message: EmailMessage, size: int) -> None:
        client, self._step = self.client, "the message"
        if self._is_dirty:
            await client.rset()
        self._is_dirty = True
        options = [f"SIZE={size}"] if client.supports_extension("size") else []
        if isinstance(message.policy, EmailPolicy) and message.policy.utf8:
            if not client.supports_extension("smtputf8"):
                raise ValueError("an address needs SMTPUTF8, which the server lacks")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        await client.mail(message["From"].addresses[0].addr_spec, options=options, encoding="utf-8")

    async def _name(self, to: _Names, found: _Found) -> tuple[_Names, list[str]]:
        """Name the recipients; return those who are too many, and those who were taken."""
        rest, taken = dict(to), list[str]()
        for name, address in to.items():
            try:
                await self.client.rcpt(address, encoding="utf-8")
                taken.append(name)
            except aiosmtplib.SMTPRecipientRefused as error:
                if self._is_whole or error.code == 421:
                    raise
                if taken and error.code in {452, 552}:
                    break
                found[name] = self._refusal(error)
            del rest[name]
        return rest, taken

    async def _write(self, content: bytes) -> PartOutcome:
        protocol = self.client.protocol
        if protocol is None or not protocol.is_connected:
            raise aiosmtplib.SMTPServerDisconnected("the connection was lost")
        self._ctx.mark_sent()
        self._bytes += len(content)
        try:
            protocol.write(content)
            limit_s = min(self._config.final_reply_timeout_s, self._left_s())
            reply = await protocol.read_response(timeout=limit_s)
            self._is_dirty, self._answer = False, SMTPResponseException(*reply)
            if not 200 <= reply.code < 300:
                raise self._answer
        except _TROUBLE as error:
            if isinstance(error, SMTPResponseException) and 400 <= error.code < 600:
                raise
            detail = f"Sent, but not answered ({error}); look for {self.id} in the server's log."
            return Uncertain(reason=self._meaning(error).reason, detail=detail, reference=self.id)
        return Delivered(reference=self.id)

    async def _open(self) -> None:
        config, client = self._config, self.client
        async with asyncio.timeout(config.connect_timeout_s):
            sock = await self._dial()
        self._step = "the connection"
        here = str(sock.getsockname()[0]).partition("%")[0]
        literal = f"[{'IPv6:' if ':' in here else ''}{here}]"
        await client.connect(sock=sock, local_hostname=config.local_hostname or literal)
        self._step = "EHLO"
        await client.ehlo()
        if config.security == "starttls":
            self._step = "STARTTLS"
            await client.starttls()
            await client.ehlo()
        if config.username is not None:
            self._step = "the sign-in"
            # A wrong password is not tried in one way after the other: that locks accounts.
            ways = ("plain", "login", "cram-md5")
            client.AUTH_METHODS = tuple(w for w in ways if w in client.server_auth_methods)[:1]
            await client.login(config.username, config.password.get_secret_value())

    async def _dial(self) -> socket.socket:
        """Connect to one of the addresses that were looked at and found allowed."""
        host, port, is_free = self._config.host, self._provider.port, self._config.allow_private
        failure = OSError(f"{host} has no address")
        for address in await allowed_addresses(host, port, allow_private=is_free):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
            else:
                return sock
        raise failure

    def _meaning(self, error: Exception) -> Rejected | Retryable:
        """Say what goes for all who were not handed over; give the connection up if it is lost."""
        if isinstance(error, SMTPResponseException) and 400 <= error.code < 600:
            lost = self._refusal(error)
            if error.code != 421:
                return lost
        elif type(error) is SMTPException:
            reason = "starttls_missing" if self._step == "STARTTLS" else "auth_missing"
            return Rejected(reason=reason, detail=f"Not sent: {error}")
        elif isinstance(error, ValueError) and not isinstance(error, OSError):
            return Rejected(reason="invalid_message", detail=f"Not sent: {error}.")
        else:
            lost = self._breakdown(error)
        self.lost = lost
        if isinstance(self.client.transport, asyncio.WriteTransport):
            # Closed politely, it would first wait for a silent server to take what is buffered.
            self.client.transport.abort()
        self.client.close()
        return lost

    def _breakdown(self, error: Exception) -> Retryable:
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
        reasons = (word for kind, word in _REASONS.items() if isinstance(cause, kind))
        reason = next(reasons, "connection_lost")
        advice = _ADVICE.get(reason) or _ADVICE.get(f"{self._step}, {self._config.security}", "")
        told = str(cause) or reason.replace("_", " ")
        detail = f"Not sent to {self._provider.where}, {self._step}: {told}.{advice}"
        return Retryable(reason=reason, detail=detail, sent=False)

    def _refusal(self, error: SMTPResponseException) -> Rejected | Retryable:
        self._answer, reason = error, f"smtp_{error.code}"
        what = getattr(error, "recipient", getattr(error, "sender", self._step))
        detail = f"The server refused {what}: {_said(error)}.{_HINTS.get(error.code, '')}"
        # Servers turn away for good whom they take again soon, so connecting is tried again.
        if error.code >= 500 and what != "the connection":
            return Rejected(reason=reason, detail=detail)
        wait_s = _WAITS_S[min(self._ctx.attempt, len(_WAITS_S)) - 1]
        has_seen_it = self._step == "the message" or error.code >= 500
        return Retryable(reason=reason, detail=detail, wait_s=wait_s, sent=has_seen_it)

    def _left_s(self) -> float:
        """Return what is left; some is kept back, so that all is told before the daemon ends it."""
        return max(self._began + self._ctx.timeout_s * 0.9 - self._ctx.clock.monotonic(), 0.0)

    def _record(self, recorder: Recorder) -> None:
        """Keep for the attempt's record what went on, but no body and no sign-in."""
        said = _said(self._answer).encode() if self._answer else b""
        exchange = Exchange(
            method="SMTP",
            url=f"smtp://{self._provider.where}",
            request_headers=(("Message-ID", self.id),) if self.id else (),
            request_body=b"",
            request_bytes=self._bytes,
            status=self._answer.code if self._answer else None,
            response_headers=(),
            response_body=said,
            response_bytes=len(said),
            duration_ms=(self._ctx.clock.monotonic() - self._began) * 1000,
            error=self.lost.detail if self.lost else "",
            sent=bool(self._ctx.sent),
        )
        recorder.exchanges.append(exchange)


class _Policy(EmailPolicy):
    """Leaves headers in one line that fit: folded, a long address of the web is a code word."""

    def fold_binary(self, name: str, value: str) -> bytes:
        line = f"{name}: {value}\r\n"
        fits = line.isascii() and len(line) <= 1000
        return line.encode() if fits else super().fold_binary(name, value)


def _address(mailbox: str) -> Address:
    name, bare = mail.split_mailbox(mailbox)
    local, _, domain = bare.rpartition("@")
    return Address(name, local, domain.encode("idna").decode())


def _message(request: mail.EmailSend, sender: str, message_id: str, now_ms: int) -> EmailMessage:
    """Compose a message; those who get a hidden copy are not in it."""
    people = {"From": (sender,), "To": request.to, "Cc": request.cc, "Reply-To": request.reply_to}
    headers = {
        name: tuple(map(_address, (given,) if isinstance(given, str) else given))
        for name, given in people.items()
        if given
    }
    names = [box.username for boxes in headers.values() for box in boxes]
    names += [_address(box).username for box in request.recipients]
    utf8 = not all(map(str.isascii, names))
    message = EmailMessage(policy=_Policy(linesep="\r\n", cte_type="7bit", utf8=utf8))
    own = {"Subject": request.subject, "Date": formatdate(now_ms / 1000), "Message-ID": message_id}
    for name, value in (headers | own | request.headers).items():
        message[name] = value
    if request.text is not None:
        message.set_content(request.text)
    if request.html is not None:
        put = message.set_content if request.text is None else message.add_alternative
        put(request.html, subtype="html")
    for file in request.attachments:
        _attach(message, file, message.get_body(("html",)))
    return message


def _attach(message: EmailMessage, file: mail.EmailAttachment, page: Any) -> None:
    guessed, coding = mimetypes.guess_type(file.filename)
    main, _, sub = (file.content_type or ("" if coding else guessed) or "").partition("/")
    if main in {"", "message", "multipart"}:
        main, sub = "application", "octet-stream"
    if page is not None and file.content_id:
        how = {"disposition": "inline", "cid": f"<{file.content_id}>"}
        page.add_related(file.content, main, sub, filename=file.filename, **how)
    else:
        message.add_attachment(file.content, main, sub, filename=file.filename)


def _said(answer: SMTPResponseException) -> str:
    text = answer.message.encode("utf-8", "surrogateescape")
    return f"{answer.code} {classify.excerpt(text)}".rstrip(" .")


def _joined(done: Delivered, found: _Found, ctx: Context, *, is_all: bool) -> Outcome:
    """Return one outcome if all are of a kind, what has left first; else a part for each."""
    outcomes: list[Any] = sorted(found.values(), key=lambda one: not getattr(one, "sent", True))
    kinds = {type(outcome) for outcome in outcomes}
    if len(kinds) > 1 or Delivered in kinds or (Rejected in kinds and not is_all):
        parts = (Part(recipient=name, outcome=found[name]) for name in ctx.open_recipients)
        return dataclasses.replace(done, parts=tuple(parts))
    details = dict.fromkeys(getattr(outcome, "detail", "") for outcome in outcomes)
    told: Outcome = dataclasses.replace(outcomes[0], detail=" ".join(details))
    if getattr(told, "sent", False):
        ctx.mark_sent()  # the server has looked at the envelope, so that the record says so
    return told
