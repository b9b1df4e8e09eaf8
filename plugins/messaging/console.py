"""The console: messages for a developer's eyes instead of a gateway."""

import os
import select
import sys
from typing import Literal

from integrationd.sdk import (
    Context,
    Delivered,
    EmailSend,
    Outcome,
    Part,
    Provider,
    ProviderConfig,
    PushSend,
    Retryable,
    SmsSend,
    SmsSendBulk,
    Uncertain,
    WhatsappMedia,
    WhatsappSend,
    WhatsappTemplate,
    WhatsappText,
    operation,
    to_rfc3339,
)

SHOWN_CHARACTERS = 160
SHOWN_OF_TOKEN = 6


class Console(Provider):
    """Write one readable line per message to standard output or standard error.

    Source: none; it speaks to no provider. Lines are for people: long texts and push tokens are
    shortened, and characters that would steer a terminal are written as escapes.
    """

    code = "console"

    class Config(ProviderConfig):
        """Where the lines go."""

        stream: Literal["stdout", "stderr"] = "stdout"

    async def test_connection(self, ctx: Context) -> str:
        """Say where lines go, and write none.

        Raises:
            ConnectionError: Nobody reads them at the moment, or the stream is closed.
        """
        name = self.config.stream
        try:
            has_room = _has_room(name)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"{name} of the daemon cannot be written: {error}") from error
        if not has_room:
            raise ConnectionError(f"nobody reads {name} of the daemon at the moment")
        return f"lines go to {name} of the daemon"

    # Nothing here is repeat-safe: as with a gateway, a second line is a second message.

    @operation("sms.send", repeat_safe=False)
    async def send_sms(self, request: SmsSend, ctx: Context) -> Outcome:
        """Write one line."""
        return self._one(ctx, _sms(request, request.to))

    @operation("sms.send_bulk", repeat_safe=False)
    async def send_sms_bulk(self, request: SmsSendBulk, ctx: Context) -> Outcome:
        """Write one line for each recipient still to be served."""
        position = {number: at for at, number in enumerate(request.recipients)}
        parts = [
            Part(
                recipient=number,
                outcome=self._written(ctx, _sms(request, number), f"-{position[number]}"),
            )
            for number in ctx.open_recipients
        ]
        if parts and all(isinstance(part.outcome, Retryable) for part in parts):
            return parts[0].outcome
        return Delivered(reference=_reference(ctx), parts=parts)

    @operation("email.send", repeat_safe=False)
    async def send_email(self, request: EmailSend, ctx: Context) -> Outcome:
        """Write one line."""
        return self._one(ctx, _email(request))

    @operation("push.send", repeat_safe=False)
    async def send_push(self, request: PushSend, ctx: Context) -> Outcome:
        """Write one line."""
        return self._one(ctx, _push(request))

    @operation("whatsapp.send", repeat_safe=False)
    async def send_whatsapp(self, request: WhatsappSend, ctx: Context) -> Outcome:
        """Write one line."""
        return self._one(ctx, _whatsapp(request))

    def _one(self, ctx: Context, shown: str) -> Outcome:
        outcome = self._written(ctx, shown)
        if not isinstance(outcome, Delivered):
            return outcome
        parts = tuple(Part(recipient=name, outcome=outcome) for name in ctx.open_recipients)
        return Delivered(
            reference=outcome.reference, result={"message_id": outcome.reference}, parts=parts
        )

    def _written(
        self, ctx: Context, shown: str, suffix: str = ""
    ) -> Delivered | Retryable | Uncertain:
        line = f"{to_rfc3339(ctx.clock.now_ms())} {ctx.call_id} {shown}"
        # A stream that can take a line now takes this many bytes without blocking the daemon.
        data = line.encode()[: select.PIPE_BUF - 1].decode(errors="ignore").encode() + b"\n"
        name = self.config.stream
        try:
            written = _write_now(name, data)
        except (OSError, ValueError) as error:
            return Retryable(
                reason="stream_closed", detail=f"{name} cannot be written: {error}", sent=False
            )
        if written == 0:
            return Retryable(
                reason="stream_busy", detail=f"nobody reads {name} at the moment", sent=False
            )
        if written < len(data):
            return Uncertain(reason="stream_full", detail=f"{name} took half a line")
        return Delivered(reference=_reference(ctx) + suffix)


def _write_now(name: str, data: bytes) -> int:
    """Write as much as the stream takes now, and say how many bytes that was."""
    return os.write(_descriptor(name), data) if _has_room(name) else 0


def _has_room(name: str) -> bool:
    poll = select.poll()
    poll.register(_descriptor(name), select.POLLOUT)
    return bool(poll.poll(0))


def _descriptor(name: str) -> int:
    stream = getattr(sys, name)
    if stream is None:
        raise ValueError("it was closed before the daemon started")
    descriptor: int = stream.fileno()
    return descriptor


def _reference(ctx: Context) -> str:
    return f"console-{ctx.call_id}"


def _sms(request: SmsSend | SmsSendBulk, to: str) -> str:
    return _line("sms", to=to, sender=request.sender, message=request.message)


def _email(request: EmailSend) -> str:
    return _line(
        "email",
        to=", ".join(request.recipients),
        sender=request.sender,
        subject=request.subject,
        text=request.text,
        html=request.html,
        attachments=", ".join(file.filename for file in request.attachments),
    )


def _push(request: PushSend) -> str:
    return _line(
        "push",
        token=_start_of(request.token) if request.token else None,
        topic=request.topic,
        condition=request.condition,
        title=request.title,
        body=request.body,
        data=", ".join(f"{key}: {value}" for key, value in request.data.items()),
    )


def _whatsapp(request: WhatsappSend) -> str:
    match request.text or request.template or request.media:
        case WhatsappText(body=body):
            return _line("whatsapp", to=request.to, text=body)
        case WhatsappTemplate(name=name, language=language):
            return _line("whatsapp", to=request.to, template=name, language=language)
        case WhatsappMedia(type=kind, link=link, id=media_id, caption=caption):
            shown = {kind: link or media_id, "caption": caption}
            return _line("whatsapp", to=request.to, **shown)
        case _:
            return _line("whatsapp", to=request.to)


def _line(category: str, **fields: str | None) -> str:
    shown = (f'{name}="{_visible(text)}"' for name, text in fields.items() if text)
    return " ".join((category, *shown))


def _visible(text: str) -> str:
    """Shorten a text and write what a terminal would obey or hide as escapes."""
    start = text[:SHOWN_CHARACTERS].replace("\\", "\\\\").replace('"', '\\"')
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in start
    )
    more = len(text) - SHOWN_CHARACTERS
    return f"{shown}… (+{more})" if more > 0 else shown


def _start_of(token: str) -> str:
    shown = token[: min(SHOWN_OF_TOKEN, len(token) // 4)]
    return f"{shown}… ({len(token)} characters)"
